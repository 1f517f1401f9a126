"""The spool is shared with the switch's user: whatever that puts there spoils at most a recording of its own."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import HOSTILE, SECRET
from test_recorder import NO_LIMITS, Make, bench, how, said
from test_recovery import Told, left_behind, recovered
from test_storage import begun, files, frames, noise, spooled

from esl_record.errors import ConfigError
from esl_record.lock import NAME, held
from esl_record.recording import quarantine as quarantine_module
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.quarantine import Quarantine, clear, torn
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

assert bench  # the fixture

Put = Callable[[Path, Path], None]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path / "data")
    storage.prepare()
    return storage


@pytest.fixture
def secret(storage: Storage) -> Path:
    return planted(storage)


def planted(storage: Storage) -> Path:
    path = storage.recordings.parent / "link.key"
    path.write_bytes(SECRET)
    return path


def holds_secret(folder: Path, *, but: Path) -> list[str]:
    """The files below ``folder`` with the secret in them, besides the one it is in and links to that."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and not path.samefile(but))
    return [path.name for path in found if SECRET in path.read_bytes()]


# ---- during a call


@pytest.mark.parametrize("put", HOSTILE)
def test_what_is_put_in_place_of_a_spool_during_its_call_is_not_read(
    bench: Make, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    """The recording goes on with what the switch was asked to write, and what is there by then stays there."""
    running = bench(**NO_LIMITS, terminators="#").begin()
    secret = planted(running.storage)
    running.hear(said(0.5))
    path = running.storage.spool_path(running.recorder.recording.recording_id)
    path.unlink()
    put(path, secret)
    running.hear(said(0.5))
    running.press("#")
    recording = running.result()
    assert how(recording) == (State.FINISHED, EndReason.TERMINATOR)
    assert (running.samples()[:, 0] == [*said(0.5), *said(0.5)]).all()
    assert os.path.lexists(path)
    assert [record.getMessage() for record in caplog.records if "it stays" in record.getMessage()] != []
    assert list(running.storage.pending.iterdir()) == []
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("put", HOSTILE)
def test_what_is_put_there_before_it_is_read_ends_the_recording_in_error(bench: Make, put: Put) -> None:
    running = bench(**NO_LIMITS).begin()
    secret = planted(running.storage)
    path = running.storage.spool_path(running.recorder.recording.recording_id)
    if running.recorder._spool._segments:
        running.recorder._spool.close()
        running.storage._known.clear()
    path.unlink()
    put(path, secret)
    running.tick()
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "no regular file" in recording.error or "names" in recording.error
    assert (recording.file, recording.duration) == ("", 0.0)
    assert holds_secret(running.storage.recordings, but=secret) == []


def test_a_second_name_given_to_a_spool_leads_nowhere(bench: Make, tmp_path: Path) -> None:
    running = bench(**NO_LIMITS, terminators="#").begin()
    running.hear(said(0.5))
    path = running.storage.spool_path(running.recorder.recording.recording_id)
    (path.parent / "other.raw").hardlink_to(path)
    running.press("#")
    assert how(running.result()) == (State.FINISHED, EndReason.TERMINATOR)
    assert len(running.samples()) == 4000


def test_two_spools_that_change_names_change_nothing(bench: Make) -> None:
    one = bench(**NO_LIMITS, terminators="#").begin()
    one.hear(said(0.5))
    path = one.storage.spool_path(one.recorder.recording.recording_id)
    other = path.with_name("other.raw")
    other.write_bytes(b"\7\7" * 8000)
    path.rename(path.with_name("third"))
    other.rename(path)
    one.hear(said(0.5))
    one.press("#")
    assert (one.samples()[:, 0] == [*said(0.5), *said(0.5)]).all()
    assert path.read_bytes() == b"\7\7" * 8000


def test_a_pause_writes_nothing_in_the_spool(bench: Make, secret: Path) -> None:
    running = bench(**NO_LIMITS, terminators="#").begin()
    running.hear(said(0.5))
    identifier = running.recorder.recording.recording_id
    spool = running.storage.spool_dir
    before = set(spool.iterdir())
    for name in (f".{identifier}.json.part", f"{identifier}.json"):
        (spool / name).symlink_to(secret)
    running.recorder.pause(PauseBehavior.SKIP)
    running.hear(said(0.1))
    assert secret.read_bytes() == SECRET
    assert {path.name for path in set(spool.iterdir()) - before} == {
        f".{identifier}.json.part",
        f"{identifier}.json",
    }


def test_a_spool_that_is_made_a_terabyte_holds_up_nobody(bench: Make) -> None:
    running = bench(**NO_LIMITS).begin()
    running.hear(said(0.5))
    path = running.storage.spool_path(running.recorder.recording.recording_id)
    running.recorder._spool.began = path.stat().st_mtime
    os.truncate(path, 1 << 40)
    running.tick()
    running.press("5")
    recording = running.result()
    assert how(recording) == (State.ERROR, EndReason.ERROR)
    assert "has grown by" in recording.error
    assert recording.duration < 60.0
    assert running.spooled() == []


# ---- at a start


@pytest.mark.parametrize("put", HOSTILE)
def test_what_stands_for_a_spool_at_a_start_ends_its_recording_in_error(
    storage: Storage, secret: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    path = left_behind(storage, begun(number=1), noise(800, 1))
    path.unlink()
    put(path, secret)
    left_behind(storage, begun(number=2), noise(160, 1))
    told = Told()
    with caplog.at_level(logging.ERROR):
        done, left = recovered(storage, told=told)
    assert [(one.control_id, one.state) for one in done] == [("control-1", State.ERROR), ("control-2", State.FINISHED)]
    assert (left, os.path.lexists(path), list(storage.pending.iterdir())) == ([], True, [])
    assert [what for what, _ in told.said] == ["begun", "ended"] * 2
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"recording {begun(number=1).recording_id} has no audio: spool {path}: is a")
    assert holds_secret(storage.recordings, but=secret) == []


def test_a_recording_that_was_complete_stays_so(storage: Storage, secret: Path) -> None:
    recording = begun()
    spooled(storage, recording, noise(800, 1))
    ended = {"state": State.FINISHED, "end_reason": EndReason.RECOVERED}
    done = storage.complete(recording.model_copy(update=ended), 800)
    storage.spool_path(recording.recording_id).unlink()
    storage.spool_path(recording.recording_id).symlink_to(secret)
    assert recovered(Storage(storage.recordings.parent)) == ([done], [])


@pytest.mark.parametrize("put", HOSTILE)
@pytest.mark.parametrize("name", ["stray.raw", "0b6f0000-0000-4000-8000-000000000000.json", ".x.json.part"])
def test_what_is_no_file_is_not_taken_into_the_quarantine(
    storage: Storage, secret: Path, put: Put, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(storage.spool_dir / name, secret)
    quarantine = Quarantine(storage.recordings.parent / "quarantine")
    clear(quarantine, lambda: torn(storage))
    assert "it stays: spool " in caplog.text
    assert os.path.lexists(storage.spool_dir / name)
    assert [path.name for path in quarantine.folder.iterdir()] == ["reasons.jsonl"]


def test_a_file_that_is_replaced_while_it_is_taken_goes_back(
    storage: Storage, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.spool_dir / "stray.raw"
    path.write_bytes(b"call")
    real = quarantine_module.open_spool

    def opened(path: Path) -> object:
        result = real(path)
        path.unlink()
        path.symlink_to(secret)
        return result

    monkeypatch.setattr(quarantine_module, "open_spool", opened)
    quarantine = Quarantine(storage.recordings.parent / "quarantine")
    clear(quarantine, lambda: torn(storage))
    assert path.is_symlink()
    assert [path.name for path in quarantine.folder.iterdir()] == ["reasons.jsonl"]


def other_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(path: Path, target: Path) -> None:
        raise OSError(18, os.strerror(18))

    monkeypatch.setattr(Path, "rename", renamed)


def test_on_another_disk_a_spool_is_copied_with_its_holes(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    other_disk(monkeypatch)
    path = storage.spool_dir / "stray.raw"
    with path.open("wb") as file:
        file.write(b"first")
        file.seek(1 << 40)
        file.write(b"last")
    os.utime(path, (0, 0))
    quarantine = Quarantine(storage.recordings.parent / "quarantine")
    clear(quarantine, lambda: torn(storage))
    taken = quarantine.folder / "stray.raw"
    with taken.open("rb") as file:
        assert file.read(5) == b"first"
        file.seek(1 << 40)
        assert file.read() == b"last"
    assert taken.stat().st_blocks * 512 < 1 << 20
    assert not path.exists()


def test_on_another_disk_what_is_still_written_stays(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy would not have what the switch writes from then on."""
    other_disk(monkeypatch)
    path = storage.spool_dir / "stray.raw"
    path.write_bytes(b"call")
    clear(Quarantine(storage.recordings.parent / "quarantine"), lambda: torn(storage))
    assert path.read_bytes() == b"call"
    assert "it stays: it is still written" in caplog.text


# ---- forged sidecars


FORGED = {
    "of an earlier version": lambda one: one,
    "elsewhere": lambda one: {**one, "recording_id": "x/../../.."},
    "a file elsewhere": lambda one: {**one, "file": "../../../../link.key"},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_no_sidecar_in_the_spool_is_trusted(
    storage: Storage, forge: Callable[[dict[str, object]], dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    """It would have written where it likes, and had callbacks signed and sent where it likes."""
    one = begun()
    parameters = {**one.parameters, "status_url": "http://127.0.0.1:9/forged"}
    forged = forge(json.loads(one.model_copy(update={"parameters": parameters}).model_dump_json()))
    (storage.spool_dir / f"{one.recording_id}.json").write_text(json.dumps(forged))
    storage.spool_path(one.recording_id).write_bytes(noise(800, 1))
    quarantine = Quarantine(storage.recordings.parent / "quarantine")
    assert clear(quarantine, lambda: torn(storage)) == 2
    told = Told()
    assert (recovered(storage, told=told), told.said) == (([], []), [])
    assert files(storage.recordings) == files(storage.spool_dir) == {}
    assert (quarantine.folder / f"{one.recording_id}.raw").read_bytes() == noise(800, 1)
    assert f"{one.recording_id}.json: the switch's user may have put it there" in caplog.text


def link(path: Path, content: str) -> None:
    other = path.with_name("other")
    other.write_text(content)
    path.symlink_to(other)


def second_name(path: Path, content: str) -> None:
    other = path.with_name("other")
    other.write_text(content)
    path.hardlink_to(other)


def large(path: Path, content: str) -> None:
    path.write_text(content + " " * (1 << 22))


def of_another_user(path: Path, content: str) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    path.write_text(content)
    os.chown(path, 65534, -1)


@pytest.mark.parametrize("put", [link, second_name, large, of_another_user])
def test_a_sidecar_that_this_service_cannot_have_written_is_put_away(
    storage: Storage, put: Callable[[Path, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    one = begun()
    left_behind(storage, one, noise(800, 1))
    path = storage.announced_path(one)
    content = path.read_text()
    path.unlink()
    put(path, content)
    quarantine = Quarantine(storage.recordings.parent / "quarantine")
    found = list(torn(storage))
    assert [entry.path for entry in found][:2] == [path, storage.spool_path(one.recording_id)] or put is link
    clear(quarantine, lambda: found)
    told = Told()
    done, _ = recovered(storage, told=told)
    assert (done, told.said) == ([], [])


@pytest.mark.parametrize("name", ["x/../../..", "..", "", ".hidden", "a\0b", "a/b"])
def test_no_id_leads_out_of_its_folder(name: str) -> None:
    one = json.loads(begun().model_dump_json())
    for field in ("recording_id", *(["file"] if name else [])):
        with pytest.raises(ValueError, match=field):
            Recording.model_validate_json(json.dumps({**one, field: name}))


# ---- what else is in the spool


@pytest.mark.parametrize("put", HOSTILE)
def test_what_stands_for_the_lock_of_the_spool_is_moved_out_of_the_way(
    tmp_path: Path, secret: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / NAME
    put(path, secret)
    with held(tmp_path, "spool_dir", shared=True):
        assert path.is_file()
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigError, match="another esl-record uses it"), held(tmp_path, "spool_dir", shared=True):
            pass
    assert secret.read_bytes() == SECRET
    assert "is not this service's" in caplog.text


def test_the_lock_of_the_data_directory_is_nothing_else(tmp_path: Path, secret: Path) -> None:
    (tmp_path / NAME).symlink_to(secret)
    with pytest.raises(ConfigError, match="remove it"), held(tmp_path):
        pass


def test_the_usage_counts_no_file_elsewhere(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 10_000)
    (storage.spool_dir / "a.raw").symlink_to(tmp_path / "large")
    assert storage.usage()[0] < 1000


def test_an_ordinary_recording_is_as_ever(storage: Storage) -> None:
    one = begun()
    left_behind(storage, one, noise(800, 1))
    (done,), left = recovered(storage)
    assert (done.duration, left, files(storage.spool_dir)) == (0.1, [], {})
    assert frames(storage.audio_path(one))[0] == noise(800, 1)
