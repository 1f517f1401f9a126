"""The service: the one place where listener, documents, recorder, detector and storage are put together."""

import gc
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import gevent
import numpy as np
from gevent.event import Event as Flag

from esl_record import descriptors, keys, permissions, vad
from esl_record.cipher import Cipher
from esl_record.config import Settings, check_spool, webhook_secret
from esl_record.database import Database
from esl_record.egress import AddressPolicy
from esl_record.errors import ConfigError, DatabaseError, DocumentError, EslRecordError
from esl_record.esl.admission import Admission
from esl_record.esl.channel import ReachedCall
from esl_record.esl.inband import InbandDtmf, detect_inband
from esl_record.esl.link import WITHOUT, Link
from esl_record.esl.server import Server
from esl_record.esl.session import Session
from esl_record.handlers.loader import Handlers, called_by
from esl_record.handlers.run import run
from esl_record.health import Health
from esl_record.http.app import Parts, build
from esl_record.http.links import Links
from esl_record.http.server import HttpServer
from esl_record.live import LiveCall, LiveCalls
from esl_record.lock import held
from esl_record.metrics import Metrics
from esl_record.reclaim import Reclaim
from esl_record.recording.encoding import Encodings
from esl_record.recording.params import RecordParams
from esl_record.recording.quarantine import FOLDER as QUARANTINE
from esl_record.recording.quarantine import Quarantine, clear, torn
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import LONGEST, Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.retention import expired
from esl_record.recording.room import Room
from esl_record.recording.storage import Storage
from esl_record.recording.vault import Vault
from esl_record.returning import Returning, go_on, let_go, was_asked_back
from esl_record.status import event
from esl_record.status.event import Identity
from esl_record.status.ledger import Ledger
from esl_record.status.receiver import Receiver, shown
from esl_record.status.sender import Sender
from esl_record.swml import javascript, runner
from esl_record.swml.bookmark import Bookmark
from esl_record.swml.bookmarks import Bookmarks
from esl_record.swml.call import Call
from esl_record.swml.copies import Copies
from esl_record.swml.document import is_url
from esl_record.swml.folders import PlayFolders
from esl_record.swml.library import Library
from esl_record.swml.recordings import CallRecordings
from esl_record.swml.site import Site
from esl_record.swml.web import Web
from esl_record.vad.engine import Engine

log = logging.getLogger(__name__)

T = TypeVar("T")

CATALOG = "catalog.sqlite"
"""In the data directory, unless the setting ``database`` says otherwise."""

BOOKMARKS = "calls"
"""In the data directory: where live calls are in their documents."""

COPIES = "documents-cache"
"""In the data directory: what servers of documents gave last."""

_RECOVERY_PAUSE = 1.0
_PRUNING_PAUSE = 300.0
_LAST_RECORDINGS = 5.0


