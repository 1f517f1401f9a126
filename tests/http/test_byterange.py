"""Ranges and conditions, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.http import byterange

DATE = "Tue, 02 Jan 2024 03:04:05 GMT"
CHANGED = 1704164645.9
TAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=0-100", (0, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=-1", (99, 100)),
        ("bytes=-100", (0, 100)),
        ("bytes=-101", (0, 100)),
        ("BYTES=1-2", (1, 3)),
        ("bytes= 1-2 ", (1, 3)),
        ("bytes=0-" + "9" * 5000, (0, 100)),
        ("bytes=" + "0" * 5000 + "1-2", (1, 3)),
        ("bytes=-" + "9" * 5000, (0, 100)),
    ],
)
def test_a_range_is_its_bytes(header: str, span: tuple[int, int]) -> None:
    assert byterange.part(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_a_range_behind_the_end_cannot_be_had(header: str) -> None:
    with pytest.raises(byterange.Unsatisfiable):
        byterange.part(header, 100)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "bytes=a-b", "bytes=1", "items=0-1",
     "bytes=+1-2", "bytes=1--2", "bytes=0x1-2", "bytes=\u0660-\u0661", "bytes=0-1;", "0-1"],
)  # fmt: skip
def test_what_makes_no_sense_is_the_whole_file(header: str | None) -> None:
    assert byterange.part(header, 100) is None


@given(st.text(), st.integers(0, 2**40))
def test_a_part_lies_within_the_file(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            span = byterange.part(text, size)
        except byterange.Unsatisfiable:
            continue
        assert span is None or 0 <= span[0] < span[1] <= size


@pytest.mark.parametrize(
    ("header", "holds"),
    [(None, True), (TAG, True), ('"other"', False), (f"W/{TAG}", False), (DATE, True),
     ("Tue, 02 Jan 2024 03:04:06 GMT", False), ("yesterday", False)],
)  # fmt: skip
def test_a_part_is_had_only_of_the_same_file(header: str | None, holds: bool) -> None:
    assert byterange.holds(header, TAG, CHANGED) is holds


@pytest.mark.parametrize(
    ("none_match", "since", "unchanged"),
    [
        (None, None, False),
        (TAG, None, True),
        (f"W/{TAG}", None, True),
        (f'"x", {TAG}', None, True),
        ("*", None, True),
        ('"x"', DATE, False),
        ("abc", DATE, False),
        (None, DATE, True),
        (None, "Tue, 02 Jan 2024 03:04:04 GMT", False),
        (None, "Wed, 03 Jan 2024 03:04:04 GMT", True),
        (None, "soon", False),
        (None, "Tue, 02 Jan 99999 03:04:04 GMT", False),
    ],
)
def test_a_file_the_client_has_is_not_sent_again(none_match: str | None, since: str | None, unchanged: bool) -> None:
    assert byterange.unchanged(none_match, since, TAG, CHANGED) is unchanged


@pytest.mark.parametrize(
    ("match", "since", "changed_since"),
    [
        (None, None, False),
        (TAG, None, False),
        (f'"x", {TAG}', None, False),
        ("*", None, False),
        ('"x"', None, True),
        (f"W/{TAG}", None, True),
        ("abc", None, True),
        ("", None, True),
        ('"x"', DATE, True),
        (TAG, "Tue, 02 Jan 2024 03:04:04 GMT", False),
        (None, DATE, False),
        (None, "Tue, 02 Jan 2024 03:04:04 GMT", True),
        (None, "Wed, 03 Jan 2024 03:04:04 GMT", False),
        (None, "soon", False),
    ],
)
def test_another_file_than_is_wanted(match: str | None, since: str | None, changed_since: bool) -> None:
    assert byterange.changed_since(match, since, TAG, CHANGED) is changed_since


def test_a_file_without_a_tag_is_none_that_is_wanted() -> None:
    assert byterange.changed_since('""', None, "", CHANGED)
    assert not byterange.changed_since("*", None, "", CHANGED)


@given(st.text())
def test_no_condition_is_an_error(text: str) -> None:
    byterange.holds(text, TAG, CHANGED)
    byterange.unchanged(text, text, TAG, CHANGED)
    byterange.unchanged(None, text, TAG, CHANGED)
    byterange.changed_since(text, text, TAG, CHANGED)
    byterange.changed_since(None, text, TAG, CHANGED)
