"""Dial strings are read as a real switch was seen to read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.standin.dialstring import DialStringError, parse, separate

READ = [
    ("sofia/x/1", {}, [[("sofia", "x/1", {})]]),
    (" sofia/x/1", {}, [[("sofia", "x/1", {})]]),
    ("a/1,b/2|c/3", {}, [[("a", "1", {}), ("b", "2", {})], [("c", "3", {})]]),
    ("{a=1,b=2}x/1", {"a": "1", "b": "2"}, [[("x", "1", {})]]),
    ("{a=1}{b=2}x/1", {"a": "1", "b": "2"}, [[("x", "1", {})]]),
    ("<a=1>{b=2}x/1", {"a": "1", "b": "2"}, [[("x", "1", {})]]),
    ("{^^:a=1,2:b=3}x/1", {"a": "1,2", "b": "3"}, [[("x", "1", {})]]),
    ("{a='1,2',b=3}x/1", {"a": "1,2", "b": "3"}, [[("x", "1", {})]]),
    ("[a=1,b=2]x/1,[c=3]y/2", {}, [[("x", "1", {"a": "1", "b": "2"}), ("y", "2", {"c": "3"})]]),
    ("[^^~a=1,2~b=x=y]x/1", {}, [[("x", "1", {"a": "1,2", "b": "x=y"})]]),
    # Quotes are gone before the commas within brackets are looked at.
    ("[a='1,2']x/1", {}, [[("x", "1", {"a": "1"})]]),
    ("['a=1|2']x/1", {}, [[("x", "1", {"a": "1|2"})]]),
    ("[^^~a=1|2]x/1", {}, None),
    ("[a= 1 ,b=,c]x/1", {}, [[("x", "1", {"a": "1"})]]),
    ("[a=1]x/[::1]:5", {}, [[("x", "[::1]:5", {"a": "1"})]]),
    ("[a=[1]]x/1", {}, [[("x", "1", {"a": "[1]"})]]),
    ("[a=\\sb\\'c]x/1", {}, [[("x", "1", {"a": "b'c"})]]),
    ("[a=1x/1", {}, None),
    ("{a=1x/1", {}, None),
    ("{a=1}", {}, None),
    ("x/1:_:y/2", {}, None),
]


@pytest.mark.parametrize(("text", "variables", "groups"), READ)
def test_a_dial_string(text: str, variables: dict[str, str], groups: list[list[tuple[object, ...]]] | None) -> None:
    if groups is None:
        with pytest.raises(DialStringError):
            parse(text)
        return
    read = parse(text)
    assert read.variables == variables
    assert [[(leg.kind, leg.destination, leg.variables) for leg in group] for group in read.groups] == groups


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,", ["a"]),
        (",a", ["", "a"]),
        ("a,,b", ["a", "", "b"]),
        ("a,b,c,d", ["a", "b", "c,d"]),
        ("^^;a,b;c", ["a,b", "c"]),
        (" a , b ", ["a", "b"]),
        ("' a ',b", [" a ", "b"]),
        ("it's,b", ["it's", "b"]),
        ("a\\,b,c", ["a,b", "c"]),
        ("a\\nb", ["a\nb"]),
        ("a\\xb", ["a\\xb"]),
    ],
)
def test_separating(text: str, parts: list[str]) -> None:
    assert separate(text, ",", 3) == parts


@given(st.text(st.sampled_from("ab,|'\\[]{}<>^~= \x01\x02/"), max_size=30))
def test_everything_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except DialStringError:
        pass