class Service:
    """Takes calls from ``start`` to ``stop``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        vault = Vault.of(settings.encryption_key, settings.encryption_key_command)
        self.storage = Storage(settings.data_dir, settings.spool_dir, settings.quality, vault)
        self._encodings = Encodings(self.storage)
        folders = (self.storage.spool_dir, self.storage.recordings)
        self._room = Room(folders, settings.disk_floor)
        self.calls = LiveCalls()
        self.metrics = Metrics()
        self.finished: Recording | None = None
        """The latest recording that has ended."""
        self._engine = Engine()
        self._library = Library(settings.documents)
        self._handlers = Handlers(settings.handlers)
        self._draining = False
        self.link = Link(settings.event_socket, settings.event_socket_password)
        self._ending = ExitStack()
        """What ``stop`` has to end, the last begun first."""
        self._admission = Admission(
            settings.peers,
            settings.socket_secrets,
            capacity=settings.capacity,
            peer_capacity=settings.peer_capacity,
        )
        self._server = Server(
            settings.listen,
            self._handle,
            self._admission,
            timeout=settings.command_timeout,
            on_control=self.metrics.accepted.observe,
        )

    @property
    def address(self) -> tuple[str, int]:
        return self._server.address

    @property
    def http_address(self) -> tuple[str, int]:
        address: tuple[str, int] = self._http.address
        return address

    def start(self) -> None:
        """Starts to take calls. Raises ConfigError where the settings and the machine do not fit, DatabaseError."""
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise

    def _start(self) -> None:
        self._prepare()
        settings = self.settings
        self._links = Links(settings.public_url, self._key(keys.link_key, "link.key"), settings.link_lifetime)
        cipher = self._key(lambda folder: Cipher(keys.call_key(folder)), "calls.key")
        self.ledger = open_ledger(settings, self.storage, self._links.download)
        self._ending.callback(self.ledger.close)
        # An earlier version queued what callers pressed unencrypted.
        self.ledger.outbox.rewrite(event.COLLECT, lambda body: event.sealed(body, cipher))
        self._health = Health(self.storage, self.ledger, self.calls, self.metrics, self._room, self._is_full)
        secrets = settings.webhook_secrets or [self._key(keys.webhook_secret, "webhook.secret", webhook_secret)]
        sender = Sender(
            self.ledger.outbox,
            AddressPolicy(settings.callback_networks),
            secrets,
            settings.signing_key or secrets[0],
            self._links.download,
            cipher,
            first_wait=settings.callback_retry,
            on_result=self.metrics.delivery,
        )
        self.ledger.on_queued, self.ledger.refusal = sender.offer, sender.refusal
        self._site = Site(
            identity=Identity(settings.project_id, settings.space_id, settings.node_id),
            envs=settings.envs,
            dial_number=settings.dial_number,
            dial_sip=settings.dial_sip,
            voices=settings.voices,
            envs_origins=frozenset(Receiver.of(origin).origin for origin in settings.envs_origins),
            play_folders=PlayFolders(settings.play_folders),
            addresses=AddressPolicy(settings.callback_networks),
            web=Web(
                AddressPolicy(settings.callback_networks),
                timeout=settings.document_timeout,
                copies=Copies(settings.data_dir / COPIES, cipher) if settings.document_fallback else None,
            ),
            tell=lambda url, key, state, body: self.ledger.queue(url, key, state, event.sealed(body, cipher)),
        )
        self._recovery = Recovery(self.storage, self.ledger.tell_begun, self.ledger.tell, quiet=settings.stall_timeout)
        clear(Quarantine(settings.data_dir / QUARANTINE), lambda: torn(self.storage))
        self._recovery.find()
        self._room.on_room = self._recovery.hurry
        self._ending.callback(gevent.spawn(self._room.watch).kill)
        self._room.looked.wait()
        self._bookmarks = Bookmarks(settings.data_dir / BOOKMARKS, cipher)
        self._bookmarks.find()
        # The first call must not wait for FFT plans and lazy imports.
        vad.detect(np.zeros(8000, np.int16), 8000)
        self._http = self._serve_http()
        try:
            self._server.start()
        except OSError as error:
            raise ConfigError(f"setting listen = {_shown(settings.listen)}: {error.strerror}") from error
        returning = Returning(self.link, self.address, self._in_hand, self._server.settle)
        self._reclaim = Reclaim(self.link, returning, self._recovery, self._bookmarks, self.calls, self._live)
        sender.start()
        self._ending.callback(sender.stop)
        # The first expression of a process takes seconds to get ready for.
        beside = (self._tick, self._recover, self._prune, self.metrics.watch_hub, javascript.prepare, self.link.run)
        tasks = [gevent.spawn(task) for task in (*beside, self._encodings.run, self._reclaim.run)]
        self._ending.callback(gevent.killall, tasks)
        log.info("listening on %s, recordings in %s", _shown(self.address), self.storage.recordings.absolute())
        log.info("http on %s, downloads from %s", _shown(self.http_address), self._links.base_url)

    def stop(self, drain: float | None = None, *, hurried: Flag | None = None) -> None:
        """Takes no more calls and waits up to ``drain`` seconds, or until ``hurried``, for the last to end.

        Then what is still being recorded is finished, and the calls go on in their dialplan.
        """
        self._server.stop_accepting()
        began = time.monotonic()
        drained = gevent.spawn(self._server.drain, self.settings.drain_timeout if drain is None else drain)
        gevent.wait([drained, *([hurried] if hurried else [])], count=1)
        if self._server.connections or self.calls.recorders:
            waited = round(time.monotonic() - began)
            log.warning("calls still live after %d s: they go on in the dialplan", waited)
            self._draining = True
            for recorder in self.calls.recorders:
                recorder.stop()
            deadline = time.monotonic() + _LAST_RECORDINGS
            while self.calls.recorders and time.monotonic() < deadline:
                gevent.sleep(self.settings.tick)
            self._server.give_up()
        self._ending.close()
        log.info("stopped")

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains; a second signal ends the draining."""
        ending, hurried = Flag(), Flag()

        def end() -> None:
            (hurried if ending.is_set() else ending).set()

        signals = [gevent.signal_handler(number, end) for number in (signal.SIGTERM, signal.SIGINT)]
        signals.append(gevent.signal_handler(signal.SIGHUP, self.reload))
        self.start()
        # What is there by now stays: to go through it for garbage would hold up all calls for a tenth of a second.
        gc.collect()
        gc.freeze()
        ending.wait()
        log.info("stopping: no more calls are taken")
        self.stop(hurried=hurried)
        for handler in signals:
            handler.cancel()

    def reload(self) -> None:
        """Carry out SIGHUP: nothing that runs is touched; no call and no setting changes."""
        log.info("SIGHUP: documents are read at each call anyway; settings change at the next start")

    # ---- a call

    def _handle(self, session: Session) -> None:
        # The path is the dialplan's own: where it names a document no variable changes that.
        name = session.path or session.data.get("variable_swml_url", "")
        called = called_by(session)
        party = Party(
            call_id=session.uuid,
            caller_number=session.data.get("Caller-Caller-ID-Number", "")[:LONGEST],
            caller_name=session.data.get("Caller-Caller-ID-Name", "")[:LONGEST],
            destination=session.data.get("Caller-Destination-Number", "")[:LONGEST],
            document=f"python/{called.module}" if called else shown(name) if is_url(name) else name,
        )
        live = self._live(session, party)
        others = self.calls.all(session.uuid)
        for other in others:
            if other.session.lost:
                other.hand_over(_LAST_RECORDINGS)
        before = any(not other.session.lost for other in others)
        if before:
            # A call that was handed back, or sent here while another connection has it, has come for something new.
            self._bookmarks.drop(session.uuid)
        mark = self._bookmarks.get(session.uuid)
        recordings = CallRecordings(
            live,
            self._links.download,
            lambda: self._draining,
            patience=self.settings.command_timeout,
            begun=lambda control_id: self.ledger.begun(session.uuid, control_id, mark.at if mark else 0.0),
        )

        def note(place: Bookmark) -> None:
            if self.calls.get(session.uuid) is not live:
                return
            place.waiting = live.waiting
            live.stays = self._bookmarks.put(session.uuid, place)
            if not live.stays and not live.recorders:
                session.hold(False)

        call = Call(session, recordings, site=self._site, note=note)
        self.calls.add(live)
        try:
            detect_inband(session, InbandDtmf(self.settings.inband_dtmf))
            left = go_on(live, self._recovery.claim(session.uuid), self._recovery.add)
            if mark is not None:
                runner.go_on(mark, call)
            elif left or was_asked_back(session) or (session.held and not before):
                if called is not None and (resumed := self._handlers.resumed(called.module)) is not None:
                    run(resumed, called, session, recordings, self.storage.audio_path)
                else:
                    for recorder in left:
                        live.wait(recorder)
            elif called is not None:
                run(self._handlers.load(called.module), called, session, recordings, self.storage.audio_path)
            else:
                runner.start(name, self._library, call)
        except DocumentError as error:
            log.error("%s: %s; the dialplan goes on", session.label, session.pressed.redact(error))
            # While they can still be stopped: a call that has been handed back is not told anything any more.
            live.end(_LAST_RECORDINGS)
            if not session.lost:
                # Before the dialplan goes on: its next action may bring the call here at once, for another document.
                self._bookmarks.drop(session.uuid)
            let_go(session, [("script_error", error.code)])
        finally:
            moves = any(recorder.moves for recorder in live.recorders.values())
            if (session.lost or moves or (session.left and session.live)) and not self._draining:
                # The call may live and come back over another connection; one that was sent elsewhere does live.
                if session.lost and self.link.up:
                    live.hand_over(_LAST_RECORDINGS)
                live.follow()
            live.end(_LAST_RECORDINGS)
            if was_asked_back(session) and session.live and not session.left:
                with suppress(EslRecordError):
                    let_go(session)
            self.calls.remove(live)
            if not session.lost and self.calls.get(session.uuid) is None:
                self._bookmarks.drop(session.uuid)

    def _live(self, session: ReachedCall, party: Party) -> LiveCall:
        sequences = self.settings.pause_sequences
        return LiveCall(session, party, self._recorder, self._ended, sequences, self.link.listen_far)

    def _in_hand(self, call_id: str) -> bool:
        """Whether a connection of the call is served, and not only its recordings."""
        return any(not call.session.lost for call in self.calls.all(call_id)) or self._server.serves(call_id)

    def _recorder(
        self, session: ReachedCall, party: Party, params: RecordParams, left: Recording | None, *, foreground: bool
    ) -> Recorder:
        return Recorder(
            session,
            self._engine,
            self.storage,
            party,
            params,
            self.ledger.tell,
            self._encodings,
            self._room,
            left=left,
            foreground=foreground,
            stall_timeout=self.settings.stall_timeout,
            pause_limit=self.settings.pause_limit,
            find_tapped=self.link.find_tapped,
        )

    def _ended(self, recorder: Recorder) -> None:
        recording = recorder.recording
        if recording.state.final:
            self.finished = recording
            self.metrics.has_ended(recording)
        announced = self.storage.announced_path(recording).exists()
        if recorder.handed_over and announced and not recording.state.final:
            self._recovery.leave(recording)
        elif recorder.untold or announced:
            self._recovery.add(recording, recorder.untold)

    # ---- beside the calls

    def _lacking(self) -> list[str]:
        """What this service does without, and what that costs."""
        if self.link.up:
            return []
        return [f"{self.link.fault}: {WITHOUT}"]

    def _is_full(self) -> bool:
        return self._admission.full

    def _tick(self) -> None:
        while True:
            began = time.monotonic()
            self._health.ticked()
            try:
                self._engine.tick()
            except Exception:
                log.exception("detector tick failed")
            took = time.monotonic() - began
            self.metrics.tick.observe(took)
            gevent.sleep(max(0.0, self.settings.tick - took))

    def _recover(self) -> None:
        """Completes what was left and no call comes back to."""
        self._reclaim.asked.wait()
        while True:
            for recording in self._recovery.run():
                self.metrics.has_ended(recording)
            gevent.sleep(_RECOVERY_PAUSE)

    def _prune(self) -> None:
        settings = self.settings
        age, size, untold = settings.keep_age, settings.keep_size, not settings.keep_untold
        while True:
            try:
                self.ledger.outbox.prune(time.time() - settings.callbacks_kept)
                for recording, why in expired(self.ledger, time.time(), age=age, size=size, untold=untold):
                    try:
                        self.ledger.delete(recording, why)
                    except OSError as error:
                        log.error("recording %s cannot be deleted: %s", recording.recording_id, error)
            except DatabaseError as error:
                log.error("%s", error)
            except Exception:
                log.exception("retention failed")
            gevent.sleep(_PRUNING_PAUSE)

    def _serve_http(self) -> HttpServer:
        settings = self.settings
        app = build(
            Parts(
                ledger=self.ledger,
                storage=self.storage,
                calls=self.calls,
                links=self._links,
                project_id=settings.project_id,
                token=settings.api_token,
                public_host=urlsplit(settings.public_url).hostname or "",
                command_timeout=settings.command_timeout,
                ready=self._health.unready,
                lacking=self._lacking,
                metrics=self._health.exposition,
            )
        )
        server = HttpServer(settings.http, app, open_to_all=bool(settings.project_id and settings.api_token))
        try:
            server.start()
        except OSError as error:
            raise ConfigError(f"setting http = {_shown(settings.http)}: {error.strerror}") from error
        self._ending.callback(server.stop)
        if not settings.public_url:
            host, port = server.address
            everywhere = host in ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
            self._links.base_url = f"http://{_shown((socket.getfqdn() if everywhere else host, port))}"
        return server

    def _key(self, read: Callable[[Path], T], name: str, check: Callable[[T], T] = lambda key: key) -> T:
        try:
            return check(read(self.settings.data_dir))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.settings.data_dir / name}: {error}; without the file a new one is made") from None

    def _prepare(self) -> None:
        check_spool(self.storage.spool_dir)
        try:
            self.storage.prepare()
            permissions.check(self.settings, self.storage)
            self._ending.enter_context(held(self.settings.data_dir))
            # Also its own: it may be what another's setting names.
            self._ending.enter_context(held(self.storage.spool_dir, "spool_dir", shared=True))
            self.storage.keep_to_key()
        except OSError as error:
            raise ConfigError(f"setting data_dir = {self.settings.data_dir}: {error}") from error
        documents = self.settings.documents
        if documents is not None and not documents.is_dir():
            raise ConfigError(f"setting documents = {documents}: is no directory")
        handlers = self.settings.handlers
        if handlers is not None and not handlers.is_dir():
            raise ConfigError(f"setting handlers = {handlers}: is no directory")
        for folder in self.settings.play_folders:
            if not folder.is_dir():
                raise ConfigError(f"setting play_folders = {folder}: is no directory")
        descriptors.provide(self.settings.capacity)


def open_ledger(
    settings: Settings, storage: Storage, link: Callable[[str, str], str] = lambda recording_id, suffix: ""
) -> Ledger:
    """The ledger of the service ``settings`` are for. Raises DatabaseError."""
    database = Database(settings.database) if settings.database else Database.in_file(settings.data_dir / CATALOG)
    identity = Identity(settings.project_id, settings.space_id, settings.node_id)
    ledger = Ledger(database, storage, identity, link, shared=bool(settings.database))
    ledger.open()
    return ledger


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
