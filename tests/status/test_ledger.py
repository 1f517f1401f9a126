"""The ledger: a recording's state and its event are written together or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from esl_record.database import Database
from esl_record.errors import DatabaseError
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.status.event import Identity
from esl_record.status.ledger import Ledger
from esl_record.status.outbox import Callback, Outbox

URL = "https://ann:secret@example.com/status"
NOW = 1704164650.0


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path)
    storage.prepare()
    return storage


def opened(storage: Storage) -> Ledger:
    database = Database.in_file(storage.recordings.parent / "catalog.sqlite")
    ledger = Ledger(
        database,
        storage,
        Identity("p", "s", "n"),
        lambda recording_id, suffix: f"http://x/{recording_id}.{suffix}",
        clock=lambda: NOW,
    )
    ledger.open()
    return ledger


@pytest.fixture
def ledger(storage: Storage) -> Iterator[Ledger]:
    ledger = opened(storage)
    yield ledger
    ledger.close()


def begun(status_url: str | None = URL, number: int = 1) -> Recording:
    params = RecordParams.of("record", {"control_id": "c", "status_url": status_url})
    return Recording.begun(f"{number:08d}-0000-4000-8000-000000000000", Party(call_id="call"), params, NOW - 5)


def ended(recording: Recording) -> Recording:
    return recording.model_copy(update={"state": State.FINISHED, "end_reason": EndReason.STOP, "end_time": NOW})


def test_every_state_is_an_event_in_order(ledger: Ledger) -> None:
    queued: list[Callback] = []
    ledger.on_queued = queued.append
    recording = begun()
    ledger.tell(recording)
    ledger.tell(recording.model_copy(update={"state": State.PAUSED}), PauseBehavior.SKIP)
    ledger.tell(recording)
    ledger.tell(ended(recording))
    assert [callback.state for callback in queued] == ["recording", "paused", "recording", "finished"]
    assert ledger.outbox.pending() == queued
    assert {callback.url for callback in queued} == {URL}
    assert queued[1].body["params"]["pause_behavior"] == "skip"
    assert queued[3].body["params"]["url"] == f"http://x/{recording.recording_id}.wav"
    assert queued[3].body["timestamp"] == NOW
    assert ledger.catalog.all() == [ended(recording).told()]


def test_without_an_address_only_the_state_is_written(ledger: Ledger) -> None:
    ledger.on_queued = lambda callback: pytest.fail("nothing is to be told")
    ledger.tell(begun(None))
    assert ledger.outbox.listed() == []
    assert ledger.catalog.all() == [begun(None)]


def test_what_has_ended_does_not_end_again(ledger: Ledger) -> None:
    recording = ended(begun())
    ledger.tell(recording)
    ledger.tell(recording)
    assert [callback.state for callback in ledger.outbox.listed()] == ["finished"]


def test_a_state_is_told_once_until_another_comes(ledger: Ledger) -> None:
    """A service that goes on with a recording cannot know whether the one before it had told."""
    recording, paused = begun(), begun().model_copy(update={"state": State.PAUSED})
    for one, pausing in (
        (recording, None),
        (recording, None),
        (paused, PauseBehavior.SKIP),
        (paused, PauseBehavior.SKIP),
        (recording, None),
    ):
        ledger.tell(one, pausing)
    assert [callback.state for callback in ledger.outbox.listed()] == ["recording", "paused", "recording"]


def test_a_beginning_is_told_where_it_has_not_been(ledger: Ledger) -> None:
    first, second = begun(number=1), begun(number=2)
    ledger.tell(first)
    ledger.tell_begun(first)
    ledger.tell_begun(second)
    assert [callback.recording_id for callback in ledger.outbox.listed()] == [first.recording_id, second.recording_id]


def test_neither_is_written_without_the_other(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.on_queued = lambda callback: pytest.fail("nothing has been written")

    def full(*_: object) -> None:
        raise DatabaseError("full")

    monkeypatch.setattr(Outbox, "put", full)
    with pytest.raises(DatabaseError):
        ledger.tell(begun())
    assert ledger.catalog.all() == []


def test_a_receiver_that_is_gone_is_not_queued_for(ledger: Ledger) -> None:
    ledger.tell(begun())
    (callback,) = ledger.outbox.pending()
    ledger.outbox.end_receiver(callback, NOW)
    ledger.on_queued = lambda callback: pytest.fail("it is gone")
    ledger.tell(ended(begun()))


def test_a_new_database_takes_in_what_lies_on_disk(storage: Storage) -> None:
    recordings = [ended(begun(number=number)).told() for number in range(3)]
    for recording in recordings:
        storage.file(recording)
    for _ in range(2):
        ledger = opened(storage)
        assert ledger.catalog.all() == recordings
        assert ledger.outbox.listed() == []
        ledger.close()


def test_deleting_takes_files_and_row(ledger: Ledger, storage: Storage) -> None:
    recording = ended(begun()).model_copy(update={"file": "x.wav"})
    storage.file(recording)
    ledger.tell(recording)
    ledger.delete(recording, "by hand")
    assert ledger.catalog.all() == []
    assert list(storage.filed()) == []
    ledger.delete(recording, "once more")
    lines = [json.loads(line) for line in ledger.audit.path.read_text().splitlines()]
    assert [line["deleted"] for line in lines] == ["by hand", "once more"]
    assert {line["recording_id"] for line in lines} == {recording.recording_id}
    assert {line["at"] for line in lines} == {NOW}


def test_nothing_is_deleted_that_cannot_be_noted(ledger: Ledger, storage: Storage) -> None:
    recording = ended(begun())
    storage.file(recording)
    ledger.tell(recording)
    ledger.audit.path.mkdir()
    with pytest.raises(OSError, match="directory"):
        ledger.delete(recording, "by hand")
    assert [one for _, one in storage.filed()] == [recording.told()]
    assert ledger.catalog.get(recording.recording_id) is not None


def test_a_first_start_that_was_killed_is_made_up_for(storage: Storage) -> None:
    recording = ended(begun()).told()
    storage.file(recording)
    Database.in_file(storage.recordings.parent / "catalog.sqlite").open()
    ledger = opened(storage)
    assert ledger.catalog.all() == [recording]
    ledger.close()


def test_what_has_a_spool_yet_is_left_to_the_recovery(storage: Storage) -> None:
    recording = ended(begun())
    storage.announce(recording)
    storage.file(recording)
    ledger = opened(storage)
    assert ledger.catalog.all() == []
    ledger.tell_begun(begun())
    ledger.tell(recording)
    assert [callback.state for callback in ledger.outbox.listed()] == ["recording", "finished"]
    ledger.close()


def test_what_was_deleted_does_not_come_back(ledger: Ledger, storage: Storage) -> None:
    storage.announce(begun())
    ledger.tell(ended(begun()))
    ledger.delete(ended(begun()), "by hand")
    assert list(storage.spool_dir.iterdir()) == []


def test_a_node_that_is_called_otherwise_sends_what_was_left(storage: Storage) -> None:
    for name in ("old", "new"):
        database = Database.in_file(storage.recordings.parent / "catalog.sqlite")
        ledger = Ledger(database, storage, Identity("p", "s", name), lambda *_: "", clock=lambda: NOW)
        ledger.open()
        if name == "old":
            ledger.tell(begun())
        assert len(ledger.outbox.pending()) == 1
        ledger.close()


def test_an_event_that_is_no_recordings_is_queued_as_it_is(ledger: Ledger) -> None:
    queued: list[Callback] = []
    ledger.on_queued = queued.append
    body = {"event_type": "calling.call.play", "params": {"state": "finished", "control_id": "p"}}
    ledger.queue(URL, "p", "finished", body)
    (waiting,) = ledger.outbox.pending()
    assert queued == [waiting]
    assert (waiting.recording_id, waiting.state, waiting.url, waiting.body) == ("p", "finished", URL, body)
    assert ledger.catalog.get("p") is None
