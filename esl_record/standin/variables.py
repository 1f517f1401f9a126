"""Channel variables: their order, and how text that names them is expanded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Lookup = Callable[[str], str | None]

_MAX_DEPTH = 100
_REFERENCE = re.compile(r"\$\\*\{")
_ESCAPE = re.compile(r"\\[\\nst']")


class Variables:
    """A channel's variables, in the order they were last set; names compare without regard to case."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, str]] = {}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(list(self._values.values()))

    def get(self, name: str) -> str | None:
        found = self._values.get(name.lower())
        return found[1] if found else None

    def set(self, name: str, value: str | None, *, checked: bool = True) -> None:
        """Set a variable, which moves it to the end; None or an empty value removes it.

        A ``checked`` value that names a variable is refused, as most of the switch's own code does.
        """
        if value and checked and _REFERENCE.search(value):
            return
        self._values.pop(name.lower(), None)
        if name and value:
            self._values[name.lower()] = (name, value)


def expand(text: str, lookup: Lookup, api_calls: list[str], depth: int = 0) -> str:
    r"""Expand ``${name}`` in ``text``; ``\$`` and ``\\`` escape.

    A value found is expanded in turn, so a value that a caller chose can name variables as well. ``${name args}`` and
    ``${name(args)}`` are API calls: none is run, each is noted in ``api_calls`` as ``name args`` and leaves nothing.

    The character behind a closing brace is copied as it is, a backslash too, and does not escape what follows it.
    """
    if depth > _MAX_DEPTH or not (_REFERENCE.search(text) or _ESCAPE.search(text)):
        return text
    out: list[str] = []
    at = 0
    while at < len(text):
        two = text[at : at + 2]
        if two == "\\$":
            at += 2 if text[at + 2 : at + 3] == "$" else 1
            out.append("$")
            at += 1
        elif two == "\\'":
            at += 2
        elif two == "\\\\":
            out.append("\\")
            at += 2
        elif two == "${" or text[at : at + 3] == "$${":
            start = at + text[at:].index("{") + 1
            end = _closing(text, start)
            out.append(_substitute(text[start:end], lookup, api_calls, depth))
            at = end + 1
            if text[at : at + 1] not in ("", "$"):
                out.append(text[at])
                at += 1
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _closing(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        if text[at] == "{" and at != start:
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def _substitute(name: str, lookup: Lookup, api_calls: list[str], depth: int) -> str:
    call = re.match(r"([^ (]*)([ (])(.*)", name, re.DOTALL)
    if call:
        argument = call[3].rpartition(")")[0] if call[2] == "(" and ")" in call[3] else call[3]
        api_calls.append(
            f"{expand(call[1], lookup, api_calls, depth + 1)} {expand(argument, lookup, api_calls, depth + 1)}"
        )
        return ""
    name, *cut = expand(name, lookup, api_calls, depth + 1).split(":")
    value = lookup(name.partition("[")[0])
    if value is None:
        return ""
    value = expand(value, lookup, api_calls, depth + 1)
    if cut:
        value = value[_integer(cut[0]) :]
    if len(cut) > 1 and 0 < _integer(cut[1]) < len(value):
        value = value[: _integer(cut[1])]
    return value


def _integer(text: str) -> int:
    """As C's ``atoi``: the leading digits, else 0."""
    digits = re.match(r"\s*[-+]?\d+", text)
    return int(digits[0]) if digits else 0


def separate(text: str, delimiter: str = " ", limit: int = 0) -> list[str]:
    r"""Cut an argument string as the switch does: quotes ``'`` hold a part together, ``\`` escapes.

    With a ``limit`` the last part takes all the rest. Runs of blanks count as one, other delimiters do not.
    """
    parts: list[str] = []
    rest = text.lstrip(" ") if delimiter == " " else text
    while rest:
        if limit and len(parts) == limit - 1:
            parts.append(rest)
            break
        part, rest, ended = _part(rest, delimiter)
        parts.append(part)
        if delimiter == " ":
            rest = rest.lstrip(" ")
        elif ended and not rest:
            parts.append("")
    return parts


def _part(text: str, delimiter: str) -> tuple[str, str, bool]:
    out: list[str] = []
    quoted = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ("\\", "'", delimiter):
            out.append(text[at + 1])
            at += 2
            continue
        if char == "'" and (quoted or "'" in text[at + 1 :]):
            quoted = not quoted
        elif char == delimiter and not quoted:
            return "".join(out), text[at + 1 :], True
        else:
            out.append(char)
        at += 1
    return "".join(out), "", False


def brackets(text: str) -> tuple[dict[str, str], str]:
    """``{a=1,b=2}rest`` as the variables and the rest; ``{^^;a=1;b=2}`` names its own delimiter."""
    if not text.startswith("{") or "}" not in text:
        return {}, text
    inside, rest = text[1:].split("}", 1)
    delimiter = ","
    if inside.startswith("^^") and len(inside) > 2:
        delimiter, inside = inside[2], inside[3:]
    found: dict[str, str] = {}
    for pair in separate(inside, delimiter):
        name, equals, value = pair.partition("=")
        if equals and name:
            found[name] = value
    return found, rest


def is_true(text: str | None) -> bool:
    """What the switch takes for true: yes, on, true, t, enabled, active, allow, or a number other than 0."""
    if text is None:
        return False
    return text.lower() in ("yes", "on", "true", "t", "enabled", "active", "allow") or (
        re.fullmatch(r"[-+]?\d+(\.\d*)?", text) is not None and float(text) != 0
    )


integer = _integer
