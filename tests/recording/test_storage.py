"""Storage: a recording is complete in its place or not there at all, and its spool stays until it is."""

import errno
import hashlib
import logging
import os
import time
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import numpy as np
import pyrage
import pytest
import soundfile
from disks import disk_of

from esl_record.audio.part import partial_path
from esl_record.errors import ConfigError, SpoolError
from esl_record.recording import vault as vault_module
from esl_record.recording.draft import BLOCK
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.quarantine import torn
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage, write_whole
from esl_record.recording.vault import Vault

KEY = pyrage.x25519.Identity.generate()
START = 1704164645.25  # 2024-01-02 03:04:05.25 UTC
PLACE = "2024/01/02/030405-"


def begun(*, rate: int = 8000, stereo: bool = False, start: float = START, number: int = 1) -> Recording:
    """A recording that has just begun."""
    party = Party(call_id="3f5b", caller_number="+15550100", caller_name='Ann "\u00e9"\n', document="voicemail")
    params = RecordParams(stereo=stereo, control_id=f"control-{number}")
    recording = Recording.begun(f"{number:08d}-0000-4000-8000-000000000000", party, params, start)
    return recording.model_copy(update={"sample_rate": rate})


def noise(samples: int, channels: int, seed: int = 1) -> bytes:
    """What a switch writes: any 16-bit values, the extremes among them."""
    values = np.random.default_rng(seed).integers(-32768, 32768, samples * channels).astype("<i2")
    return values.tobytes()


def spooled(storage: Storage, recording: Recording, data: bytes) -> Path:
    """``recording`` as it stands after a call: announced, its spool written."""
    storage.prepare()
    storage.announce(recording)
    path = storage.spool_path(recording.recording_id)
    path.write_bytes(data)
    return path


def files(directory: Path) -> dict[str, bytes]:
    """Every file below ``directory`` with its content."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def frames(path: Path) -> tuple[bytes, int, int, int]:
    """The audio of a wav, its rate, channels and bytes a sample, as Python's own reader sees them."""
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes()), file.getframerate(), file.getnchannels(), file.getsampwidth()


def open_descriptors() -> set[str]:
    """What this process has open, by name; pipes and the like left out."""
    gevent.idle()  # gevent's os.close is done with the next turn of its loop
    names = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:
            pass  # the descriptor of the listing itself
    return {name for name in names if " /" in name and "/proc/" not in name}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


