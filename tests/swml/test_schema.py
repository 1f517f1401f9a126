"""What a document may say, held against the JSON schema in PyPI's ``signalwire-sdk``, both ways.

A document is accepted exactly when that schema accepts it, but for the differences listed here: where more is accepted
(WIDER), and where less is (NARROWER). Each has its reason and an example.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import schema_narrowing as less
import schema_widening as more
import yaml
from hypothesis import given, settings
from schema_documents import METHODS, documents, is_valid, odd, spoilt

from esl_record.errors import DocumentError
from esl_record.swml.check import check
from esl_record.swml.document import parse


@dataclass(frozen=True)
class Wider:
    """Accepted here, though the schema refuses it. The example is a step, or a document."""

    name: str
    reason: str
    example: str
    change: more.Change


@dataclass(frozen=True)
class Narrower:
    """Refused here, though the schema accepts it."""

    name: str
    reason: str
    example: str
    refuses: Callable[[less.Step], bool]


WIDER = (
    Wider(
        "references",
        "Any value may be text with ${...} or %{...} in it: it is judged when its step runs, by what it has become.",
        "record: {format: '${format}'}",
        more.references,
    ),
    Wider(
        "numbers as text",
        "SWML takes '60' for 60, as what is put together from variables is text.",
        "record: {max_length: '60'}",
        more.numerals,
    ),
    Wider(
        "true and false as text",
        "For the same reason.",
        "record: {beep: 'true'}",
        more.truths,
    ),
    Wider(
        "digits without quotes",
        "YAML reads `terminators: 5` and `password: 1234` as numbers, and what is meant is plain.",
        "record: {terminators: 5}",
        more.digits,
    ),
    Wider(
        "bare names",
        "A step may be a method's name alone, where the method needs nothing more.",
        "answer",
        more.bare_names,
    ),
    Wider(
        "nothing after the colon",
        "In YAML `- answer:` says the same.",
        "answer:",
        more.nothing_given,
    ),
    Wider(
        "one value",
        "Where one parameter says it all its value may stand alone, as in SignalWire's own `execute: main`.",
        "play: 'say:Hello'",
        more.one_value,
    ),
    Wider(
        "stop_call_record",
        "SignalWire's reference has stop_record_call under this name too.",
        "stop_call_record: {control_id: one}",
        more.second_name,
    ),
    Wider(
        "the switch's own sounds",
        "A recorder on one's own switch may play its files and tones.",
        "play: {url: /sounds/hello.wav}",
        more.sounds,
    ),
    Wider(
        "record like record_call",
        "A recording in the foreground may be of both sides, and named for the REST API to pause it, as one over REST.",
        "record: {direction: both, control_id: message}",
        more.of_record,
    ),
    Wider(
        "early media",
        "A document may ask, or record, a caller before the answer, as `play` may play to one with `auto_answer`.",
        "record_call: {early_media: true}",
        more.of_early_media,
    ),
    Wider(
        "from_name and status_url of connect",
        "SignalWire's reference has them; its schema forgot them.",
        "connect: {to: '+15550100', from_name: Ann, status_url: 'https://example.com'}",
        more.of_connect,
    ),
    Wider(
        "transfer as a list",
        "An example in SignalWire's reference writes its parameters as a list, one in each item.",
        "transfer: [dest: main, params: [a: 1, b: 2]]",
        more.of_transfer,
    ),
    Wider(
        "further keys of a document",
        "YAML's anchors need a place to stand.",
        "{usual: &usual {max_length: 60}, sections: {main: [record: *usual]}}",
        more.keys,
    ),
)

NARROWER = (
    Narrower(
        "other methods",
        "Artificial intelligence, conferences, queues, fax, payment and the like are no recorder's business.",
        "denoise: {}",
        less.other_method,
    ),
    Narrower(
        "labels",
        "A goto to a label its section does not have is told before the call begins, not in its middle.",
        "goto: {label: nowhere}",
        less.no_label,
    ),
    Narrower(
        "sections",
        "So is a section that is not there; a destination is a section, an http(s) URL or a document as JSON.",
        "execute: {dest: nowhere}",
        less.no_section,
    ),
    Narrower(
        "ranges",
        "Times are not negative, a sensitivity is 0 to 100, a prompt wants a digit or more. What the schema limits as "
        "a number is limited as text too.",
        "record: {input_sensitivity: 101}",
        less.out_of_range,
    ),
    Narrower(
        "digits",
        "Only 0-9 A-D * # can be pressed, and w W besides sent: anything else would never end a recording.",
        "record: {terminators: x}",
        less.no_digits,
    ),
    Narrower(
        "control ids",
        "An empty one names nothing, and one of more than 256 characters is none.",
        "record_call: {control_id: ''}",
        less.no_control_id,
    ),
    Narrower(
        "addresses",
        "What is posted to, or asked, is an http(s) URL: a mistyped one would lose every event without a word.",
        "record: {status_url: example.com}",
        less.no_address,
    ),
    Narrower(
        "sounds",
        "The schema's pattern lets through a silence without a number, a country without a ring tone (a tone lasts 300 "
        "s at most) and an address without a host, or with something else in its place.",
        "play: {url: 'ring:xx'}",
        less.no_sound,
    ),
    Narrower(
        "destinations",
        "A switch of one's own dials numbers and SIP addresses, not SignalWire's queues, streams and resources; the "
        "caller's number is one of these too.",
        "connect: {to: 'queue:sales'}",
        less.no_destination,
    ),
    Narrower(
        "nobody to connect",
        "An empty list of destinations calls no one.",
        "connect: {serial: []}",
        less.no_one,
    ),
    Narrower(
        "confirmations",
        "None is run here, and to connect without one that is asked for could put a caller through to a voicemail.",
        "connect: {to: '+15550100', confirm: 'https://example.com/confirm'}",
        less.confirmed,
    ),
    Narrower(
        "one destination's own",
        "What holds for the whole connection is said once: ringback, result, answer_on_bridge, transfer_after_bridge.",
        "connect: {serial: [{to: '+15550100', ringback: ['ring:us']}]}",
        less.of_one_alone,
    ),
    Narrower(
        "what no dial string carries",
        "Only names of codecs, names of headers the switch does not write itself, and printable text without any of "
        "~ | ' \\ [ ] { } $ ^: anything else would change what the switch is told to call.",
        "connect: {to: '+15550100', headers: [{name: X-A, value: 'a|b'}]}",
        less.unspeakable,
    ),
    Narrower(
        "ringbacks",
        "Sounds, not speech, and with no volume, loop or events of their own: the switch plays them as they are.",
        "connect: {to: '+15550100', ringback: ['say:Please wait']}",
        less.no_ringback,
    ),
    Narrower(
        "headers of a request",
        "Those SignalWire's reference allows, each with one value.",
        "request: {url: 'https://example.com', method: GET, headers: {Host: example.org}}",
        less.no_header,
    ),
)

accepts = more.changed([difference.change for difference in WIDER])
"""Whether the schema does, with all of WIDER."""


def complaint(document: Any) -> str | None:
    """What is found wrong with a document here."""
    try:
        check(parse(json.dumps(document), "drawn"))
    except DocumentError as error:
        return str(error)
    return None


def refusing(document: Any) -> list[str]:
    """Those of NARROWER by which a document is refused."""
    found = list(less.steps(document))
    return [difference.name for difference in NARROWER if any(map(difference.refuses, found))]


def judge(document: Any) -> bool:
    """Whether a document is accepted. Fails where that differs from the schema in a way that is not listed."""
    found = complaint(document)
    if not accepts(document):
        assert not is_valid(document), document
        assert found is not None, document
        return False
    listed = refusing(document)
    assert (found is not None) == bool(listed), (found, listed, document)
    return found is None


@pytest.mark.parametrize("method", METHODS)
def test_what_the_schema_accepts_is_accepted(method: str) -> None:
    accepted = []

    @settings(derandomize=True, deadline=None)
    @given(documents(method))
    def property_holds(document: Any) -> None:
        assert is_valid(document)
        accepted.append(judge(document))

    property_holds()
    assert sum(accepted) > len(accepted) / 30, "hardly any: the property says little"


@pytest.mark.parametrize("method", METHODS)
def test_what_the_schema_refuses_is_refused(method: str) -> None:
    refused = []

    @settings(derandomize=True, deadline=None)
    @given(spoilt(method))
    def property_holds(document: Any) -> None:
        judge(document)
        refused.append(not is_valid(document))

    property_holds()
    assert sum(refused) > len(refused) / 2, "hardly any: the property says little"


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_is_as_strict_as_in_the_schema(method: str) -> None:
    for step in odd(method):
        judge({"sections": {"main": [{"label": "a"}, step]}})


@pytest.mark.parametrize("difference", [*WIDER, *NARROWER], ids=lambda difference: difference.name)
def test_each_difference_is_one(difference: Wider | Narrower) -> None:
    assert difference.reason.endswith(".")
    tree = yaml.safe_load(difference.example)
    whole = isinstance(tree, dict) and "sections" in tree
    document = tree if whole else {"sections": {"main": [tree]}}
    assert is_valid(document) == isinstance(difference, Narrower)
    assert (complaint(document) is None) == isinstance(difference, Wider)
    if isinstance(difference, Narrower):
        assert refusing(document) == [difference.name]
    else:
        others = [other.change for other in WIDER if other is not difference]
        assert not more.changed(others)(document)
