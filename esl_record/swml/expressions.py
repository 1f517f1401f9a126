"""``${...}`` and ``%{...}`` in the strings of a document, and its conditions. What comes out is not looked into again.

A plain path is looked up here; all else is JavaScript. Source: SignalWire's SWML reference, "Expressions", "Variables"
and "cond".
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from esl_record.errors import DocumentError
from esl_record.swml import javascript
from esl_record.swml.budget import Budget

LONGEST = 64 << 10
"""Characters of one expression."""

LARGEST = 1 << 20
"""Characters a value may have; each value within it counts for sixteen, each reference in a step for a thousand."""

DEEPEST = 100
"""Values within values."""

_OPENING = re.compile(r"[$%]\{")
# A header's name is the one part of a path with hyphens; where a digit follows the first, JavaScript subtracts.
_HEADER = r"(?:vars\.)?request_response_headers\.\w+-[A-Za-z][\w-]*"
_PATH = re.compile(rf"(?:{_HEADER}|[A-Za-z_]\w*(?:\.\w+|\[\d+\])*)\Z")
_STEP = re.compile(r"[\w-]+")

SCOPES = ("vars", "envs", "call", "params")
SEARCHED = ("vars", "envs", "call")

_JAVASCRIPTS_OWN = {"true", "false", "null", "undefined", "NaN", "Infinity", "Math", "Number"}
"""Words of JavaScript that look like paths, unless a variable has the name."""

_TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/                              # what means nothing
    | (?P<text> '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" )
    | (?P<open> [$%]?\{ ) | (?P<word> (?:\w|\$(?!\{))+ ) | (?P<mark> . )""",
    re.DOTALL | re.VERBOSE,
)
_REGEXP = re.compile(r"/(?!\*)(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\[\\\n])+/")
_TEMPLATE = re.compile(r"(?:\\.|\$(?!\{)|[^\\`$])*(?P<end>`|\$\{)", re.DOTALL)
_BRACE = re.compile(r"[{}]")
_PLAIN, _BACKTICK = -1, -2
_BEFORE_REGEXP = {"return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "else", "do", "instanceof"}


def refers(value: object) -> bool:
    """Whether ``value`` is text with a reference in it: what it will be is known when it is run."""
    return isinstance(value, str) and _OPENING.search(value) is not None


def substitute(value: Any, scopes: Mapping[str, Mapping[str, Any]], budget: Budget | None = None) -> Any:
    """``value`` with every reference in its strings replaced, mappings and lists gone through.

    A string that is one reference and nothing else becomes what it refers to, of whatever type; a path without a
    value is the empty string. Raises DocumentError for JavaScript that gives no value, and for too large a value;
    CallGone as soon as the call of ``budget`` is over.
    """
    return _substituted(value, scopes, _Room(budget or Budget()))


def limit(value: Any, budget: Budget | None = None) -> None:
    """Raises DocumentError where ``value`` is too large: twice itself in each round of a loop, it would fill memory."""
    _Room(budget or Budget()).take(value)


class _Room:
    """What is left of LARGEST, for a step that spends from ``budget``."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._left = LARGEST

    def spend(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise _too_large()

    def take(self, value: Any) -> None:
        level = [value]
        for _ in range(DEEPEST):
            within: list[Any] = []
            for item in level:
                self.budget.breathe()
                if isinstance(item, str):
                    self.spend(16 + len(item))
                elif isinstance(item, Mapping):
                    self.spend(16 + 16 * len(item) + sum(map(len, item)))
                    within += item.values()
                elif isinstance(item, list):
                    self.spend(16 + 16 * len(item))
                    within += item
            if not within:
                return
            level = within
        raise _too_large()


def _too_large() -> DocumentError:
    return DocumentError(
        "relay_script_method_parameter_invalid_value",
        f"a value of more than {LARGEST} characters, or {DEEPEST} values within each other",
    )


def _substituted(value: Any, scopes: Mapping[str, Mapping[str, Any]], room: _Room) -> Any:
    room.budget.breathe()
    if isinstance(value, str):
        parts = list(_stretches(value, room.budget))
        if len(parts) == 1:
            whole = _part(*parts[0], scopes, room)
            room.take(whole)
            return whole
        texts = []
        for part in parts:
            texts.append(text_of(_part(*part, scopes, room)))
            room.take(texts[-1])
        return "".join(texts)
    if isinstance(value, Mapping):
        return {key: _substituted(item, scopes, room) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, scopes, room) for item in value]
    return value


def resolve(expression: str, scopes: Mapping[str, Mapping[str, Any]], budget: Budget | None = None) -> Any:
    """What ``expression`` is: a path, whose first part may name a scope, otherwise vars, envs and call are searched;
    or JavaScript, see ``javascript.evaluate``. Raises DocumentError for JavaScript that gives no value."""
    path = expression.strip()
    if not _PATH.match(path):
        return javascript.evaluate(expression, scopes, budget)
    first, *rest = _STEP.findall(path)
    if first in SCOPES:
        value: Any = scopes.get(first, {})
    else:
        scope = next((scope for name in SEARCHED if first in (scope := scopes.get(name, {}))), None)
        if scope is None:
            return javascript.evaluate(path, scopes, budget) if first in _JAVASCRIPTS_OWN else ""
        value = scope[first]
    for step in rest:
        if isinstance(value, Mapping):
            if step not in value:
                return ""
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and float(step) < len(value):
            value = value[int(float(step))]
        elif isinstance(value, list) and step == "length":
            value = len(value)
        elif isinstance(value, str):
            return javascript.evaluate(path, scopes, budget)  # its length or a character, as JavaScript counts them
        else:
            return ""
    return value


def condition(expression: str, scopes: Mapping[str, Mapping[str, Any]], budget: Budget | None = None) -> bool:
    """Whether JavaScript takes ``expression`` for true.

    ``${...}`` and ``%{...}`` in it stand for their values, never for the text of them as program: ``${vars.x} == 1``
    compares the variable, ``'${vars.x}' == 'a'`` its text. Within a template literal ``${...}`` is JavaScript's own.
    Raises DocumentError; CallGone as soon as the call of ``budget`` is over.
    """
    budget = budget or Budget()
    budget.breathe()
    if _PATH.match(expression.strip()):
        return _true(resolve(expression, scopes, budget))
    if len(expression) > LONGEST:
        raise _too_large()
    program: list[str] = []
    values: list[Any] = []
    room = _Room(budget)

    def put(body: str, *, text: bool) -> str:
        room.spend(1000)
        if _PATH.match(body.strip()):
            value = resolve(body, scopes, budget)
            values.append(text_of(value) if text else value)
            body = f"$references[{len(values) - 1}]"
        return f"(\n{body}\n)"

    at = 0
    for kind, start, end in _scan(expression, 0, budget):
        program.append(expression[at:start])
        found = expression[start:end]
        if kind == "reference":
            found = put(found[2:-1], text=False)
        elif kind == "text" and _OPENING.search(found):
            quote, joint = found[0], f"{found[0]} + {{}} + {found[0]}"
            parts = (
                joint.format(put(part[2:-1], text=True)) if is_reference else part
                for is_reference, part in _stretches(found[1:-1], budget)
            )
            found = f"({quote}{''.join(parts)}{quote})"
        program.append(found)
        at = end
    program.append(expression[at:])
    return javascript.truth("".join(program), scopes, values, budget)


def text_of(value: Any) -> str:
    """What ``value`` is within text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return "" if value is None else str(value)


def _true(value: Any) -> bool:
    # An empty list is true in JavaScript.
    return isinstance(value, Mapping | list) or bool(value)


def _part(is_reference: bool, text: str, scopes: Mapping[str, Mapping[str, Any]], room: _Room) -> Any:
    """A stretch of text, or what it stands for."""
    if not is_reference:
        return text
    room.spend(1000)
    if len(text) > LONGEST:
        raise _too_large()
    return resolve(text[2:-1], scopes, room.budget)


def _stretches(text: str, budget: Budget) -> Iterator[tuple[bool, str]]:
    """``text`` in pieces, and for each whether it is a reference."""
    at, is_javascript = 0, True
    while opening := _OPENING.search(text, at):
        budget.breathe()
        closing = _closing(text, opening.end(), budget) if is_javascript else -1
        if closing < 0:
            # A quote without its pair, perhaps: braces alone tell what is to be refused, and what follows is refused
            # with it, so that it need not be read to its end again and again.
            is_javascript = False
            closing = _closing_brace(text, opening.end())
        if closing < 0:
            break
        if opening.start() > at:
            yield False, text[at : opening.start()]
        yield True, text[opening.start() : closing + 1]
        at = closing + 1
    if at < len(text) or not text:
        yield False, text[at:]


def _closing(text: str, start: int, budget: Budget) -> int:
    """Where the brace opened before ``start`` closes, -1 if nowhere in JavaScript."""
    return next((at for kind, at, _ in _scan(text, start, budget) if kind == "end"), -1)


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    return -1


def _scan(text: str, at: int, budget: Budget) -> Iterator[tuple[str, int, int]]:
    """The quoted texts ("text") and references of the JavaScript from ``at`` on, references whole, and the brace
    that closes what was opened before ("end"). Stops there, or where it can be no JavaScript."""
    opened: list[int] = []  # where a reference begins; _PLAIN and _BACKTICK for what else must be closed
    references = 0
    divides = False  # what a slash does here: divide, or begin a regular expression
    while at < len(text):
        start = at
        budget.breathe()
        if opened and opened[-1] == _BACKTICK:
            template = _TEMPLATE.match(text, at)
            if not template:
                return
            at = template.end()
            divides = template["end"] == "`"
            if divides:
                opened.pop()
            else:
                opened.append(_PLAIN)
            continue
        token = cast(re.Match[str], _TOKEN.match(text, at))
        at = token.end()
        if token["text"]:
            divides = True
            if not references:
                yield "text", start, at
        elif token["word"]:
            divides = token["word"] not in _BEFORE_REGEXP
        elif token["open"]:
            divides = False
            is_reference = len(token["open"]) == 2
            references += is_reference
            opened.append(start if is_reference else _PLAIN)
        elif token["mark"] == "}":
            divides = True
            if not opened:
                yield "end", start, at
                return
            begin = opened.pop()
            if begin != _PLAIN:
                references -= 1
                if not references:
                    yield "reference", begin, at
        elif token["mark"] == "`":
            opened.append(_BACKTICK)
        elif token["mark"] == "/" and not divides:
            regexp = _REGEXP.match(text, start)
            if not regexp:
                return
            at, divides = regexp.end(), True
        elif token["mark"]:
            if token["mark"] in "'\"" or text.startswith("/*", start):
                return
            divides = token["mark"] in ")]"
