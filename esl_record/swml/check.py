"""What is wrong with a document, all at once and before its first step runs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from pydantic import ValidationError

from esl_record.errors import DocumentError
from esl_record.recording.params import ParameterError, complaints
from esl_record.status.receiver import Receiver
from esl_record.swml.document import Document, Step, is_url
from esl_record.swml.expressions import refers
from esl_record.swml.methods import FOREIGN, METHODS
from esl_record.swml.methods.parameters import Method
from esl_record.swml.sounds import shown

SHOWN = 20
"""Mistakes told of at most."""

LOOKED_FOR = 200
"""Mistakes after which a document is looked through no further."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: its code, where, and what."""

    code: str
    step: Step
    text: str

    def __str__(self) -> str:
        return f"{self.step}: {self.text}"


def check(document: Document) -> Document:
    """``document`` as one that has been checked. Raises DocumentError with its mistakes."""
    if document.checked:
        return document
    found = list(islice(mistakes(document), LOOKED_FOR))
    if found:
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        told = "; ".join([*(str(mistake) for mistake in found[:SHOWN]), *more])
        codes = [mistake.code for mistake in found]
        raise DocumentError(codes[0], f"{document.name}, {told}", codes)
    return replace(document, checked=True)


def mistakes(document: Document) -> Iterator[Mistake]:
    """Every mistake that can be seen without a call; what a reference will be is not known yet."""
    labels = _labels(document)
    for step in document.steps():
        method = METHODS.get(step.method)
        if method is None:
            yield Mistake("relay_script_method_undefined", step, _unknown(step.method))
            continue
        try:
            given = method.mapping(step.params)
        except ParameterError as error:
            if not refers(step.params) or _needs_steps(method):
                yield Mistake("relay_script_method_parameter_invalid_value", step, str(error))
            continue
        try:
            method.params.model_validate(given)
        except ValidationError as error:
            later = partial(_later, method)
            for code, text in complaints(method.params, method.name, given, error, ignore=later):
                yield Mistake(f"relay_script_method_parameter_{code}", step, text)
        yield from _nowhere(document, labels, step, given)


def _later(method: Method[Any], parameter: str, value: object) -> bool:
    """Whether ``value`` is what a reference will give; steps must stand in the document."""
    return refers(value) and parameter not in method.unread


def _needs_steps(method: Method[Any]) -> bool:
    return any(method.params.model_fields[name].is_required() for name in method.unread)


def _unknown(method: str) -> str:
    if method in FOREIGN:
        return f"{method} is a method of SWML that this recorder does not run"
    return f"no method {method[:40]!r}; known are {', '.join(sorted(METHODS))}"


def _nowhere(
    document: Document, labels: Mapping[str, set[str]], step: Step, given: Mapping[str, Any]
) -> Iterator[Mistake]:
    """A jump that leads nowhere."""
    code = "relay_script_method_parameter_invalid_value"
    if step.method == "goto" and isinstance(label := given.get("label"), str) and not refers(label):
        section = str(step.place[1])
        if label not in labels.get(section, ()):
            yield Mistake(code, step, f"goto: label = {label[:80]!r}: section {section[:80]} has no such label")
    dest = given.get("dest") if step.method in ("execute", "transfer") else None
    if not isinstance(dest, str) or dest in document.sections or refers(dest) or dest.lstrip().startswith("{"):
        return
    if is_url(dest):
        try:
            Receiver.of(dest)
        except ValueError as error:
            yield Mistake("relay_script_parse_error", step, f"{step.method}: dest: {error}")
        return
    known = ", ".join(name[:80] for name in islice(document.sections, SHOWN))
    yield Mistake(code, step, f"{step.method}: dest = {shown(dest.strip())!r}: a URL or a section is wanted: {known}")


def _labels(document: Document) -> dict[str, set[str]]:
    """The labels a ``goto`` may name, by section."""
    found: dict[str, set[str]] = defaultdict(set)
    for step in document.steps():
        if step.method == "label":
            found[str(step.place[1])].add(str(step.params))
    return found
