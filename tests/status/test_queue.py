"""Queue: each recording in order, no more at once than allowed, and nothing forgotten."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from esl_record.status.backlog import Backlog
from esl_record.status.outbox import Callback, Status
from esl_record.status.queue import Line, Queue


def callback(seq: int, recording: int = 0, host: int = 0, *, due: float = 0.0, attempts: int = 0) -> Callback:
    return Callback(
        seq=seq,
        callback_id=f"msg_{seq}",
        recording_id=f"recording-{recording}",
        state="recording",
        url=f"http://host-{host}.example/",
        body={},
        created_at=0.0,
        status=Status.PENDING,
        queued_at=0.0,
        attempts=attempts,
        next_attempt=due,
        last_attempt=None,
        last_result="",
    )


def taken(queue: Queue, *callbacks: Callback, now: float = 0.0) -> Queue:
    for one in callbacks:
        queue.take(one, now)
    return queue


def seqs(queue: Queue, now: float = 0.0) -> list[int]:
    """What can be posted now, none of it ending."""
    found = []
    while post := queue.next(now):
        found.append(post[2].seq)
    return found


def test_a_recording_has_one_post_at_once() -> None:
    queue = taken(Queue(8), callback(2), callback(1), callback(3))
    line, backlog, first = queue.next(0.0) or (None, None, None)
    assert (first and first.seq, seqs(queue)) == (1, [])
    assert line is not None
    assert backlog is not None
    backlog.drop(1)
    queue.done(line, backlog, 0.0)
    assert seqs(queue) == [2]


def test_an_origin_has_its_share_and_no_more() -> None:
    queue = taken(
        Queue(2), *(callback(n, n, host=0) for n in range(5)), *(callback(n, n, host=1) for n in range(5, 10))
    )
    assert seqs(queue) == [0, 5, 1, 6]


def test_what_is_not_due_is_not_posted_and_its_time_is_known() -> None:
    queue = taken(Queue(8), callback(1, due=10.0, attempts=1), callback(2, 2, due=7.0, attempts=1))
    assert (seqs(queue, 6.9), queue.next_due) == ([], 7.0)
    assert seqs(queue, 7.0) == [2]
    assert seqs(queue, 10.0) == [1]
    assert queue.next_due is None


def test_what_was_never_tried_is_due_whatever_the_clock_says() -> None:
    queue = taken(Queue(8), callback(1, due=9999.0), callback(2, 2, due=4 * 86400.0, attempts=1), now=5.0)
    assert seqs(queue, 5.0) == [1, 2]


def test_what_is_queued_again_by_a_clock_set_back_is_due() -> None:
    queue = taken(Queue(8), replace(callback(1, due=5000.0, attempts=3), queued_at=4000.0), now=4900.0)
    queue.take(replace(callback(1, due=5.0), queued_at=5.0), 5.0)
    assert seqs(queue, 5.0) == [1]


def test_an_origin_in_trouble_has_one_post_at_once() -> None:
    queue = taken(Queue(3), *(callback(n, n) for n in range(6)))
    posts = [post for _ in range(3) if (post := queue.next(0.0))]
    line = posts[0][0]
    line.trouble = "failed"
    ends(queue, posts.pop())
    ends(queue, posts.pop())
    assert seqs(queue) == []
    ends(queue, posts.pop())
    (probe,) = [post for _ in range(2) if (post := queue.next(0.0))]
    line.trouble = None
    ends(queue, probe)
    assert seqs(queue) == [4, 5]


def ends(queue: Queue, post: tuple[Line, Backlog, Callback]) -> None:
    line, backlog, one = post
    backlog.drop(one.seq)
    queue.done(line, backlog, 0.0)


def test_those_in_trouble_have_half_of_all_posts_and_the_others_the_rest() -> None:
    queue = Queue(2, 8)
    for host in range(10):
        taken(queue, callback(host, host, host), callback(100 + host, 100 + host, host))
        queue._line(f"http://host-{host}.example/").trouble = "failed"
        queue._enlist(queue._line(f"http://host-{host}.example/"))
    probes = []
    while post := queue.next(0.0):
        probes.append(post)
    assert [one.seq for _, _, one in probes] == [0, 1, 2, 3]
    taken(queue, *(callback(200 + host, 200 + host, 20 + host) for host in range(5)))
    assert seqs(queue) == [200, 201, 202, 203]
    ends(queue, probes[0])
    assert seqs(queue) == [204]


def test_unknown_origins_that_hang_leave_posts_for_those_that_have_none() -> None:
    """Nobody knows yet that they hang: each has all its posts, until half of all are taken."""
    queue = Queue(4, 16)
    for host in range(4):
        taken(queue, *(callback(10 * host + n, 10 * host + n, host) for n in range(4)))
    assert seqs(queue) == [0, 10, 20, 30, 1, 11, 21, 31]
    taken(queue, *(callback(100 + n, 100 + n, 10 + n) for n in range(8)))
    assert seqs(queue) == [100 + n for n in range(8)]
    assert seqs(taken(queue, callback(200, 200, 50))) == []


def test_a_time_asked_of_an_earlier_run_is_kept() -> None:
    queue = Queue(8)
    queue.take(callback(1, due=60.0, attempts=1), 0.0, 60.0)
    queue.take(callback(2, 2, due=60.0, attempts=1), 0.0)
    queue.wake(queue._line("http://host-0.example/"), 0.0)
    assert (seqs(queue, 59.0), seqs(queue, 60.0)) == ([2], [1])


def test_what_is_there_is_not_taken_again() -> None:
    queue = taken(Queue(8), callback(1), callback(1))
    assert seqs(queue) == [1]
    assert seqs(taken(queue, callback(1))) == []


def test_what_is_queued_again_is_due() -> None:
    queue = taken(Queue(8), callback(1, due=1000.0, attempts=9))
    assert seqs(queue, 5.0) == []
    queue.take(replace(callback(1, due=5.0), queued_at=5.0), 5.0)
    assert seqs(queue, 5.0) == [1]
    assert seqs(queue, 2000.0) == []


def test_a_receiver_that_is_well_again_gets_all_it_missed_oldest_first() -> None:
    missed = [callback(n, n, due=1000.0 - n, attempts=3) for n in (3, 1, 2)]
    queue = taken(Queue(8), *missed, callback(4, 4, host=1, due=1000.0, attempts=3), callback(5, 5))
    line, backlog, _ = queue.next(0.0) or (None, None, None)
    assert line is not None
    assert backlog is not None
    queue.wake(line, 0.0)
    assert seqs(queue) == [1, 2, 3]


def test_a_time_the_receiver_asked_for_is_kept() -> None:
    queue = taken(Queue(8), callback(1), callback(2, 2))
    line, backlog, first = queue.next(0.0) or (None, None, None)
    assert line is not None
    assert backlog is not None
    assert first is not None
    backlog.replace(first, replace(first, attempts=1, next_attempt=60.0))
    backlog.asked = 60.0
    queue.done(line, backlog, 0.0)
    queue.wake(line, 0.0)
    assert seqs(queue, 59.0) == [2]
    assert seqs(queue, 60.0) == [1]


def test_a_time_that_is_over_or_sooner_than_the_next_attempt_holds_nothing_up() -> None:
    queue = taken(Queue(8), callback(1), callback(2, 2), callback(3, 3))
    for asked in (10.0, 60.0):
        line, backlog, first = queue.next(0.0) or (None, None, None)
        assert line is not None
        assert backlog is not None
        assert first is not None
        backlog.replace(first, replace(first, attempts=9, next_attempt=9999.0))
        backlog.asked = asked
        queue.done(line, backlog, 0.0)
    assert line is not None
    queue.wake(line, 20.0)
    assert seqs(queue, 20.0) == [3, 1]
    assert queue.next_due == 60.0
    assert seqs(queue, 60.0) == [2]


def test_what_is_given_up_is_gone_and_the_rest_is_not() -> None:
    queue = taken(
        Queue(1), callback(1), callback(2), callback(3, 3), callback(4, 4, due=9.0, attempts=1), callback(5, 5, 1)
    )
    line, backlog, _ = queue.next(0.0) or (None, None, None)
    assert line is not None
    assert backlog is not None
    assert queue.give_up("http://host-0.example/", 0.0) == 4
    queue.done(line, backlog, 0.0)
    assert seqs(queue, 100.0) == [5]


def test_an_address_nobody_can_read_has_a_line_too() -> None:
    queue = taken(Queue(8), replace(callback(1), url="http://u:p@[/"), replace(callback(2, 2), url=""))
    assert seqs(queue) == [1, 2]


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6), seed=st.integers(0, 1 << 32))
def test_nothing_is_forgotten_and_no_order_is_lost(sizes: list[int], seed: int) -> None:
    """Random recordings, receivers, failures, recoveries and orders of arrival."""
    chance = Random(seed)
    numbers = iter(range(100))
    every = [callback(next(numbers), n, host=n % 2) for n, size in enumerate(sizes) for _ in range(size)]
    queue = taken(Queue(2), *chance.sample(every, len(every)))
    now, delivered = 0.0, []
    under_way: list[tuple[Line, Backlog, Callback]] = []
    while len(delivered) < len(every):
        while post := queue.next(now):
            under_way.append(post)
        assert len({backlog for _, backlog, _ in under_way}) == len(under_way)
        assert all(line.under_way <= 2 for line, _, _ in under_way)
        if not under_way:
            assert queue.next_due is not None
            now = queue.next_due
            continue
        line, backlog, one = under_way.pop(chance.randrange(len(under_way)))
        if chance.random() < 0.6:
            delivered.append(one.seq)
            backlog.drop(one.seq)
            if one.attempts:
                queue.wake(line, now)
        else:
            backlog.asked = now + chance.randrange(0, 12)
            backlog.replace(one, replace(one, attempts=one.attempts + 1, next_attempt=now + chance.randrange(1, 9)))
        queue.done(line, backlog, now)
    for number in range(len(sizes)):
        mine = [one.seq for one in every if one.recording_id == f"recording-{number}"]
        assert [seq for seq in delivered if seq in mine] == mine
    assert seqs(queue, now + 100) == []
