"""Ten thousand documents, drawn from the schema, written, and spoilt: each ends, and none that is refused has done
anything."""

import functools
import json
import random
from typing import Any, cast

import pytest
import yaml
from chance import ChanceQueue, ChanceSession, chance_call
from hypothesis import HealthCheck, given, settings
from schema_documents import METHODS, documents, spoil
from test_document import within

from esl_record.errors import CallGone, DocumentError
from esl_record.esl import digits
from esl_record.swml import runner
from esl_record.swml.check import check
from esl_record.swml.document import Document, parse
from esl_record.swml.library import Library, built_in
from esl_record.swml.methods import METHODS as RUN
from esl_record.swml.reading import read

BATCHES, BATCH = 20, 500

MOST_STEPS = 100
"""Fewer than the service's own, for time's sake."""

PATIENCE = 10.0
"""Seconds of the processor a document may take: most of them are the first one's, which makes the JavaScript engine."""

WRITTEN = (
    """
version: 1.0.0
sections:
  main:
    - answer: {max_duration: 3600}
    - set: {a: 1, tries: 0, list: &list [1, "two", {three: 3.5}], again: *list}
    - label: menu
    - prompt: {play: ["say: Press one, ${call.from_name}", "silence: 0.5"], max_digits: 3, terminators: "#*"}
    - switch:
        variable: prompt_value
        case:
          "1": [{execute: {dest: message, params: {beep: true}, on_return: [{play: "say:${return_value}"}]}}]
          "12": [{transfer: {dest: goodbye, params: {why: "${prompt_value + 1}"}}}]
        default:
          - set: {tries: "${tries + 1}"}
          - cond: [{when: "tries < 3 && '${call.to}' != ''", then: [{goto: {label: menu, max: 3}}]}, {else: [hangup]}]
    - connect:
        serial: [{to: "+15550100", timeout: 20}, {to: "sip:ann@example.com", headers: [{name: X-A, value: "${a}"}]}]
        ringback: ["ring:us"]
        result: {case: {failed: [{hangup: busy}]}, default: [{play: {url: "say:bye", volume: -3}}]}
    - hangup
  message:
    - record_call: {control_id: background, stereo: true}
    - record: {beep: "${params.beep}", max_length: 60, end_silence_timeout: "${2 + 1}", status_url: "https://a.example"}
    - stop_record_call: {control_id: background}
    - return: {url: "${record_url}", all: ["${vars.list}", "%{record_result}"]}
  goodbye:
    - request: {url: "https://example.com/${params.why}", method: POST, body: {a: "${a}"}, save_variables: true}
    - play: {urls: ["say:${request_response.a[1].b}", "tone_stream://%(100,0,440)"]}
    - send_digits: {digits: "1w${a}#"}
    - unset: [a, tries]
    - sleep: 1500
    - execute: {dest: "https://example.com/document", result: [{when: "return_value", then: [answer]}, {else: []}]}
""",
    """
sections:
  main: [{set: {a: [1], b: "x"}}, {label: round}, {set: {a: ["${a}", "${a}"], b: "${b}${b}"}}, {goto: {label: round}}]
""",
    """
sections:
  main: [{set: {n: 0}}, {label: a}, {set: {n: "${n + 1}"}}, {goto: {label: a, when: "n < 2"}}, {execute: main}]
""",
    "sections: {main: [{execute: b}, {execute: b}], b: [{execute: c}, {execute: c}], c: [{transfer: main}, answer]}",
    'sections: {main: [{execute: \'{"sections": {"main": [{"execute": "main"}]}}\'}, {return: \'${for(;;);}\'}]}',
    "sections: {main: [{set: {p: {dest: b, on_return: [answer], a: 1}}}, {execute: '${p}'}], b: []}",
    "sections: {main: [{set: {p: {dest: b, on_return: [answer]}}}, {execute: '${p}'}], b: []}",
    "sections: {main: [{sleep: -1}]}",
)
"""What runs for long, and into every limit."""

TEXTS = (
    *WRITTEN,
    *(json.dumps(yaml.safe_load(text)) for text in WRITTEN),
    *((Library(None)._text(name) or b"").decode() for name in built_in()),
)

ANSWERS = (*TEXTS, '{"a": [1, {"b": null}]}', "\ufffe", "[", "")
"""What servers answer."""

