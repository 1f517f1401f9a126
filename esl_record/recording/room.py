"""Whether the disks have room for another recording: found out while there is some left, and without a call."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import gevent
from gevent.event import Event as Flag

from esl_record.audio.part import open_unnamed
from esl_record.hub import off_hub

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds from one look at the free space to the next."""

TRIED = 10.0
"""Seconds from one file written to the next, while all is well."""

AGAIN = 1.05
"""Times the floor that must be free before recordings are begun again: around it there would be no end of log lines."""

LEAST = 1 << 20
"""Bytes with fewer of which a disk counts as full, and as full until it has twice as many: what one recording gives up
there the next takes, and all of them would have holes."""

LATE = 10.0
"""Seconds after which a look that has not come back counts as a disk that does not answer."""

FILES = 1000
"""Files that must have room: a recording takes five."""

StatVfs = Callable[[Path], os.statvfs_result]


def shortage(folder: Path, found: os.statvfs_result, floor: int, times: float = 1.0) -> str:
    """What ``folder`` has too little of for a ``floor`` in bytes, empty if nothing. ``times`` as much is wanted."""
    # A file system that tells of no blocks or files counts none.
    if found.f_blocks and free(found) < floor * times:
        size = found.f_blocks * found.f_frsize
        return f"{folder} has {free(found)} of {size} bytes free, fewer than disk_floor = {floor}"
    if floor and found.f_files and found.f_favail < FILES * times:
        return f"{folder} has room for {found.f_favail} more files, fewer than {FILES}"
    return ""


def write_probe(folder: Path) -> None:
    """Write a file in ``folder`` that has no name of which anybody could make use. Raises OSError."""
    descriptor = open_unnamed(folder)
    try:
        # What is all zeros some file systems do not write.
        os.write(descriptor, os.urandom(4096))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free(found: os.statvfs_result) -> int:
    """The bytes of it that this user may still take."""
    return found.f_bavail * found.f_frsize


def _unwritable(folder: Path, error: OSError) -> str:
    return f"{folder} cannot be written: {error.strerror}"


class Room:
    """Watches the file systems of ``folders``: with fewer than ``floor`` bytes free in one of them no recording is to
    be begun; 0 is no floor. Nor with one at fault: a disk that is full, or has become read-only, a quota that is used
    up, an I/O error, a file system that is not there, or does not answer.

    What runs goes on, the floor is for that. ``on_room`` is called when recordings can be begun again. ``clock`` gives
    seconds.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        floor: int,
        *,
        statvfs: StatVfs = os.statvfs,
        probe: Callable[[Path], None] = write_probe,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_room: Callable[[], None] = lambda: None
        self._folders = tuple(folder.absolute() for folder in folders)
        self._floor = floor
        self._statvfs = statvfs
        self._probe = probe
        self._clock = clock
        self.looked = Flag()
        """Set once the first look is over, or late."""
        self._shortages: dict[Path, str] = {}
        self._faults: dict[Path, str] = {}
        self._unproven: set[Path] = set()
        """Where the last file could not be written."""
        self._asked: Path | None = None
        """Whose disk was asked last."""
        self._late = ""
        self._logged = ""
        """What kind of reason the log was given last."""
        self._tried: float | None = None
        self._doubted = False

    @property
    def refusal(self) -> str:
        """Why no recording is to be begun now, with the folder; empty where one can be."""
        return next(iter((*filter(None, [self._late]), *self._faults.values(), *self._shortages.values())), "")

    @property
    def late(self) -> bool:
        """Whether a disk does not answer; what else asks it waits as well."""
        return bool(self._late)

    def fault(self, folder: Path | None = None) -> str:
        """Why ``folder``, or any of them, cannot be written; empty where it can be."""
        return next((fault for one, fault in self._faults.items() if folder in (None, one)), "")

    def doubt(self) -> None:
        """Something could not be written: the next look finds out whether that is the disk."""
        self._doubted = True

    def watch(self) -> None:
        """Looks until it is killed."""
        while True:
            try:
                self.look()
            except Exception:
                log.exception("the disks could not be looked at")
            gevent.sleep(EVERY)

    def look(self) -> None:
        """One look, and a line in the log where it changes something."""
        now = self._clock()
        trying = bool(self._faults) or self._doubted or self._tried is None or now - self._tried >= TRIED
        if trying:
            self._tried, self._doubted = now, False
        # The look itself waits for as long as the disk does: given up, it would leave a thread behind each time.
        alarm = gevent.spawn_later(LATE, self._is_late)
        try:
            found, self._faults = off_hub(lambda: self._found(trying))
            self._late = ""
        finally:
            alarm.kill()
            self.looked.set()
        self._shortages = {folder: short for folder, stat in found.items() if (short := self._short(folder, stat))}
        if self._tell() and not self.refusal:
            told = ", ".join(f"{folder} has {free(stat)} bytes free" for folder, stat in found.items())
            log.info("recordings are begun again: %s", told)
            self.on_room()

    def _is_late(self) -> None:
        self._late = f"{self._asked} has not answered for {LATE:g} s"
        self._tell()
        self.looked.set()

    def _tell(self) -> bool:
        """A line in the log where recordings are refused for another kind of reason; whether the kind has changed."""
        kind = "late" if self._late else "fault" if self._faults else "shortage" if self._shortages else ""
        before, self._logged = self._logged, kind
        if kind and kind != before:
            since = "still no recording is begun" if before else "no recording is begun any more"
            lower = ", or set disk_floor lower (0 = off)" if kind == "shortage" else ""
            log.error("%s: %s; mend that%s, and they are begun again", since, self.refusal, lower)
        return kind != before

    def _found(self, trying: bool) -> tuple[dict[Path, os.statvfs_result], dict[Path, str]]:
        found, faults = {}, {}
        for folder in self._folders:
            self._asked = folder
            try:
                found[folder] = stat = self._statvfs(folder)
                if stat.f_blocks and free(stat) < LEAST * (2 if folder in self._faults else 1):
                    faults[folder] = f"{folder} is full: {free(stat)} bytes free"
                elif trying and (fault := self._unwritable(folder)):
                    faults[folder] = fault
            except OSError as error:
                faults[folder] = _unwritable(folder, error)
        return found, faults

    def _unwritable(self, folder: Path) -> str:
        """Why ``folder`` cannot be written, empty where a file can be: twice in a row, after one that could not."""
        try:
            self._probe(folder)
        except OSError as error:
            self._unproven.add(folder)
            return _unwritable(folder, error)
        if folder not in self._unproven:
            return ""
        # A quota that is just used up lets one through now and then.
        self._unproven.remove(folder)
        return self._faults.get(folder, "")

    def _short(self, folder: Path, found: os.statvfs_result) -> str:
        before = self._shortages.get(folder, "")
        short = shortage(folder, found, self._floor)
        return short or (before if before and shortage(folder, found, self._floor, AGAIN) else "")
