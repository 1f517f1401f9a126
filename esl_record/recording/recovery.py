"""Spools a stopped service has left: each becomes the recording it was to be."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from esl_record.audio.spool import Spool
from esl_record.errors import SpoolError
from esl_record.hub import off_hub
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

log = logging.getLogger(__name__)

QUIET = 2.0
"""Seconds a spool must not have grown to be taken as closed: the call of a killed service may live on."""


class Recovery:
    """Completes what an earlier run left in the spool directory."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock

    def left(self) -> list[Path]:
        """The JSON files beside the spools of an earlier run; take it before the first call of this one."""
        return sorted(self._storage.spool_dir.glob("*.json"))

    def run(self, left: list[Path]) -> Iterator[Recording]:
        """Completes each recording of ``left`` whose spool no longer grows, and takes it off the list.

        One that cannot be completed stays as it is for the next start, with a line in the log.
        """
        for path in list(left):
            try:
                recording = Recording.model_validate_json(path.read_bytes())
                if self._grows(recording):
                    continue
                left.remove(path)
                if self._storage.document_path(recording).exists():
                    # Stopped between the last two steps: the recording is whole, only its spool is still here.
                    self._storage.drop_spool(recording)
                else:
                    yield self._complete(recording)
            except (OSError, SpoolError, ValueError, ArithmeticError) as error:
                # ValueError: a ValidationError too; all else is what numbers of a damaged file lead to.
                if path in left:
                    left.remove(path)
                log.error("%s stays: it cannot be completed: %s", path, str(error).splitlines()[0])

    def _grows(self, recording: Recording) -> bool:
        spool = self._storage.spool_path(recording.recording_id)
        return spool.exists() and self._clock() - spool.stat().st_mtime < QUIET

    def _complete(self, recording: Recording) -> Recording:
        path = self._storage.spool_path(recording.recording_id)
        if not path.exists():
            lost = recording.model_copy(
                update={"state": State.ERROR, "end_reason": EndReason.ERROR, "error": "the switch wrote no audio"}
            )
            self._storage.file(lost)
            self._storage.drop_spool(lost)
            return lost
        with Spool(path, recording.channels) as spool:
            samples = spool.size()
        done = recording.model_copy(
            update={
                "state": State.FINISHED,
                "end_reason": EndReason.RECOVERED,
                "end_time": path.stat().st_mtime,
            }
        )
        completed = off_hub(lambda: self._storage.complete(done, samples))
        log.info("recording %s recovered: %.2f s", completed.recording_id, completed.duration)
        return completed
