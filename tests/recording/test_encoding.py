"""Encoding behind the call: the same file as from the whole spool, whatever is cut off and whatever fails."""

import errno
import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import soundfile
from disks import disk_of
from gevent.event import Event as Flag
from gevent.monkey import get_original
from gevent.threadpool import ThreadPool
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recorder import a_folder
from test_storage import KEY, START, open_descriptors, opened, spooled

from esl_record.audio import aac, formats
from esl_record.audio.sndfile import SoundFileWriter
from esl_record.audio.spool import Spool
from esl_record.errors import SpoolError
from esl_record.recording import encoding as encoding_module
from esl_record.recording.encoding import STEP, Encoding, Encodings
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import Format, RecordParams
from esl_record.recording.quarantine import Quarantine, clear, torn
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import QUIET, Recovery
from esl_record.recording.storage import Storage
from esl_record.recording.vault import Vault
from esl_record.standin import voice

RATE = 8000
SECONDS = 3
VOICE = voice.say(SECONDS, RATE)


def begun(format: str = "wav", *, stereo: bool = False, number: int = 1) -> Recording:
    party = Party(call_id="3f5b", caller_number="+15550100", caller_name="Ann \u00e9")
    params = RecordParams(format=Format(format), stereo=stereo, control_id="c")
    recording = Recording.begun(f"{number:08d}-0000-4000-8000-000000000000", party, params, START)
    return recording.model_copy(update={"sample_rate": RATE})


def ended(recording: Recording) -> Recording:
    return recording.model_copy(update={"state": State.FINISHED, "end_reason": EndReason.TERMINATOR})


def heard(samples: int, *, stereo: bool = False) -> bytes:
    sides = [np.resize(VOICE, samples), np.resize(np.roll(VOICE, RATE), samples)]
    return np.stack(sides[: 2 if stereo else 1], axis=1).astype("<i2").tobytes()


def one_shot(recording: Recording, samples: int) -> bytes:
    """The file encoded from a whole spool."""
    with a_folder() as folder:
        storage = Storage(Path(folder))
        spooled(storage, recording, heard(samples, stereo=recording.stereo))
        storage.complete(recording, samples)
        return storage.audio_path(recording).read_bytes()


class Growing:
    """A live recording whose spool grows as told."""

    def __init__(
        self,
        folder: Path,
        format: str = "wav",
        *,
        stereo: bool = False,
        samples: int = SECONDS * RATE,
        sealed: bool = False,
    ) -> None:
        self.storage = Storage(folder, vault=Vault([str(KEY)] if sealed else []))
        self.recording = begun(format, stereo=stereo)
        self.audio = heard(samples, stereo=stereo)
        self.path = spooled(self.storage, self.recording, b"")
        self.certain = 0
        self.encoding = Encoding(self.storage, self.recording, lambda: self.certain)

    def grow(self, samples: int, *, hold: int = 0) -> None:
        """The spool has so many samples, and all but ``hold`` of them are certain."""
        width = 2 * self.recording.channels
        with self.path.open("ab") as spool:
            spool.write(self.audio[self.path.stat().st_size : samples * width])
        self.certain = samples - hold
        self.encoding.advance()

    def finish(self, samples: int) -> Recording:
        return self.encoding.finish(ended(self.recording), samples)

    @property
    def file(self) -> bytes:
        return opened(self.storage.audio_path(self.recording))

    @property
    def kept(self) -> list[str]:
        """The suffixes of what lies with the recordings."""
        return sorted("".join(path.suffixes) for path in self.storage.recordings.rglob("*") if path.is_file())


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Callable[..., Growing]]:
    made: list[Growing] = []

    def making(format: str = "wav", **named: Any) -> Growing:
        made.append(Growing(tmp_path, format, **named))
        return made[-1]

    yield making
    for one in made:
        one.encoding.close()


Make = Callable[..., Growing]
all_formats = pytest.mark.parametrize("format", list(formats.FORMATS))


# ---- in good order


