"""How the switch reads a dial string: its own parsers, one after the other, quirks and all.

After ``switch_ivr_originate``, ``switch_event_create_brackets``, ``switch_separate_string`` and the helpers these use.
"""

from __future__ import annotations

from dataclasses import dataclass

_ENTERPRISE = ":_:"
_QUOTED, _UNQUOTED = "\x01", "\x02"
_MOST = 128
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


class DialStringError(ValueError):
    """The switch cannot read it, or would never end reading it."""


@dataclass(frozen=True)
class Leg:
    """One party to be called: ``sofia`` and what stands behind the first slash."""

    kind: str
    destination: str
    variables: dict[str, str]


@dataclass(frozen=True)
class DialString:
    """``variables`` are those for all; ``groups`` ring one after the other, the legs of each together."""

    variables: dict[str, str]
    groups: list[list[Leg]]


def parse(text: str) -> DialString:
    """What the switch makes of ``text``, once variables named in it are expanded. Raises DialStringError."""
    if _ENTERPRISE in text:
        raise DialStringError("an enterprise originate")
    variables: dict[str, str] = {}
    data = text.lstrip(" ")
    for opening, closing in ("<>", "{}"):
        while data.startswith(opening):
            data = _brackets(data, opening, closing, ",", variables)
    data = data.lstrip(" ")
    if not data:
        raise DialStringError("nobody to call")
    groups = [[_leg(peer) for peer in separate(_commas_kept(pipe), ",", _MOST)] for pipe in separate(data, "|", _MOST)]
    return DialString(variables, groups)


def _leg(text: str) -> Leg:
    variables: dict[str, str] = {}
    text = text.lstrip(" ")
    while text.startswith("["):
        end = _end_paren(text, "[", "]")
        if end is None:
            raise DialStringError(f"no end of {text!r}")
        text = text[: end + 1].replace(_QUOTED, ",") + text[end + 1 :]
        text = _brackets(text, "[", "]", _UNQUOTED, variables)
    kind, _, destination = text.lstrip(" ").partition("/")
    return Leg(kind, destination, variables)


def _commas_kept(pipe: str) -> str:
    """Commas within brackets become what does not separate legs: one mark where they are quoted, or another
    delimiter is named, and another where they are to separate variables."""
    out = list(pipe)
    end: int | None = None
    quoted = named = False
    for at, char in enumerate(pipe):
        if end is None and char == "[":
            end = _end_paren(pipe[at:], "[", "]")
            end = None if end is None else at + end
            named = pipe[at + 1 : at + 3] == "^^"
            quoted = False
        if char == "'":
            quoted = not quoted
        if end is not None and at < end and char == "," and pipe[at - 1] != "\\":
            out[at] = _QUOTED if quoted or named else _UNQUOTED
        if at == end:
            end = None
    return "".join(out)


def _brackets(data: str, opening: str, closing: str, delimiter: str, variables: dict[str, str]) -> str:
    """Takes the variables in the brackets at the beginning of ``data``; what stands behind these."""
    end = _end_paren(data, opening, closing)
    if end is None:
        raise DialStringError(f"no end of {data!r}")
    inside, rest = data[1:end], data[end + 1 :]
    if inside.startswith("^^") and len(inside) > 2:
        delimiter, inside = inside[2], inside[3:]
    for pair in separate(inside, delimiter, 1024):
        named = separate(pair, "=", 2)
        if len(named) == 2:
            variables[named[0]] = named[1]
    return rest


def _end_paren(text: str, opening: str, closing: str) -> int | None:
    if not text.startswith(opening):
        return None
    depth = 0
    for at, char in enumerate(text):
        depth += (char == opening) - (char == closing)
        if not depth:
            return at
    return None


def separate(text: str, delimiter: str, most: int) -> list[str]:
    """``switch_separate_string`` at a delimiter that is no blank; the last of ``most`` parts takes all the rest."""
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    parts: list[str] = []
    begin = at = 0
    quoted = False
    while begin < len(text) and len(parts) < most - 1:
        while at < len(text):
            char = text[at]
            if char == "\\":
                at += 1
            elif char == "'" and (quoted or "'" in text[at + 1 :]):
                quoted = not quoted
            elif char == delimiter and not quoted:
                break
            at += 1
        parts.append(text[begin:at])
        begin = at = at + 1
    if begin < len(text):
        parts.append(text[begin:])
    return [_cleaned(part, delimiter) for part in parts]


def _cleaned(part: str, delimiter: str) -> str:
    """Without the blanks around it, its quotes and its escapes."""
    part = part.lstrip(" ")
    out: list[str] = []
    kept = at = 0
    quoted = False
    while at < len(part):
        char, following = part[at], part[at + 1 : at + 2]
        if char == "\\" and following and (following in ("'", '"', delimiter, "\\") or following in _UNESCAPED):
            out.append(_UNESCAPED.get(following, following) if following not in ("'", '"', delimiter) else following)
            kept = len(out)
            at += 1
        elif char == "'" and (quoted or "'" in part[at + 1 :]):
            quoted = not quoted
            if quoted:
                kept = len(out)
        else:
            out.append(char)
            if char != " " or quoted:
                kept = len(out)
        at += 1
    return "".join(out[:kept])
