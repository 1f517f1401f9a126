"""Quarantine: what is torn goes out of the way and is told of, and nothing else does."""

import json
import logging
from pathlib import Path

import pytest

from esl_record.audio.part import partial_path, temporary_path
from esl_record.recording import quarantine as quarantine_module
from esl_record.recording.params import RecordParams
from esl_record.recording.quarantine import REASONS, Quarantine, clear, torn, unreadable
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path / "data")
    storage.prepare()
    return storage


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "data" / "quarantine")


def announced(storage: Storage) -> Recording:
    """A recording that an earlier run has left, its files half written."""
    recording = Recording.begun(storage.new_id(), Party(call_id="call"), RecordParams(), 1.7e9)
    recording = recording.model_copy(update={"sample_rate": 8000})
    storage.announce(recording)
    storage.spool_path(recording.recording_id).write_bytes(b"\0" * 320)
    storage.document_path(recording).parent.mkdir(parents=True, exist_ok=True)
    for path in (storage.audio_path(recording), storage.document_path(recording)):
        partial_path(path).write_bytes(b"half")
    return recording


def everything(storage: Storage) -> set[Path]:
    return {path for folder in (storage.recordings, storage.spool_dir) for path in folder.rglob("*") if path.is_file()}


def test_what_will_be_completed_is_left_alone(storage: Storage, quarantine: Quarantine) -> None:
    announced(storage)
    before = everything(storage)
    assert clear(quarantine, lambda: torn(storage)) == 0
    assert everything(storage) == before
    assert not quarantine.folder.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"recording_id": "x"}', b"\xff\xfe"])
def test_a_spool_whose_facts_are_torn_goes_with_them(
    storage: Storage, quarantine: Quarantine, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    recording = announced(storage)
    facts, spool = storage.announced_path(recording), storage.spool_path(recording.recording_id)
    facts.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert clear(quarantine, lambda: torn(storage)) == 4
    assert everything(storage) == set()
    assert (quarantine.folder / facts.name).read_bytes() == content
    assert (quarantine.folder / spool.name).read_bytes() == b"\0" * 320
    reasons = [json.loads(line) for line in (quarantine.folder / REASONS).read_text().splitlines()]
    assert [reason["from"] for reason in reasons][:2] == [str(facts), str(spool)]
    assert all(reason["reason"] for reason in reasons)
    assert len(caplog.records) == 4


def test_half_a_file_of_a_run_with_other_settings(storage: Storage, quarantine: Quarantine) -> None:
    recording = announced(storage)
    for path in storage.encoded_paths(recording):
        partial_path(path).write_bytes(b"half")
    before = everything(storage)
    (storage.recordings / ".5b1c.part").touch()
    assert clear(quarantine, lambda: torn(storage)) == 1
    assert everything(storage) == before


def test_a_spool_that_nothing_tells_of(storage: Storage, quarantine: Quarantine) -> None:
    stray = storage.spool_dir / "stray.raw"
    stray.write_bytes(b"audio")
    assert clear(quarantine, lambda: torn(storage)) == 1
    assert (quarantine.folder / "stray.raw").read_bytes() == b"audio"


def test_half_a_file_of_a_recording_that_is_done_or_unknown(storage: Storage, quarantine: Quarantine) -> None:
    recording = announced(storage)
    storage.drop_spool(recording)
    (storage.spool_dir / ".x.wav.part").write_text("{")
    assert clear(quarantine, lambda: torn(storage)) == 3
    assert everything(storage) == set()


def test_half_a_json_file_that_was_written_again_is_removed(storage: Storage, quarantine: Quarantine) -> None:
    recording = announced(storage)
    document = storage.document_path(recording)
    half = temporary_path(document)
    half.write_bytes(b"half")
    partial_path(document).unlink()
    partial_path(storage.audio_path(recording)).unlink()
    document.write_bytes(b"whole")
    assert clear(quarantine, lambda: torn(storage)) == 0
    assert (half.exists(), document.read_bytes()) == (False, b"whole")


def test_nothing_in_the_quarantine_is_written_over(storage: Storage, quarantine: Quarantine) -> None:
    for content in (b"first", b"second", b"third"):
        (storage.spool_dir / "same.raw").write_bytes(content)
        clear(quarantine, lambda: torn(storage))
    kept = [quarantine.folder / name for name in ("same.raw", "same.raw.1", "same.raw.2")]
    assert [path.read_bytes() for path in kept] == [b"first", b"second", b"third"]


def test_what_cannot_be_moved_stays_and_is_told_of(
    storage: Storage, quarantine: Quarantine, caplog: pytest.LogCaptureFixture
) -> None:
    quarantine.folder.write_text("no folder")
    stray = storage.spool_dir / "stray.raw"
    stray.write_bytes(b"audio")
    with caplog.at_level(logging.WARNING):
        clear(quarantine, lambda: torn(storage))
    assert stray.read_bytes() == b"audio"
    assert "it stays" in caplog.text


def test_a_torn_file_among_the_recordings(storage: Storage, quarantine: Quarantine) -> None:
    recording = Recording.begun(storage.new_id(), Party(call_id="call"), RecordParams(), 1.7e9)
    storage.file(recording)
    broken = storage.document_path(recording).with_name("120000-broken.json")
    broken.write_text('{"recording_id"')
    assert clear(quarantine, lambda: unreadable(storage)) == 1
    assert [one.recording_id for _, one in storage.filed()] == [recording.recording_id]
    assert (quarantine.folder / broken.name).exists()


def test_any_number_of_files_holds_up_no_start(
    storage: Storage, quarantine: Quarantine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine_module, "MOST", 10)
    for number in range(25):
        (storage.spool_dir / f"{number}.raw").touch()
    for left in (15, 5, 0):
        clear(quarantine, lambda: torn(storage))
        assert len(list(storage.spool_dir.iterdir())) == left
    told = "there are more than 10 files that cannot be used: the others stay until the next start"
    assert caplog.messages.count(told) == 2
