"""Where files go that an earlier crash has torn: out of the way, never deleted, each with the reason."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from esl_record.audio.part import NEW, completed_path, is_partial
from esl_record.audio.spoolfile import identify, open_spool
from esl_record.errors import SpoolError
from esl_record.hub import off_hub
from esl_record.recording.jsonlines import append
from esl_record.recording.recording import Recording
from esl_record.recording.recovery import QUIET
from esl_record.recording.storage import Storage
from esl_record.recording.vault import RESERVE

log = logging.getLogger(__name__)

FOLDER = "quarantine"
"""In the data directory."""

REASONS = "reasons.jsonl"
"""In the quarantine: a line for each file."""

MOST = 1000
"""Files taken at once: each is written down first, and anybody who can write the spool can make any number."""

_BLOCK = 1 << 20


class Torn(NamedTuple):
    """A file, and what is wrong with it; ``shared``: others can write in its folder."""

    path: Path
    reason: str
    shared: bool = False


class Quarantine:
    """The directory ``folder``, made with its first file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, path: Path, reason: str, *, shared: bool = False) -> Path:
        """Move ``path`` here under a name nothing here has, and return that.

        What lies in a ``shared`` folder may be replaced at any moment: it is taken only if it is a regular file with
        one name. Raises OSError or SpoolError.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, number = path.name.lstrip("."), 0
        while os.path.lexists(target := self.folder / (f"{name}.{number}" if number else name)):
            number += 1
        # First: what lies here without a reason would say nothing to whoever finds it.
        append(self.folder / REASONS, {"file": target.name, "from": str(path), "reason": reason})
        if shared:
            _take_shared(path, target)
        else:
            # The spool may be on another file system.
            shutil.move(path, target)
        return target


def _take_shared(path: Path, target: Path) -> None:
    descriptor, identity = open_spool(path)
    try:
        try:
            path.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            try:
                identify(target, identity)
            except SpoolError:
                # It was replaced just now.
                target.rename(path)
                raise
            return
        found = os.fstat(descriptor)
        if time.time() - found.st_mtime < QUIET:
            raise OSError("it is still written, on another file system")
        try:
            _copy(descriptor, found, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        with suppress(SpoolError):
            identify(path, identity)
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _copy(source: int, found: os.stat_result, target: Path) -> None:
    """Copy a file with its holes: it may have far more of them than any disk has bytes."""
    room = os.statvfs(target.parent)
    if room.f_blocks and found.st_blocks * 512 + RESERVE > room.f_bavail * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    copy = os.open(target, os.O_WRONLY | NEW, 0o600)
    try:
        at, size = 0, found.st_size
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError:
                break  # nothing but a hole is left
            end = min(os.lseek(source, at, os.SEEK_HOLE), size)
            while at < end and (block := os.pread(source, min(_BLOCK, end - at), at)):
                at += os.pwrite(copy, block, at)
            if at < end:
                break  # it has been cut off
        os.truncate(copy, size)
        os.fsync(copy)
    finally:
        os.close(copy)


def clear(quarantine: Quarantine, found: Callable[[], Iterable[Torn]]) -> int:
    """Take what is ``found``, with a line in the log for each; return how much that was. What cannot be moved stays,
    and what is more than ``MOST`` until the next start, which waits for this."""

    def take() -> tuple[list[tuple[Torn, str]], bool]:
        some = list(islice(found(), MOST + 1))
        return [(one, _taken(quarantine, one)) for one in some[:MOST]], len(some) > MOST

    taken, more = off_hub(take)
    for one, where in taken:
        log.warning("%s: %s: %s", one.path, one.reason, where)
    if more:
        log.error("there are more than %d files that cannot be used: the others stay until the next start", MOST)
    return len(taken)


def _taken(quarantine: Quarantine, one: Torn) -> str:
    try:
        return f"it is in {quarantine.take(one.path, one.reason, shared=one.shared)} now"
    except (OSError, SpoolError) as error:
        return f"it stays: {error}"


def torn(storage: Storage) -> Iterator[Torn]:
    """What no start can make a recording of. To be asked before the first call of a run: what is being written looks
    the same.

    Nothing in the spool but audio comes from this service: the switch's user, too, can put files there.
    """
    for path in sorted(storage.pending.absolute().glob("*.json")):
        if wrong := _wrong(path, storage.announced):
            yield Torn(path, wrong)
    for path in sorted((*storage.spool_dir.glob("*.json"), *storage.spool_dir.glob(".*.part"))):
        yield Torn(path, "the switch's user may have put it there, and an earlier version of this service", shared=True)
    for path in sorted(storage.spool_dir.glob("*.raw")):
        # Behind the id may stand which part of the recording it is.
        announced = storage.pending / f"{path.name.partition('.')[0]}.json"
        if not announced.exists():
            yield Torn(path, f"nothing in {storage.pending} says what it was to become", shared=True)
        elif _wrong(announced, storage.announced):
            yield Torn(path, f"{announced} says nothing of it", shared=True)
    for path in sorted((*storage.recordings.glob(".*.part"), *storage.recordings.glob("*/*/*/.*.part"))):
        if _is_superseded(path):
            with suppress(OSError):
                path.unlink()
        elif not _is_made_again(storage, path):
            yield Torn(path, "not written to its end")


def unreadable(storage: Storage) -> Iterator[Torn]:
    """The files of ``recordings`` that should tell of a recording, and do not."""
    for path in sorted(storage.recordings.glob("*/*/*/*.json")):
        if wrong := _wrong(path, _filed):
            yield Torn(path, wrong)


def _filed(path: Path) -> Recording:
    return Recording.model_validate_json(path.read_bytes())


def _is_superseded(part: Path) -> bool:
    """Whether it was to become a JSON file that has been written since, under another temporary name."""
    complete = completed_path(part)
    return complete is not None and complete.suffix == ".json" and complete.exists()


def _is_made_again(storage: Storage, part: Path) -> bool:
    """Whether the recording is still to be completed, and with it this file."""
    for announced in storage.pending.glob("*.json"):
        if announced.stem in part.name:
            try:
                recording = storage.announced(announced)
            except ValueError:
                continue
            except OSError:
                return True
            made = (*storage.encoded_paths(recording), storage.document_path(recording))
            return any(is_partial(part.absolute(), path) for path in made)
    return False


def _wrong(path: Path, read: Callable[[Path], Recording]) -> str:
    """Why ``path`` tells of no recording, empty if it does."""
    try:
        read(path)
    except OSError:
        # What cannot be read now is not torn.
        return ""
    except ValueError as error:
        return f"it tells of no recording: {str(error).splitlines()[0]}"
    return ""
