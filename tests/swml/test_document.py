"""Documents: what their text becomes, what is refused and as what, and that a name leads nowhere else."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.errors import DocumentError
from esl_record.swml import runner
from esl_record.swml.document import SIZE_LIMIT, Document, parse
from esl_record.swml.library import Library, built_in

HEAD = "version: 1.0.0\n"
LEAST = HEAD + "sections: {main: [answer]}\n"
PARSE_ERROR = "relay_script_parse_error"


class TookTooLongError(BaseException):
    """No Exception, so that nothing under test takes it for one of its own. Not to be let through to pytest from
    within a bomb: showing its frames would set it off again."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Breaks off what takes more of the processor, or stands still for ten times as long, so that a test of a bomb
    fails and does not hang."""

    def expire(_: int, __: FrameType | None) -> None:
        raise TookTooLongError(f"more than {seconds} s")

    # Again and again: one raised within a callback of the garbage collector is lost.
    clocks = ((signal.SIGVTALRM, signal.ITIMER_VIRTUAL, seconds), (signal.SIGALRM, signal.ITIMER_REAL, 10 * seconds))
    before = [signal.signal(number, expire) for number, _, _ in clocks]
    for _, clock, limit in clocks:
        signal.setitimer(clock, limit, 1)
    try:
        yield
    finally:
        for (number, clock, _), handler in zip(clocks, before, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


def methods(document: Document, section: str = "main") -> list[tuple[str, object]]:
    return [(step.method, step.params) for step in document.sections[section]]


def refusal(text: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse(text, "greeting")
    return caught.value


# ---- what a text becomes

STEPS = [
    pytest.param("[answer]", [("answer", {})], id="a bare name has no parameters"),
    pytest.param("[{answer: }]", [("answer", {})], id="a name with nothing after it neither"),
    pytest.param("[{sleep: 500}]", [("sleep", 500)], id="a bare value"),
    pytest.param("[{play: {url: 'say:hi'}}]", [("play", {"url": "say:hi"})], id="a mapping"),
    pytest.param("[answer, hangup]", [("answer", {}), ("hangup", {})], id="in order"),
    pytest.param("[]", [], id="no steps"),
]


@pytest.mark.parametrize(("steps", "expected"), STEPS)
def test_a_step_is_a_method_with_its_parameters(steps: str, expected: list[tuple[str, object]]) -> None:
    assert methods(parse(f"{HEAD}sections: {{main: {steps}}}", "greeting")) == expected


def test_a_step_knows_its_section_and_number() -> None:
    document = parse(HEAD + "sections:\n  main: [answer]\n  goodbye: [answer, hangup]\n", "greeting")
    assert [str(step) for step in document.sections["goodbye"]] == [
        "section goodbye, step 1",
        "section goodbye, step 2",
    ]


@pytest.mark.parametrize("indent", [None, 2, "\t"], ids=["compact", "spaces", "tabs"])
def test_json_is_read_as_well_as_yaml(indent: int | str | None) -> None:
    tree = {"version": "1.0.0", "sections": {"main": ["answer", {"play": {"url": 'say:"a\\b" \u00e9/\u4e2d'}}]}}
    separators = (",", ":") if indent is None else None
    text = json.dumps(tree, indent=indent, separators=separators)
    assert methods(parse(text, "greeting")) == [("answer", {}), ("play", {"url": 'say:"a\\b" \u00e9/\u4e2d'})]


def test_a_byte_order_mark_before_the_document_is_no_part_of_it() -> None:
    assert methods(parse("\ufeff" + LEAST, "greeting")) == [("answer", {})]


def test_a_yaml_alias_stands_for_what_it_names() -> None:
    text = HEAD + "common: &usual {max_length: 60}\nsections:\n  main:\n    - record: *usual\n"
    assert methods(parse(text, "greeting")) == [("record", {"max_length": 60})]


def test_a_document_without_a_version_has_the_only_one() -> None:
    assert methods(parse("sections: {main: [answer]}", "greeting")) == [("answer", {})]


def test_a_return_of_nothing_returns_none() -> None:
    assert methods(parse("sections: {main: [return, {return: }, {return: {}}]}", "greeting")) == [
        ("return", None),
        ("return", None),
        ("return", {}),
    ]


VALUES = [
    ("2024-01-01", "2024-01-01"),
    (
        "{3: a, true: b, null: c, 2.5: d, 2024-01-01: e}",
        {"3": "a", "true": "b", "null": "c", "2.5": "d", "2024-01-01": "e"},
    ),
    ('"\\ud83d\\ude00 \\ud800"', "\U0001f600 \ufffd"),
    ("[1, [2.5, false]]", [1, [2.5, False]]),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[ascii(value) for value, _ in VALUES])
def test_values_are_those_of_json(value: str, expected: object) -> None:
    assert methods(parse(f"sections: {{main: [{{set: {{a: {value}}}}}]}}", "greeting")) == [("set", {"a": expected})]


@pytest.mark.parametrize("value", ["!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a: 1]"])
def test_values_json_does_not_have_are_refused(value: str) -> None:
    assert refusal(f"{LEAST}x: {value}").code == PARSE_ERROR


def test_halves_of_characters_in_json_are_put_together_or_replaced() -> None:
    text = r'{"sections": {"main": [{"set": {"a": "\ud83d\ude00 \ud800"}}]}}'
    assert methods(parse(text, "greeting")) == [("set", {"a": "\U0001f600 \ufffd"})]


def test_a_version_of_any_length_is_shown_shortly() -> None:
    assert len(str(refusal(f"version: {'9' * 300}\nsections: {{main: [answer]}}"))) < 200


# ---- what is refused

REFUSED = [
    ("", PARSE_ERROR),
    ("5", PARSE_ERROR),
    ("just words", PARSE_ERROR),
    ("[a, list]", PARSE_ERROR),
    ("{", PARSE_ERROR),
    ("a: b: c", PARSE_ERROR),
    ("\tversion: 1.0.0", PARSE_ERROR),
    (LEAST + "---\n" + LEAST, PARSE_ERROR),
    (LEAST + "x: \x00", PARSE_ERROR),
    (LEAST + "x: \x1b[31m", PARSE_ERROR),
    (LEAST + "x: *nothing", PARSE_ERROR),
    (LEAST + "x: {[a]: b}", PARSE_ERROR),
    ("version:\nsections: {main: [answer]}", "relay_script_version_invalid"),
    ("version: 1.0\nsections: {main: [answer]}", "relay_script_version_invalid"),
    ("version: 2.0.0\nsections: {main: [answer]}", "relay_script_version_invalid"),
    ("version: [1.0.0]\nsections: {main: [answer]}", "relay_script_version_invalid"),
    (HEAD, "relay_script_sections_missing"),
    (HEAD + "sections:", "relay_script_sections_missing"),
    (HEAD + "sections: [answer]", "relay_script_sections_missing"),
    (HEAD + "sections: main", "relay_script_sections_missing"),
    (HEAD + "sections: {}", "relay_script_main_section_missing"),
    (HEAD + "sections: {Main: [answer]}", "relay_script_main_section_missing"),
    (HEAD + "sections: {main: }", "relay_script_section_code_missing"),
    (HEAD + "sections: {main: answer}", "relay_script_section_code_missing"),
    (HEAD + "sections: {main: {answer: {}}}", "relay_script_section_code_missing"),
    (HEAD + "sections: {main: [answer], other: 5}", "relay_script_section_code_missing"),
    (HEAD + "sections: {main: [5]}", PARSE_ERROR),
    (HEAD + "sections: {main: [null]}", PARSE_ERROR),
    (HEAD + "sections: {main: [{}]}", PARSE_ERROR),
    (HEAD + "sections: {main: [[answer]]}", PARSE_ERROR),
    (HEAD + "sections: {main: [{answer: {}, hangup: {}}]}", PARSE_ERROR),
]


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=[ascii(text)[-50:] for text, _ in REFUSED])
def test_a_document_that_breaks_the_contract_is_refused_with_its_code(text: str, code: str) -> None:
    error = refusal(text)
    assert error.code == code
    assert "greeting" in str(error)


def test_a_refusal_names_the_section_and_the_step() -> None:
    error = refusal(HEAD + "sections:\n  main: [answer]\n  goodbye: [hangup, 7]\n")
    assert "section goodbye, step 2" in str(error)


def test_a_refusal_of_broken_yaml_is_one_line_with_the_place() -> None:
    message = str(refusal(LEAST + "x: [1, 2\ny: 3\n"))
    assert "\n" not in message
    assert "line 4" in message


ODD_SCALARS = [
    '!!int ""',
    "!!int many",
    '!!float ""',
    "!!bool perhaps",
    "!!timestamp soon",
    "2001-99-99",
    '!!binary "a"',
    "!!omap 5",
    '"\\U00110000"',
    "!!python/object/apply:os.getcwd []",
    "!!python/name:os.system",
    "!!python/object/new:list [[1]]",
    "!unknown 5",
    "9" * 5000,
]


@pytest.mark.parametrize("value", ODD_SCALARS, ids=lambda value: ascii(value)[:30])
def test_a_scalar_that_cannot_be_made_is_a_parse_error(value: str) -> None:
    assert refusal(f"{LEAST}x: {value}\n").code == PARSE_ERROR


@pytest.mark.parametrize(
    "tag",
    [
        '!!python/object/apply:os.mkdir ["{path}"]',
        "!!python/object/apply:os.mkdir\nargs: ['{path}']",
        '!!python/object/new:os.mkdir ["{path}"]',
        "!!python/object/apply:subprocess.check_call [[mkdir, '{path}']]",
    ],
)
def test_a_python_tag_runs_nothing(tag: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert refusal(tag.replace("{path}", str(made))).code == PARSE_ERROR
    assert not made.exists()


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "], ids=["list", "mapping", "block", "key"])
def test_nesting_however_deep_is_refused_at_once(opening: str) -> None:
    with within(5):
        error = refusal(f"{LEAST}x: {opening * 20_000}")
    assert error.code in (PARSE_ERROR, "relay_script_nested_too_deep")


@pytest.mark.parametrize("depth", [120, 400, 5000, 100_000])
def test_json_is_refused_as_deep_as_yaml(depth: int) -> None:
    with within(5):
        error = refusal('{"version": "1.0.0", "sections": {"main": [' + '{"a": [' * depth + "]}" * depth + "]}}")
    assert error.code == PARSE_ERROR
    assert "nested deeper than" in str(error)


@pytest.mark.parametrize("number", ["9" * 5000, "1" + ":1" * 5000, "!!int '1" + ":1" * 5000 + "'", "." + "1" * 5000])
def test_a_number_of_any_length_is_refused_at_once(number: str) -> None:
    with within(2):
        for text in (f"{LEAST}x: {number}\n", '{"version": "1.0.0", "x": ' + number + "}"):
            assert refusal(text).code == PARSE_ERROR


def test_a_long_text_stays_one_whatever_it_begins_with() -> None:
    for text in ("5 people " * 100, "1:1 " * 200, "- 5" * 300, "2001-01-01 " * 50):
        document = parse(f"{HEAD}sections:\n  main:\n    - play: x{text}\n    - play: '{text}'\n", "greeting")
        assert [step.params for step in document.sections["main"]] == ["x" + text.strip(), text]
    document = parse(f"{HEAD}sections:\n  main:\n    - play: {'5 people ' * 100}\n", "greeting")
    assert document.sections["main"][0].params == ("5 people " * 100).strip()


def test_a_long_text_used_often_is_a_bomb_too() -> None:
    big = "x" * 100_000
    error = refusal(f"big: &b '{big}'\n{HEAD}sections:\n  main:\n" + "    - play: *b\n" * 1000)
    assert "aliases stand for more" in str(error)


def test_a_bomb_of_aliases_costs_nothing_to_read() -> None:
    bomb = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    try:
        with within(2):
            outcome = parse(f"{LEAST}a0: &a0 [lol]\n{bomb}", "greeting").name
    except DocumentError as error:
        outcome = error.code
    except TookTooLongError:
        outcome = "took too long"
    assert outcome in ("greeting", PARSE_ERROR)


def test_a_bomb_of_merged_mappings_is_defused() -> None:
    bomb = "".join(f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 8))
    try:
        with within(2):
            outcome = parse(f"{LEAST}a0: &a0 {{k: v}}\n{bomb}", "greeting").name
    except DocumentError as error:
        outcome = error.code
    except TookTooLongError:
        outcome = "took too long"
    assert outcome in ("greeting", PARSE_ERROR)


@given(st.text(alphabet="{}[]:,&*!|>-?'\"%@#~<=+.019abefinxy_ \n\t\u00e9", max_size=60))
def test_whatever_the_text_it_is_a_document_or_refused(text: str) -> None:
    try:
        outcome = set(parse(LEAST + text, "greeting").sections)
    except DocumentError as error:
        outcome = {error.code}
    assert outcome & {"main", PARSE_ERROR, "relay_script_version_invalid", "relay_script_sections_missing"}


# ---- names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of documents with one beside it that must never be found."""
    folder = tmp_path / "documents"
    (folder / "sub").mkdir(parents=True)
    (folder / "greeting.yaml").write_text(LEAST)
    (folder / "sub" / "deeper.yml").write_text(LEAST)
    (folder / "asjson.json").write_text('{"version": "1.0.0", "sections": {"main": ["hangup"]}}')
    (tmp_path / "secret.yaml").write_text(LEAST)
    return folder


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("greeting", "answer"),
        ("greeting.yaml", "answer"),
        ("sub/deeper", "answer"),
        ("sub/deeper.yml", "answer"),
        ("asjson", "hangup"),
        ("asjson.json", "hangup"),
    ],
)
def test_a_document_is_found_by_name_with_and_without_its_suffix(folder: Path, name: str, first: str) -> None:
    document = Library(folder).load(name)
    assert document.sections["main"][0].method == first


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../secret",
    "../secret.yaml",
    "sub/../../secret",
    "sub/..",
    "/etc/passwd",
    "//secret",
    "sub//deeper",
    "greeting/",
    "./greeting",
    ".hidden",
    "sub/.hidden",
    "..\\secret",
    "%2e%2e/secret",
    "~root",
    "$HOME",
    "greeting\0",
    "greeting\0.yaml",
    "greeting\n",
    "greeting.yaml\n",
    "a b",
    "-rf",
    "\u2025/secret",
    "greet\u0456ng",
    "\udc80",
    "a" * 300,
    "a" * 100_000,
    "/".join(["a"] * 5000),
]


