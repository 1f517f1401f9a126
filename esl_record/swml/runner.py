"""Runs a document on a call, step by step."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import gevent

from esl_record.errors import CommandRefused, DocumentError, WebError
from esl_record.recording.params import ParameterError, validated
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, Place, Step, is_url
from esl_record.swml.expressions import condition, refers, resolve, substitute, text_of
from esl_record.swml.fetching import fetched
from esl_record.swml.library import Library
from esl_record.swml.methods import METHODS
from esl_record.swml.methods.destinations import ConnectParams
from esl_record.swml.methods.flow import (
    Branch,
    ChoiceParams,
    CondParams,
    ExecuteParams,
    GotoParams,
    SwitchParams,
    TransferParams,
)
from esl_record.swml.methods.parameters import Method
from esl_record.swml.reading import read
from esl_record.swml.sounds import shown

log = logging.getLogger(__name__)

DEEPEST = 16
"""Sections within sections."""

OPEN = 100
"""Blocks of steps within each other, through all sections: each takes some of Python's stack, which has an end."""

TRANSFERS = 32

STEPS = 50_000
"""Steps a call may take: more is a loop nobody meant."""


def start(name: str, library: Library, call: Call) -> None:
    """Runs the document ``name``, a URL or one of ``library``. Raises as ``run``."""
    try:
        document = fetched(call, name, {}) if is_url(name) else library.load(name)
    except WebError as error:
        raise DocumentError("relay_script_parse_error", str(error)) from error
    run(document, call)


def run(document: Document, call: Call) -> None:
    """Runs section ``main`` and hangs up at its end, as SWML does.

    Raises DocumentError, naming document, section and step, its code in the document's ``script_error``, before the
    first step where the document itself is wrong; CallGone when the caller hangs up.
    """
    try:
        _Run(check(document), call).main()
    except DocumentError as error:
        call.vars["script_error"] = error.code
        raise
    try:
        call.session.hangup()
    except CommandRefused as error:
        raise DocumentError("relay_script_method_execute_failed", f"{document.name}, at its end: {error}") from error


