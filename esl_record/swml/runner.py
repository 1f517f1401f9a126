"""Runs a document on a call, step by step."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import gevent

from esl_record.errors import CommandRefused, DocumentError
from esl_record.recording.params import ParameterError, validated
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, Place, Step, parse
from esl_record.swml.expressions import condition, resolve, substitute, text_of
from esl_record.swml.methods import METHODS
from esl_record.swml.methods.flow import CondParams, ExecuteParams, GotoParams, SwitchParams, TransferParams
from esl_record.swml.methods.parameters import Method

log = logging.getLogger(__name__)

DEEPEST = 16
"""Sections within sections."""

TRANSFERS = 32

STEPS = 50_000
"""Steps a call may take: more is a loop nobody meant."""


def run(document: Document, call: Call) -> None:
    """Runs section ``main`` and hangs up at its end, as SWML does.

    Raises DocumentError, naming document, section and step, its code in the document's ``script_error``, before the
    first step where the document itself is wrong; CallGone when the caller hangs up.
    """
    try:
        check(document)
        _Run(document, call).main()
    except DocumentError as error:
        call.vars["script_error"] = error.code
        raise
    call.session.hangup()


class _Run:
    """One call's way through its documents."""

    def __init__(self, document: Document, call: Call) -> None:
        self._document = document
        self._call = call
        self._depth = 0
        self._steps = 0

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
        except CommandRefused as error:
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
                self._cond(step, params, (), frame)
            case SwitchParams():
                value = resolve(params.variable, self._call.scopes)
                self._switch(step, value, params.case, (), frame)
            case ExecuteParams():
                self._execute(step, params, frame)
            case TransferParams():
                document, section = self._destination(params.dest)
                raise _Transfer(document, section, params.params)
            case _ if step.method == "return":
                raise _Return(getattr(params, "value", None))
            case _ if step.method != "label":
                method.run(self._call, params)

    def _given(self, step: Step, method: Method[Any]) -> Mapping[str, Any]:
        """The step's parameters with every reference replaced, once: what comes of one is not looked into again."""
        if isinstance(step.params, Mapping) and not method.whole:
            return {
                name: value if name in method.unread else substitute(value, self._call.scopes)
                for name, value in method.mapping(step.params).items()
            }
        read = step.params if method.short in method.unread else substitute(step.params, self._call.scopes)
        return method.mapping(read)

    def _goto(self, step: Step, params: GotoParams, frame: "_Frame") -> None:
        if frame.jumps[step.place] >= params.max:
            return
        if params.when is None or condition(params.when, self._call.scopes):
            frame.jumps[step.place] += 1
            raise _Jump(step, params.label)

    def _cond(self, step: Step, params: CondParams, at: Place, frame: "_Frame") -> None:
        for number, branch in enumerate(params.branches):
            if branch.when is None or condition(branch.when, self._call.scopes):
                self._block(step.blocks[(*at, number, "else" if branch.when is None else "then")], frame)
                return
        for number, branch in enumerate(params.branches):
            if branch.when is not None and branch.else_ is not None:
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
        self._document, section = self._destination(params.dest)
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
        if isinstance(params.result, list):
            branches = validated(CondParams, "execute", {"branches": params.result})
            self._cond(step, branches, ("result",), frame)
        elif params.result is not None:
            self._switch(step, value, params.result.get("case", {}), ("result",), frame)

    def _destination(self, dest: str) -> tuple[Document, str]:
        """The document and section ``dest`` names: a section of this one, or a document written as JSON."""
        if dest in self._document.sections:
            return self._document, dest
        if dest.lstrip().startswith("{"):
            document = parse(dest, f"{self._document.name} (inline)")
            check(document)
            return document, "main"
        raise DocumentError(
            "relay_script_method_parameter_invalid_value", f"dest = {dest[:80]!r}: there is no such section"
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
