"""The schema made to accept more."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jsonschema_rs
from schema_documents import DEFINITIONS, METHODS, NAMES, SCHEMA, Node, named, types

Change = Callable[[str, Node], Iterable[Node]]
"""What else to accept at a place where a schema stands: ``document``, ``step``, ``play`` for all that a method is
given, ``play.urls`` for a parameter, ``play.urls[]`` for what is in it."""

STEPS = ("case", "default", "on_return", "result", "then", "else", "cond", "switch")
"""Where steps stand."""

SHORT = {
    **{"hangup": "reason", "play": "url", "sleep": "duration"},
    **{"goto": "label", "execute": "dest", "transfer": "dest"},
}
"""The parameter whose value may stand alone."""

REFERENCE = {"type": "string", "pattern": r"[$%]\{"}


def changed(changes: Iterable[Change]) -> Callable[[Any], bool]:
    """Whether a document is accepted by the schema as ``changes`` make it."""
    changes = tuple(changes)

    def apply(place: str, node: Node) -> Node:
        more = [other for change in changes for other in change(place, node)]
        return {"anyOf": [node, *more]} if more else node

    def within(place: str, node: Node) -> Node:
        if named(node) in ("SWMLMethod", "ValidConfirmMethods", *NAMES.values()):
            return node
        if "$ref" in node:
            return within(place, DEFINITIONS[named(node)])
        made = dict(node)
        for key in ("anyOf", "oneOf"):
            if key in node:
                made[key] = [within(place, inner) for inner in node[key]]
        if node.get("type") == "object":
            fields = node["properties"].items()
            made["properties"] = {name: apply(f"{place}.{name}", within(f"{place}.{name}", at)) for name, at in fields}
        if node.get("type") == "array" and named(node["items"]) not in ("SWMLMethod", "CondParams"):
            made["items"] = apply(f"{place}[]", within(f"{place}[]", node["items"]))
        return made

    definitions = {**DEFINITIONS, "SWMLMethod": apply("step", DEFINITIONS["SWMLMethod"])}
    for method in METHODS:
        step = DEFINITIONS[NAMES[method]]
        given = apply(method, within(method, step["properties"][method]))
        definitions[NAMES[method]] = {**step, "properties": {method: given}}
    whole = apply("document", {key: value for key, value in SCHEMA.items() if key not in ("$defs", "$id")})
    return jsonschema_rs.validator_for({**whole, "$id": SCHEMA["$id"], "$defs": definitions}).is_valid


def references(place: str, node: Node) -> Iterator[Node]:
    if ("." in place or place in METHODS) and place.rpartition(".")[2] not in STEPS:
        yield REFERENCE


def numerals(place: str, node: Node) -> Iterator[Node]:
    if types(node) & {"number", "integer"}:
        yield {"type": "string", "pattern": r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"}


def truths(place: str, node: Node) -> Iterator[Node]:
    if "boolean" in types(node):
        yield {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}


def digits(place: str, node: Node) -> Iterator[Node]:
    if place.endswith(".terminators"):
        yield {"type": "integer"}
    if place.startswith("connect") and place.endswith(".password"):
        yield {"type": "number"}


def bare_names(place: str, node: Node) -> Iterator[Node]:
    if place == "step":
        alone = ("answer", "hangup", "record", "record_call", "stop_record_call", "stop_call_record", "return", "set")
        yield {"enum": list(alone)}


def nothing_given(place: str, node: Node) -> Iterator[Node]:
    if place in METHODS and node.get("type") == "object" and "required" not in node:
        yield {"type": "null"}


def one_value(place: str, node: Node) -> Iterator[Node]:
    for kind in (node, *node.get("oneOf", ())) if place in SHORT else ():
        if SHORT[place] in kind.get("properties", {}):
            yield kind["properties"][SHORT[place]]


def second_name(place: str, node: Node) -> Iterator[Node]:
    if place == "step":
        given = {"type": "object", "properties": {"control_id": {"type": "string"}}, "additionalProperties": False}
        step = {"stop_call_record": {"anyOf": [given, {"type": "null"}, REFERENCE]}}
        yield {"type": "object", "properties": step, "required": list(step), "additionalProperties": False}


def sounds(place: str, node: Node) -> Iterator[Node]:
    """Those the switch has of its own."""
    if place in ("play.url", "play.urls[]", "prompt.play", "prompt.play[]"):
        yield {"type": "string", "pattern": r"^(/|file:///|tone_stream://|silence_stream://)"}


def of_record(place: str, node: Node) -> Iterator[Node]:
    if place == "record":
        yield {**node, "properties": {**node["properties"], "control_id": {"type": "string"}}}
    if place == "record.direction":
        yield {"const": "both"}


def of_early_media(place: str, node: Node) -> Iterator[Node]:
    name = {"record": "early_media", "record_call": "early_media", "prompt": "auto_answer"}.get(place)
    if name:
        flag = {"anyOf": [{"type": "boolean"}, REFERENCE, {"type": "string", "pattern": "(?i)^(true|false)$"}]}
        yield {**node, "properties": {**node["properties"], name: flag}}


def of_connect(place: str, node: Node) -> Iterator[Node]:
    name, address = {"from_name": {"type": "string"}}, {"status_url": {"type": "string"}}
    if place == "connect":
        yield from ({**kind, "properties": {**kind["properties"], **name, **address}} for kind in node["oneOf"])
    if place in ("connect.serial[]", "connect.parallel[]", "connect.serial_parallel[][]"):
        yield {**node, "properties": {**node["properties"], **name}}


def of_transfer(place: str, node: Node) -> Iterator[Node]:
    one = {"minProperties": 1, "maxProperties": 1}
    if place == "transfer":
        items = {**{key: value for key, value in node.items() if key != "required"}, **one}
        yield {"type": "array", "items": items, "contains": {"required": ["dest"]}}
    if place == "transfer.params":
        yield {"type": "array", "items": {"type": "object", **one}}


def keys(place: str, node: Node) -> Iterator[Node]:
    if place == "document":
        yield {**node, "unevaluatedProperties": True}
