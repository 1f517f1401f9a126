"""Sender: at least once, in order, and no receiver that makes another wait."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from receivers import LIMIT, SECRETS, SIGNING_KEY, Answer, Endpoint, Hanging, Post, breaks_off, closes, garbles, says
from signalwire.core.security.webhook_validator import validate_webhook_signature
from sqlalchemy import text

from esl_record.cipher import Cipher
from esl_record.database import Database
from esl_record.egress import AddressPolicy
from esl_record.errors import DatabaseError
from esl_record.status import sender as sender_module
from esl_record.status.outbox import Callback, Outbox, Status
from esl_record.status.schedule import LEAST, LIFETIME
from esl_record.status.sender import Sender

START = 1704164645.0
LOOPBACK = AddressPolicy(["127.0.0.0/8"])


class Clock:
    """Stands still but for ``advance``; or runs ``speed`` times as fast as time does."""

    def __init__(self, speed: float = 0.0) -> None:
        self.ahead = START
        self.speed = speed
        self._began = time.monotonic()

    def __call__(self) -> float:
        return self.ahead + self.speed * (time.monotonic() - self._began)

    def advance(self, seconds: float) -> None:
        self.ahead += seconds


class Node:
    """A database, its outbox and a sender of it, with what came of the attempts."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.database = Database.in_file(path)
        self.database.open()
        self.outbox = Outbox(self.database, "node-1")
        self.results: list[str] = []
        self.links = 0
        self._told = Flag()
        self.sender = self.make()

    def make(self, policy: AddressPolicy = LOOPBACK) -> Sender:
        self.sender = Sender(
            self.outbox,
            policy,
            SECRETS,
            SIGNING_KEY,
            self._link,
            Cipher.with_new_key(),
            clock=self.clock,
            random=lambda: 0.5,
            on_result=self._note,
            look=0.02,
        )
        return self.sender

    def _link(self, recording_id: str, suffix: str) -> str:
        self.links += 1
        return f"https://pbx.example/{recording_id}?link={self.links}&file=a.{suffix}"

    def _note(self, result: str) -> None:
        self.results.append(result)
        self._told.set()

    def queue(self, recording_id: str, url: str, state: str = "recording", link: str = "https://old/") -> Callback:
        params = {"state": state, "url": link, "record": {"url": link, "format": "mp3"}}
        body = {"event_type": "calling.call.record", "params": params}
        at = self.clock()
        refusal = self.sender.refusal(url)
        return self.database.run(
            lambda connection: self.outbox.put(connection, recording_id, state, url, body, at, refusal)
        )

    def tell(self, recording_id: str, url: str, *states: str) -> list[Callback]:
        """Queues and offers, as a ledger does."""
        told = [self.queue(recording_id, url, state) for state in states or ("recording",)]
        for callback in told:
            self.sender.offer(callback)
        return told

    def wait(self, count: int) -> list[str]:
        """What came of the attempts, once that is ``count`` of them or more."""
        return self.until(lambda: len(self.results) >= count and self.results, f"{count} results of {self.results}")

    def until(self, found: Callable[[], Any], wanted: str = "") -> Any:
        """What ``found`` gives, once it is true after an attempt or, at the latest, a look at the outbox."""
        with gevent.Timeout(LIMIT, AssertionError(f"never came: {wanted}")):
            while not (result := found()):
                self._told.clear()
                self._told.wait(0.02)
        return result

    def row(self, callback: Callback) -> Callback:
        return next(one for one in self.outbox.listed() if one.seq == callback.seq)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "catalog.sqlite", Clock())
    yield node
    node.sender.stop(0.0)
    node.database.close()


@pytest.fixture
def endpoints() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(answer: Answer | None = None, address: str = "127.0.0.1") -> Endpoint:
        made.append(Endpoint(answer or says(), address))
        return made[-1]

    yield make
    for endpoint in made:
        if isinstance(endpoint.answer, Hanging):
            endpoint.answer.release.set()
        endpoint.shut()


@pytest.fixture
def endpoint(endpoints: Callable[..., Endpoint]) -> Endpoint:
    return endpoints()


def states(posts: list[Post]) -> list[str]:
    return [post.json["params"]["state"] for post in posts]


