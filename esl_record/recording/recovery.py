"""Spools that were left behind: each becomes the recording it was to be."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from esl_record.audio.spool import Spool
from esl_record.errors import DatabaseError, SpoolError
from esl_record.hub import off_hub
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

log = logging.getLogger(__name__)

RETRY = 30.0
"""Seconds until what could not be completed is tried again."""

QUIET = 2.0
"""Seconds a spool must not have grown to be taken as closed: the call of a killed service may live on."""


class Recovery:
    """Completes what was left in the spool directory: by an earlier run, or by this one for want of disk or database.

    ``begun`` is called with each recording as it was announced, in case that was never told of, ``tell`` with what it
    has become. Both may raise DatabaseError.
    """

    def __init__(
        self,
        storage: Storage,
        begun: Callable[[Recording], None],
        tell: Callable[[Recording], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._begun = begun
        self._tell = tell
        self._clock = clock
        self._left: dict[Path, float] = {}
        """The JSON files beside the spools, and the unix time before which none is looked at."""

    @property
    def left(self) -> list[Path]:
        """The JSON files beside the spools that are still to be completed."""
        return list(self._left)

    def find(self) -> None:
        """Takes on what an earlier run left; to be called before the first call of this one."""
        for path in sorted(self._storage.spool_dir.glob("*.json")):
            self._left.setdefault(path, 0.0)

    def add(self, recording: Recording) -> None:
        """Takes on a recording of this run that could not be put in place, or not told of."""
        self._left[self._storage.announced_path(recording)] = self._clock() + RETRY

    def run(self) -> Iterator[Recording]:
        """Completes each recording whose spool no longer grows, and forgets it.

        One that cannot be completed is tried again later; one whose facts cannot be read stays where it is, with a
        line in the log.
        """
        for path, due in list(self._left.items()):
            if due > self._clock():
                continue
            try:
                recording = Recording.model_validate_json(path.read_bytes())
                document = self._storage.document_path(recording)
                if recording.sample_rate <= 0:
                    raise ValueError("it has no sample rate")
                if self._grows(recording):
                    continue
                self._begun(recording)
                completed = self._completed(recording, document)
                self._tell(completed)
                self._storage.drop_spool(recording)
                del self._left[path]
                log.info("recording %s recovered: %.2f s", completed.recording_id, completed.duration)
                yield completed
            except FileNotFoundError:
                # Deleted meanwhile by whoever looks after this machine.
                del self._left[path]
                log.error("%s: is gone", path)
            except (OSError, SpoolError, DatabaseError) as error:
                self._left[path] = self._clock() + RETRY
                log.error("%s: it cannot be completed yet: %s", path, str(error).splitlines()[0])
            except (ValueError, ArithmeticError) as error:
                # ValueError: a ValidationError too; all else is what numbers of a damaged file lead to.
                del self._left[path]
                log.error("%s stays: it cannot be completed: %s", path, str(error).splitlines()[0])

    def _grows(self, recording: Recording) -> bool:
        spool = self._storage.spool_path(recording.recording_id)
        return spool.exists() and self._clock() - spool.stat().st_mtime < QUIET

    def _completed(self, recording: Recording, document: Path) -> Recording:
        if document.exists():
            # Stopped between the last steps: the recording is whole, but perhaps not yet told of.
            return Recording.model_validate_json(document.read_bytes()).model_copy(
                update={"parameters": recording.parameters}
            )
        path = self._storage.spool_path(recording.recording_id)
        if not path.exists():
            lost = {"state": State.ERROR, "end_reason": EndReason.ERROR, "error": "the switch wrote no audio"}
            failed = recording.model_copy(update={**lost, "end_time": recording.start_time})
            off_hub(lambda: self._storage.file(failed))
            return failed
        with Spool(path, recording.channels) as spool:
            samples = spool.size()
        ended = {"state": State.FINISHED, "end_reason": EndReason.RECOVERED, "end_time": path.stat().st_mtime}
        done = recording.model_copy(update=ended)
        return off_hub(lambda: self._storage.complete(done, samples))
