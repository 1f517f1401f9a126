"""YAML and JSON from outside, made into plain values, or refused before it can do harm."""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from esl_record.errors import EslRecordError

NODES = 100_000
"""Values a text may stand for, aliases counted as often as they are used, and long ones for several; the largest
document fits."""

DEPTH = 100

_LONG = 64
"""Characters that count as a value of their own."""

_LONGEST_NUMBER = 400
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NUMERIC = re.compile(r"[-+0-9._:]+\Z")


class TreeError(EslRecordError):
    """A text that is no YAML, or too much of it. The message has the line but none of the text: it may be secret."""


def read(text: str) -> Any:
    """What ``text`` says. Raises TreeError."""
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return read_json(text.lstrip("\ufeff"))
        except TreeError:
            pass  # YAML may begin with a brace too, and says more of what is wrong
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _weight(node, {}, 0) > NODES:
                raise TreeError(f"its aliases stand for more than {NODES} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise TreeError(f"{place}{error.problem or 'no YAML'}") from None
    except yaml.reader.ReaderError as error:
        raise TreeError(f"character {error.position}: {error.reason}") from None
    except RecursionError:
        raise TreeError(f"nested deeper than {DEPTH}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError):
        # What PyYAML lets through of a value its tag does not fit, `!!int ""` or the 99th of a month.
        raise TreeError("a value that its type does not fit") from None


def read_json(text: str) -> Any:
    """What ``text`` says as JSON alone. Raises TreeError."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise TreeError("no JSON") from None
    level = [tree]
    for _ in range(DEPTH + 1):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise TreeError(f"nested deeper than {DEPTH}")
    return tree


class _Loader(yaml.SafeLoader):
    """Stops at the first value too many."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > NODES:
            raise TreeError(f"it has more than {NODES} values")
        return super().compose_node(parent, index)

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        if kind is yaml.ScalarNode and implicit[0] and value is not None and len(value) > _LONGEST_NUMBER:
            # Too long for the patterns by which PyYAML tells what it is: they go back and forth.
            return _NUMBERS[0] if _NUMERIC.match(value) else str(self.DEFAULT_SCALAR_TAG)
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # PyYAML's stubs
        return tag


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """The line, from 1, of what is at ``place``, keys and positions from the top, in the ``text`` of a tree that has
    been read; None where that cannot be told."""
    try:
        node: yaml.Node | None = yaml.compose(text.lstrip("\ufeff"), yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    line = None
    for part in (None, *place):
        if part is not None:
            node = _child(node, part)
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


def _child(node: yaml.Node | None, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode):
        return node.value[part] if isinstance(part, int) and part < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    return None


def _weight(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values ``node`` stands for."""
    if depth > DEPTH:
        raise TreeError(f"nested deeper than {DEPTH}, or within itself")
    if id(node) not in known:
        weight = 1
        if isinstance(node, yaml.ScalarNode):
            weight += len(node.value) // _LONG
            if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
                # PyYAML takes the square of its length to read `1:1:1:1`.
                raise TreeError(f"line {node.start_mark.line + 1}: a number of more than {_LONGEST_NUMBER} characters")
        elif isinstance(node, yaml.SequenceNode):
            weight += sum(_weight(item, known, depth + 1) for item in node.value)
        elif isinstance(node, yaml.MappingNode):
            weight += sum(_weight(part, known, depth + 1) for pair in node.value for part in pair)
        known[id(node)] = weight
    return known[id(node)]
