"""What a recording may be asked for: every parameter of the contract, its good values and its bad ones."""

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from esl_record.recording.machine import Limits
from esl_record.recording.params import Direction, Format, ParameterError, RecordParams

NUMBERS = ["initial_timeout", "end_silence_timeout", "max_length"]
FLAGS = ["stereo", "beep", "early_media"]


def given_as(text: str) -> dict[str, Any]:
    """Parameters as a document writes them."""
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def complaint(**params: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        RecordParams.of("record", params)
    return str(caught.value)


# ---- good values


def test_the_defaults_are_the_contracts() -> None:
    params = RecordParams.of("record", {})
    assert params.model_dump(exclude={"control_id"}) == {
        "stereo": False,
        "format": Format.WAV,
        "direction": Direction.SPEAK,
        "terminators": "#",
        "beep": False,
        "input_sensitivity": 44.0,
        "initial_timeout": 4.0,
        "end_silence_timeout": 5.0,
        "max_length": 0.0,
        "early_media": False,
        "status_url": None,
    }


def test_every_recording_gets_a_control_id_of_its_own() -> None:
    ids = {RecordParams.of("record", {}).control_id for _ in range(100)}
    assert len(ids) == 100
    assert "" not in ids


GOOD = [
    ("stereo: true", True),
    ("stereo: false", False),
    ("stereo: 'true'", True),
    ("stereo: 'False'", False),
    ("beep: true", True),
    ("beep: 'TRUE'", True),
    ("early_media: true", True),
    ("format: wav", Format.WAV),
    ("format: mp3", Format.MP3),
    ("format: mp4", Format.MP4),
    ("direction: speak", Direction.SPEAK),
    ("direction: listen", Direction.LISTEN),
    ("direction: both", Direction.BOTH),
    ("terminators: '#'", "#"),
    ("terminators: '*#'", "*#"),
    ("terminators: 5", "5"),
    ("terminators: 123", "123"),
    ("terminators: abcd", "ABCD"),
    ("terminators: '0123456789ABCD*#'", "0123456789ABCD*#"),
    ("terminators: ''", ""),
    ("input_sensitivity: 0", 0.0),
    ("input_sensitivity: 100", 100.0),
    ("input_sensitivity: '44.5'", 44.5),
    *((f"{name}: 0", 0.0) for name in NUMBERS),
    *((f"{name}: 3", 3.0) for name in NUMBERS),
    *((f"{name}: 2.5", 2.5) for name in NUMBERS),
    *((f"{name}: '2.5'", 2.5) for name in NUMBERS),
    *((f"{name}: ' 3 '", 3.0) for name in NUMBERS),
    *((f"{name}: 1e3", 1000.0) for name in NUMBERS),
    ("status_url: http://example.com/status", "http://example.com/status"),
    ("status_url: https://example.com:8443/a?b=c", "https://example.com:8443/a?b=c"),
    ("control_id: x", "x"),
    ("control_id: " + "x" * 256, "x" * 256),
]


@pytest.mark.parametrize(("text", "expected"), GOOD, ids=[text[:40] for text, _ in GOOD])
def test_a_good_value_is_taken(text: str, expected: object) -> None:
    ((name, _),) = given_as(text).items()
    value = getattr(RecordParams.of("record", given_as(text)), name)
    assert (str(value) if name == "status_url" else value) == expected


# ---- bad values

BAD_NUMBERS = [
    "true",
    "false",
    "-1",
    "-0.001",
    "'-1'",
    ".nan",
    "'nan'",
    ".inf",
    "-.inf",
    "'inf'",
    "'1e309'",
    "9" * 400,
    "soon",
    "''",
    "5s",
    "'0x10'",
    "'1,5'",
    "'1_0'",
    "'\u0665'",
    "[5]",
    "{a: 5}",
    "~",
    "2024-01-01",
]
BAD = [
    *((f"{name}: {value}", "number") for name in NUMBERS for value in BAD_NUMBERS),
    *((f"input_sensitivity: {value}", "number") for value in BAD_NUMBERS),
    ("input_sensitivity: 100.1", "less than or equal to 100"),
    ("input_sensitivity: '101'", "less than or equal to 100"),
    *(
        (f"{name}: {value}", "true or false")
        for name in FLAGS
        for value in ("1", "0", "'1'", "'yes'", "~", "''", "[]", "1.0", "trueish")
    ),
    ("format: ogg", "wav"),
    ("format: ''", "wav"),
    ("format: 5", "wav"),
    ("format: ~", "wav"),
    ("format: [wav]", "wav"),
    ("direction: up", "'speak', 'listen' or 'both'"),
    ("direction: ''", "'speak', 'listen' or 'both'"),
    ("direction: [speak]", "'speak', 'listen' or 'both'"),
    ("direction: ~", "'speak', 'listen' or 'both'"),
    ("terminators: e", "0-9 A-D * #"),
    ("terminators: '1 2'", "0-9 A-D * #"),
    ("terminators: '1,2'", "0-9 A-D * #"),
    ("terminators: -5", "0-9 A-D * #"),
    ("terminators: 1.5", "0-9 A-D * #"),
    ("terminators: true", "0-9 A-D * #"),
    ("terminators: ~", "0-9 A-D * #"),
    ("terminators: ['#']", "0-9 A-D * #"),
    ("terminators: {'#': 1}", "0-9 A-D * #"),
    ('terminators: "\\uff11"', "0-9 A-D * #"),
    ('terminators: "#\\n"', "0-9 A-D * #"),
    ("status_url: example.com", "URL"),
    ("status_url: ''", "URL"),
    ("status_url: ftp://example.com/", "http"),
    ("status_url: file:///etc/passwd", "http"),
    ("status_url: javascript:alert(1)", "http"),
    ("status_url: 5", "URL"),
    ("status_url: http://", "URL"),
    ("control_id: ''", "at least 1 character"),
    ("control_id: " + "x" * 257, "at most 256 characters"),
    ("control_id: 5", "string"),
    ("control_id: ~", "string"),
    ('control_id: "\\ud800"', "string"),
]
_NUMERIC = {*NUMBERS, "input_sensitivity"}


@pytest.mark.parametrize(("text", "allowed"), BAD, ids=[ascii(text)[:40] for text, _ in BAD])
def test_a_bad_value_is_refused_with_method_parameter_value_and_what_is_allowed(text: str, allowed: str) -> None:
    params = given_as(text)
    ((name, value),) = params.items()
    message = complaint(**params)
    assert message.startswith(f"record: {name} = {str(value)[:80]!r}: ")
    if name in _NUMERIC and allowed == "number":
        # Either no number at all, or one outside the range, which is then told.
        assert "number" in message or "greater than or equal to 0" in message or "less than" in message
    else:
        assert allowed in message


def test_every_parameter_has_good_and_bad_values_here() -> None:
    names = set(RecordParams.model_fields)
    assert {next(iter(given_as(text))) for text, _ in GOOD} == names
    assert {next(iter(given_as(text))) for text, _ in BAD} == names


@pytest.mark.parametrize("name", ["volume", "Stereo", "max-length", "samples", "model_config", "__class__"])
def test_an_unknown_parameter_is_refused_and_the_known_ones_listed(name: str) -> None:
    message = complaint(**{name: 5})
    assert message.startswith(f"record: unknown parameter {name!r}; known are ")
    assert all(known in message for known in RecordParams.model_fields)


def test_every_mistake_is_told_at_once() -> None:
    clauses = complaint(max_length=-1, beep="maybe", volume=5, terminators="#").split("; ")
    assert sorted(clause.split()[1] for clause in clauses if clause.startswith("record: ")) == [
        "beep",
        "max_length",
        "unknown",
    ]


def test_the_method_that_was_asked_is_named() -> None:
    with pytest.raises(ParameterError, match=r"^record_call: max_length = '-1': "):
        RecordParams.of("record_call", {"max_length": -1})


def test_a_long_value_is_shown_by_its_beginning() -> None:
    assert len(complaint(max_length="x" * 1_000_000)) < 200


def test_what_was_given_is_left_as_it_was() -> None:
    params: dict[str, Any] = {"terminators": "abc", "max_length": "5"}
    RecordParams.of("record", params)
    assert params == {"terminators": "abc", "max_length": "5"}


def test_parameters_do_not_change_while_the_recording_runs() -> None:
    params = RecordParams.of("record", {"max_length": 5})
    with pytest.raises(ValidationError):
        params.max_length = 6.0
    assert params.max_length == 5.0


# ---- what ends the recording, in samples


@pytest.mark.parametrize(
    ("seconds", "rate", "samples"),
    [(0, 8000, 0), (1, 8000, 8000), (0.02, 48000, 960), (4.0, 16000, 64000), (0.0001, 8000, 1)],
)
def test_every_time_is_counted_in_samples(seconds: float, rate: int, samples: int) -> None:
    for name, limit in (("initial_timeout",) * 2, ("end_silence_timeout", "end_silence"), ("max_length",) * 2):
        off = dict.fromkeys(NUMBERS, 0)
        limits = RecordParams.of("record", {**off, name: seconds, "terminators": ""}).limits(rate)
        expected: dict[str, Any] = {limit: samples}
        assert limits == Limits(**expected)


@pytest.mark.parametrize(("written", "digits"), [("#", "#"), ("", ""), ("ab*", "AB*"), (55, "5")])
def test_every_terminator_ends_it(written: object, digits: str) -> None:
    assert RecordParams.of("record", {"terminators": written}).limits(8000).terminators == frozenset(digits)


@example(0.125, 44100)
@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False), st.sampled_from([8000, 16000, 44100, 48000]))
def test_any_time_is_a_number_of_samples_that_fits_64_bits(seconds: float, rate: int) -> None:
    samples = RecordParams(max_length=seconds).limits(rate).max_length
    assert 0 <= samples < 2**63
    # In samples, where half a one is a number that a float holds; in seconds it is not.
    assert seconds > 1e9 or abs(samples - seconds * rate) <= 0.5
