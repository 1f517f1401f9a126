"""The service: the one place where listener, documents, recorder, detector and storage are put together."""

import fcntl
import logging
import resource
import signal
import time
from pathlib import Path
from typing import IO

import gevent
import numpy as np
from gevent.event import Event as Flag

from esl_record import vad
from esl_record.config import Settings, check_spool
from esl_record.errors import CallGone, ConfigError, DocumentError
from esl_record.esl.server import Server
from esl_record.esl.session import Session
from esl_record.recording.params import RecordParams
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.storage import Storage
from esl_record.swml import runner
from esl_record.swml.call import Call
from esl_record.swml.document import Library
from esl_record.vad.engine import Engine

log = logging.getLogger(__name__)

_RECOVERY_PAUSE = 1.0
_LAST_RECORDINGS = 5.0
_DESCRIPTORS_A_CALL = 3
_DESCRIPTORS_ELSE = 64


class Service:
    """Takes calls from ``start`` to ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = Storage(settings.data_dir, settings.spool_dir)
        self.recorders: set[Recorder] = set()
        """The recordings under way."""
        self.finished: Recording | None = None
        """The latest recording that has ended."""
        self._engine = Engine()
        self._library = Library(settings.documents)
        self._draining = False
        self._tasks: list[gevent.Greenlet] = []
        self._lock: IO[str] | None = None
        self._server = Server(
            settings.listen,
            self._handle,
            capacity=settings.capacity,
            peers=settings.peers,
            timeout=settings.command_timeout,
        )

    @property
    def address(self) -> tuple[str, int]:
        return self._server.address

    def start(self) -> None:
        """Starts to take calls. Raises ConfigError where the settings and the machine do not fit."""
        self._prepare()
        recovery = Recovery(self.storage)
        left = recovery.left()
        # The first call must not wait for FFT plans and lazy imports.
        vad.detect(np.zeros(8000, np.int16), 8000)
        try:
            self._server.start()
        except OSError as error:
            raise ConfigError(f"setting listen = {_shown(self.settings.listen)}: {error.strerror}") from error
        self._tasks = [gevent.spawn(self._tick), gevent.spawn(self._recover, recovery, left)]
        log.info("listening on %s, recordings in %s", _shown(self.address), self.storage.recordings.absolute())

    def stop(self, drain: float | None = None, *, hurried: Flag | None = None) -> None:
        """Takes no more calls and waits up to ``drain`` seconds, or until ``hurried``, for the last to end.

        Then what is still being recorded is finished, and the calls go on in their dialplan.
        """
        self._server.stop_accepting()
        began = time.monotonic()
        drained = gevent.spawn(self._server.drain, self.settings.drain_timeout if drain is None else drain)
        gevent.wait([drained, *([hurried] if hurried else [])], count=1)
        if self._server.connections:
            waited = round(time.monotonic() - began)
            log.warning("calls still live after %d s: they go on in the dialplan", waited)
            self._draining = True
            for recorder in list(self.recorders):
                recorder.stop()
            deadline = time.monotonic() + _LAST_RECORDINGS
            while self.recorders and time.monotonic() < deadline:
                gevent.sleep(self.settings.tick)
            self._server.give_up()
        gevent.killall(self._tasks)
        if self._lock is not None:
            self._lock.close()
        log.info("stopped")

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains; a second signal ends the draining."""
        ending, hurried = Flag(), Flag()

        def end() -> None:
            (hurried if ending.is_set() else ending).set()

        signals = [gevent.signal_handler(number, end) for number in (signal.SIGTERM, signal.SIGINT)]
        self.start()
        ending.wait()
        log.info("stopping: no more calls are taken")
        self.stop(hurried=hurried)
        for handler in signals:
            handler.cancel()

    # ---- a call

    def _handle(self, session: Session) -> None:
        party = Party(
            call_id=session.uuid,
            caller_number=session.data.get("Caller-Caller-ID-Number", ""),
            caller_name=session.data.get("Caller-Caller-ID-Name", ""),
            destination=session.data.get("Caller-Destination-Number", ""),
            document=session.path,
        )
        call = Call(session, lambda params: self._record(session, party, params))
        try:
            runner.run(self._library.load(session.path), call)
        except DocumentError as error:
            log.error("%s: %s; the dialplan goes on", session.label, error)
            session.release([("script_error", error.code)])

    def _record(self, session: Session, party: Party, params: RecordParams) -> tuple[Recording, Path | None]:
        recorder = Recorder(
            session, self._engine, self.storage, party, params, stall_timeout=self.settings.stall_timeout
        )
        if params.status_url is not None:
            log.warning("%s: status_url is taken note of, but this version sends no callbacks", session.label)
        self.recorders.add(recorder)
        try:
            recording = recorder.record()
        finally:
            self.recorders.discard(recorder)
        self.finished = recording
        if self._draining:
            raise CallGone(f"{session.label}: the service is stopping")
        return recording, recording.audio(self.storage.document_path(recording))

    # ---- beside the calls

    def _tick(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._engine.tick()
            except Exception:
                log.exception("detector tick failed")
            gevent.sleep(max(0.0, self.settings.tick - (time.monotonic() - began)))

    def _recover(self, recovery: Recovery, left: list[Path]) -> None:
        """Completes what an earlier run left; a call that outlived it may still be writing."""
        while left:
            for _ in recovery.run(left):
                pass  # each tells of itself
            gevent.sleep(_RECOVERY_PAUSE)

    def _prepare(self) -> None:
        check_spool(self.storage.spool_dir)
        try:
            self.storage.prepare()
            self._lock = (self.settings.data_dir / ".lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"setting data_dir = {self.settings.data_dir}: another esl-record uses it; each needs its own"
            ) from None
        except OSError as error:
            raise ConfigError(f"setting data_dir = {self.settings.data_dir}: {error}") from error
        documents = self.settings.documents
        if documents is not None and not documents.is_dir():
            raise ConfigError(f"setting documents = {documents}: is no directory")
        wanted = self.settings.capacity * _DESCRIPTORS_A_CALL + _DESCRIPTORS_ELSE
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            if hard != resource.RLIM_INFINITY and hard < wanted:
                raise ConfigError(
                    f"setting capacity = {self.settings.capacity}: needs {wanted} open files and the limit is {hard}: "
                    "raise it (ulimit -n, LimitNOFILE) or lower capacity"
                )
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
