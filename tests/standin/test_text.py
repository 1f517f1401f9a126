"""How text is encoded, cut up and expanded."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.standin.headers import serialize, url_encode
from esl_record.standin.variables import Variables, brackets, expand, is_true, separate


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a\nb\r", "a%0Ab%0D"),
        ("100% sure: a+b", "100%25%20sure%3A%20a%2Bb"),
        ("twice %0A %zz", "twice%20%0A%20%25zz"),
        ("é", "%C3%A9"),
        ("INVITE, (x) $~!*'/", "INVITE,%20(x)%20$~!*'/"),
        ('#&;<=>?@[\\]^`{|}"', "%23%26%3B%3C%3D%3E%3F%40%5B%5C%5D%5E%60%7B%7C%7D%22"),
    ],
)
def test_url_encode(text, encoded):
    assert url_encode(text) == encoded


@given(st.text())
def test_an_encoded_value_never_breaks_its_line(text):
    assert serialize([("name", text)]).count(b"\n") == 2
    if "%" not in text:
        assert unquote(url_encode(text)) == text


def test_an_empty_value_is_undefined():
    assert serialize([("name", "")]) == b"name: _undef_\n\n"


VALUES = {"name": "Ann", "nested": "<${name}>", "evil": "${system(rm -rf /)}", "self": "${self}"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain $ {x} $5", "plain $ {x} $5"),
        ("${name}!", "Ann!"),
        ("$${name}", "Ann"),
        ("${NAME}${name}", "AnnAnn"),
        ("${nested}", "<Ann>"),
        ("${name:1}", "nn"),
        ("${name:0:2}", "An"),
        ("${nothing}x", "x"),
        (r"\${name}", "${name}"),
        (r"a\\b ${name}", r"a\b Ann"),
        # The character behind a reference is copied unread: this backslash does not escape.
        (r"${name}\${name}", "Ann\\Ann"),
        ("${evil}", ""),
        ("${name", "Ann"),
    ],
)
def test_expand(text, expanded):
    assert expand(text, lambda name: VALUES.get(name.lower()), []) == expanded


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("${system touch x}", ["system touch x"]),
        ("${system(touch ${name})}", ["system touch Ann"]),
        ("${evil}", ["system rm -rf /"]),
        ("${name}${status }", ["status "]),
    ],
)
def test_api_calls_are_noted(text, calls):
    noted: list[str] = []
    expand(text, lambda name: VALUES.get(name.lower()), noted)
    assert noted == calls


@given(st.text(alphabet="ab${}\\()': ", max_size=40))
def test_expanding_ends(text):
    expand(text, VALUES.get, [])
    expand("${self}", VALUES.get, [])


@pytest.mark.parametrize(
    ("text", "delimiter", "limit", "parts"),
    [
        ("a b  c", " ", 0, ["a", "b", "c"]),
        ("a b c d", " ", 3, ["a", "b", "c d"]),
        ("u 'sleep:1,socket:h async full' inline", " ", 5, ["u", "sleep:1,socket:h async full", "inline"]),
        ("a=1,,b", ",", 0, ["a=1", "", "b"]),
        ("it's", " ", 0, ["it's"]),
    ],
)
def test_separate(text, delimiter, limit, parts):
    assert separate(text, delimiter, limit) == parts


def test_brackets():
    assert brackets("{a=1,b=x y}/path") == ({"a": "1", "b": "x y"}, "/path")
    assert brackets("{^^;a=1,2;b=3}") == ({"a": "1,2", "b": "3"}, "")
    assert brackets("/path") == ({}, "/path")


def test_a_variable_set_again_moves_to_the_end_and_an_empty_one_goes():
    variables = Variables()
    for name in ("a", "b", "A"):
        variables.set(name, "1")
    assert list(variables) == [("b", "1"), ("A", "1")]
    variables.set("b", "")
    variables.set("c", "${x}")
    variables.set("d", "${x}", checked=False)
    assert dict(variables) == {"A": "1", "d": "${x}"}


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("1", True), ("0", False), ("no", False), (None, False)])
def test_is_true(text, truth):
    assert is_true(text) is truth