# ---- in good order


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
@pytest.mark.parametrize("samples", [1, 160, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_complete_recording_is_the_first_samples_of_the_spool_bit_for_bit(
    storage: Storage, rate: int, stereo: bool, samples: int
) -> None:
    recording = begun(rate=rate, stereo=stereo)
    data = noise(BLOCK + 320, recording.channels)
    spooled(storage, recording, data)
    done = storage.complete(recording, samples)
    audio = storage.audio_path(recording)
    assert frames(audio) == (data[: samples * 2 * recording.channels], rate, recording.channels, 2)
    assert done.duration == samples / rate
    assert done.size == len(audio.read_bytes())
    assert done.sha256 == hashlib.sha256(audio.read_bytes()).hexdigest()
    assert done.file == audio.name


def test_a_complete_recording_is_two_files_and_the_spool_until_it_is_dropped(storage: Storage, tmp_path: Path) -> None:
    recording = begun().model_copy(update={"state": State.FINISHED, "end_reason": EndReason.TERMINATOR})
    spooled(storage, recording, noise(800, 1))
    done = storage.complete(recording, 800)
    place = f"data/recordings/{PLACE}{recording.recording_id}"
    assert set(files(storage.spool_dir)) == {f"{recording.recording_id}.raw"}
    assert set(files(storage.pending)) == {f"{recording.recording_id}.json"}
    storage.drop_spool(recording)
    kept = files(tmp_path)
    assert set(kept) == {f"{place}.wav", f"{place}.json"}
    assert Recording.model_validate_json(kept[f"{place}.json"]) == done
    assert done == recording.model_copy(
        update={"duration": 0.1, "size": done.size, "sha256": done.sha256, "file": f"{Path(place).name}.wav"}
    )


def test_each_file_is_on_the_disk_before_it_has_its_name(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    spooled(storage, begun(), noise(160, 1))
    steps: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            steps.append(name)
            return real(*arguments, **named)

        return step

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, noted(name, getattr(owner, name)))
    storage.complete(begun(), 160)
    filed = ["fsync", "replace", "fsync"]
    # What goes in between is what a run with other settings may have left.
    assert steps == [*filed, *["unlink"] * 3, *filed]


@pytest.mark.parametrize("surplus", [0, 1, 3])
def test_a_spool_shorter_than_asked_gives_what_there_is_and_an_honest_duration(storage: Storage, surplus: int) -> None:
    recording = begun(stereo=True)
    data = noise(400, 2)
    spooled(storage, recording, data + b"\x7f" * surplus)
    done = storage.complete(recording, 8000)
    assert frames(storage.audio_path(recording))[0] == data
    assert done.duration == 0.05


def test_a_recording_is_filed_under_its_day_and_time_in_utc(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        path = storage.document_path(begun())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert str(path.relative_to(storage.recordings)) == f"{PLACE}{begun().recording_id}.json"


def test_paths_are_absolute_though_the_data_directory_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage(Path("data"), Path("elsewhere"))
    assert storage.spool_path("x") == tmp_path / "elsewhere/x.raw"
    assert storage.document_path(begun()).is_relative_to(tmp_path / "data/recordings")
    assert storage.audio_path(begun()).is_absolute()


def test_the_spool_may_lie_elsewhere(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "data", tmp_path / "fast")
    recording = begun()
    spooled(storage, recording, noise(160, 1))
    assert set(files(tmp_path / "fast")) == {f"{recording.recording_id}.raw"}
    storage.complete(recording, 160)
    storage.drop_spool(recording)
    assert files(tmp_path / "fast") == {}


def test_what_is_announced_can_be_read_back(storage: Storage) -> None:
    storage.prepare()
    storage.announce(begun(stereo=True))
    assert storage.announced(storage.announced_path(begun())) == begun(stereo=True)


def test_dropping_a_spool_that_is_not_there_is_no_error(storage: Storage, tmp_path: Path) -> None:
    storage.prepare()
    storage.drop_spool(begun())
    assert files(tmp_path) == {}


def test_a_password_in_an_address_is_not_filed(storage: Storage) -> None:
    recording = begun()
    storage.prepare()
    params = {**recording.parameters, "status_url": "https://ann:secret@example.com/x?y=1#ot=5"}
    storage.file(recording.model_copy(update={"parameters": params}))
    text = storage.document_path(recording).read_text()
    assert "secret" not in text
    assert "https://***@example.com/x?y=1#ot=5" in text


def test_deleting_takes_audio_and_json_and_can_be_done_again(storage: Storage, tmp_path: Path) -> None:
    recording = begun()
    spooled(storage, recording, noise(160, 1))
    done = storage.complete(recording, 160)
    storage.drop_spool(recording)
    other = begun(number=2)
    storage.file(other)
    storage.delete(done)
    storage.delete(done)
    assert list(files(tmp_path)) == [str(storage.document_path(other).relative_to(tmp_path))]


def test_the_usage_is_what_the_spool_holds(storage: Storage) -> None:
    storage.prepare()
    assert storage.usage()[0] == 0
    storage.spool_path("a").write_bytes(b"x" * 500)
    spooled_bytes, free = storage.usage()
    assert spooled_bytes == 500
    assert free > 0


def test_ids_are_unique() -> None:
    assert len({Storage.new_id() for _ in range(1000)}) == 1000


# ---- encrypted


@pytest.fixture
def sealing(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data", vault=Vault([str(KEY)]))


def opened(path: Path) -> bytes:
    """What is in a recording's file, as somebody else's program decrypts it."""
    data: bytes = path.read_bytes() if path.suffix != ".age" else pyrage.decrypt(path.read_bytes(), [KEY])
    return data


@pytest.mark.parametrize("samples", [1, BLOCK + 1])
def test_with_a_key_it_is_the_same_recording_with_its_audio_encrypted(
    storage: Storage, sealing: Storage, tmp_path: Path, samples: int
) -> None:
    recording = begun(stereo=True)
    spooled(storage, recording, noise(samples, 2))
    plain = storage.complete(recording, samples)
    whole = storage.audio_path(plain).read_bytes()
    storage.delete(plain)
    spooled(sealing, recording, noise(samples, 2))
    done = sealing.complete(recording, samples)
    assert done == plain.model_copy(update={"file": f"{plain.file}.age"})
    assert opened(sealing.audio_path(done)) == whole
    sealing.drop_spool(recording)
    place = f"data/recordings/{PLACE}{recording.recording_id}"
    assert set(files(tmp_path)) == {f"{place}.wav.age", f"{place}.json"}


def test_what_was_recorded_before_there_was_a_key_stays_where_it_is(storage: Storage, sealing: Storage) -> None:
    recording = begun()
    spooled(storage, recording, noise(160, 1))
    done = storage.complete(recording, 160)
    assert sealing.audio_path(done) == storage.audio_path(done)
    with sealing.vault.open(sealing.audio_path(done)) as audio:
        assert audio.sha256() == done.sha256


def test_audio_of_a_run_without_a_key_that_never_got_its_json_is_gone_once_it_is_encrypted(
    storage: Storage, sealing: Storage, tmp_path: Path
) -> None:
    recording = begun()
    spooled(storage, recording, noise(160, 1))
    storage.document_path(storage.complete(recording, 160)).unlink()
    sealing.complete(recording, 160)
    sealing.drop_spool(recording)
    assert {Path(name).suffix for name in files(tmp_path)} == {".age", ".json"}


def test_encrypted_it_is_deleted_as_a_whole_with_or_without_the_key(
    storage: Storage, sealing: Storage, tmp_path: Path
) -> None:
    recording = begun()
    spooled(sealing, recording, noise(160, 1))
    storage.delete(sealing.complete(recording, 160))
    assert files(tmp_path) == {}


@pytest.mark.parametrize("keyed_first", [False, True])
@pytest.mark.parametrize("end", ["concluded", "deleted"])
def test_what_a_run_with_other_settings_left_of_it_goes(
    storage: Storage, sealing: Storage, tmp_path: Path, keyed_first: bool, end: str
) -> None:
    earlier, now = (sealing, storage) if keyed_first else (storage, sealing)
    recording = begun()
    spooled(earlier, recording, noise(160, 1))
    whole = earlier.audio_path(earlier.complete(recording, 160))
    earlier.document_path(recording).unlink()
    partial_path(whole).write_bytes(b"half")
    assert list(torn(now)) == []
    if end == "concluded":
        done = now.complete(recording, 160)
        assert [path for path in whole.parent.iterdir() if path.suffix != ".json"] == [now.audio_path(done)]
    else:
        now.delete(recording)
        assert files(tmp_path) == {}


@pytest.mark.parametrize("keyed_first", [False, True])
def test_audio_that_is_whole_stays_where_its_spool_is_lost(
    storage: Storage, sealing: Storage, keyed_first: bool
) -> None:
    earlier, now = (sealing, storage) if keyed_first else (storage, sealing)
    recording = begun()
    spooled(earlier, recording, noise(160, 1))
    whole = earlier.audio_path(earlier.complete(recording, 160))
    partial_path(whole).write_bytes(b"half")
    now.discard(recording)
    assert (whole.exists(), partial_path(whole).exists()) == (True, False)


@pytest.mark.parametrize("fails", ["writing", "beginning"])
def test_with_no_room_beside_the_spool_it_is_encoded_beside_the_recordings(
    sealing: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    recording = begun()
    spooled(sealing, recording, noise(BLOCK + 160, 1))
    opening, sizes, begun_in = vault_module.SealedPart._opened, os.fstatvfs, []

    def opened_in(part: vault_module.SealedPart) -> int:
        begun_in.append(part._folder)
        if fails == "beginning" and len(begun_in) == 1:
            raise FULL
        return opening(part)

    def cramped(descriptor: int) -> Any:
        return SimpleNamespace(f_blocks=9, f_bavail=1, f_frsize=4096) if len(begun_in) == 1 else sizes(descriptor)

    monkeypatch.setattr(vault_module.SealedPart, "_opened", opened_in)
    monkeypatch.setattr(os, "fstatvfs", cramped)
    before = open_descriptors()
    with caplog.at_level(logging.INFO):
        done = sealing.complete(recording, BLOCK + 160)
    assert begun_in == [sealing.spool_dir, sealing.recordings]
    assert len([one for one in caplog.records if "beside the recordings" in one.getMessage()]) == 1
    assert opened(sealing.audio_path(done))[-8:] == noise(BLOCK + 160, 1)[-8:]
    assert {path.name for path in sealing.recordings.iterdir()} == {"2024"}
    assert open_descriptors() == before


def test_what_else_fails_is_not_done_again_elsewhere(sealing: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = begun()
    spooled(sealing, recording, noise(160, 1))
    monkeypatch.setattr(os, "fsync", nth(1, os.fsync, OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        sealing.complete(recording, 160)


def test_once_there_was_a_key_there_must_be_one(storage: Storage, sealing: Storage, tmp_path: Path) -> None:
    storage.prepare()
    storage.keep_to_key()
    assert files(tmp_path) == {}
    sealing.keep_to_key()
    sealing.keep_to_key()
    marker = tmp_path / "data" / "encrypted"
    assert "encryption_key" in marker.read_text()
    with pytest.raises(ConfigError, match=r"data/encrypted .*set the key, or remove that file to record unencrypted"):
        storage.keep_to_key()
    marker.unlink()
    storage.keep_to_key()


# ---- what is in place

DAY = 86400


def filed(storage: Storage, *recordings: Recording) -> Storage:
    storage.prepare()
    for recording in recordings:
        storage.file(recording)
    return storage


def test_recordings_come_oldest_first(storage: Storage) -> None:
    starts = [START + 400 * DAY, START, START - 3 * DAY, START + 1, START + 40 * DAY]
    filed(storage, *(begun(number=n, start=start) for n, start in enumerate(starts)))
    assert [recording.start_time for _, recording in storage.filed()] == sorted(starts)


def test_each_comes_with_its_file_and_as_it_was_filed(storage: Storage) -> None:
    recording = begun(stereo=True)
    ((path, found),) = filed(storage, recording).filed()
    assert found == recording
    assert path == storage.document_path(recording)


def test_an_empty_or_missing_directory_holds_none(tmp_path: Path) -> None:
    (tmp_path / "empty" / "recordings").mkdir(parents=True)
    assert list(Storage(tmp_path / "empty").filed()) == []
    assert list(Storage(tmp_path / "missing").filed()) == []


def test_what_comes_later_is_seen_too(storage: Storage) -> None:
    filed(storage, begun(number=1))
    before = len(list(storage.filed()))
    storage.file(begun(number=2))
    assert (before, len(list(storage.filed()))) == (1, 2)


JUNK = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b"\x00" * 4096,
    b'{"recording_id": 5}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", JUNK, ids=lambda content: repr(content)[:20])
def test_a_file_that_is_none_is_told_of_once_and_passed_over(
    storage: Storage, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    first, last = begun(number=1), begun(number=2, start=START + DAY)
    filed(storage, first, last)
    junk = storage.document_path(first).with_name("120000-junk.json")
    junk.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert [recording for _, recording in storage.filed()] == [first, last]
    (record,) = caplog.records
    assert str(junk) in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_recordings_file_cut_anywhere_is_passed_over(storage: Storage) -> None:
    filed(storage, begun(number=1), begun(number=2))
    path = storage.document_path(begun(number=2))
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert [recording for _, recording in storage.filed()] == [begun(number=1)]


def test_a_directory_and_a_dangling_link_of_that_name_are_passed_over(storage: Storage) -> None:
    filed(storage, begun())
    day = storage.document_path(begun()).parent
    (day / "dir.json").mkdir()
    (day / "link.json").symlink_to("nowhere")
    assert [recording for _, recording in storage.filed()] == [begun()]


def test_only_files_of_a_day_are_looked_at(storage: Storage) -> None:
    filed(storage, begun())
    text = begun(number=2).model_dump_json()
    day = storage.document_path(begun()).parent
    for place in (storage.recordings / "a.json", day.parent / "a.json", day / "a.wav", day / ".a.json.part"):
        place.write_text(text)
    assert [recording for _, recording in storage.filed()] == [begun()]


def test_reading_changes_nothing(storage: Storage, tmp_path: Path) -> None:
    filed(storage, begun(number=1), begun(number=2))
    before = files(tmp_path)
    assert len(list(storage.filed())) == 2
    assert files(tmp_path) == before


# ---- when something fails


def nth(number: int, real: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """``real``, raising ``error`` at its call ``number``, counted from 1, and at every one after it."""
    calls = 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise error
        return real(*arguments, **named)

    return failing


FULL = OSError(errno.ENOSPC, "No space left on device")
FAULTS = [
    pytest.param(soundfile.SoundFile, "write", 1, soundfile.LibsndfileError(2), id="first block"),
    pytest.param(soundfile.SoundFile, "write", 2, soundfile.LibsndfileError(2), id="second block"),
    pytest.param(soundfile.SoundFile, "write", 2, AssertionError(), id="short write"),
    pytest.param(soundfile.SoundFile, "__init__", 1, soundfile.LibsndfileError(2), id="header"),
    pytest.param(os, "pread", 2, OSError(errno.EIO, "Input/output error"), id="reading the spool"),
    pytest.param(os, "fsync", 1, FULL, id="fsync of the audio"),
    pytest.param(Path, "replace", 1, FULL, id="rename of the audio"),
    pytest.param(os, "fsync", 2, FULL, id="fsync of its directory"),
    pytest.param(os, "fchmod", 1, FULL, id="mode of the json"),
    pytest.param(os, "fsync", 3, FULL, id="fsync of the json"),
    pytest.param(Path, "replace", 2, FULL, id="rename of the json"),
    pytest.param(os, "fsync", 4, FULL, id="fsync of its directory again"),
]


Fault = tuple[Any, str, int, BaseException]


def failed(storage: Storage, data: bytes, fault: Fault, *errors: type[Exception]) -> Recording:
    """A recording of ``data`` that cannot be completed for ``fault``, which leaves the spool and no descriptor."""
    owner, name, number, error = fault
    recording = begun()
    spooled(storage, recording, data)
    before, descriptors = files(storage.spool_dir), open_descriptors()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, nth(number, getattr(owner, name), error))
        with pytest.raises(errors, match=r"\w"):
            storage.complete(recording, BLOCK + 160)
    assert files(storage.spool_dir) == before
    assert open_descriptors() == descriptors
    return recording


@pytest.mark.parametrize(("owner", "name", "number", "error"), FAULTS)
def test_a_failure_at_any_step_leaves_the_spool_and_no_partial_file(
    storage: Storage,
    tmp_path: Path,
    owner: Any,
    name: str,
    number: int,
    error: BaseException,
) -> None:
    data = noise(BLOCK + 160, 1)
    recording = failed(storage, data, (owner, name, number, error), OSError, SpoolError)
    assert [path for path in files(tmp_path) if path.endswith(".part")] == []
    # With the fault gone it can be done again.
    storage.complete(recording, BLOCK + 160)
    assert frames(storage.audio_path(recording))[0] == data


SEALING_FAULTS = [
    pytest.param(os, "fsync", 1, FULL, id="fsync of the audio"),
    pytest.param(Path, "replace", 1, FULL, id="rename of the audio"),
    pytest.param(os, "fsync", 2, FULL, id="fsync of its directory"),
    pytest.param(os, "read", 2, OSError(errno.EIO, "Input/output error"), id="reading what was encoded"),
    pytest.param(os, "write", 6, FULL, id="writing it encrypted"),
    pytest.param(os, "pread", 4, OSError(errno.EIO, "Input/output error"), id="reading it back"),
    pytest.param(os, "fsync", 3, FULL, id="fsync of the json"),
    pytest.param(Path, "replace", 2, FULL, id="rename of the json"),
]


@pytest.mark.parametrize(("owner", "name", "number", "error"), SEALING_FAULTS)
def test_a_failure_to_encrypt_leaves_the_spool_and_no_audio_but_that(
    sealing: Storage,
    owner: Any,
    name: str,
    number: int,
    error: BaseException,
) -> None:
    data = noise(BLOCK + 160, 1)
    recording = failed(sealing, data, (owner, name, number, error), OSError)
    assert [path for path in files(sealing.recordings) if not path.endswith(".wav.age")] == []
    assert opened(sealing.audio_path(sealing.complete(recording, BLOCK + 160)))[-len(data) :] == data


@pytest.mark.parametrize("room", [0, 20, 43, 44, 45, 1000, 1643])
def test_a_full_disk_leaves_the_spool_and_nothing_else(storage: Storage, tmp_path: Path, room: int) -> None:
    recording = begun()
    spooled(storage, recording, noise(800, 1))
    before = files(tmp_path)
    with disk_of(room), pytest.raises(OSError, match=r"not all of it|System error|File too large"):
        storage.complete(recording, 800)
    assert files(tmp_path) == before


@pytest.mark.parametrize("room", [64, 100, 300])
def test_a_disk_full_at_the_json_leaves_the_spool_and_no_half_json(storage: Storage, tmp_path: Path, room: int) -> None:
    recording = begun()
    spooled(storage, recording, noise(10, 1))
    before = files(storage.spool_dir)
    with disk_of(room), pytest.raises(OSError, match="File too large"):
        storage.complete(recording, 10)
    assert files(storage.spool_dir) == before
    assert [path for path in files(tmp_path) if "recordings" in path and not path.endswith(".wav")] == []


@pytest.mark.parametrize("blocked", ["recordings", "recordings/2024", "recordings/2024/01/02"])
def test_a_file_where_a_directory_is_wanted_leaves_the_spool(storage: Storage, tmp_path: Path, blocked: str) -> None:
    recording = begun()
    spooled(storage, recording, noise(160, 1))
    place = tmp_path / "data" / blocked
    if place.exists():
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    before = files(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        storage.complete(recording, 160)
    assert files(tmp_path) == before


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("when", ["before", "during"])
def test_recordings_that_are_gone_are_not_made_anew(
    storage: Storage, sealing: Storage, tmp_path: Path, sealed: bool, when: str
) -> None:
    """Their disk is: what was put there would be seen by nobody once it is back."""
    one, recording = sealing if sealed else storage, begun()
    spooled(one, recording, noise(160, 1))
    draft = one.begin(recording) if when == "during" else None
    away = one.recordings.rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        draft.complete(160) if draft else one.complete(recording, 160)
    with pytest.raises(FileNotFoundError):
        one.file(recording)
    assert not one.recordings.exists()
    away.rename(one.recordings)
    assert one.audio_path(one.complete(recording, 160)).exists()


def test_without_a_spool_nothing_is_made(storage: Storage, tmp_path: Path) -> None:
    storage.prepare()
    with pytest.raises(SpoolError, match=f"{begun().recording_id}.raw"):
        storage.complete(begun(), 160)
    assert files(tmp_path) == {}


def test_a_recording_without_a_rate_is_refused_with_the_spool_kept(storage: Storage, tmp_path: Path) -> None:
    recording = begun(rate=0)
    spooled(storage, recording, noise(160, 1))
    before = files(tmp_path)
    with pytest.raises(OSError, match=r"\.wav"):
        storage.complete(recording, 160)
    assert files(tmp_path) == before


def test_preparing_fails_where_a_file_lies_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Storage(tmp_path / "data").prepare()


def test_a_file_that_cannot_be_written_anew_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with disk_of(2), pytest.raises(OSError, match="File too large"):
        write_whole(path, "new and longer")
    assert files(tmp_path) == {"a.json": b"old\n"}


def test_text_that_is_no_unicode_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert files(tmp_path) == {"a.json": b"old\n"}
