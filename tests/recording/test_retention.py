"""Retention: which recordings go, in which order, and which never do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esl_record.database import Database
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.retention import EMPTY, PAGE, expired
from esl_record.recording.storage import Storage
from esl_record.status.event import Identity
from esl_record.status.ledger import Ledger
from esl_record.status.outbox import Status

NOW = 1_700_000_000.0
DAY = 86400.0


def opened(folder: Path) -> Ledger:
    storage = Storage(folder)
    storage.prepare()
    ledger = Ledger(Database.in_file(folder / "catalog.sqlite"), storage, Identity(), lambda *_: "", clock=lambda: NOW)
    ledger.open()
    return ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = opened(tmp_path)
    yield ledger
    ledger.close()


def recording(number: int, *, days: float, size: int = 100, told: bool = True, live: bool = False) -> Recording:
    params = RecordParams(status_url=None if told else "http://127.0.0.1:9/")  # type: ignore[arg-type]
    one = Recording.begun(f"r{number:04d}", Party(call_id="call"), params, NOW - days * DAY)
    ended = {"state": State.FINISHED, "end_reason": EndReason.STOP, "size": size}
    return one if live else one.model_copy(update=ended)


def due(ledger: Ledger, **limits: float | bool) -> list[str]:
    return [one.recording_id for one, _ in expired(ledger, NOW, **limits)]  # type: ignore[arg-type]


def test_without_limits_everything_is_kept(ledger: Ledger) -> None:
    ledger.tell(recording(1, days=10_000, size=10**12))
    assert due(ledger) == []


def test_what_is_older_goes_the_oldest_first(ledger: Ledger) -> None:
    for number, days in enumerate([1.0, 3.0, 2.0, 2.5]):
        ledger.tell(recording(number, days=days))
    assert due(ledger, age=2 * DAY) == ["r0001", "r0003"]


def test_what_is_too_much_goes_the_oldest_first(ledger: Ledger) -> None:
    for number in range(5):
        ledger.tell(recording(number, days=5 - number, size=100 + number))
    assert due(ledger, size=309) == ["r0000", "r0001"]
    assert due(ledger, size=308) == ["r0000", "r0001", "r0002"]
    assert due(ledger, size=510) == []


def test_one_without_audio_takes_room_too(ledger: Ledger) -> None:
    for number in range(10):
        ledger.tell(recording(number, days=10 - number, size=0))
    ledger.tell(recording(10, days=0, live=True))
    assert due(ledger, size=10 * EMPTY) == []
    assert due(ledger, size=4 * EMPTY) == [f"r{number:04d}" for number in range(6)]
    ledger.tell(recording(11, days=0, size=EMPTY))
    assert len(due(ledger, size=4 * EMPTY)) == 7


def test_each_is_told_why(ledger: Ledger) -> None:
    ledger.tell(recording(1, days=9))
    ledger.tell(recording(2, days=1))
    reasons = [why for _, why in expired(ledger, NOW, age=5 * DAY, size=50)]
    assert reasons == ["older than 432000 s", "more than 50 bytes are kept"]


def test_what_has_not_ended_or_not_been_told_of_stays(ledger: Ledger) -> None:
    ledger.tell(recording(1, days=9, live=True))
    ledger.tell(recording(2, days=8, told=False))
    ledger.tell(recording(3, days=7))
    assert due(ledger, age=DAY) == due(ledger, size=1) == ["r0003"]
    assert due(ledger, age=DAY, untold=True) == ["r0002", "r0003"]


@pytest.mark.parametrize("status", [Status.DELIVERED, Status.DEAD])
def test_a_callback_that_was_given_up_is_undelivered(ledger: Ledger, status: Status) -> None:
    ledger.tell(recording(1, days=9, told=False))
    (callback,) = ledger.outbox.pending()
    if status is Status.DEAD:
        ledger.outbox.died(callback, NOW, "500")
    else:
        ledger.outbox.delivered(callback, NOW, "200")
    assert due(ledger, age=DAY) == (["r0001"] if status is Status.DELIVERED else [])


def test_more_than_a_page_and_deleted_while_it_is_read(ledger: Ledger) -> None:
    for number in range(PAGE + 20):
        ledger.tell(recording(number, days=1000 - number))
    for one, why in expired(ledger, NOW, age=DAY):
        ledger.delete(one, why)
    assert ledger.catalog.all() == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50), st.booleans(), st.booleans()), max_size=12),
    age=st.integers(0, 20),
    size=st.integers(0, 300),
)
def test_what_stays_is_within_the_limits_but_for_what_must_stay(
    tmp_path_factory: pytest.TempPathFactory, kept: list[tuple[int, int, bool, bool]], age: int, size: int
) -> None:
    ledger = opened(tmp_path_factory.mktemp("kept"))
    try:
        for number, (days, bytes_, told, live) in enumerate(kept):
            ledger.tell(recording(number, days=days, size=bytes_, told=told, live=live))
        went = set(due(ledger, age=age * DAY, size=size))
        protected = {f"r{number:04d}" for number, (_, _, told, live) in enumerate(kept) if live or not told}
        assert not went & protected
        stays = {one.recording_id: one for one in ledger.catalog.all() if one.recording_id not in went}
        free = [one for name, one in stays.items() if name not in protected]
        if age:
            assert all(NOW - one.start_time <= age * DAY for one in free)
        if size and free:
            assert sum(one.size for one in stays.values()) <= size
        # The newest stay: nothing went that is younger than something free that stayed.
        youngest = max((one.start_time for one in ledger.catalog.all() if one.recording_id in went), default=None)
        if youngest is not None:
            assert all(one.start_time >= youngest for one in free)
    finally:
        ledger.close()
