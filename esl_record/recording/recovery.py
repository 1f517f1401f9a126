"""Spools that were left behind: each becomes the recording it was to be."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from esl_record.audio.spool import Spool
from esl_record.errors import DatabaseError, EslRecordError, SpoolError, SpoolUnfit
from esl_record.hub import off_hub
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import ParameterError
from esl_record.recording.recording import Recording
from esl_record.recording.rehearing import speech_in
from esl_record.recording.room import StatVfs, free
from esl_record.recording.storage import UNANNOUNCED, Storage
from esl_record.recording.vault import RESERVE

log = logging.getLogger(__name__)

RETRY = 30.0
"""Seconds until what could not be completed is tried again."""

QUIET = 10.0
"""Seconds a spool must not have grown to be taken as closed: the call of a killed service may live on."""

COMES_BACK = 15.0
"""Seconds a call that is said to live may come back to what there is of it, unless that is said again."""

CLOSING = 2.0
"""Seconds a spool must not have grown where its call is said to have ended; it may be another switch's."""

Told = tuple[Recording, PauseBehavior | None]
"""A state to tell of, and how a paused recording is paused."""


class _TooLarge(EslRecordError):
    """A recording for which there is too little room; the text has how much there is."""


@dataclass(slots=True)
class _Left:
    """``due`` is the unix time before which it is not looked at; ``untold`` what its run could not tell of."""

    due: float = 0.0
    call_id: str = ""
    """Of what an earlier run has left, as far as it can be read; such a call may come back."""
    not_before: float = 0.0
    """Unix time before which it is not completed, as its call lives."""
    ended: bool = False
    """Whether the switch says that its call has ended."""
    untold: list[Told] = field(default_factory=list)
    complaint: str = ""
    """What the log has been told of the last try."""
    speech: tuple[int, list[tuple[float, float]]] = (0, [])
    """Samples heard by the last try, and the speech in them."""