class _Run:
    """One call's way through its documents."""

    def __init__(self, document: Document, call: Call) -> None:
        self._document = document
        self._call = call
        self._depth = 0
        self._steps = 0
        self._open = 0

    def main(self) -> None:
        section, transfers = "main", 0
        while True:
            try:
                self._section(section)
            except _Return as returned:
                self._call.vars["return_value"] = returned.value
            except _Transfer as transfer:
                transfers += 1
                if transfers > TRANSFERS:
                    raise DocumentError(
                        "relay_script_too_many_transfers", f"{self._document.name}: more than {TRANSFERS} transfers"
                    ) from None
                self._document, section, self._call.params = transfer.document, transfer.section, transfer.params
                continue
            return

    def _section(self, name: str) -> None:
        frame = _Frame()
        try:
            self._block(self._document.sections[name], frame)
        except _Jump as jump:
            # A label in a branch that is not being run.
            raise DocumentError(
                "relay_script_method_execute_failed",
                f"{self._document.name}, {jump.step}: goto: label {jump.label[:80]!r} is not on the way here",
            ) from None

    def _block(self, steps: tuple[Step, ...], frame: "_Frame") -> None:
        if self._open >= OPEN:
            raise DocumentError("relay_script_nested_too_deep", f"more than {OPEN} blocks of steps within each other")
        self._open += 1
        try:
            self._steps_of(steps, frame)
        finally:
            self._open -= 1

    def _steps_of(self, steps: tuple[Step, ...], frame: "_Frame") -> None:
        at = 0
        while at < len(steps):
            try:
                self._step(steps[at], frame)
                at += 1
            except _Jump as jump:
                here = [n for n, step in enumerate(steps) if step.method == "label" and step.params == jump.label]
                if not here:
                    raise
                at = here[0] + 1

    def _step(self, step: Step, frame: "_Frame") -> None:
        log.debug("%s: %s: %s", self._call.session.label, step, step.method)
        self._steps += 1
        # A loop of steps that wait for nothing must not hold up other calls.
        gevent.sleep(0)
        try:
            if self._steps > STEPS:
                raise DocumentError("relay_script_method_execute_failed", f"more than {STEPS} steps")
            self._call.session.raise_if_disconnected()
            self._perform(step, frame)
        except (_Jump, _Return, _Transfer):
            raise
        except ParameterError as error:
            self._fail(step, f"relay_script_method_parameter_{error.code}", error)
        except (CommandRefused, WebError) as error:
            self._fail(step, "relay_script_method_execute_failed", error)
        except DocumentError as error:
            if error.placed:
                raise
            self._fail(step, error.code, error)

    def _fail(self, step: Step, code: str, error: Exception) -> None:
        failure = DocumentError(code, f"{self._document.name}, {step}: {error}")
        failure.placed = True
        raise failure from error

    def _perform(self, step: Step, frame: "_Frame") -> None:
        method = METHODS[step.method]
        params = validated(method.params, method.name, self._given(step, method))
        match params:
            case GotoParams():
                self._goto(step, params, frame)
            case CondParams():
                self._cond(step, params.branches, (), frame)
            case SwitchParams():
                value = self._named(params.variable)
                self._switch(step, value, params.case, (), frame)
            case ExecuteParams():
                self._execute(step, params, frame)
            case ConnectParams():
                self._connect(step, method, params, frame)
            case TransferParams():
                document, section = self._destination(params.dest, params.params)
                raise _Transfer(document, section, params.params)
            case _ if step.method == "return":
                raise _Return(getattr(params, "value", None))
            case _ if step.method != "label":
                method.run(self._call, params)

    def _given(self, step: Step, method: Method[Any]) -> Mapping[str, Any]:
        """The step's parameters with every reference replaced, once: what comes of one is not looked into again."""
        if isinstance(step.params, Mapping) and not method.whole:
            given = method.mapping(step.params)
            replaced = {name: value for name, value in given.items() if name not in method.unread}
            return {**given, **substitute(replaced, self._call.scopes)}
        if method.short in method.unread:
            return method.mapping(step.params)
        given = method.mapping(substitute(step.params, self._call.scopes))
        for name in () if method.whole else given.keys() & method.unread:
            # No steps were made of what a variable holds.
            raise ParameterError(f"{method.name}: {name} must stand in the document, not in a variable")
        return given

    def _goto(self, step: Step, params: GotoParams, frame: "_Frame") -> None:
        if frame.jumps[step.place] >= params.max:
            return
        if params.when is None or condition(params.when, self._call.scopes):
            frame.jumps[step.place] += 1
            raise _Jump(step, params.label)

    def _cond(self, step: Step, branches: Sequence[Branch], at: Place, frame: "_Frame") -> None:
        for number, branch in enumerate(branches):
            if branch.when is not None and condition(branch.when, self._call.scopes):
                self._block(step.blocks[(*at, number, "then")], frame)
                return
        for number, branch in enumerate(branches):
            if branch.else_ is not None:
                self._block(step.blocks[(*at, number, "else")], frame)
                return

    def _switch(self, step: Step, value: Any, case: Mapping[str, Any], at: Place, frame: "_Frame") -> None:
        chosen = text_of(value)
        place = (*at, "case", chosen) if chosen in case else (*at, "default")
        self._block(step.blocks.get(place, ()), frame)

    def _execute(self, step: Step, params: ExecuteParams, frame: "_Frame") -> None:
        call, before = self._call, (self._document, self._call.params)
        if self._depth >= DEEPEST:
            raise DocumentError("relay_script_nested_too_deep", f"execute: more than {DEEPEST} within each other")
        self._document, section = self._destination(params.dest, params.params)
        call.params, value = params.params, None
        self._depth += 1
        try:
            self._section(section)
        except _Return as returned:
            value = returned.value
        finally:
            self._depth -= 1
            self._document, call.params = before
        call.vars["return_value"] = value
        if params.on_return is not None:
            self._block(step.blocks[("on_return",)], frame)
        self._result(step, params.result, value, frame)

    def _connect(self, step: Step, method: Method[Any], params: ConnectParams, frame: "_Frame") -> None:
        method.run(self._call, params)
        result, dest = self._call.vars["connect_result"], params.transfer_after_bridge
        self._result(step, params.result, result, frame)
        if result == "connected" and dest is not None:
            # What a document written as JSON refers to is its own.
            dest = dest if dest.lstrip().startswith("{") else text_of(substitute(dest, self._call.scopes))
            document, section = self._destination(dest, {})
            raise _Transfer(document, section, {})

    def _result(self, step: Step, result: ChoiceParams | list[Branch] | None, value: Any, frame: "_Frame") -> None:
        if isinstance(result, list):
            self._cond(step, result, ("result",), frame)
        elif result is not None:
            value = value if result.variable is None else self._named(result.variable)
            self._switch(step, value, result.case, ("result",), frame)

    def _named(self, variable: str) -> Any:
        """What a variable holds; where a reference stands for it, what that is: it is no name then."""
        scopes = self._call.scopes
        return substitute(variable, scopes) if refers(variable) else resolve(variable, scopes)

    def _destination(self, dest: str, params: Mapping[str, Any]) -> tuple[Document, str]:
        """The document and section ``dest`` names: a section of this one, a document written as JSON, or a URL that
        gives one for ``params``."""
        if dest in self._document.sections:
            return self._document, dest
        if dest.lstrip().startswith("{"):
            return read(dest.encode(errors="replace"), f"{self._document.name} (inline)"), "main"
        if is_url(dest):
            return fetched(self._call, dest, params), "main"
        raise DocumentError(
            "relay_script_method_parameter_invalid_value",
            f"dest = {shown(dest.strip())[:80]!r}: there is no such section",
        )


class _Frame:
    """A section being run: how often each of its jumps was taken."""

    def __init__(self) -> None:
        self.jumps: Counter[Place] = Counter()


class _Jump(Exception):
    def __init__(self, step: Step, label: str) -> None:
        self.step = step
        self.label = label


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Transfer(Exception):
    def __init__(self, document: Document, section: str, params: Mapping[str, Any]) -> None:
        self.document = document
        self.section = section
        self.params = params
