"""Schedule: often at first, for three days, and last at the end of them."""

from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.status.schedule import FIRST, LEAST, LIFETIME, LONGEST, asked, longest, next_attempt

QUEUED = 1704164645.0
HALF = 0.5

chances = st.floats(0, 1)


def life(random: float = HALF, retry_after: str | None = None) -> list[float]:
    """Seconds from the queueing of the attempts of a callback that nobody ever takes."""
    made = [0.0]
    while (due := next_attempt(len(made), QUEUED, QUEUED + made[-1], retry_after, lambda: random)) is not None:
        made.append(due - QUEUED)
    return made


def test_waits_double_from_five_seconds_to_hours() -> None:
    made = life()
    waits = [after - before for before, after in pairwise(made)]
    assert waits[:5] == pytest.approx([5, 10, 20, 40, 80])
    assert max(waits) == pytest.approx(LONGEST)
    assert 20 < len(made) < 60


@given(chances)
def test_the_last_attempt_is_at_the_end_of_the_three_days(random: float) -> None:
    made = life(random)
    assert LIFETIME - 2 * FIRST <= made[-1] <= LIFETIME
    assert all(after > before for before, after in pairwise(made))


def test_what_failed_together_does_not_come_back_together() -> None:
    early, late = (next_attempt(3, QUEUED, QUEUED, None, lambda chance=chance: chance) for chance in (0.0, 1.0))
    assert (early, late) == (pytest.approx(QUEUED + 16), pytest.approx(QUEUED + 24))


@given(attempts=st.integers(1, 10**6), age=st.floats(0, LIFETIME * 2), wish=st.integers(0, 10**7), random=chances)
def test_a_wish_is_granted_within_the_three_days(attempts: int, age: float, wish: int, random: float) -> None:
    now = QUEUED + age
    due = next_attempt(attempts, QUEUED, now, str(wish), lambda: random)
    if age > LIFETIME:
        assert (due is None) == (attempts >= LEAST)
    elif due is not None and now + FIRST < QUEUED + LIFETIME:
        assert min(now + wish, QUEUED + LIFETIME) <= due <= QUEUED + LIFETIME


def test_the_first_wait_can_be_set() -> None:
    waits = [next_attempt(made, QUEUED, QUEUED, None, lambda: HALF, first=0.1) for made in (1, 2, 3, 10**6)]
    assert waits == pytest.approx([QUEUED + 0.1, QUEUED + 0.2, QUEUED + 0.4, QUEUED + LONGEST])


def test_a_wish_does_not_shorten_the_wait() -> None:
    assert next_attempt(8, QUEUED, QUEUED, "1", lambda: HALF) == next_attempt(8, QUEUED, QUEUED, None, lambda: HALF)


def test_what_is_first_tried_when_its_time_is_over_is_tried_a_few_times() -> None:
    """A clock that has jumped ahead for a moment must not end what has only just begun."""
    now = QUEUED + 10 * 86400
    waits = [next_attempt(made, QUEUED, now, None, lambda: HALF) for made in range(1, LEAST + 1)]
    assert waits == [*(pytest.approx(now + wait) for wait in (5, 10, 20, 40)), None]
    assert next_attempt(1, QUEUED, now, "3600", lambda: HALF) == now + 3600


@given(attempts=st.integers(1, 1000), random=chances)
def test_no_wait_is_longer_than_the_longest(attempts: int, random: float) -> None:
    due = next_attempt(attempts, QUEUED, QUEUED, None, lambda: random, first=2.0)
    assert due is not None
    assert due - QUEUED <= longest(attempts, 2.0) + 1e-6


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 7 ", 7),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("9" * 5000, LIFETIME),
        (formatdate(QUEUED + 90, usegmt=True), 90),
        (formatdate(QUEUED - 90, usegmt=True), 0),
        ("Tue, 02 Jan 2024 03:05:35 -0000", 90),
        ("Tue, 02 Jan 2024 04:05:35 +0100", 90),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LIFETIME),
        ("Fri, 99 Foo 2024 99:99:99 GMT", 0),
    ],
)
def test_what_retry_after_asks_for(header: str | None, seconds: float) -> None:
    assert asked(header, QUEUED) == pytest.approx(seconds)


@given(st.text())
def test_no_header_is_an_error(header: str) -> None:
    assert 0 <= asked(header, QUEUED) <= LIFETIME
