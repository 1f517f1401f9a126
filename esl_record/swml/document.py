"""An SWML document: its text made into sections of steps, and the folder it is looked up in."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from esl_record import yamltree
from esl_record.errors import DocumentError

SIZE_LIMIT = 512 * 1024
"""Bytes a document may have, as SignalWire's."""

NAME_LIMIT = 200
"""Characters a document's name may have; a file name has 255 bytes."""

VERSIONS = ("1.0.0",)
SUFFIXES = (".yaml", ".yml", ".json")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")


Place = tuple[str | int, ...]
"""Where in a document's tree: keys and positions from its top."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: ``{method: params}``, or a bare method name, whose ``params`` are an empty mapping.

    ``blocks`` are the steps within it, by where they stand in ``params``.
    """

    place: Place
    method: str
    params: Any
    blocks: Mapping[Place, tuple["Step", ...]]

    def __str__(self) -> str:
        section, *within = (part + 1 if isinstance(part, int) else part for part in self.place[1:])
        return f"section {section}, step {' '.join(str(part) for part in within)}"


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    sections: Mapping[str, tuple[Step, ...]]

    def steps(self) -> Iterator[Step]:
        """Every step of every section, those within others behind them."""
        waiting = [step for steps in reversed(list(self.sections.values())) for step in reversed(steps)]
        while waiting:
            step = waiting.pop()
            yield step
            waiting += [inner for block in reversed(list(step.blocks.values())) for inner in reversed(block)]


def parse(text: str, name: str) -> Document:
    """The document written in ``text``, YAML or JSON. Raises DocumentError with the contract's code."""
    try:
        tree = yamltree.read(text)
    except yamltree.TreeError as error:
        raise DocumentError("relay_script_parse_error", f"{name}: {error}") from None
    if not isinstance(tree, dict):
        raise DocumentError("relay_script_parse_error", f"{name}: a mapping with version and sections is wanted")
    if str(tree.get("version", "")) not in VERSIONS:
        raise DocumentError(
            "relay_script_version_invalid", f"{name}: version {tree.get('version')!r}: must be {' or '.join(VERSIONS)}"
        )
    sections = tree.get("sections")
    if not isinstance(sections, dict):
        raise DocumentError("relay_script_sections_missing", f"{name}: it has no sections")
    if "main" not in sections:
        raise DocumentError("relay_script_main_section_missing", f"{name}: it has no section main")
    for section, steps in sections.items():
        if not isinstance(steps, list):
            raise DocumentError("relay_script_section_code_missing", f"{name}: section {section} is no list of steps")
    return Document(name, {str(key): _steps(name, ("sections", str(key)), steps) for key, steps in sections.items()})


def _steps(name: str, place: Place, steps: list[Any]) -> tuple[Step, ...]:
    return tuple(_step(name, (*place, number), step) for number, step in enumerate(steps))


def _step(name: str, place: Place, step: Any) -> Step:
    if isinstance(step, str):
        return Step(place, step, {}, {})
    if isinstance(step, dict) and len(step) == 1:
        ((method, params),) = step.items()
        given = {} if params is None else params
        blocks = {at: _steps(name, (*place, str(method), *at), steps) for at, steps in _blocks(str(method), given)}
        return Step(place, str(method), given, blocks)
    raise DocumentError(
        "relay_script_parse_error",
        f"{name}: {Step(place, '', {}, {})}: a method name or one `method: parameters` is wanted",
    )


def _blocks(method: str, params: Any) -> Iterator[tuple[Place, list[Any]]]:
    """The lists of steps within a step, and where in its parameters they are."""
    if method == "cond":
        yield from _branches((), params)
    elif method == "switch":
        yield from _cases((), params)
    elif method == "execute" and isinstance(params, dict):
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
            yield (*place, "case", str(value)), steps
    if isinstance(choice.get("default"), list):
        yield (*place, "default"), choice["default"]


class Library:
    """Finds documents by the path of the ``socket`` action: in ``folder``, else among those built in."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, path: str) -> Document:
        """The document named ``path``. Raises DocumentError; it names where it was looked for."""
        if not _NAME.match(path) or ".." in path or len(path) > NAME_LIMIT:
            raise DocumentError(
                "relay_script_parse_error",
                f"no document named {path[:80]!r}: name one after the port, as in `socket 127.0.0.1:8084/voicemail`",
            )
        text = self._text(path)
        if text is None:
            looked = f"in {self.folder} or " if self.folder else ""
            raise DocumentError(
                "relay_script_parse_error",
                f"no document {path}: not {looked}among the built-in {', '.join(built_in())}",
            )
        if len(text) > SIZE_LIMIT:
            raise DocumentError("relay_script_parse_error", f"{path}: larger than {SIZE_LIMIT} bytes")
        try:
            return parse(text.decode(), path)
        except UnicodeDecodeError:
            raise DocumentError("relay_script_parse_error", f"{path}: is no UTF-8 text") from None

    def _text(self, path: str) -> bytes | None:
        for suffix in ("", *SUFFIXES) if Path(path).suffix in SUFFIXES else SUFFIXES:
            if self.folder is not None and (found := self.folder / f"{path}{suffix}").is_file():
                try:
                    with found.open("rb") as file:
                        return file.read(SIZE_LIMIT + 1)
                except OSError as error:
                    raise DocumentError("relay_script_parse_error", f"{found}: {error.strerror}") from error
        if path in built_in():
            return resources.files(__package__).joinpath("documents", f"{path}.yaml").read_bytes()
        return None


def built_in() -> list[str]:
    """Names of the documents that come with the package."""
    folder = resources.files(__package__).joinpath("documents")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