class Recovery:
    """Completes what was left in the spool directory: by an earlier run, or by this one for want of disk or database.

    ``begun`` is called with each recording as it was announced, in case that was never told of, ``tell`` with what it
    has become. Both may raise DatabaseError. ``quiet`` in seconds, as QUIET.
    """

    def __init__(
        self,
        storage: Storage,
        begun: Callable[[Recording], None],
        tell: Callable[[Recording, PauseBehavior | None], None],
        *,
        quiet: float = QUIET,
        clock: Callable[[], float] = time.time,
        statvfs: StatVfs = os.statvfs,
    ) -> None:
        self._storage = storage
        self._begun = begun
        self._tell = tell
        self._quiet = quiet
        self._clock = clock
        self._statvfs = statvfs
        self._at_work: Path | None = None
        self._left: dict[Path, _Left] = {}
        """By the JSON file that was announced."""

    @property
    def left(self) -> list[Path]:
        """The JSON files of the spools that are still to be completed."""
        return list(self._left)

    def find(self) -> None:
        """Takes on what an earlier run left; to be called before the first call of this one."""
        # No tap is started before it is announced: what was not announced to the end has never begun.
        for part in self._storage.pending.glob(UNANNOUNCED):
            with suppress(OSError):
                part.unlink()
        for path in sorted(self._storage.pending.absolute().glob("*.json")):
            self._left.setdefault(path, _Left(call_id=self._call_of(path)))

    def add(self, recording: Recording, untold: Sequence[Told] = ()) -> None:
        """Takes on a recording of this run that could not be put in place, or not told of: ``untold`` is what."""
        self._left[self._storage.announced_path(recording)] = _Left(self._clock() + RETRY, untold=list(untold))

    def leave(self, recording: Recording) -> None:
        """Takes on a recording of a call that may come back over another connection."""
        self._left[self._storage.announced_path(recording)] = _Left(call_id=recording.call_id)

    def hurry(self) -> None:
        """Has what could not be completed tried again at once."""
        for left in self._left.values():
            left.due = 0.0

    def waiting(self) -> set[str]:
        """The ids of the calls of which an earlier run has left something."""
        return {left.call_id for left in self._left.values() if left.call_id}

    def expect(self, calls: Iterable[str]) -> None:
        """Leaves what there is of ``calls`` for a while, as they live; a paused spool would not tell by its growth."""
        expected = set(calls)
        for left in self._left.values():
            if left.call_id in expected:
                left.not_before, left.ended = self._clock() + COMES_BACK, False

    def give_up(self, calls: Iterable[str]) -> None:
        """Waits no longer for ``calls``, as they have ended."""
        ended = set(calls)
        for left in self._left.values():
            if left.call_id in ended:
                left.not_before, left.ended = 0.0, True

    def claim(self, call_id: str) -> list[Recording]:
        """Gives up what an earlier run has left of a call that has come back, for whoever goes on recording it."""
        mine = [path for path, left in self._left.items() if left.call_id == call_id and path != self._at_work]
        found = {path: recording for path in mine if (recording := self._alive(path))}
        # Before anything waits: what goes on must not be completed as well.
        for path in found:
            del self._left[path]
        for path, recording in found.items():
            try:
                self._begun(_as_begun(recording))
            except Exception as error:
                log.error("%s: %s", path, error)
        return sorted(found.values(), key=lambda one: one.start_time)

    def _call_of(self, path: Path) -> str:
        try:
            return self._storage.announced(path).call_id
        except (OSError, ValueError):
            return ""

    def _alive(self, path: Path) -> Recording | None:
        """The recording announced at ``path``, if it can be gone on with."""
        try:
            recording = self._storage.announced(path)
            filed = self._storage.document_path(recording).exists()
        except (OSError, ValueError, OverflowError):
            return None
        spooled = self._storage.spool(recording).exists
        return recording if recording.sample_rate > 0 and spooled and not filed else None

    def run(self) -> Iterator[Recording]:
        """Completes each recording whose spool no longer grows, and forgets it.

        One that cannot be completed is tried again later; one whose facts cannot be read stays where it is, with a
        line in the log.
        """
        for path, left in list(self._left.items()):
            if max(left.due, left.not_before) > self._clock() or self._left.get(path) is not left:
                continue
            self._at_work = path
            try:
                completed = self._recover(path, left)
            except (OSError, SpoolError, DatabaseError, _TooLarge) as error:
                left.due, why = self._clock() + RETRY, str(error).splitlines()[0]
                # How much is free is another number each time.
                complaint = _TooLarge.__name__ if isinstance(error, _TooLarge) else why
                if complaint != left.complaint:
                    log.error("%s: it cannot be completed yet: %s", path, why)
                left.complaint = complaint
            except Exception as error:
                # A ValidationError, and whatever else the numbers and names of a damaged file lead to.
                self._left.pop(path, None)
                log.error("%s stays: it cannot be completed: %s", path, (str(error) or repr(error)).splitlines()[0])
            else:
                if completed is not None:
                    yield completed
            finally:
                self._at_work = None

    def _recover(self, path: Path, left: _Left) -> Recording | None:
        """The recording, complete and told of; None if that is not yet possible, or was all that was missing."""
        if not path.exists():
            # Never announced, for want of disk; or taken away by whoever looks after this machine.
            self._tell_left(left)
            self._left.pop(path, None)
            return None
        recording = self._storage.announced(path)
        document = self._storage.document_path(recording)
        if recording.sample_rate <= 0:
            raise ValueError("it has no sample rate")
        with self._storage.spool(recording) as spool:
            if self._grows(spool, min(self._quiet, CLOSING) if left.ended else self._quiet):
                return None
            # Its beginning may be the first of what was not told.
            self._tell_left(left)
            self._begun(_as_begun(recording))
            try:
                completed = self._completed(recording, spool, document, left)
            except SpoolUnfit as error:
                completed = self._lost(recording, str(error))
            if not self._holds_all(completed, spool):
                return None
            self._tell(completed.model_copy(update={"parameters": recording.parameters}), None)
            if not self._holds_all(completed, spool):
                return None
        self._clear(completed, recording)
        self._left.pop(path, None)
        return completed

    def _clear(self, completed: Recording, announced: Recording) -> None:
        off_hub(lambda: self._storage.sweep(announced))
        if completed.state is State.ERROR and not completed.file:
            # Whatever is there was not read: the next start puts it into the quarantine.
            self._storage.forget(announced)
            log.error("recording %s has no audio: %s", completed.recording_id, completed.error)
        else:
            self._storage.drop_spool(announced)
            log.info("recording %s recovered: %.2f s", completed.recording_id, completed.duration)

    def _tell_left(self, left: _Left) -> None:
        while left.untold:
            self._tell(*left.untold[0])
            left.untold.pop(0)

    def _grows(self, spool: Spool, quiet: float) -> bool:
        try:
            # A time in the future is of a clock that has been set back since.
            return 0 <= self._clock() - spool.changed() < quiet
        except SpoolUnfit:
            return False

    def _holds_all(self, completed: Recording, spool: Spool) -> bool:
        """Whether nothing was written to the spool since it was copied: the call of a killed service may have woken."""
        if completed.end_reason is not EndReason.RECOVERED or not spool.exists:
            return True
        try:
            return spool.settled() <= round(completed.duration * completed.sample_rate)
        except SpoolUnfit:
            return True

    def _lost(self, recording: Recording, why: str) -> Recording:
        """The recording in error, filed without audio."""
        lost = {"state": State.ERROR, "end_reason": EndReason.ERROR, "error": why}
        failed = recording.model_copy(update={**lost, "end_time": recording.start_time})
        off_hub(lambda: self._file_lost(failed))
        return failed

    def _file_lost(self, failed: Recording) -> None:
        self._storage.discard(failed)
        self._storage.file(failed)

    def _completed(self, recording: Recording, spool: Spool, document: Path, left: _Left) -> Recording:
        if document.exists():
            # Stopped between the last steps: the recording is whole, but perhaps not yet told of.
            filed = Recording.model_validate_json(document.read_bytes())
            if self._holds_all(filed, spool):
                return filed
        if not spool.exists:
            return self._lost(recording, "the switch wrote no audio")
        samples, changed = spool.settled(), spool.changed()
        # A gap that ended after the service did has its length from now on.
        noted = recording.noted(spool.timeline)
        # Whoever owns a file can give it any time.
        changed = max(recording.start_time, min(changed, self._clock()))
        ended = {"state": State.FINISHED, "end_reason": EndReason.RECOVERED, "end_time": changed}
        done = recording.model_copy(update={**noted, **ended})
        off_hub(lambda: self._check_room(done, samples))
        if left.speech[0] != samples:
            left.speech = samples, self._speech_in(recording.model_copy(update=noted), spool, samples)
        done = done.model_copy(update={"speech": left.speech[1]})
        return off_hub(lambda: self._storage.complete(done, samples, spool))

    def _speech_in(self, recording: Recording, spool: Spool, samples: int) -> list[tuple[float, float]]:
        try:
            with spool.shared() as heard:
                return speech_in(heard, recording, samples)
        except (ParameterError, ValueError) as error:
            log.warning("recording %s: its speech is not noted: %s", recording.recording_id, error)
            return []

    def _check_room(self, done: Recording, samples: int) -> None:
        folder, wanted = self._storage.recordings, self._storage.takes(done, samples)
        if self._storage.vault.encrypts and not self._passes_spool(wanted):
            # Both of it are there for a while: as it is encoded, and encrypted.
            wanted *= 2
        found = self._statvfs(folder)
        # Tried for all that, it would take what is free from the calls that live, and fail: again and again.
        if found.f_blocks and free(found) < wanted:
            raise _TooLarge(f"{folder} has {free(found)} bytes free, and it may take {wanted}")

    def _passes_spool(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes beside the spool, on another disk than the recordings'."""
        spool, found = self._storage.spool_dir, self._statvfs(self._storage.spool_dir)
        elsewhere = spool.stat().st_dev != self._storage.recordings.stat().st_dev
        return elsewhere and (not found.f_blocks or free(found) >= size + RESERVE)


def _as_begun(recording: Recording) -> Recording:
    """As it was before any pause that has been noted since."""
    return recording.model_copy(update={"state": State.RECORDING, "pauses": []})
