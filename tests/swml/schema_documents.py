"""Documents as the JSON schema in PyPI's ``signalwire-sdk`` describes them, drawn from it and spoilt."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import strategies as st

Node = Mapping[str, Any]
"""A schema, or one within another."""

SCHEMA: Node = json.loads(Path(str(distribution("signalwire-sdk").locate_file("signalwire/schema.json"))).read_bytes())
DEFINITIONS: Mapping[str, Node] = SCHEMA["$defs"]

METHODS = (
    *("answer", "hangup", "play", "prompt", "record", "record_call", "stop_record_call", "sleep", "send_digits"),
    *("set", "unset", "label", "goto", "execute", "return", "cond", "switch", "request", "transfer", "connect"),
)


def named(node: Node) -> str:
    """The definition ``node`` refers to, empty where it refers to none."""
    return str(node.get("$ref", "")).removeprefix("#/$defs/")


def types(node: Node) -> set[str]:
    """The types of what ``node`` accepts."""
    if "$ref" in node:
        return types(DEFINITIONS[named(node)])
    inner = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    return {str(node["type"])} if "type" in node else set().union(*map(types, inner))


def parameters(method: str) -> set[str]:
    """The names of all parameters of ``method``."""
    found, nodes = set(), [DEFINITIONS[NAMES[method]]["properties"][method]]
    while nodes:
        node = nodes.pop()
        found.update(node.get("properties", ()))
        nodes += [
            *node.get("anyOf", ()),
            *node.get("oneOf", ()),
            *([DEFINITIONS[named(node)]] if "$ref" in node else []),
        ]
    return found


NAMES = {next(iter(DEFINITIONS[named(node)]["required"])): named(node) for node in DEFINITIONS["SWMLMethod"]["anyOf"]}
"""The definition of each method."""

GOOD: Mapping[str, tuple[Any, ...]] = {
    "play_url": ("say:Hello", "say: ${name}", "silence:1.5", "ring:2:us", "ring: us", "https://example.com/a.wav"),
    "label": ("a",),
    "dest": ("main", "other", "${where}"),
    "status_url": ("https://example.com/status",),
    "call_state_url": ("https://example.com/calls",),
    "url": ("https://example.com/api",),
    "terminators": ("#", "*1"),
    "digits": ("123#", "1w2W3", "${pin}"),
    "from": ("+15550199", ""),
    "codecs": ("PCMU,OPUS",),
    "ringback": (["ring:us"], {"urls": ["silence:1"]}),
    "headers": ([{"name": "X-A", "value": "b"}], {"X-A": "b"}),
    "username": ("ann",),
    "to": ("+15550100", "sip:ann@example.com", "${party}"),
    "variable": ("a", "call.from"),
    "when": ("true", "vars.a == 1"),
    "control_id": ("one",),
    "input_sensitivity": (0, 44.5, 100),
}
"""Values that mean something, by the name of a parameter or a definition: text at random hardly ever does."""

_TYPES = {str: {"string"}, list: {"array"}, dict: {"object"}, int: {"integer", "number"}, float: {"number"}}

KEYWORDS = frozenset(
    {
        *("$ref", "anyOf", "oneOf", "type", "const", "enum", "pattern", "minimum", "maximum", "items", "properties"),
        *("required", "unevaluatedProperties", "additionalProperties"),
        *("title", "description", "examples", "default", "format", "deprecated"),  # these judge nothing
    }
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=4,
)

is_valid: Callable[[Any], bool] = jsonschema_rs.validator_for(dict(SCHEMA)).is_valid
"""Whether the schema, as it is, accepts a document."""


# ---- drawn from the schema


def documents(method: str) -> st.SearchStrategy[Any]:
    """Documents of METHODS alone that the schema accepts, with a step of ``method``."""
    before = st.sampled_from([[], [{"label": "a"}]])
    steps = st.tuples(before, _definition(NAMES[method], 2), st.lists(_step(1), max_size=1))
    return st.fixed_dictionaries(
        {
            "sections": st.fixed_dictionaries(
                {"main": steps.map(lambda made: [*made[0], made[1], *made[2]])},
                optional={"other": st.lists(_step(0), max_size=1)},
            )
        },
        optional={"version": st.just("1.0.0")},
    )


def _step(deeper: int) -> st.SearchStrategy[Any]:
    """A step with up to ``deeper`` levels of steps within it."""
    return st.sampled_from(METHODS).flatmap(lambda method: _definition(NAMES[method], deeper))


@cache
def _definition(name: str, deeper: int) -> st.SearchStrategy[Any]:
    if name in ("SWMLMethod", "ValidConfirmMethods"):
        ours = [of for node in DEFINITIONS[name]["anyOf"] if (of := named(node)) in {NAMES[m] for m in METHODS}]
        return st.sampled_from(ours).flatmap(lambda of: _definition(of, deeper - 1))
    return _named(name, DEFINITIONS[name], deeper)


def _named(name: str, node: Node, deeper: int) -> st.SearchStrategy[Any]:
    made = _values(node, deeper)
    good = [value for value in GOOD.get(name, ()) if _TYPES[type(value)] & types(node)]
    return st.sampled_from(good) | st.sampled_from(good) | made if good else made


def _values(node: Node, deeper: int) -> st.SearchStrategy[Any]:
    """What ``node`` accepts."""
    assert set(node) <= KEYWORDS, f"the schema has learnt {set(node) - KEYWORDS}"
    if "$ref" in node:
        return _definition(named(node), deeper)
    if alternatives := node.get("anyOf", node.get("oneOf")):
        bounds = {key: node[key] for key in ("minimum", "maximum") if key in node}
        return st.one_of(*(_values(item if "$ref" in item else {**item, **bounds}, deeper) for item in alternatives))
    if "const" in node:
        return st.just(node["const"])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    match node.get("type"):
        case "object":
            return _object(node, deeper)
        case "array":
            if not deeper and named(node["items"]) in ("SWMLMethod", "ValidConfirmMethods"):
                return st.just([])
            return st.lists(_values(node["items"], deeper), max_size=2)
        case "string" if "pattern" in node:
            # ECMA's dot matches none of these.
            lines = re.compile("[\\n\\r\u2028\u2029]")
            return st.from_regex(node["pattern"], fullmatch=True).filter(lambda text: not lines.search(text))
        case "string":
            return _TEXT
        case "boolean":
            return st.booleans()
        case "integer":
            return _whole(node) | _whole(node).map(float)
        case "number":
            return _whole(node) | st.floats(node.get("minimum", -1), node.get("maximum", 120))
        case None:
            return _ANYTHING
    raise AssertionError(f"the schema has a type {node['type']}")


def _whole(node: Node) -> st.SearchStrategy[int]:
    return st.integers(node.get("minimum", -3), node.get("maximum", 200))


def _object(node: Node, deeper: int) -> st.SearchStrategy[Any]:
    fields = {name: _named(name, value, deeper) for name, value in node["properties"].items()}
    required = {name: fields.pop(name) for name in node.get("required", ())}
    made = st.fixed_dictionaries(required, optional=fields)
    more = node.get("unevaluatedProperties", node.get("additionalProperties"))
    if more in (False, {"not": {}}):
        return made
    others = st.dictionaries(_TEXT, _values(more, deeper), max_size=2)
    return st.tuples(others, made).map(lambda both: both[0] | both[1])


# ---- spoilt

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "true",
        "False",
        "",
        "x",
        "ogg",
        "5",
        "-1",
        "0.5",
        "1e2",
        " 7 ",
        "1_0",
        "\u0665",
        "nan",
        "0x10",
    ),
    *(-2, -1, 0, 1, 41, 101, 1.5, -0.5, 2.0, 1e12, [], {}, ["x"], [5], {"x": 1}, [[]], [{}], [None], ["say:x"]),
    *("${x}", "a ${x}", "%{x}", "${", "${}", "say:${x}", "hangup", "busy", "both", "speak", "wav", "mp3", "GET", "get"),
    *("a", "main", "nowhere", "#", "12#", "5w", "E", "https://example.com/", "ftp://example.com/", "http://:", "say:"),
    *(
        "silence:1.2.3",
        "ring:xx",
        "ring:us",
        "/tmp/a.wav",
        "tone_stream://%(100,0,440)",
        "sip:a@b.example",
        "+15550100",
    ),
    *("answer", "record", {"answer": {}}, [{"answer": {}}], ["answer"], [{"answer": {}, "hangup": {}}], {"to": "+1"}),
    *({"nothing": {}}, {"ai": {}}, [{"stop_call_record": {}}], [{"when": "true", "then": []}], [{"else": []}]),
    *(
        [{"to": "+15550100"}],
        [[{"to": "+15550100"}]],
        {"url": "ring:us"},
        [{"name": "X-A", "value": "b"}],
        {"X-A": "b"},
    ),
    *({"case": {}}, {"case": {"x": []}, "default": []}, {"case": {"x": [{"hangup": {}}]}}, {"case": "${x}"}),
)
"""Values to put where others are wanted."""

LEAST: Mapping[str, Any] = {
    "play": {"url": "say:Hello"},
    "prompt": {"play": "say:Hello"},
    "sleep": {"duration": 1},
    "send_digits": {"digits": "1"},
    "goto": {"label": "a"},
    "execute": {"dest": "main"},
    "transfer": {"dest": "main"},
    "switch": {"variable": "a", "case": {}},
    "request": {"url": "https://example.com", "method": "GET"},
    "connect": {"to": "+15550100"},
}
"""What a method must be given."""

NAMES_OF_PARAMETERS = sorted({"", "x", *METHODS, *(name for method in METHODS for name in parameters(method))})


def odd(method: str) -> Iterator[Any]:
    """Every parameter ``method`` can have with every odd value, and every other parameter."""
    yield from ({method: value} for value in ODD)
    for name in parameters(method):
        yield from ({method: {**LEAST.get(method, {}), name: value}} for value in ODD)
    yield from (
        {method: {**LEAST.get(method, {}), name: value}} for name in NAMES_OF_PARAMETERS for value in ("${x}", 1)
    )


@st.composite
def spoilt(draw: st.DrawFn, method: str) -> Any:
    """Documents near those of ``documents``; the schema accepts hardly any."""
    document = copy.deepcopy(draw(documents(method)))
    spoil(document, lambda several: draw(st.sampled_from(several)))
    return document


def spoil(document: Any, choose: Callable[[Sequence[Any]], Any]) -> None:
    """Changes ``document`` in a place or two."""
    for _ in range(choose([1, 1, 2])):
        places = list(_places(document))
        if not places:
            break
        container, key = choose(places)
        match choose(["other", "other", "wrapped", "dropped", "added", "added", "renamed"]):
            case "other":
                container[key] = copy.deepcopy(choose(ODD))
            case "wrapped":
                container[key] = [container[key]]
            case "dropped":
                del container[key]
            case "added" if isinstance(container, dict):
                container[choose(NAMES_OF_PARAMETERS)] = copy.deepcopy(choose(ODD))
            case "renamed" if isinstance(container, dict):
                container[choose(NAMES_OF_PARAMETERS)] = container.pop(key)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each value within ``tree``, as what holds it and its key or position there."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(tree[key])
