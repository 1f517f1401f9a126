"""Whether the disks have room for another recording: found out while there is some left, and without a call."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import gevent

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

FILES = 1000
"""Files that must have room: a recording takes five."""

PROBE = ".room"
"""The file that is written: there is one of them at most, whenever the service is killed."""

StatVfs = Callable[[Path], os.statvfs_result]


def shortage(folder: Path, found: os.statvfs_result, floor: int, times: float = 1.0) -> str:
    """What ``folder`` has too little of for a ``floor`` in bytes, empty if nothing. ``times`` as much is wanted."""
    # A file system that tells of no blocks or files counts none.
    if found.f_blocks and _free(found) < floor * times:
        size = found.f_blocks * found.f_frsize
        return f"{folder} has {_free(found)} of {size} bytes free, fewer than disk_floor = {floor}"
    if floor and found.f_files and found.f_favail < FILES * times:
        return f"{folder} has room for {found.f_favail} more files, fewer than {FILES}"
    return ""


def write_probe(folder: Path) -> None:
    """Writes a file in ``folder``, of which nothing stays. Raises OSError."""
    path = folder / PROBE
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Before anything else, so that nothing stays behind however that ends.
        path.unlink()
        # What is all zeros some file systems do not write.
        os.write(descriptor, os.urandom(4096))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(found: os.statvfs_result) -> int:
    return found.f_bavail * found.f_frsize


class Room:
    """Watches the file systems of ``folders``: with fewer than ``floor`` bytes free in one of them no recording is to
    be begun; 0 is no floor. Nor with one at fault: a disk that is full, or has become read-only, a quota that is used
    up, an I/O error, a file system that is not there.

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
        self._shortages: dict[Path, str] = {}
        self._faults: dict[Path, str] = {}
        self._tried: float | None = None
        self._doubted = False

    @property
    def refusal(self) -> str:
        """Why no recording is to be begun now, with the folder; empty where one can be."""
        return next(iter((*self._faults.values(), *self._shortages.values())), "")

    def fault(self, folder: Path | None = None) -> str:
        """Why ``folder``, or any of them, cannot be written; empty where it can be."""
        return next((fault for one, fault in self._faults.items() if folder in (None, one)), "")

    def doubt(self) -> None:
        """Something could not be written: the next look finds out whether that is the disk."""
        self._doubted = True

    def watch(self) -> None:
        """Looks until it is killed."""
        while True:
            gevent.sleep(EVERY)
            self.look()

    def look(self) -> None:
        """One look, and a line in the log where it changes something."""
        now, refused = self._clock(), self.refusal
        trying = bool(self._faults) or self._doubted or self._tried is None or now - self._tried >= TRIED
        if trying:
            self._tried, self._doubted = now, False
        found, self._faults = off_hub(lambda: self._found(trying))
        self._shortages = {folder: short for folder, stat in found.items() if (short := self._short(folder, stat))}
        if self.refusal and not refused:
            lower = "" if self._faults else ", or set disk_floor lower (0 = off)"
            log.error("no recording is begun any more: %s; mend that%s, and they are begun again", self.refusal, lower)
        elif refused and not self.refusal:
            told = ", ".join(f"{folder} has {_free(stat)} bytes free" for folder, stat in found.items())
            log.info("recordings are begun again: %s", told)
            self.on_room()

    def _found(self, trying: bool) -> tuple[dict[Path, os.statvfs_result], dict[Path, str]]:
        found, faults = {}, {}
        for folder in self._folders:
            try:
                found[folder] = stat = self._statvfs(folder)
                if stat.f_blocks and _free(stat) < LEAST * (2 if folder in self._faults else 1):
                    faults[folder] = f"{folder} is full: {_free(stat)} bytes free"
                elif trying:
                    self._probe(folder)
            except OSError as error:
                faults[folder] = f"{folder} cannot be written: {error.strerror}"
        return found, faults

    def _short(self, folder: Path, found: os.statvfs_result) -> str:
        before = self._shortages.get(folder, "")
        short = shortage(folder, found, self._floor)
        return short or (before if before and shortage(folder, found, self._floor, AGAIN) else "")
