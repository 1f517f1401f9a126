"""The recover command: what was left is completed without a service, and a lost catalog made anew."""

import hashlib
import json
import os
import time
from contextlib import closing
from pathlib import Path

import pyrage
import pytest

from esl_record.cli import main
from esl_record.config import Settings
from esl_record.lock import held
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.service import CATALOG, open_ledger
from esl_record.status.ledger import Ledger

LINK = "http://pbx.example"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name in [name for name in os.environ if name.upper().startswith("ESL_RECORD_")]:
        monkeypatch.delenv(name)
    storage = Storage(tmp_path / "data")
    storage.prepare()
    return storage


def ledger_of(storage: Storage) -> Ledger:
    return open_ledger(Settings(data_dir=storage.recordings.parent), storage)


def recover(storage: Storage, *more: str) -> int:
    return main(["recover", "--data-dir", str(storage.recordings.parent), "--public-url", LINK, *more])


def recording(number: int) -> Recording:
    params = RecordParams.of("record", {"control_id": f"c{number}", "status_url": "http://127.0.0.1:9/"})
    begun = Recording.begun(f"{number:08d}-0000-4000-8000-000000000000", Party(call_id="call"), params, 1.7e9 + number)
    return begun.model_copy(update={"sample_rate": 8000})


def left(storage: Storage, number: int) -> Recording:
    """What a killed service leaves of a recording of half a second."""
    one = recording(number)
    storage.announce(one)
    spool = storage.spool_path(one.recording_id)
    spool.write_bytes(b"\1\0" * 4000)
    os.utime(spool, (time.time() - 3600,) * 2)
    return one


def finished(number: int) -> Recording:
    ended = {"state": State.FINISHED, "end_reason": EndReason.STOP, "size": number}
    return recording(number).model_copy(update=ended).told()


def test_what_was_left_is_completed_and_will_be_told_of(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    one = left(storage, 1)
    assert recover(storage) == 0
    assert f"{storage.document_path(one)}: 0.50 s" in capsys.readouterr().out
    ((_, done),) = storage.filed()
    assert (done.state, done.end_reason, done.duration) == (State.FINISHED, EndReason.RECOVERED, 0.5)
    with closing(ledger_of(storage)) as ledger:
        events = ledger.outbox.pending()
        assert [event.state for event in events] == ["recording", "finished"]
        assert events[-1].body["params"]["url"].startswith(LINK)
    assert list(storage.spool_dir.glob("[!.]*")) == []


def test_with_a_key_it_is_encrypted(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = pyrage.x25519.Identity.generate()
    left(storage, 1)
    assert recover(storage, "--encryption-key-command", "false") == 2
    assert "false ended with status 1" in capsys.readouterr().err
    monkeypatch.setenv("ESL_RECORD_ENCRYPTION_KEY", str(key))
    assert recover(storage, "--rebuild") == 0
    ((path, done),) = storage.filed()
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name, f"{path.stem}.wav.age"]
    audio = pyrage.decrypt(path.with_name(done.file).read_bytes(), [key])
    assert (len(audio), hashlib.sha256(audio).hexdigest()) == (done.size, done.sha256)
    # Without it all that is asked is what is known.
    monkeypatch.delenv("ESL_RECORD_ENCRYPTION_KEY")
    capsys.readouterr()
    assert main(["recordings", "--data-dir", str(storage.recordings.parent), "show", done.recording_id]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(path.with_name(done.file))


@pytest.mark.parametrize("command", ["recover", "serve"])
def test_without_the_key_nothing_more_is_made(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("ESL_RECORD_ENCRYPTION_KEY", str(pyrage.x25519.Identity.generate()))
    assert recover(storage) == 0
    monkeypatch.delenv("ESL_RECORD_ENCRYPTION_KEY")
    one = left(storage, 1)
    assert main([command, "--data-dir", str(storage.recordings.parent)]) == 2
    assert "set the key, or remove that file to record unencrypted" in capsys.readouterr().err
    assert (list(storage.filed()), storage.spool_path(one.recording_id).exists()) == ([], True)
    (storage.recordings.parent / "encrypted").unlink()
    assert recover(storage) == 0
    assert [done.file[-4:] for _, done in storage.filed()] == [".wav"]


def test_beside_a_service_it_does_nothing(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    left(storage, 1)
    with held(storage.recordings.parent):
        assert recover(storage, "--rebuild") == 2
    assert "another esl-record uses it" in capsys.readouterr().err
    assert list(storage.filed()) == []


def test_where_no_recordings_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recover", "--data-dir", str(tmp_path / "elsewhere")]) == 2
    assert "no recordings are there" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_the_catalog_becomes_that_of_what_is_there(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        storage.file(finished(number))
    with closing(ledger_of(storage)) as ledger:
        ledger.tell(finished(4))
        ledger.catalog.remove(finished(2).recording_id)
    assert recover(storage, "--rebuild") == 0
    assert "the catalog has 3 recordings; 1 rows without a recording were removed" in capsys.readouterr().out
    with closing(ledger_of(storage)) as ledger:
        assert ledger.catalog.all() == [finished(number) for number in (1, 2, 3)]
        assert [event.state for event in ledger.outbox.pending()] == ["finished"]


def test_a_catalog_that_is_none_and_a_torn_file_are_put_away(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.file(finished(1))
    torn = storage.document_path(finished(1)).with_name("000000-torn.json")
    torn.write_text("{")
    catalog = storage.recordings.parent / CATALOG
    catalog.write_bytes(b"no database " * 1000)
    assert recover(storage, "--rebuild") == 0
    quarantine = storage.recordings.parent / "quarantine"
    assert f"2 files could not be used: see {quarantine}" in capsys.readouterr().out
    names = [json.loads(line)["file"] for line in (quarantine / "reasons.jsonl").read_text().splitlines()]
    assert names == [torn.name, CATALOG]
    with closing(ledger_of(storage)) as ledger:
        assert ledger.catalog.all() == [finished(1)]


def test_a_spool_that_still_grows_is_left(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    one = left(storage, 1)
    spool = storage.spool_path(one.recording_id)
    ahead = time.time() + 5
    os.utime(spool, (ahead - 5, ahead - 5))
    assert recover(storage, "--stall-timeout", "0.5") == 0
    assert main(["recordings", "--data-dir", str(storage.recordings.parent)]) == 0
    assert one.recording_id[:8] in capsys.readouterr().out
