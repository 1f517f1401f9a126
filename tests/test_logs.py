"""Log lines: one a message, whatever a caller's name or a peer's bytes hold."""

import io
import logging
import unicodedata
import warnings
from collections.abc import Iterator

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import Endpoint, sends

from esl_record import egress
from esl_record.egress import AddressPolicy
from esl_record.logs import OneLine, Sparing, one_line, to_stderr

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Classes of the characters that let a line be read in another order than it was written."""


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    vars(gevent.get_hub()).pop("print_exception", None)


def logged(message: str, *arguments: object, error: BaseException | None = None) -> str:
    """What one call of the log writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(message, *arguments, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\tb", "a\tb"),
        ("J\u00fcrgen \u4e2d \U0001f600", "J\u00fcrgen \u4e2d \U0001f600"),
        ("a\nb", "a\\x0ab"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("a\x85b", "a\\x85b"),
        ("a\x0bb\x0cc", "a\\x0bb\\x0cc"),
    ],
)
def test_control_characters_are_escaped_and_nothing_else(text: str, expected: str) -> None:
    assert one_line(text) == expected


@pytest.mark.parametrize(
    "codepoint",
    ["2028", "2029", "202a", "202b", "202c", "202d", "202e", "200e", "200f", "061c", "200b", "feff", "e0041"],
)
def test_separators_and_direction_marks_are_escaped(codepoint: str) -> None:
    escaped = one_line(f"a{chr(int(codepoint, 16))}b")
    assert chr(int(codepoint, 16)) not in escaped
    assert codepoint in escaped


@pytest.mark.parametrize("codepoint", ["2066", "2067", "2068", "2069"])
def test_direction_isolates_are_escaped(codepoint: str) -> None:
    assert chr(int(codepoint, 16)) not in one_line(f"a{chr(int(codepoint, 16))}b")


@given(st.lists(st.characters() | st.sampled_from([*"\r\n\x1b\x85\u2028\u202e\u2066\u2069"])).map("".join))
def test_whatever_the_text_it_is_one_line_that_reads_as_written(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    left = {character for character in line if unicodedata.category(character) in ("Cc", "Zl", "Zp")} - {"\t"}
    assert left == set()
    assert not {unicodedata.bidirectional(character) for character in line} & BIDI


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("call from %s", ("Ann\nERROR forged",)),
        ("call from Ann\nERROR forged", ()),
        ("%s", (OSError("Ann\nERROR forged"),)),
        ("%(name)s", ({"name": "Ann\r\nERROR forged"},)),
    ],
)
def test_a_message_cannot_forge_a_line(message: str, arguments: tuple[object, ...]) -> None:
    (line,) = logged(message, *arguments).splitlines()
    assert line.startswith("ERROR ")
    assert "forged" in line


def test_a_traceback_keeps_its_lines() -> None:
    lines = logged("went wrong", error=ValueError("reason")).splitlines()
    assert lines[0] == "ERROR went wrong"
    assert lines[-1] == "    ValueError: reason"


HOSTILE = st.lists(st.characters() | st.sampled_from([*"\r\n\t\x00\x1b\x85\x9b\u200e\u061c\u2028\u2029\u202e\u2066\ufeff\ud800"])).map("".join)  # fmt: skip # noqa: E501


def forged(written: str) -> list[str]:
    """The lines that pass for a message, but for the first; what a terminal or a reader could take for more."""
    assert written.endswith("\n")
    lines = written[:-1].split("\n")
    assert not {character for line in lines for character in line if not character.isprintable()} - {"\t", *SPACES}
    return [line for line in lines[1:] if not line.startswith("    ")]


SPACES = {character for character in map(chr, range(0x10000)) if unicodedata.category(character) == "Zs"}


@given(HOSTILE, HOSTILE, HOSTILE, st.booleans())
def test_whatever_is_logged_no_line_of_it_passes_for_another(message: str, name: str, why: str, chained: bool) -> None:
    cause = KeyError(name)
    cause.add_note(name)
    error = ValueError(why)
    error.__cause__ = cause if chained else None
    assert forged(logged(message.replace("%", "%%") + " of %s", name, error=error)) == []


def test_what_a_greenlet_raises_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr()

    def serve(caller: str) -> None:
        raise ValueError(f"no such caller: {caller}")

    gevent.spawn(serve, "Ann\n2026-01-01 00:00:00,000 ERROR forged\x1b[2J").join()
    written = capsys.readouterr().err
    assert forged(written) == []
    assert " ERROR " in written.split("\n")[0]
    assert "serve" in written
    assert "forged\\x1b[2J" in written


def test_a_warning_of_a_library_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("odd name: Ann\x1b[2J\nforged", stacklevel=1)
    logging.captureWarnings(False)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Ann\\x1b[2J\\x0aforged" in line


def test_what_a_server_answers_in_place_of_headers_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr(logging.DEBUG)
    server = Endpoint(sends(b"HTTP/1.1 200 OK\r\nX-Good: a\r\nno header of a4711\r\n\r\n"))
    with egress.session(AddressPolicy(["127.0.0.1"])) as session:
        assert session.post(f"{server.url}?token=a4711", timeout=10).status_code == 200
    server.shut()
    assert "a4711" not in capsys.readouterr().err


def test_the_log_goes_to_stderr_one_line_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr(logging.INFO)
    logging.getLogger("esl_record.test").info("from %s", "a\x1b[2J\nb")
    logging.getLogger("esl_record.test").debug("not asked for")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.endswith("INFO    from a\\x1b[2J\\x0ab")


def test_starting_the_log_again_does_not_double_it(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr()
    to_stderr(logging.DEBUG)
    logging.getLogger("esl_record.test").debug("once")
    assert capsys.readouterr().err.count("once") == 1


def test_of_each_cause_the_first_lines_are_written_and_the_others_counted() -> None:
    log = logging.getLogger("sparing")
    log.propagate = False
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    sparing = Sparing(log, first=2, period=0.02)
    assert [sparing(logging.WARNING, "%s sent %d bytes", "x", number) for number in range(5)] == [True] * 2 + [
        False
    ] * 3
    sparing(logging.ERROR, "another")
    assert lines == ["x sent 0 bytes", "x sent 1 bytes", "another"]
    with gevent.Timeout(5.0):
        while len(lines) < 4:
            gevent.sleep(0.005)
    assert lines[3:] == ["3 more of these were not logged: \u2026 sent \u2026 bytes"]
    gevent.sleep(0.03)
    assert sparing(logging.WARNING, "%s sent %d bytes", "y", 1)
    assert lines[4:] == ["y sent 1 bytes"]
    log.removeHandler(handler)