# ---- what goes out


def test_an_event_is_posted_signed_and_noted(node: Node, endpoint: Endpoint) -> None:
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    assert node.wait(1) == ["delivered"]
    (post,) = endpoint.posts
    assert post.signed
    assert post.headers["webhook-id"] == told.callback_id
    assert post.headers["webhook-timestamp"] == str(int(START))
    assert validate_webhook_signature(
        SIGNING_KEY, post.headers["x-signalwire-signature"], endpoint.url, post.body.decode()
    )
    row = node.row(told)
    assert (row.status, row.attempts, row.last_attempt, row.last_result) == (Status.DELIVERED, 1, START, "200")


def test_every_attempt_has_a_link_and_a_time_of_its_own(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(500)
    node.sender.start()
    node.tell("a", endpoint.url)
    node.wait(1)
    node.clock.advance(5)
    endpoint.answer = says()
    assert node.wait(2) == ["failed", "delivered"]
    first, second = endpoint.posts
    assert [post.json["params"]["url"] for post in endpoint.posts] == [
        "https://pbx.example/a?link=1&file=a.mp3",
        "https://pbx.example/a?link=2&file=a.mp3",
    ]
    assert second.json["params"]["record"]["url"] == "https://pbx.example/a?link=2&file=a.mp3"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert [post.headers["webhook-timestamp"] for post in endpoint.posts] == [str(int(START)), str(int(START) + 5)]
    assert second.signed


def test_an_event_without_a_file_has_no_link(node: Node, endpoint: Endpoint) -> None:
    node.sender.start()
    node.sender.offer(node.queue("a", endpoint.url, "error", link=""))
    endpoint.wait(1)
    assert endpoint.posts[0].json["params"]["url"] == ""


# ---- order


def test_what_an_earlier_run_has_left_goes_first(node: Node, endpoint: Endpoint) -> None:
    node.queue("a", endpoint.url, "recording")
    node.tell("a", endpoint.url, "finished")
    node.sender.start()
    node.tell("a", endpoint.url, "later")
    node.wait(3)
    assert states(endpoint.posts) == ["recording", "finished", "later"]


def test_nothing_is_posted_twice_however_often_it_is_offered(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = hanging = Hanging(says())
    (told,) = node.tell("a", endpoint.url)
    node.sender.start()
    endpoint.wait(1)
    node.sender.offer(told)
    node.tell("b", endpoint.url)
    endpoint.wait(2)
    hanging.release.set()
    node.wait(2)
    node.tell("c", endpoint.url)
    node.wait(3)
    assert len(endpoint.posts) == 3


@pytest.mark.parametrize("seed", range(5))
def test_order_per_recording_whatever_goes_wrong(node: Node, endpoints: Callable[..., Endpoint], seed: int) -> None:
    chance = Random(seed)
    node.clock.speed = 1000.0
    taken: dict[str, list[int]] = {}
    streaks = Counter[str]()

    def whatever(sock: Any, post: Post) -> bool:
        params = post.json["params"]
        recording = params["url"].removeprefix("https://pbx.example/").partition("?")[0]
        before = taken.setdefault(recording, [])
        assert int(params["state"]) == len(before), "posted before the one before was taken, or again"
        # Not too often in a row: the waits double.
        if streaks[recording] < 5 and chance.random() < 0.5:
            streaks[recording] += 1
            faults = [says(500), says(503, b"", Retry_After="2"), says(302), closes, garbles, breaks_off]
            return chance.choice(faults)(sock, post)
        streaks[recording] = 0
        before.append(int(params["state"]))
        return says()(sock, post)

    everywhere = [endpoints(whatever) for _ in range(3)]
    node.sender.start()
    for number in range(5):
        for recording in range(12):
            node.tell(f"r{recording}", everywhere[recording % 3].url, str(number))
    node.until(lambda: node.results.count("delivered") >= 60, "60 deliveries")
    assert taken == {f"r{recording}": [0, 1, 2, 3, 4] for recording in range(12)}
    assert {row.status for row in node.outbox.listed()} == {Status.DELIVERED}


# ---- who waits for whom


def test_a_receiver_that_hangs_makes_no_other_wait(node: Node, endpoints: Callable[..., Endpoint]) -> None:
    hanging, fine = endpoints(Hanging(says())), endpoints()
    node.sender.start()
    for number in range(20):
        node.tell(f"h{number}", hanging.url)
    hanging.wait(8)
    for number in range(20):
        node.tell(f"f{number}", fine.url, "recording", "finished")
    assert node.wait(40) == ["delivered"] * 40
    assert len(hanging.posts) == 8
    assert isinstance(hanging.answer, Hanging)
    hanging.answer.release.set()
    node.wait(60)
    assert hanging.at_once == 8
    assert fine.at_once <= 8


def test_recordings_do_not_wait_for_each_other(node: Node, endpoint: Endpoint) -> None:
    def picky(sock: Any, post: Post) -> bool:
        return says(500 if "/a?" in post.json["params"]["url"] else 200)(sock, post)

    endpoint.answer = picky
    node.sender.start()
    node.tell("a", endpoint.url, "recording", "finished")
    node.tell("b", endpoint.url, "recording", "finished")
    assert sorted(node.wait(3)) == ["delivered", "delivered", "failed"]


def test_posts_at_once_are_bounded_and_all_get_their_turn(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "ALL_POSTS", 6)
    node.make()
    now, most = 0, 0
    served = Counter[str]()

    def counting(sock: Any, post: Post) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        served[post.headers["host"]] += 1
        gevent.idle()
        now -= 1
        return says()(sock, post)

    first, second = endpoints(counting), endpoints(counting)
    for number in range(10):
        node.queue(f"f{number}", first.url)
        node.queue(f"s{number}", second.url)
    node.sender.start()
    node.wait(20)
    assert sorted(served.values()) == [10, 10]
    assert most == 3


def test_receivers_that_hang_leave_a_post_for_any_other(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "ALL_POSTS", 16)
    node.make()
    hanging = [endpoints(Hanging(says())) for _ in range(8)]
    node.sender.start()
    for number in range(8):
        for endpoint in hanging:
            node.tell(f"h{number}-{endpoint.port}", endpoint.url)
    for endpoint in hanging:
        endpoint.wait(1)
    for number in range(8):
        node.tell(f"f{number}", endpoints().url, "recording", "finished")
    assert node.wait(16) == ["delivered"] * 16
    # Nor do they once it is known that they are in trouble: one post each, and eight at once.
    for endpoint in hanging:
        assert isinstance(endpoint.answer, Hanging)
        endpoint.answer.then = says(500)
        endpoint.answer.release.set()
    node.until(lambda: node.results.count("failed") == 64, "64 failures")
    for endpoint in hanging:
        endpoint.answer = Hanging(says())
        endpoint.at_once = 0
        del endpoint.posts[:]
    node.clock.advance(10)
    for endpoint in hanging:
        endpoint.wait(1)
    node.tell("last", endpoints().url)
    assert node.wait(81)[-1] == "delivered"
    assert [endpoint.at_once for endpoint in hanging] == [1] * 8


def test_connections_of_receivers_not_heard_of_lately_are_closed(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "SESSIONS", 1)
    first, second = endpoints(), endpoints()
    node.sender.start()
    node.tell("a", first.url)
    node.wait(1)
    assert not first.ended.is_set()
    node.tell("b", second.url)
    assert first.ended.wait(LIMIT)
    assert not second.ended.is_set()


# ---- failures


def test_an_answer_cut_off_is_no_delivery(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = breaks_off
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    assert node.wait(1) == ["failed"]
    row = node.row(told)
    assert (row.status, row.attempts, row.next_attempt) == (Status.PENDING, 1, START + 5)
    assert "broke off" in row.last_result
    endpoint.answer = says()
    node.clock.advance(5)
    assert node.wait(2) == ["failed", "delivered"]


def test_redirects_are_not_followed(node: Node, endpoints: Callable[..., Endpoint]) -> None:
    away = endpoints()
    endpoint = endpoints(says(302, Location=away.url))
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    assert node.wait(1) == ["failed"]
    assert node.row(told).last_result == f"302: redirect to {away.url} not followed"
    assert away.posts == []


def test_a_time_the_receiver_asks_for(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(503, b"", Retry_After="3600")
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    node.wait(1)
    assert node.row(told).next_attempt == START + 3600
    endpoint.answer = says()
    node.clock.advance(3599)
    node.tell("b", endpoint.url)
    node.wait(2)
    assert len(endpoint.posts) == 2
    node.clock.advance(1)
    assert node.wait(3) == ["failed", "delivered", "delivered"]


def test_after_three_days_it_is_given_up_and_the_next_one_has_its_turn(
    node: Node, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = says(500, b"no")
    node.sender.start()
    first, second = node.tell("a", endpoint.url, "recording", "finished")
    while node.wait(1)[-1] == "failed":
        made = len(node.results)
        node.clock.advance(node.row(first).next_attempt - node.clock())
        node.wait(made + 1)
    assert node.clock() == START + LIFETIME
    dead = node.row(first)
    assert (dead.status, dead.last_result) == (Status.DEAD, "500: no")
    assert 20 < dead.attempts < 60
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert first.callback_id in errors[0]
    # The second is as old, and has a few attempts all the same.
    for attempts in range(1, LEAST):
        node.until(lambda attempts=attempts: node.row(second).attempts == attempts, "an attempt at the second")
        node.clock.advance(node.row(second).next_attempt - node.clock())
    node.until(lambda: node.results.count("dead") == 2, "the death of the second")
    assert states(endpoint.posts)[-6:] == ["recording", *["finished"] * LEAST]
    assert node.row(second).attempts == LEAST


def test_a_clock_that_jumps_ahead_does_not_make_the_first_failure_the_last(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(500)
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    node.wait(1)
    node.clock.advance(10 * LIFETIME)
    assert node.wait(2) == ["failed", "failed"]
    endpoint.answer = says()
    node.clock.advance(10)
    assert node.wait(3)[-1] == "delivered"
    assert node.row(told).status is Status.DELIVERED


def test_a_clock_set_back_delays_no_first_attempt(node: Node, endpoint: Endpoint) -> None:
    node.queue("a", endpoint.url)
    node.clock.advance(-7200)
    node.sender.start()
    assert node.wait(1) == ["delivered"]


def test_what_a_receiver_has_asked_an_earlier_run_for_is_kept(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(503, b"", Retry_After="3600")
    node.sender.start()
    (asked,) = node.tell("a", endpoint.url)
    node.wait(1)
    endpoint.answer = says(500)
    (failed,) = node.tell("b", endpoint.url)
    node.wait(2)
    node.sender.stop(0.0)
    endpoint.answer = says()
    node.make().start()
    # What has failed before, and is delivered now, wakes what else has failed.
    node.clock.advance(5)
    assert node.wait(3)[-1] == "delivered"
    assert node.row(failed).status is Status.DELIVERED
    node.tell("c", endpoint.url)
    assert node.wait(4)[-1] == "delivered"
    assert (node.row(asked).status, len(endpoint.posts)) == (Status.PENDING, 4)
    node.clock.advance(3595)
    assert node.wait(5)[-1] == "delivered"


def test_a_receiver_that_is_gone_gets_nothing_more(
    node: Node, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answer = says(500)
    node.sender.start()
    node.tell("a", endpoint.url, "recording", "finished")
    node.wait(1)
    endpoint.answer = says(410)
    node.tell("b", endpoint.url, "recording", "finished")
    assert node.wait(2) == ["failed", "gone"]
    node.clock.advance(100)
    node.tell("c", endpoint.url)
    other = endpoint.url.replace("/status", "/other")
    endpoint.answer = says()
    node.tell("d", other)
    assert node.wait(3) == ["failed", "gone", "delivered"]
    assert len(endpoint.posts) == 3
    rows = node.outbox.listed()
    assert [row.status for row in rows] == [Status.DEAD] * 5 + [Status.DELIVERED]
    assert "4 callbacks given up" in caplog.text


def test_what_is_too_much_for_one_receiver_is_given_up_and_others_wait_for_nothing(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender_module, "MOST", 3)
    down, well = endpoints(says(500)), endpoints()
    node.sender.start()
    for name in "abcdef":
        node.tell(name, down.url)
    node.tell("w", well.url)
    node.until(lambda: len(well.posts) == 1, "the other's")
    assert [row.status for row in node.outbox.listed()] == [Status.PENDING] * 3 + [Status.DEAD] * 3 + [Status.DELIVERED]
    assert node.outbox.listed()[3].last_result == "given up at once: 3 others waited"
    (line,) = [one for one in caplog.messages if "callbacks wait for" in one]
    assert line.startswith("3 callbacks wait for http://127.0.0.1:")
    # A receiver that is well again gets what waited, and then whatever comes.
    down.answer = says()
    node.clock.advance(100)
    node.until(lambda: node.results.count("delivered") == 4, "what waited")
    node.tell("g", down.url)
    node.until(lambda: node.results.count("delivered") == 5, "the next")
    # And what was given up when it is asked for.
    node.outbox.resend(node.outbox.listed(status=Status.DEAD), node.clock())
    node.until(lambda: node.results.count("delivered") == 8, "the others")
    assert sorted(post.json["params"]["state"] for post in down.posts).count("recording") == len(down.posts)
    assert not node.sender._waiting


def test_what_was_given_up_with_its_receiver_no_longer_counts(
    node: Node, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "MOST", 3)
    endpoint.answer = says(410)
    for name in "abc":
        node.tell(name, endpoint.url)
    assert node.sender.refusal(endpoint.url) != ""
    node.sender.start()
    node.until(lambda: not node.outbox.pending(), "the end")
    assert node.sender.refusal(endpoint.url) == ""
    assert not +node.sender._waiting


def test_a_failure_after_the_end_of_a_receiver_brings_nothing_back(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = hanging = Hanging(says(500))
    node.sender.start()
    (slow,) = node.tell("a", endpoint.url)
    endpoint.wait(1)
    endpoint.answer = says(410)
    node.tell("b", endpoint.url)
    assert node.wait(1) == ["gone"]
    hanging.release.set()
    endpoint.answer = says()
    node.tell("c", endpoint.url.replace("/status", "/other"))
    node.wait(2)
    assert node.row(slow).status is Status.DEAD


def test_a_receiver_well_again_gets_what_it_missed_at_once(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(500)
    node.sender.start()
    for number in range(12):
        node.tell(f"r{number}", endpoint.url, "recording", "finished")
    for times in range(1, 12):
        node.wait(12 * times)
        node.clock.advance(max(row.next_attempt for row in node.outbox.pending()) - node.clock())
    node.wait(12 * 12)
    failed = len(node.results)
    first = node.tell("early", endpoint.url)[0]
    node.wait(failed + 1)
    waiting = [row.next_attempt - node.clock() for row in node.outbox.pending() if row.attempts > 1]
    assert min(waiting) > 3600
    endpoint.answer = says()
    node.clock.advance(node.row(first).next_attempt - node.clock())
    node.until(lambda: node.results.count("delivered") == 25, "the backlog")
    for number in range(12):
        mine = [post for post in endpoint.posts if f"/r{number}?" in post.json["params"]["url"]]
        assert states(mine)[-2:] == ["recording", "finished"]
    assert endpoint.at_once <= 8


def test_a_receiver_back_from_its_maintenance_gets_what_it_missed_at_once(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(503, b"", Retry_After="30")
    node.sender.start()
    node.tell("a", endpoint.url)
    node.tell("b", endpoint.url)
    for times in range(1, 10):
        node.wait(2 * times)
        node.clock.advance(max(row.next_attempt for row in node.outbox.pending()) - node.clock())
    node.wait(20)
    node.clock.advance(31)
    node.tell("c", endpoint.url)
    node.wait(21)
    endpoint.answer = says()
    node.clock.advance(31)
    assert node.wait(24)[21:] == ["delivered"] * 3


def test_a_refused_address_is_tried_again_and_warned_of_once(
    node: Node, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    node.make(AddressPolicy()).start()
    (told,) = node.tell("a", endpoint.url)
    node.tell("b", endpoint.url)
    node.wait(2)
    node.clock.advance(5)
    assert node.wait(4) == ["failed"] * 4
    assert node.row(told).last_result == "127.0.0.1 is refused: not in the setting callback_networks"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "callback_networks" in warnings[0].getMessage()
    assert endpoint.posts == []


def test_an_address_nobody_can_read_fails(node: Node) -> None:
    node.sender.start()
    (told,) = node.tell("a", "http://u:secret@[::1/")
    assert node.wait(1) == ["failed"]
    assert node.row(told).last_result == "not a URL"


# ---- commands beside the service


def test_what_another_process_queues_again_is_posted(node: Node, endpoint: Endpoint) -> None:
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    node.wait(1)
    database = Database.in_file(node.path)
    database.open()
    Outbox(database, "node-1").resend([told], node.clock())
    database.close()
    assert node.wait(2) == ["delivered"] * 2
    assert endpoint.posts[0].headers["webhook-id"] == endpoint.posts[1].headers["webhook-id"]


def test_what_waits_for_hours_is_posted_when_it_is_queued_again(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = says(503, b"", Retry_After="7200")
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    node.wait(1)
    endpoint.answer = says()
    node.clock.advance(1)
    node.outbox.resend([node.row(told)], node.clock())
    assert node.wait(2) == ["failed", "delivered"]
    assert node.row(told).attempts == 1


# ---- database and crashes


def test_a_database_that_fails_loses_nothing(
    node: Node, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender_module, "_PAUSE", 0.01)
    failures = iter([DatabaseError("disk full"), DatabaseError("disk full")])
    noted = node.outbox.delivered

    def delivered(*arguments: Any) -> None:
        if failure := next(failures, None):
            assert len(endpoint.posts) == 1
            raise failure
        noted(*arguments)

    monkeypatch.setattr(node.outbox, "delivered", delivered)
    node.sender.start()
    node.tell("a", endpoint.url, "recording", "finished")
    assert node.wait(2) == ["delivered"] * 2
    assert states(endpoint.posts) == ["recording", "finished"]
    assert caplog.text.count("disk full") == 1


def test_a_database_that_cannot_be_read_at_first(
    node: Node, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = iter([DatabaseError("locked"), DatabaseError("locked")])
    read = node.outbox.pending

    def pending(since: float) -> list[Callback]:
        if failure := next(failures, None):
            assert endpoint.posts == []
            raise failure
        return read(since)

    monkeypatch.setattr(node.outbox, "pending", pending)
    node.sender.start()
    node.queue("a", endpoint.url, "recording")
    node.tell("a", endpoint.url, "finished")
    node.wait(2)
    assert states(endpoint.posts) == ["recording", "finished"]
    assert caplog.text.count("locked") == 1


def test_a_row_nobody_can_read_holds_up_no_other(
    node: Node, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [node.queue(recording, endpoint.url) for recording in "abc"]
    broken = text(f"UPDATE callbacks SET body = '{{' WHERE seq = {rows[0].seq}")
    node.database.run(lambda connection: connection.execute(broken))
    node.sender.start()
    node.wait(2)
    node.tell("d", endpoint.url)
    assert node.wait(3) == ["delivered"] * 3
    assert caplog.text.count(rows[0].callback_id) == 1


def test_others_run_while_many_are_taken_and_what_ends_meanwhile_is_not_taken_again(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "_SLICE", 1)
    fine, gone = endpoints(), endpoints(says(410))
    (delivered,) = node.tell("a", fine.url)
    node.tell("b", gone.url)
    node.sender._look = 6 * LIMIT
    node.sender.start()
    node.wait(2)
    given_up, left = node.queue("c", gone.url), node.queue("d", fine.url)
    sender = node.sender
    sender.stop(0.0)
    turns = []
    others = gevent.spawn(lambda: [(turns.append(turn), gevent.sleep(0)) for turn in range(3)])
    sender._take([delivered, given_up, left])
    assert len(turns) == 3
    others.join()
    found = [post[2] for _ in range(3) if (post := sender._queue.next(node.clock()))]
    assert found == [left]


def test_a_crash_before_the_commit_sends_one_event_of_a_recording_again(
    node: Node, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []
    everyone = Flag()

    def never(callback: Callback, *_: Any) -> None:
        reached.append(callback.recording_id)
        if len(reached) == 2:
            everyone.set()
        gevent.sleep(LIMIT)

    with monkeypatch.context() as patched:
        patched.setattr(node.outbox, "delivered", never)
        node.sender.start()
        for recording in "ab":
            node.tell(recording, endpoint.url, "recording", "paused", "finished")
        assert everyone.wait(LIMIT)
        node.sender.stop(0.0)
    assert len(endpoint.posts) == 2
    node.make().start()
    node.wait(6)
    for recording in "ab":
        mine = [post for post in endpoint.posts if f"/{recording}?" in post.json["params"]["url"]]
        assert states(mine) == ["recording", "recording", "paused", "finished"]
        assert len({post.headers["webhook-id"] for post in mine}) == 3


def test_a_mistake_in_the_service_does_not_spin(
    node: Node, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = Flag()
    broken = iter([True])

    def link(recording_id: str, suffix: str) -> str:
        if next(broken, False):
            failed.set()
            raise RuntimeError("mistake")
        return "https://pbx.example/a"

    monkeypatch.setattr(node.sender, "_link", link)
    node.sender.start()
    node.tell("a", endpoint.url)
    assert failed.wait(LIMIT)
    node.tell("b", endpoint.url)
    node.wait(1)
    node.clock.advance(60)
    assert node.wait(2) == ["delivered"] * 2
    assert caplog.text.count("failed as it should not") == 1


def test_stop_waits_for_a_post_under_way(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = hanging = Hanging(says())
    node.sender.start()
    first, second = node.tell("a", endpoint.url, "recording", "finished")
    endpoint.wait(1)
    stopping = gevent.spawn(node.sender.stop, LIMIT)
    gevent.idle()
    hanging.release.set()
    stopping.join(LIMIT)
    assert node.results == ["delivered"]
    assert node.row(first).status is Status.DELIVERED
    assert node.row(second).status is Status.PENDING
    assert len(endpoint.posts) == 1


def test_stop_does_not_wait_for_ever(node: Node, endpoint: Endpoint) -> None:
    endpoint.answer = Hanging(says())
    node.sender.start()
    (told,) = node.tell("a", endpoint.url)
    endpoint.wait(1)
    with gevent.Timeout(LIMIT):
        node.sender.stop(0.05)
    assert node.row(told).status is Status.PENDING
    assert node.results == []


# ---- logs


def test_trouble_and_its_end_are_logged_once(node: Node, endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    endpoint.answer = says(500)
    node.sender.start()
    for number in range(4):
        node.tell(f"r{number}", endpoint.url)
    node.wait(4)
    endpoint.answer = says()
    node.clock.advance(5)
    node.wait(8)
    mine = [record for record in caplog.records if record.name == sender_module.__name__]
    assert [record.levelname for record in mine] == ["WARNING", "INFO"]


def test_no_log_line_and_no_row_holds_the_password(
    node: Node, endpoints: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(sender_module, "_PAUSE", 0.01)
    failures = iter([DatabaseError("disk full")])
    noted = node.outbox.delivered

    def delivered(*arguments: Any) -> None:
        if failure := next(failures, None):
            raise failure
        noted(*arguments)

    def echo(sock: Any, post: Post) -> bool:
        return says(401, str(post.headers).encode())(sock, post)

    monkeypatch.setattr(node.outbox, "delivered", delivered)
    node.sender.start()
    answers = [says(), echo, says(410), closes, garbles, breaks_off, says(302, Location="http://u:s3cret@a.example/")]
    for number, answer in enumerate(answers):
        url = endpoints(answer).url.replace("http://", "http://ann:s3cret@")
        node.tell(f"r{number}", f"{url}#tt=2000")
    node.tell("unreadable", "http://ann:s3cret@[::1/")
    node.tell("refused", "http://ann:s3cret@10.0.0.1/")
    node.tell("nobody", "http://ann:s3cret@127.0.0.1:1/")
    node.wait(10)
    for attempts in range(2, LEAST + 1):
        node.clock.advance(LIFETIME)
        node.until(lambda attempts=attempts: node.results.count("failed") >= 8 * min(attempts, LEAST - 1), "failures")
    node.until(lambda: node.results.count("dead") == 8, "8 deaths")
    assert len(caplog.records) > 20
    told = [record.getMessage() for record in caplog.records]
    told += [row.last_result for row in node.outbox.listed()]
    assert not [text for text in [*told, caplog.text] if "s3cret" in text or "YW5uOnMzY3JldA" in text]
