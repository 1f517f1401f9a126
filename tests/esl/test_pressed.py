"""Pressed digits in texts for the log."""

import pytest

from esl_record.esl.pressed import KEPT, Pressed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dest = '4539148803436467'", "dest = '***'"),
        ("4539 1488 0343 6467", "*** *** *** ***"),
        ("order-994539148803436467", "order-99***"),
        ("call 12 of 45, 39 s", "call 12 of 45, 39 s"),
        ("GET /card/4539148803436467?n=9", "GET /card/***?n=9"),
        ("500: 6467 453", "500: *** ***"),
        ("nothing", "nothing"),
    ],
)
def test_what_was_pressed_is_hidden(text: str, shown: str) -> None:
    pressed = Pressed()
    for digit in "4539148803436467":
        pressed.note(digit)
    assert pressed.redact(text) == shown
    assert pressed.redact(ValueError(text)) == shown


def test_without_digits_a_text_is_as_it_was() -> None:
    assert Pressed().redact("dest = '4539'") == "dest = '4539'"


def test_the_last_digits_are_remembered() -> None:
    pressed = Pressed()
    pressed.note("9876")
    pressed.note("1" * KEPT)
    assert pressed.redact("9876 111") == "9876 ***"