@all_formats
@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
def test_the_file_grows_with_the_call_and_is_complete_soon_after_its_end(
    growing: Make, format: str, stereo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = growing(format, stereo=stereo)
    read: list[int] = []
    block = Spool.block
    monkeypatch.setattr(Spool, "block", lambda spool, start, limit: read.append(start) or block(spool, start, limit))
    for samples in range(RATE // 2, SECONDS * RATE + 1, RATE // 2):
        live.grow(samples, hold=800)
        assert live.kept == [f".{format}.part"]
    assert read == [0, *range(RATE // 2 - 800, 5 * RATE // 2, RATE // 2)]
    done = live.finish(SECONDS * RATE)
    assert read[-1] == SECONDS * RATE - 800
    assert live.file == one_shot(live.recording, SECONDS * RATE)
    assert (done.duration, done.size, done.file) == (SECONDS, len(live.file), f"030405-{done.recording_id}.{format}")
    assert done.sha256 == hashlib.sha256(live.file).hexdigest()
    assert Recording.model_validate_json(live.storage.document_path(done).read_bytes()) == done
    assert live.kept == [".json", f".{format}"]


@all_formats
def test_with_a_key_nothing_is_seen_of_it_until_it_is_complete_and_encrypted(growing: Make, format: str) -> None:
    live = growing(format, sealed=True)
    for samples in (RATE, 2 * RATE, SECONDS * RATE):
        live.grow(samples, hold=800)
        assert (live.kept, len(list(live.storage.spool_dir.iterdir()))) == ([], 1)
    whole = one_shot(live.recording, SECONDS * RATE)
    done = live.finish(SECONDS * RATE)
    assert live.kept == [".json", f".{format}.age"]
    assert live.file == whole
    assert (done.size, done.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


@settings(deadline=None, max_examples=60)
@given(
    format=st.sampled_from(list(formats.FORMATS)),
    stereo=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 2000)), max_size=8),
    cut=st.integers(0, 3000),
)
def test_live_or_at_once_it_is_the_same_file(format: str, stereo: bool, steps: list[tuple[int, int]], cut: int) -> None:
    total = sum(size for size, _ in steps)
    samples = max(total - cut, 1)
    with a_folder() as folder:
        live = Growing(Path(folder), format, stereo=stereo, samples=max(total, 1))
        size = 0
        for step, hold in steps:
            size += step
            live.grow(size, hold=hold)
        live.grow(max(total, 1), hold=max(total, 1))
        # Also where it ends before what was held to be certain.
        done = live.finish(samples)
        assert live.file == one_shot(live.recording, samples)
        assert done.duration == samples / RATE
        assert live.kept == [".json", f".{format}"]


@all_formats
def test_a_recording_that_ends_before_anything_was_certain_is_encoded_at_its_end(growing: Make, format: str) -> None:
    live = growing(format)
    live.grow(1000, hold=1000)
    assert live.kept == []
    assert live.finish(900).duration == 900 / RATE
    assert live.file == one_shot(live.recording, 900)


def test_a_spool_shorter_than_its_end_gives_what_there_is_and_an_honest_duration(growing: Make) -> None:
    live = growing("mp3")
    live.grow(8000)
    assert live.finish(12000).duration == 1.0
    assert live.file == one_shot(live.recording, 8000)


def test_one_that_has_far_to_go_is_taken_forward_a_step_at_a_time(growing: Make) -> None:
    live = growing(samples=round(2.5 * STEP * RATE))
    sizes = []
    for _ in range(4):
        live.grow(round(2.5 * STEP * RATE))
        (part,) = live.storage.recordings.rglob("*.part")
        sizes.append(part.stat().st_size)
    assert np.diff(sizes).tolist() == [2 * STEP * RATE, STEP * RATE, 0]


def test_nothing_is_kept_open_or_behind(growing: Make, tmp_path: Path) -> None:
    before = open_descriptors()
    for format in formats.FORMATS:
        live = growing(format)
        live.grow(8000)
        live.finish(8000)
        live.encoding.close()
        live.path.unlink()
    live = growing("mp3")
    live.grow(8000)
    live.encoding.close()
    live.grow(16000)
    assert not list(tmp_path.rglob("*.part"))
    assert open_descriptors() == before


# ---- many


def test_each_gets_its_turn_and_one_that_fails_holds_up_no_other(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    encodings = Encodings(storage)
    recordings = [begun("mp3", number=number) for number in range(5)]
    for recording in recordings:
        spooled(storage, recording, heard(8000))
    live = [encodings.begin(recording, lambda: 8000) for recording in recordings]
    storage.spool_path(recordings[1].recording_id).unlink()
    encodings.advance()

    def begun_files() -> list[str]:
        return sorted(path.name.split("-")[1] for path in storage.recordings.rglob("*.part"))

    assert begun_files() == ["00000000", "00000002", "00000003", "00000004"]
    encodings.end(live[3])
    assert begun_files() == ["00000000", "00000002", "00000004"]
    for encoding in live:
        encodings.end(encoding)
    assert begun_files() == []


def test_rounds_go_on_by_themselves(growing: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "EVERY", 0.01)
    live = growing("mp4")
    live.grow(8000, hold=8000)
    encodings = Encodings(live.storage)
    encoding = encodings.begin(live.recording, lambda: 8000)
    running = gevent.spawn(encodings.run)
    with gevent.Timeout(10):
        while not live.kept:
            gevent.sleep(0.01)
    running.kill()
    assert encoding.finish(live.recording, 8000).duration == 1.0


def test_an_end_waits_for_the_turn_that_is_under_way_and_no_longer(growing: Make) -> None:
    live = growing("wav")
    live.grow(8000, hold=8000)
    live.certain = 8000
    turn = gevent.spawn(live.encoding.advance, ThreadPool(1))
    gevent.sleep(0)
    assert live.finish(8000).duration == 1.0
    assert turn.ready()
    assert live.file == one_shot(live.recording, 8000)


def test_who_is_killed_while_a_thread_is_at_work_leaves_nothing(growing: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread goes on; what is discarded meanwhile must not be pulled from under it."""
    live = growing("mp3", samples=9 * RATE)
    live.grow(RATE)
    entered, seen = Flag(), []
    loop, block = gevent.get_hub().loop, Spool.block

    def slowly(spool: Spool, start: int, limit: int) -> Any:
        loop.run_callback_threadsafe(entered.set)
        seen.append(start)
        return block(spool, start, 800 if limit > 800 else limit)

    monkeypatch.setattr(Spool, "block", slowly)
    with live.path.open("ab") as spool:
        spool.write(live.audio[2 * RATE :])
    live.certain = 9 * RATE
    turn = gevent.spawn(live.encoding.advance)
    entered.wait(10)
    turn.kill()
    live.encoding.close()
    assert live.kept == []
    done = len(seen)
    gevent.sleep(0.05)
    assert len(seen) == done


# ---- what fails


def broken_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise SpoolError("spool: Input/output error")

    monkeypatch.setattr(Spool, "block", failing)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", failing)


def broken_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise MemoryError("no more of it")

    monkeypatch.setattr(soundfile.SoundFile, "write", failing)
    monkeypatch.setattr(aac, "encoded", failing)


@all_formats
@pytest.mark.parametrize("failing", [broken_spool, full_disk, broken_encoder])
@pytest.mark.parametrize("after", [0, 1])
def test_what_fails_behind_the_call_is_done_at_its_end(
    growing: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    format: str,
    failing: Callable[[pytest.MonkeyPatch], None],
    after: int,
) -> None:
    live = growing(format)
    for turn in range(after):
        live.grow(8000 * (turn + 1))
    with monkeypatch.context() as patch:
        failing(patch)
        live.path.write_bytes(live.audio)
        live.certain = len(live.audio) // 2
        live.encoding.advance()
        assert live.kept == []
        live.encoding.advance()
    assert len([line for line in caplog.messages if "to be encoded anew at its end" in line]) == 1
    assert live.finish(SECONDS * RATE).duration == SECONDS
    assert live.file == one_shot(live.recording, SECONDS * RATE)


@all_formats
def test_a_disk_full_at_the_end_leaves_the_spool_and_no_part(growing: Make, format: str) -> None:
    live = growing(format)
    live.grow(SECONDS * RATE, hold=800)
    (part,) = live.storage.recordings.rglob("*.part")
    with disk_of(part.stat().st_size), pytest.raises(OSError, match="not all of it"):
        live.finish(SECONDS * RATE)
    assert (live.kept, live.path.stat().st_size) == ([], 2 * SECONDS * RATE)


def test_what_a_wav_cannot_hold_is_encoded_anew_as_rf64(growing: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LARGEST_WAV", 2 * RATE)
    live = growing("wav")
    live.grow(RATE)
    live.grow(2 * RATE)
    assert live.kept == []
    live.finish(2 * RATE)
    assert live.file[:4] == b"RF64"


# ---- a fault at every single step: one call fails, or the service is killed right before it

STEPS: list[tuple[Any, str]] = [
    (os, "open"),
    (os, "write"),
    (os, "read"),
    (os, "pread"),
    (os, "lseek"),
    (os, "fsync"),
    (os, "close"),
    (Path, "mkdir"),
    (Path, "replace"),
    (Path, "unlink"),
    (soundfile.SoundFile, "__init__"),
    (soundfile.SoundFile, "write"),
    (SoundFileWriter, "close"),
    (aac, "encoded"),
]

fork, wait = get_original("os", "fork"), get_original("os", "waitpid")


class Fault:
    """Counts the steps of a run; at the one numbered ``at`` it strikes."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, strike: Callable[[], None]) -> None:
        self.steps = 0
        self._at, self._strike = at, strike
        for owner, name in STEPS:
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self.steps += 1
            if self.steps - 1 == self._at:
                self._strike()
            return real(*arguments, **named)

        return step


def fail() -> None:
    raise OSError(errno.EIO, "Input/output error")


def live_through(live: Growing) -> None:
    """A call from its tap to the end of its recording, as far as it gets."""
    try:
        live.certain = RATE // 2
        live.encoding.advance()
        live.certain = RATE - 800
        live.encoding.advance()
        live.finish(RATE)
        live.storage.drop_spool(live.recording)
    except (OSError, SpoolError):
        pass
    finally:
        live.encoding.close()


def recovered(live: Growing) -> None:
    """What the next start makes of it."""
    clear(Quarantine(live.storage.recordings.with_name("quarantine")), lambda: torn(live.storage))
    recovery = Recovery(live.storage, lambda begun: None, lambda *told: None, clock=lambda: time.time() + QUIET)
    recovery.find()
    list(recovery.run())
    assert recovery.left == []


def at_once(work: Callable[[], Any], pool: object = None) -> Any:
    return work()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@all_formats
@pytest.mark.parametrize("killed", [False, True], ids=["fails", "is killed"])
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
def test_whatever_step_goes_wrong_the_recording_is_complete_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, killed: bool, sealed: bool
) -> None:
    monkeypatch.setattr(encoding_module, "off_hub", at_once)
    whole = one_shot(begun(format), RATE)

    def placed(name: str) -> Growing:
        live = Growing(tmp_path / name, format, samples=RATE, sealed=sealed)
        live.path.write_bytes(live.audio)
        return live

    for at in count():
        live = placed(f"{at}")
        if killed:
            child = fork()
            if not child:
                # What an earlier call left as garbage may wait for threads that a child does not have.
                gc.disable()
                Fault(monkeypatch, at, lambda: os._exit(9))
                live_through(live)
                os._exit(0)
            struck = os.waitstatus_to_exitcode(wait(child, 0)[1]) == 9
            for left in live.storage.recordings.rglob("*.*") if sealed else ():
                assert not left.is_file() or whole[-64:] not in left.read_bytes(), at
        else:
            with monkeypatch.context() as patch:
                fault = Fault(patch, at, fail)
                live_through(live)
                struck = fault.steps > at
        recovered(live)
        assert live.file == whole, at
        assert live.kept == [".json", f".{format}.age" if sealed else f".{format}"], at
        filed = Recording.model_validate_json(live.storage.document_path(live.recording).read_bytes())
        assert (filed.duration, filed.sha256) == (1.0, hashlib.sha256(whole).hexdigest())
        assert not [*live.storage.spool_dir.iterdir(), *live.storage.pending.iterdir()], at
        # Begun, and not even without a name yet.
        assert not any(path.stat().st_size for path in live.path.parents[1].glob("quarantine/*.part")), at
        if not struck:
            break
    assert at > 30
