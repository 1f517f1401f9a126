"""``${path}`` and ``%{path}`` in the strings of a document. Pure; what comes out is never looked into again."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from esl_record.errors import DocumentError

_OPENING = re.compile(r"[$%]\{")
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+|\[\d+\])*\Z")
_STEP = re.compile(r"\w+")

SCOPES = ("vars", "envs", "call", "params")
SEARCHED = ("vars", "envs", "call")


def substitute(value: Any, scopes: Mapping[str, Mapping[str, Any]]) -> Any:
    """``value`` with every reference in its strings replaced, mappings and lists gone through.

    A string that is one reference and nothing else becomes what it refers to, of whatever type; a path without a
    value is the empty string. Raises DocumentError for what is no plain path.
    """
    if isinstance(value, str):
        parts = list(_parts(value, scopes))
        return parts[0] if len(parts) == 1 else "".join(_text(part) for part in parts)
    if isinstance(value, Mapping):
        return {key: substitute(item, scopes) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, scopes) for item in value]
    return value


def _parts(text: str, scopes: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """The stretches of ``text`` between references, and what the references stand for."""
    at = 0
    while opening := _OPENING.search(text, at):
        closing = _closing(text, opening.end())
        if closing < 0:
            break
        if opening.start() > at:
            yield text[at : opening.start()]
        yield resolve(text[opening.end() : closing], scopes)
        at = closing + 1
    if at < len(text) or not text:
        yield text[at:]


def _closing(text: str, start: int) -> int:
    """Where the brace opened before ``start`` closes, -1 if nowhere."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return at
    return -1


def resolve(path: str, scopes: Mapping[str, Mapping[str, Any]]) -> Any:
    """What ``path`` refers to. Its first part may name a scope; otherwise vars, envs and call are searched."""
    path = path.strip()
    if not _PATH.match(path):
        raise DocumentError(
            "relay_script_js_eval_error", f"${{{path[:80]}}}: only plain paths such as ${{call.from}} are understood"
        )
    first, *rest = _STEP.findall(path)
    if first in SCOPES:
        return _walk(scopes.get(first, {}), rest)
    for scope in SEARCHED:
        if first in scopes.get(scope, {}):
            return _walk(scopes[scope][first], rest)
    return ""


def _walk(value: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step, "")
        elif isinstance(value, list) and step.isascii() and step.isdigit() and float(step) < len(value):
            value = value[int(step)]
        else:
            return ""
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
