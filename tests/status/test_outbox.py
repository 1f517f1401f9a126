"""The outbox: what is to be told stays until it has been, whoever asks and however often it failed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from esl_record.database import Database
from esl_record.status.outbox import GONE, Callback, Outbox, Status

URL = "https://ann:secret@example.com/status"
OTHER = "https://example.com/other"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.in_file(tmp_path / "catalog.sqlite")
    database.open()
    yield database
    database.close()


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, "node-1")


def put(outbox: Outbox, recording_id: str = "r1", *, url: str = URL, at: float = 1.0, **body: Any) -> Callback:
    return outbox._database.run(
        lambda connection: outbox.put(connection, recording_id, "recording", url, body or {"a": 1}, at)
    )


def test_what_is_put_waits_as_it_was_put(outbox: Outbox) -> None:
    callback = put(outbox, at=5.0, name="\u00e9\n", deep={"list": [1, 2.5, None]})
    assert callback.body == {"name": "\u00e9\n", "deep": {"list": [1, 2.5, None]}}
    assert (callback.created_at, callback.queued_at, callback.next_attempt, callback.attempts) == (5.0, 5.0, 5.0, 0)
    assert callback.status is Status.PENDING
    assert outbox.pending() == [callback]


def test_they_wait_in_the_order_they_happened_and_each_has_an_id_of_its_own(outbox: Outbox) -> None:
    put_ones = [put(outbox, f"r{n % 3}", at=float(10 - n)) for n in range(9)]
    assert outbox.pending() == put_ones
    assert len({callback.callback_id for callback in put_ones}) == 9


def test_they_are_still_there_in_another_process(outbox: Outbox, tmp_path: Path) -> None:
    callback = put(outbox)
    again = Database.in_file(tmp_path / "catalog.sqlite")
    again.open()
    assert Outbox(again, "node-1").pending() == [callback]
    again.close()


def test_each_node_sends_its_own(outbox: Outbox, database: Database) -> None:
    callback = put(outbox)
    other = Outbox(database, "node-2")
    theirs = put(other)
    assert (outbox.pending(), other.pending()) == ([callback], [theirs])
    assert outbox.listed() == [callback, theirs]


def test_a_database_of_its_own_is_all_the_services_whatever_its_host_was_called(
    outbox: Outbox, database: Database
) -> None:
    mine = Outbox(database)
    callbacks = [put(outbox), put(Outbox(database, "node-2")), put(mine)]
    assert mine.pending() == callbacks
    assert outbox.pending() == callbacks[:1]


@pytest.mark.parametrize("column", ["body = '{'", "body = '5'", "body = ''", "status = 'lost'"])
def test_a_row_nobody_can_read_is_left_out_and_named_once(
    outbox: Outbox, database: Database, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, broken, last = (put(outbox) for _ in range(3))
    database.run(lambda connection: connection.execute(text(f"UPDATE callbacks SET {column} WHERE seq = {broken.seq}")))
    for _ in range(2):
        assert outbox.pending() == [first, last]
        assert outbox.listed() == [first, last]
        assert outbox.find(broken.callback_id) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert broken.callback_id in caplog.text
    count = database.run(lambda connection: connection.execute(text("SELECT count(*) FROM callbacks")).scalar())
    assert count == 3


def test_many_rows_nobody_can_read_are_a_line(
    outbox: Outbox, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        put(outbox)
    database.run(lambda connection: connection.execute(text("UPDATE callbacks SET body = 'x'")))
    assert outbox.pending() == []
    assert caplog.text.count("msg_") == 10
    assert "100 callbacks cannot be read" in caplog.text


def test_what_is_delivered_no_longer_waits_and_can_still_be_seen(outbox: Outbox) -> None:
    callback = put(outbox)
    outbox.delivered(callback, 7.0, "200")
    assert outbox.pending() == []
    (seen,) = outbox.listed()
    assert (seen.status, seen.attempts, seen.last_attempt, seen.last_result) == (Status.DELIVERED, 1, 7.0, "200")


def test_what_failed_waits_for_its_next_attempt(outbox: Outbox) -> None:
    callback = put(outbox)
    outbox.postponed(callback, 7.0, "500", 12.0)
    (waiting,) = outbox.pending()
    assert (waiting.attempts, waiting.last_result, waiting.next_attempt) == (1, "500", 12.0)
    outbox.postponed(waiting, 12.0, "503", 30.0)
    (waiting,) = outbox.pending()
    assert (waiting.attempts, waiting.last_result, waiting.queued_at) == (2, "503", 1.0)


def test_what_was_given_up_can_be_listed_and_sent_again(outbox: Outbox) -> None:
    callback, other = put(outbox), put(outbox)
    outbox.died(callback, 9.0, "timed out")
    assert outbox.listed(status=Status.DEAD) == [outbox.find(callback.callback_id)]
    assert outbox.pending() == [other]
    outbox.resend(outbox.listed(status=Status.DEAD), 20.0)
    (again, _) = outbox.pending()
    assert (again.callback_id, again.attempts, again.queued_at, again.next_attempt) == (
        callback.callback_id,
        0,
        20.0,
        20.0,
    )
    assert [one.seq for one in outbox.pending(since=15.0)] == [callback.seq]


@pytest.mark.parametrize("verdict", ["postponed", "died"])
def test_what_is_queued_again_while_it_is_under_way_stays_queued(outbox: Outbox, verdict: str) -> None:
    callback = put(outbox)
    outbox.resend([callback], 20.0)
    fail(outbox, verdict, callback)
    (again,) = outbox.pending()
    assert (again.queued_at, again.next_attempt, again.attempts) == (20.0, 20.0, 0)


@pytest.mark.parametrize("verdict", ["postponed", "died"])
def test_what_was_given_up_with_its_receiver_while_it_is_under_way_stays_so(outbox: Outbox, verdict: str) -> None:
    first, second = put(outbox), put(outbox)
    outbox.end_receiver(first, 3.0)
    fail(outbox, verdict, second)
    assert {one.last_result for one in outbox.listed(status=Status.DEAD)} == {GONE}
    assert outbox.pending() == []


def fail(outbox: Outbox, verdict: str, callback: Callback) -> None:
    if verdict == "died":
        outbox.died(callback, 21.0, "500")
    else:
        outbox.postponed(callback, 21.0, "500", 99.0)


def test_a_receiver_that_is_gone_gets_nothing_more_until_it_is_asked_for(outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox, "r2")
    elsewhere = put(outbox, url=OTHER)
    outbox.end_receiver(first, 3.0)
    assert outbox.pending() == [elsewhere]
    later = put(outbox)
    assert (later.status, later.last_result) == (Status.DEAD, GONE)
    dead = outbox.listed(status=Status.DEAD)
    assert [one.seq for one in dead] == [first.seq, second.seq, later.seq]
    assert {one.last_result for one in dead} == {GONE}
    assert [one.attempts for one in dead] == [1, 0, 0]
    outbox.resend([dead[0]], 8.0)
    assert put(outbox).status is Status.PENDING


def test_ending_a_receiver_twice_is_ending_it_once(outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox)
    outbox.end_receiver(first, 3.0)
    outbox.end_receiver(second, 4.0)
    assert len(outbox.listed(status=Status.DEAD)) == 2


def test_the_list_is_the_newest_of_what_is_asked_for(outbox: Outbox) -> None:
    ones = [put(outbox, f"r{n % 2}") for n in range(6)]
    assert outbox.listed(limit=2) == ones[-2:]
    assert outbox.listed(recording_id="r1") == ones[1::2]
    assert outbox.listed(status=Status.DELIVERED) == []


def test_one_is_found_by_how_its_id_begins(outbox: Outbox) -> None:
    callback = put(outbox)
    for beginning in (callback.callback_id, callback.callback_id[:12], callback.callback_id.removeprefix("msg_")[:8]):
        assert outbox.find(beginning) == callback
    put(outbox)
    for beginning in ("", "msg_", "%", "nothing"):
        assert outbox.find(beginning) is None


def test_the_depth_is_what_waits_and_since_when(outbox: Outbox) -> None:
    assert (outbox.depth().pending, outbox.depth().oldest) == (0, None)
    ones = [put(outbox, at=at) for at in (4.0, 5.0, 6.0, 7.0)]
    outbox.delivered(ones[0], 8.0, "200")
    outbox.died(ones[1], 8.0, "500")
    depth = outbox.depth()
    assert (depth.pending, depth.dead, depth.oldest) == (2, 1, 6.0)


def test_only_what_was_delivered_long_ago_is_forgotten(outbox: Outbox) -> None:
    ones = [put(outbox) for _ in range(4)]
    outbox.delivered(ones[0], 100.0, "200")
    outbox.delivered(ones[1], 200.0, "200")
    outbox.died(ones[2], 100.0, "500")
    assert outbox.prune(150.0) == 1
    assert [one.seq for one in outbox.listed()] == [one.seq for one in ones[1:]]


def test_events_of_one_type_are_rewritten_and_nothing_of_the_old_ones_stays_in_the_file(
    outbox: Outbox, database: Database, tmp_path: Path
) -> None:
    pressed = put(outbox, event_type="calling.call.collect", digits="4539148803436467")
    other = put(outbox, event_type="calling.call.record", text="calling.call.collect")
    outbox.rewrite("calling.call.collect", lambda body: {**body, "digits": "x"})
    first, second = outbox.pending()
    assert first.body == {"event_type": "calling.call.collect", "digits": "x"}
    assert (first.callback_id, second) == (pressed.callback_id, other)
    database.close()
    assert b"4539148803436467" not in (tmp_path / "catalog.sqlite").read_bytes()
