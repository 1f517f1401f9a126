"""Which recordings exist: the JSON files under the recordings directory."""

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from esl_record.recording.recording import Recording

log = logging.getLogger(__name__)


class Catalog:
    """Reads the recordings directory; nothing is kept in memory."""

    def __init__(self, recordings: Path) -> None:
        self.recordings = recordings

    def __iter__(self) -> Iterator[tuple[Path, Recording]]:
        """Every recording with its JSON file, oldest first. A file that is none is told of and passed over."""
        for path in sorted(self.recordings.glob("*/*/*/*.json")):
            try:
                yield path, Recording.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                log.warning("%s is no recording's file: %s", path, str(error).splitlines()[0])

    def find(self, recording_id: str) -> tuple[Path, Recording] | None:
        """The recording of which ``recording_id`` is the id or its beginning, None if none or several are."""
        found = [entry for entry in self if recording_id and entry[1].recording_id.startswith(recording_id)]
        return found[0] if len(found) == 1 else None
