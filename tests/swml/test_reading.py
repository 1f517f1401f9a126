"""Documents are read off the hub and once, whoever asks; what is hostile holds up nobody."""

import time

import gevent
import pytest
from test_document import LEAST, PARSE_ERROR

from esl_record.errors import DocumentError
from esl_record.swml import reading
from esl_record.swml.document import SIZE_LIMIT, Document
from esl_record.swml.document import parse as really_parse
from esl_record.swml.reading import LARGEST, MOST, read

HELD_UP = 0.3
"""Seconds: far more than the hub stands still while a thread reads, far less than reading takes."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is parsed, from an empty cache on."""
    names: list[str] = []

    def parse(text: str, name: str) -> Document:
        names.append(name)
        return really_parse(text, name)

    monkeypatch.setattr(reading, "parse", parse)
    reading._known.cache_clear()
    return names


def text(number: int, size: int = 0) -> bytes:
    return f"{LEAST}# {number} {'x' * size}\n".encode()


def failed(content: bytes, name: str = "greeting") -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(content, name)
    return caught.value


def test_what_is_read_has_been_checked(parsed: list[str]) -> None:
    document = read(text(1), "greeting")
    assert document.checked
    assert document.name == "greeting"
    error = failed(b"version: 1.0.0\nsections: {main: [{hangup: soon}]}")
    assert error.code == "relay_script_method_parameter_invalid_value"
    assert "greeting, section main, step 1: hangup" in str(error)


def test_the_same_text_is_read_once(parsed: list[str]) -> None:
    assert read(text(1), "a") is read(text(1), "a")
    assert parsed == ["a"]


def test_another_text_or_another_name_is_read_anew(parsed: list[str]) -> None:
    for content, name in ((text(1), "a"), (text(2), "a"), (text(1), "b")):
        assert read(content, name).name == name
    assert parsed == ["a", "a", "b"]


def test_those_who_ask_at_once_wait_for_one(parsed: list[str]) -> None:
    asked = [gevent.spawn(read, text(1), "a") for _ in range(50)]
    gevent.joinall(asked)
    assert len({id(one.value) for one in asked}) == 1
    assert parsed == ["a"]


def test_a_refusal_is_found_once_and_told_each_time(parsed: list[str]) -> None:
    first, second = failed(b"nonsense"), failed(b"nonsense")
    assert parsed == ["greeting"]
    assert (first.code, str(first)) == (second.code, str(second)) == (PARSE_ERROR, str(first))
    first.placed = True
    assert not second.placed
    assert not failed(b"nonsense").placed


def test_a_mistake_of_ones_own_is_not_kept(parsed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: str) -> Document:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(reading, "parse", breaks)
        with pytest.raises(MemoryError):
            read(text(1), "a")
    assert read(text(1), "a").checked


def test_only_so_many_are_kept_and_the_last_used_longest(parsed: list[str]) -> None:
    for number in range(MOST):
        read(text(number), "a")
    read(text(0), "a")
    read(text(MOST), "a")
    parsed.clear()
    read(text(0), "a")
    assert parsed == []
    read(text(1), "a")
    assert parsed == ["a"]


def test_only_so_many_bytes_are_kept(parsed: list[str]) -> None:
    size = SIZE_LIMIT - 100
    for number in range(LARGEST // size + 1):
        read(text(number, size), "a")
    parsed.clear()
    read(text(1, size), "a")
    assert parsed == []
    read(text(0, size), "a")
    assert parsed == ["a"]


def test_a_text_over_the_limit_is_not_looked_at(parsed: list[str]) -> None:
    assert f"larger than {SIZE_LIMIT} bytes" in str(failed(text(0, SIZE_LIMIT)))
    assert parsed == []


# ---- what is hostile

HEAD = b"version: 1.0.0\nsections:\n  main:\n"
JSON = b'{"version": "1.0.0", "sections": {"main": ['
SLOW = [
    pytest.param(HEAD + b"    - play: 'say:hello'\n" * 21_000, id="steps without end"),
    pytest.param(HEAD + b"    - set: {a: [" + b"a," * 260_000 + b"]}\n", id="a long list"),
    pytest.param(HEAD + b"    - set: {a: " + b"[" * 260_000, id="deep"),
    pytest.param(HEAD + b"    - set: {a: 1" + b":1" * 260_000 + b"}\n", id="a number with base sixty"),
    pytest.param(b"big: &b '" + b"x" * 400_000 + b"'\n" + HEAD + b"    - record: {format: *b}\n" * 4000, id="one text"),
    pytest.param(
        HEAD + b"    - execute: nowhere\n" * 8000 + b"".join(b"  s%d: []\n" % n for n in range(20_000)), id="sections"
    ),
    pytest.param(
        JSON + b'], "' + b"n" * 200_000 + b'": [' + b'{"goto":"x"},' * 20_000 + b'"answer"]}}', id="long name"
    ),
    pytest.param(JSON + b'{"sleep":1},' * 40_000 + b'"answer"]}}', id="JSON"),
]


@pytest.mark.parametrize("content", SLOW)
def test_the_hub_goes_on_and_small_documents_do_not_wait(parsed: list[str], content: bytes) -> None:
    assert len(content) <= SIZE_LIMIT
    large, small = gevent.spawn(_outcome, content), gevent.spawn(read, text(1), "small")
    began = last = time.monotonic()
    longest = 0.0
    with gevent.Timeout(30):
        while not (large.ready() and small.ready()):
            gevent.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            assert small.ready() or now - began < HELD_UP
    assert longest < HELD_UP
    assert small.value is not None
    # In a message of bounded length.
    assert len(str(large.value)) < 20_000


def _outcome(content: bytes) -> object:
    try:
        return read(content, "large").name
    except DocumentError as error:
        return error
