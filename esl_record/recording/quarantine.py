"""Where files go that an earlier crash has torn: out of the way, never deleted, each with the reason."""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from esl_record.audio.part import partial_path
from esl_record.hub import off_hub
from esl_record.recording.jsonlines import append
from esl_record.recording.recording import Recording
from esl_record.recording.storage import UNANNOUNCED, Storage

log = logging.getLogger(__name__)

FOLDER = "quarantine"
"""In the data directory."""

REASONS = "reasons.jsonl"
"""In the quarantine: a line for each file."""

Torn = tuple[Path, str]
"""A file, and what is wrong with it."""


class Quarantine:
    """The directory ``folder``, made with its first file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, path: Path, reason: str) -> Path:
        """Moves ``path`` here under a name nothing here has; gives that. Raises OSError."""
        self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        name, number = path.name.lstrip("."), 0
        while (target := self.folder / (f"{name}.{number}" if number else name)).exists():
            number += 1
        # First: what lies here without a reason would say nothing to whoever finds it.
        append(self.folder / REASONS, {"file": target.name, "from": str(path), "reason": reason})
        # The spool may be on another file system.
        shutil.move(path, target)
        return target


def clear(quarantine: Quarantine, found: Callable[[], Iterable[Torn]]) -> int:
    """Takes what is ``found`` and tells of it; says how much that was. What cannot be moved stays."""

    def take() -> list[tuple[Path, str, str]]:
        return [(path, reason, _taken(quarantine, path, reason)) for path, reason in list(found())]

    taken = off_hub(take)
    for path, reason, where in taken:
        log.warning("%s: %s: %s", path, reason, where)
    return len(taken)


def _taken(quarantine: Quarantine, path: Path, reason: str) -> str:
    try:
        return f"it is in {quarantine.take(path, reason)} now"
    except OSError as error:
        return f"it stays: {error}"


def torn(storage: Storage) -> Iterator[Torn]:
    """What no start can make a recording of. To be asked before the first call of a run: what is being written looks
    the same."""
    for path in sorted(storage.spool_dir.glob("*.json")):
        if wrong := _unreadable(path):
            yield path, wrong
    for path in sorted(storage.spool_dir.glob("*.raw")):
        # Behind the id may stand which part of the recording it is.
        announced = path.with_name(f"{path.name.partition('.')[0]}.json")
        if not announced.exists():
            yield path, "nothing beside it says what it was to become"
        elif _unreadable(announced):
            yield path, f"{announced.name} beside it says nothing"
    for path in sorted({*storage.spool_dir.glob(".*.part")} - {*storage.spool_dir.glob(UNANNOUNCED)}):
        yield path, "not written to its end"
    for path in sorted((*storage.recordings.glob(".*.part"), *storage.recordings.glob("*/*/*/.*.part"))):
        if not _is_made_again(storage, path):
            yield path, "not written to its end"


def unreadable(storage: Storage) -> Iterator[Torn]:
    """The files of ``recordings`` that should tell of a recording, and do not."""
    for path in sorted(storage.recordings.glob("*/*/*/*.json")):
        if wrong := _unreadable(path):
            yield path, wrong


def _is_made_again(storage: Storage, part: Path) -> bool:
    """Whether the recording is still to be completed, and with it this file."""
    for announced in storage.spool_dir.glob("*.json"):
        if announced.stem in part.name:
            try:
                recording = Recording.model_validate_json(announced.read_bytes())
            except ValidationError:
                continue
            except OSError:
                return True
            made = (*storage.encoded_paths(recording), storage.document_path(recording))
            return part in map(partial_path, made)
    return False


def _unreadable(path: Path) -> str:
    """Why ``path`` tells of no recording, empty if it does."""
    try:
        Recording.model_validate_json(path.read_bytes())
    except OSError:
        # What cannot be read now is not torn.
        return ""
    except ValidationError as error:
        return f"it tells of no recording: {str(error).splitlines()[0]}"
    return ""
