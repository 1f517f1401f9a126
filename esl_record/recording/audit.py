"""What was deleted, when and why: a line of JSON each, only ever added to."""

import time
from collections.abc import Callable
from pathlib import Path

from esl_record.hub import off_hub
from esl_record.recording.jsonlines import append
from esl_record.recording.recording import Recording

_KEPT = {"recording_id", "call_id", "control_id", "start_time", "duration", "size", "sha256", "file"}


class Audit:
    """The file at ``path``, made with its first line."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def deleting(self, recording: Recording, why: str) -> None:
        """Notes that ``recording`` is about to be deleted. Raises OSError; nothing may be deleted then."""
        line = {"at": self._clock(), "deleted": why, **recording.model_dump(mode="json", include=_KEPT)}
        off_hub(lambda: append(self.path, line))