@pytest.mark.parametrize("with_folder", [True, False])
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_is_no_document(folder: Path, name: str, with_folder: bool) -> None:
    with pytest.raises(DocumentError) as caught:
        Library(folder if with_folder else None).load(name)
    assert caught.value.code == PARSE_ERROR


@given(st.text(alphabet="./\\~%ab_-\0\n", max_size=12))
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    if not folder.exists():
        (folder / "inner").mkdir(parents=True)
        for outside in ("a", "b", "ab"):
            (folder / f"{outside}.yaml").write_text(LEAST)
    with pytest.raises(DocumentError) as caught:
        Library(folder / "inner").load(name)
    assert caught.value.code == PARSE_ERROR


def test_a_document_of_ones_own_comes_before_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "voicemail.yaml").write_text(HEAD + "sections: {main: [hangup]}")
    assert methods(Library(tmp_path).load("voicemail")) == [("hangup", {})]


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_document_can_be_run(name: str) -> None:
    document = Library(None).load(name)
    runner.check(document)
    assert document.sections["main"]


def test_a_missing_document_tells_where_it_was_looked_for(folder: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        Library(folder).load("nowhere")
    assert "nowhere" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "voicemail" in str(caught.value)


def test_a_folder_or_a_pipe_of_that_name_is_no_document(folder: Path) -> None:
    (folder / "dir.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    for name in ("dir", "pipe", "greeting.yaml/x"):
        with within(2), pytest.raises(DocumentError, match="no document"):
            Library(folder).load(name)


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DocumentError, match=r"greeting\.yaml: Permission denied"):
        Library(folder).load("greeting")


def test_a_document_may_be_as_large_as_the_limit_and_no_larger(folder: Path) -> None:
    comment = "# " + "x" * (SIZE_LIMIT - len(LEAST) - 3) + "\n"
    (folder / "large.yaml").write_text(LEAST + comment)
    assert (folder / "large.yaml").stat().st_size == SIZE_LIMIT
    assert methods(Library(folder).load("large")) == [("answer", {})]
    (folder / "large.yaml").write_text(LEAST + comment + "\n")
    with pytest.raises(DocumentError, match=str(SIZE_LIMIT)):
        Library(folder).load("large")


def test_a_huge_document_is_refused_without_being_read(folder: Path) -> None:
    with (folder / "huge.yaml").open("wb") as file:
        file.truncate(1 << 36)
    with within(2), pytest.raises(DocumentError, match="larger than"):
        Library(folder).load("huge")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe" + LEAST.encode("utf-16-le"), LEAST.encode() + b"x: \xff", b"\x80"], ids=repr
)
def test_a_document_that_is_no_utf8_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bytes.yaml").write_bytes(content)
    with pytest.raises(DocumentError, match="UTF-8") as caught:
        Library(folder).load("bytes")
    assert caught.value.code == PARSE_ERROR