NOISE = (
    *(
        "\n",
        "\t",
        " ",
        ":",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        '"',
        "\\",
        "#",
        "&a ",
        "*a",
        "<<: *a",
        "|",
        ">-\n",
    ),
    *("? ", "!!binary ", "!!set ", "!!omap ", "!!python/name:os.system ", "!!float ", "---\n", "...\n", "%YAML 9.9\n"),
    *(
        "${",
        "}",
        "%{a}",
        "${a",
        "${'}",
        "${a[0]",
        "${call}",
        "${vars}",
        "${1/0}",
        "${{}}",
        "${[a]}",
        "${'x'.repeat(7e4)}",
    ),
    *(
        "\x00",
        "\x1b[31m",
        "\u2028",
        "\ufeff",
        "\ud7ff",
        "\U0010ffff",
        "\u0661",
        "\\ud800",
        "\\ud83d",
        "\u202e",
        "\u0301",
    ),
    *(
        "9" * 50,
        "9" * 5000,
        "-0",
        "1e999",
        ".inf",
        "NaN",
        "0x7f",
        "1_0",
        "12:30:45",
        "2024-01-01",
        "1e-400",
        "true",
        "~",
    ),
    *("answer", "record", "main", "params", "1.0.0", "null", "{" * 60, "[" * 200, "- " * 60, "a" * 3000),
)


# ---- documents


def drawn(method: str) -> list[Any]:
    found: list[Any] = []

    @settings(max_examples=20, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(documents(method))
    def draw(document: Any) -> None:
        found.append(document)

    draw()
    return found


@functools.cache
def trees() -> list[str]:
    """Documents to be spoilt, as JSON."""
    return [json.dumps(tree) for method in METHODS for tree in drawn(method)]


def text(chance: random.Random) -> str:
    """A document, most often one that is nearly right."""
    if chance.random() < 0.4:
        made = chance.choice(TEXTS)
        tree = yaml.safe_load(made) if chance.random() < 0.5 else None
    else:
        made, tree = "", json.loads(chance.choice(trees()))
    if tree is not None:
        for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 2, 4])):
            if isinstance(tree, dict | list):
                spoil(tree, chance.choice)
        in_json = chance.random() < 0.7
        made = json.dumps(tree, ensure_ascii=False) if in_json else yaml.safe_dump(tree, allow_unicode=True)
    for _ in range(chance.choice([0, 0, 0, 0, 0, 0, 1, 2, 8])):
        made = noisy(made, chance)
    return made


def noisy(made: str, chance: random.Random) -> str:
    start = chance.randint(0, len(made))
    end = start + chance.choice([0, 0, 1, 20])
    match chance.choice(["noise", "noise", "noise", "without", "twice", "line", "beginning"]):
        case "noise":
            return made[:start] + chance.choice(NOISE) + made[end:]
        case "without":
            return made[:start] + made[end:]
        case "twice":
            return made[:end] + made[start:]
        case "line":
            lines = made.splitlines(keepends=True) or [""]
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            return "".join(lines)
    return made[:start]


def document(chance: random.Random) -> Document:
    """Raises DocumentError for a text that is none."""
    made = text(chance)
    if chance.random() < 0.95:
        return parse(made, "mutated")
    # As a file or a server has it, perhaps with a bit too many.
    raw = bytearray(made.encode("utf-8", "surrogatepass"))
    if raw and chance.random() < 0.5:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return read(bytes(raw), "mutated")


# ---- on a call


class Steps(dict[str, Any]):
    """The methods, and how often one was looked up to be run."""

    taken = 0

    def __getitem__(self, name: str) -> Any:
        self.taken += 1
        return super().__getitem__(name)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_document_does_harm(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(RUN)
    monkeypatch.setattr(runner, "STEPS", MOST_STEPS)
    monkeypatch.setattr(runner, "METHODS", steps)
    monkeypatch.setattr(digits, "SimpleQueue", ChanceQueue)
    outcomes = dict.fromkeys(("done", "gone", "failed", "refused", "unreadable"), 0)
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        steps.taken = 0
        outcomes[outcome(seed, steps)] += 1
    # There was enough of everything.
    assert min(outcomes.values()) > BATCH / 50, outcomes


def outcome(seed: int, steps: Steps) -> str:
    """What becomes of document number ``seed``. Anything but an end, DocumentError and CallGone is raised."""
    chance = random.Random(seed)
    call, done = chance_call(chance, ANSWERS)
    session = cast(ChanceSession, call.session)
    ChanceQueue.session = session
    with within(PATIENCE):
        try:
            made = document(chance)
        except DocumentError:
            return "unreadable"
        refused = is_refused(made)
        try:
            runner.run(made, call)
            found = "done"
        except DocumentError:
            found = "failed"
        except CallGone:
            found = "gone"
    if refused:
        assert (found, steps.taken, done()) == ("failed", 0, []), seed
        return "refused"
    assert steps.taken <= MOST_STEPS, seed
    # A document that has failed leaves the call to the dialplan; in any other way the call is over.
    assert session.live == (found == "failed"), seed
    assert not session.listeners, seed
    return found


def is_refused(made: Document) -> bool:
    try:
        check(made)
    except DocumentError:
        return True
    return False
