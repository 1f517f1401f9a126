"""An SWML document: its text made into sections of steps."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from esl_record import yamltree
from esl_record.errors import DocumentError
from esl_record.status.receiver import Origin, Receiver

SIZE_LIMIT = 512 * 1024
"""Bytes a document may have, as SignalWire's."""

VERSIONS = ("1.0.0",)

SHOWN = 80
"""Characters of a name that a message shows."""

Place = tuple[str | int, ...]
"""Where in a document's tree: keys and positions from its top."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``{method: params}``, or a bare method name, whose ``params`` are an empty mapping, or None to return.

    ``blocks`` are the steps within it, by where they stand in ``params``.
    """

    place: Place
    method: str
    params: Any
    blocks: Mapping[Place, tuple["Step", ...]]

    def __str__(self) -> str:
        section, *within = (str(part + 1) if isinstance(part, int) else part[:SHOWN] for part in self.place[1:])
        return f"section {section}, step {' '.join(within)}"


@dataclass(frozen=True, slots=True)
class Document:
    """``text`` is what it was read from."""

    name: str
    sections: Mapping[str, tuple[Step, ...]]
    text: str
    checked: bool = False
    """Whether it has been looked through for mistakes, and has none."""

    @property
    def origin(self) -> Origin | None:
        """The web server it came from; None for a document of this machine. One within it has its name, and so its
        origin."""
        return origin_of(self.name) if is_url(self.name) else None

    def steps(self) -> Iterator[Step]:
        """Every step of every section, those within others behind them."""
        waiting = [step for steps in reversed(list(self.sections.values())) for step in reversed(steps)]
        while waiting:
            step = waiting.pop()
            yield step
            waiting += [inner for block in reversed(list(step.blocks.values())) for inner in reversed(block)]


def is_url(name: str) -> bool:
    """Whether ``name`` means a document of a web server."""
    return name.lower().startswith(("http://", "https://"))


def origin_of(url: str) -> Origin:
    """The web server of ``url``; none that there is where that cannot be told."""
    try:
        return Receiver.of(url).origin
    except ValueError:
        return ("", "", 0)


def parse(text: str, name: str) -> Document:
    """The document written in ``text``, YAML or JSON. Raises DocumentError with the contract's code."""
    try:
        tree = _plain(yamltree.read(text))
    except yamltree.TreeError as error:
        raise DocumentError("relay_script_parse_error", f"{name}: {error}") from None
    if not isinstance(tree, dict):
        raise DocumentError("relay_script_parse_error", f"{name}: a mapping with version and sections is wanted")
    if tree.get("version", VERSIONS[-1]) not in VERSIONS:
        raise DocumentError(
            "relay_script_version_invalid",
            f"{name}: version {str(tree['version'])[:80]!r}: must be {' or '.join(VERSIONS)}",
        )
    sections = tree.get("sections")
    if not isinstance(sections, dict):
        raise DocumentError("relay_script_sections_missing", f"{name}: it has no sections")
    if "main" not in sections:
        raise DocumentError("relay_script_main_section_missing", f"{name}: it has no section main")
    for section, steps in sections.items():
        if not isinstance(steps, list):
            shown = section[:SHOWN]
            raise DocumentError("relay_script_section_code_missing", f"{name}: section {shown} is no list of steps")
    return Document(name, {key: _steps(name, ("sections", key), steps) for key, steps in sections.items()}, text)


def _plain(value: Any) -> Any:
    """``value`` as JSON has it, with text for keys and for dates. Raises TreeError."""
    if isinstance(value, dict):
        return {_key(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        # Halves of a character can be put on no wire.
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | float):
        return value
    raise yamltree.TreeError("a value of a type that JSON does not have")


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key)


def _steps(name: str, place: Place, steps: list[Any]) -> tuple[Step, ...]:
    return tuple(_step(name, (*place, number), step) for number, step in enumerate(steps))


def _step(name: str, place: Place, step: Any) -> Step:
    if isinstance(step, str):
        return Step(place, step, _nothing(step), {})
    if isinstance(step, dict) and len(step) == 1:
        ((method, params),) = step.items()
        given = _nothing(method) if params is None else _merged(params) if method == "transfer" else params
        blocks = {at: _steps(name, (*place, method, *at), steps) for at, steps in _blocks(method, given)}
        return Step(place, method, given, blocks)
    raise DocumentError(
        "relay_script_parse_error",
        f"{name}: {Step(place, '', {}, {})}: a method name or one `method: parameters` is wanted",
    )


def _nothing(method: str) -> Any:
    """What stands where a step says nothing more than ``method``."""
    return None if method == "return" else {}


def _merged(params: Any) -> Any:
    """``transfer``'s parameters where they are as in the reference's example: lists of mappings of one key each."""
    if isinstance(params, list) and all(isinstance(one, dict) and len(one) == 1 for one in params):
        params = {name: value for one in params for name, value in one.items()}
    if isinstance(params, dict) and isinstance(params.get("params"), list):
        return {**params, "params": _merged(params["params"])}
    return params


def _blocks(method: str, params: Any) -> Iterator[tuple[Place, list[Any]]]:
    """The lists of steps within a step, and where in its parameters they are."""
    if method == "cond":
        yield from _branches((), params)
    elif method == "switch":
        yield from _cases((), params)
    elif method in ("execute", "connect") and isinstance(params, dict):
        if isinstance(params.get("on_return"), list):
            yield ("on_return",), params["on_return"]
        yield from _branches(("result",), params.get("result"))
        yield from _cases(("result",), params.get("result"))


def _branches(place: Place, branches: Any) -> Iterator[tuple[Place, list[Any]]]:
    for number, branch in enumerate(branches if isinstance(branches, list) else ()):
        for key in ("then", "else"):
            if isinstance(branch, dict) and isinstance(branch.get(key), list):
                yield (*place, number, key), branch[key]


def _cases(place: Place, choice: Any) -> Iterator[tuple[Place, list[Any]]]:
    if not isinstance(choice, dict):
        return
    cases = choice.get("case")
    for value, steps in cases.items() if isinstance(cases, dict) else ():
        if isinstance(steps, list):
            yield (*place, "case", value), steps
    if isinstance(choice.get("default"), list):
        yield (*place, "default"), choice["default"]
