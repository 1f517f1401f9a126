"""Pause digits: which digits, in which order and how far apart, are a command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.recording.machine import PauseBehavior
from esl_record.recording.pause_digits import DIGIT_GAP, PauseCommand, PauseDigits, PauseMatcher

PAUSE, RESUME = PauseCommand.PAUSE, PauseCommand.RESUME
STARS = PauseDigits("*5", "*6")


def commands(digits: PauseDigits, *pressed: str | float) -> list[PauseCommand]:
    """The commands in what is pressed; a number is seconds until the next digit, and without one it is a tenth."""
    now = 1000.0
    matcher, found = PauseMatcher(digits, lambda: now), []
    for one in pressed:
        if not isinstance(one, str):
            now += one
            continue
        for digit in one:
            now += 0.1
            command = matcher.press(digit)
            if command is not None:
                found.append(command)
    return found


@pytest.mark.parametrize(
    ("digits", "pressed", "expected"),
    [
        (STARS, ["*5"], [PAUSE]),
        (STARS, ["*6"], [RESUME]),
        (STARS, ["*5*6"], [PAUSE, RESUME]),
        (STARS, ["*5*5"], [PAUSE, PAUSE]),
        (STARS, ["5*"], []),
        (STARS, ["*", "*5"], [PAUSE]),
        (STARS, ["12*5"], [PAUSE]),
        (STARS, ["*15"], []),
        (STARS, ["*55"], [PAUSE]),
        (STARS, ["*5", "4111111111111111", "*6"], [PAUSE, RESUME]),
        (PauseDigits("1", "2"), ["121"], [PAUSE, RESUME, PAUSE]),
        (PauseDigits("**", "##"), ["***"], [PAUSE]),
        (PauseDigits("**", "##"), ["****"], [PAUSE, PAUSE]),
        (PauseDigits("12", "23"), ["123"], [PAUSE]),
        (PauseDigits("*123", "*9"), ["*12", "*123"], [PAUSE]),
        (PauseDigits("*5", ""), ["*5*6"], [PAUSE]),
        (PauseDigits("", "*6"), ["*5*6"], [RESUME]),
        (PauseDigits("A5", "B5"), ["a5b5"], [PAUSE, RESUME]),
        (PauseDigits(), ["*5*6"], []),
    ],
)
def test_a_sequence_is_a_command(digits: PauseDigits, pressed: list[str], expected: list[PauseCommand]) -> None:
    assert commands(digits, *pressed) == expected


@pytest.mark.parametrize(
    ("pressed", "expected"),
    [
        (["*", DIGIT_GAP - 0.2, "5"], [PAUSE]),
        (["*", DIGIT_GAP + 0.1, "5"], []),
        (["*", 60.0, "*5"], [PAUSE]),
        (["*", 60.0, "5", "*6"], [RESUME]),
        (["*5", 600.0, "*6"], [PAUSE, RESUME]),
    ],
)
def test_the_digits_of_a_sequence_follow_each_other_closely(
    pressed: list[str | float], expected: list[PauseCommand]
) -> None:
    assert commands(STARS, *pressed) == expected


def test_each_gap_counts_for_itself() -> None:
    """A long sequence has as much time for each digit as a short one."""
    slowly = [part for digit in "*1234" for part in (digit, DIGIT_GAP - 0.2)]
    assert commands(PauseDigits("*1234", "*9"), *slowly) == [PAUSE]


@pytest.mark.parametrize("pair", [("*5", "*5"), ("*5", "*"), ("5", "*5"), ("*5", "1*52"), ("##", "#")])
def test_sequences_that_contain_each_other_are_refused(pair: tuple[str, str]) -> None:
    for pause, resume in (pair, pair[::-1]):
        with pytest.raises(ValueError, match="neither may contain the other"):
            PauseDigits(pause, resume)


def test_the_default_keeps_the_times_of_the_call() -> None:
    assert PauseDigits("*5").behavior is PauseBehavior.SILENCE
    assert [PauseDigits(*pair).enabled for pair in (("*5", ""), ("", "*6"), ("", ""))] == [True, True, False]


SEQUENCES = st.text("*#12", min_size=1, max_size=4)


@given(SEQUENCES, SEQUENCES, st.text("*#123", max_size=12))
def test_a_sequence_is_found_behind_whatever_completes_nothing(pause: str, resume: str, before: str) -> None:
    try:
        digits = PauseDigits(pause, resume)
    except ValueError:
        return
    if all(sequence not in (before + pause)[:-1] for sequence in (pause, resume)):
        assert commands(digits, before + pause) == [PAUSE]
