"""Runs a document on a call, step by step, and goes on where an earlier run of the service was."""

import logging
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from esl_record.errors import CommandRefused, DocumentError, WebError
from esl_record.recording.params import ParameterError, RecordParams, validated
from esl_record.swml.bookmark import Bookmark, Frame, Turn, bookmark
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, Place, Step, is_url
from esl_record.swml.expressions import condition, refers, resolve, substitute, text_of
from esl_record.swml.fetching import fetched
from esl_record.swml.library import Library
from esl_record.swml.methods import METHODS
from esl_record.swml.methods.destinations import ConnectParams
from esl_record.swml.methods.flow import (
    RESULT,
    Branch,
    ChoiceParams,
    CondParams,
    ExecuteParams,
    GotoParams,
    SwitchParams,
    TransferParams,
)
from esl_record.swml.methods.parameters import Method
from esl_record.swml.methods.variables import SET
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
        _Run(call).main(Frame(check(document), "main", call.params))
    except DocumentError as error:
        call.vars["script_error"] = error.code
        raise
    _hang_up(document.name, call)


def go_on(mark: Bookmark, call: Call) -> None:
    """Runs on from ``mark``, to which an earlier run had come, and hangs up at the end. Raises as ``run``.

    The step there is run again, but one that records goes on with its recording, and a ``connect`` has come to its end
    without this service. A recording that waited for the answer waits again.
    """
    call.vars.update(mark.vars)
    for waiting in mark.waiting:
        params = RecordParams.of("record_call", waiting)
        if call.recordings.begun(params.control_id) is None:
            call.recordings.start(params)
    try:
        documents = [read(text.text.encode(errors="replace"), text.name) for text in mark.texts]
        outermost, *way = _way(mark, documents)
        _Run(call, mark, deque(way)).main(outermost)
    except DocumentError as error:
        call.vars["script_error"] = error.code
        raise
    _hang_up(mark.texts[0].name, call)


def _way(mark: Bookmark, documents: list[Document]) -> list[Any]:
    try:
        return list(mark.way(documents))
    except LookupError as error:
        raise DocumentError("relay_script_parse_error", f"the place to go on from is not there: {error}") from None


def _hang_up(name: str, call: Call) -> None:
    try:
        call.session.end()
    except CommandRefused as error:
        raise DocumentError("relay_script_method_execute_failed", f"{name}, at its end: {error}") from error


class _Run:
    """One call's way through its documents. ``back`` leads from its outermost section to the step of ``mark``."""

    def __init__(self, call: Call, mark: Bookmark | None = None, back: deque[Frame | Turn] | None = None) -> None:
        self._call = call
        self._frames: list[Frame] = []
        self._back = back
        """None once it has come there."""
        self._control_id = mark.control_id if mark else ""
        self._marks = mark is not None
        """Whether its place is noted at every step that waits: from its first recording on."""
        self._steps, self._transfers = (mark.steps, mark.transfers) if mark else (0, 0)
        self._open = 0

    def main(self, frame: Frame) -> None:
        while True:
            try:
                self._section(frame)
            except _Return as returned:
                self._call.vars["return_value"] = returned.value
            except _Transfer as transfer:
                self._transfers += 1
                if self._transfers > TRANSFERS:
                    raise DocumentError(
                        "relay_script_too_many_transfers", f"{frame.document.name}: more than {TRANSFERS} transfers"
                    ) from None
                frame = transfer.frame
                continue
            return

    def _section(self, frame: Frame) -> None:
        before, self._call.params = self._call.params, frame.params
        origin, self._call.origin = self._call.origin, frame.document.origin
        self._frames.append(frame)
        try:
            self._block((), frame.document.sections[frame.section])
        except _Jump as jump:
            # A label in a branch that is not being run.
            raise DocumentError(
                "relay_script_method_execute_failed",
                f"{frame.document.name}, {jump.step}: goto: label {jump.label[:80]!r} is not on the way here",
            ) from None
        finally:
            self._frames.pop()
            self._call.params = before
            self._call.origin = origin

    def _block(self, place: Place, steps: tuple[Step, ...], came_to: Any = None) -> None:
        if self._open >= OPEN:
            raise DocumentError("relay_script_nested_too_deep", f"more than {OPEN} blocks of steps within each other")
        turns = self._frames[-1].turns
        turn = self._back.popleft() if self._back else Turn(place, 0, came_to)
        assert isinstance(turn, Turn)
        turns.append(turn)
        self._open += 1
        try:
            self._steps_of(steps, turn)
        finally:
            turns.pop()
            self._open -= 1

    def _steps_of(self, steps: tuple[Step, ...], turn: Turn) -> None:
        while turn.at < len(steps):
            try:
                self._step(steps[turn.at])
                turn.at += 1
            except _Jump as jump:
                here = [n for n, step in enumerate(steps) if step.method == "label" and step.params == jump.label]
                if not here:
                    raise
                turn.at = here[0] + 1

    def _step(self, step: Step) -> None:
        if log.isEnabledFor(logging.DEBUG):
            # A step within a `switch` is named by its case: what was pressed.
            session = self._call.session
            log.debug("%s: %s: %s", session.label, session.pressed.redact(step), step.method)
        self._steps += 1
        try:
            if self._steps > STEPS:
                raise DocumentError("relay_script_method_execute_failed", f"more than {STEPS} steps")
            # A loop of steps that wait for nothing must not hold up other calls.
            self._call.budget.begin_step()
            self._perform(step)
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
        failure = DocumentError(code, f"{self._frames[-1].document.name}, {step}: {error}")
        failure.placed = True
        raise failure from error

    def _perform(self, step: Step) -> None:
        if self._back:
            self._go_back(step)
            return
        method = METHODS[step.method]
        params = validated(method.params, method.name, self._given(step, method))
        match params:
            case GotoParams():
                self._goto(step, params)
            case CondParams():
                self._cond(step, params.branches, ())
            case SwitchParams():
                value = self._named(params.variable)
                self._switch(step, value, params.case, ())
            case ExecuteParams():
                self._execute(step, params)
            case ConnectParams():
                self._wait_for(method, params)
                self._bridged(step, params)
            case TransferParams():
                raise _Transfer(self._destination(params.dest, params.params))
            case _ if step.method == "return":
                raise _Return(getattr(params, "value", None))
            case _ if step.method != "label":
                self._wait_for(method, params)

    def _go_back(self, step: Step) -> None:
        """Into a step within which an earlier run was, and out of it. Of its parameters only those count that are
        looked at behind it: the others may not be what they were when it began."""
        assert self._back
        inner = self._back[0]
        given = step.params if isinstance(step.params, Mapping) else {}
        if isinstance(inner, Frame):
            self._back.popleft()
            self._returned(step, RESULT.validate_python(given.get("result")), self._called(inner))
            return
        place, came_to = inner.block, inner.came_to
        if place not in step.blocks:
            raise DocumentError("relay_script_method_execute_failed", f"there is no {place!r} to go on from")
        self._branch(step, place, came_to)
        if step.method == "execute" and place == ("on_return",):
            self._result(step, RESULT.validate_python(given.get("result")), came_to)
        elif step.method == "connect":
            self._transfer_after(given.get("transfer_after_bridge"), came_to)

    def _wait_for(self, method: Method[Any], params: BaseModel) -> None:
        again, self._back = self._back is not None, None
        if isinstance(params, RecordParams):
            self._marks = True
            if again:
                params = params.model_copy(update={"control_id": self._control_id})
            self._call.control_id = params.control_id
        else:
            self._call.control_id = self._control_id if again else str(uuid.uuid4())
        if self._marks and method.waits:
            self._call.note(
                bookmark(
                    self._frames,
                    self._call.vars,
                    self._call.control_id,
                    steps=self._steps,
                    transfers=self._transfers,
                )
            )
        act = method.again or method.run if again else method.run
        if method is SET:
            act(self._call, params)
            return
        with self._call.budget.waiting():
            act(self._call, params)

    def _given(self, step: Step, method: Method[Any]) -> Mapping[str, Any]:
        """The step's parameters with every reference replaced, once: what comes of one is not looked into again."""
        if isinstance(step.params, Mapping) and not method.whole:
            given = method.mapping(step.params)
            replaced = {name: value for name, value in given.items() if name not in method.unread}
            return {**given, **substitute(replaced, self._call.scopes, self._call.budget)}
        if method.short in method.unread:
            return method.mapping(step.params)
        given = method.mapping(substitute(step.params, self._call.scopes, self._call.budget))
        for name in () if method.whole else given.keys() & method.unread:
            # No steps were made of what a variable holds.
            raise ParameterError(f"{method.name}: {name} must stand in the document, not in a variable")
        return given

    def _goto(self, step: Step, params: GotoParams) -> None:
        jumps = self._frames[-1].jumps
        if jumps[step.place] >= params.max:
            return
        if params.when is None or condition(params.when, self._call.scopes, self._call.budget):
            jumps[step.place] += 1
            raise _Jump(step, params.label)

    def _cond(self, step: Step, branches: Sequence[Branch], at: Place, came_to: Any = None) -> None:
        for number, branch in enumerate(branches):
            if branch.when is not None and condition(branch.when, self._call.scopes, self._call.budget):
                self._branch(step, (*at, number, "then"), came_to)
                return
        for number, branch in enumerate(branches):
            if branch.else_ is not None:
                self._branch(step, (*at, number, "else"), came_to)
                return

    def _switch(self, step: Step, value: Any, case: Mapping[str, Any], at: Place, came_to: Any = None) -> None:
        chosen = text_of(value)
        place = (*at, "case", chosen) if chosen in case else (*at, "default")
        if place in step.blocks:
            self._branch(step, place, came_to)

    def _branch(self, step: Step, place: Place, came_to: Any) -> None:
        self._block(place, step.blocks[place], came_to)

    def _execute(self, step: Step, params: ExecuteParams) -> None:
        if len(self._frames) > DEEPEST:
            raise DocumentError("relay_script_nested_too_deep", f"execute: more than {DEEPEST} within each other")
        self._returned(step, params.result, self._called(self._destination(params.dest, params.params)))

    def _called(self, frame: Frame) -> Any:
        """What a section returns."""
        try:
            self._section(frame)
        except _Return as returned:
            return returned.value
        return None

    def _returned(self, step: Step, result: ChoiceParams | list[Branch] | None, value: Any) -> None:
        self._call.vars["return_value"] = value
        if ("on_return",) in step.blocks:
            self._branch(step, ("on_return",), value)
        self._result(step, result, value)

    def _bridged(self, step: Step, params: ConnectParams) -> None:
        result = self._call.vars["connect_result"]
        self._result(step, params.result, result)
        self._transfer_after(params.transfer_after_bridge, result)

    def _transfer_after(self, dest: str | None, result: str) -> None:
        if result == "connected" and dest is not None:
            # What a document written as JSON refers to is its own.
            dest = (
                dest
                if dest.lstrip().startswith("{")
                else text_of(substitute(dest, self._call.scopes, self._call.budget))
            )
            raise _Transfer(self._destination(dest, {}))

    def _result(self, step: Step, result: ChoiceParams | list[Branch] | None, value: Any) -> None:
        if isinstance(result, list):
            self._cond(step, result, ("result",), value)
        elif result is not None:
            chosen = value if result.variable is None else self._named(result.variable)
            self._switch(step, chosen, result.case, ("result",), value)

    def _named(self, variable: str) -> Any:
        """What a variable holds; where a reference stands for it, what that is: it is no name then."""
        scopes, budget = self._call.scopes, self._call.budget
        return substitute(variable, scopes, budget) if refers(variable) else resolve(variable, scopes, budget)

    def _destination(self, dest: str, params: Mapping[str, Any]) -> Frame:
        """What ``dest`` names: a section of this document, a document written as JSON, or a URL that gives one."""
        document = self._frames[-1].document
        if dest in document.sections:
            return Frame(document, dest, params)
        if dest.lstrip().startswith("{"):
            return Frame(
                read(dest.encode(errors="replace"), f"{document.name} (inline)", self._call.budget), "main", params
            )
        if is_url(dest):
            with self._call.budget.waiting():
                return Frame(fetched(self._call, dest, params), "main", params)
        raise DocumentError(
            "relay_script_method_parameter_invalid_value",
            f"dest = {shown(dest.strip())[:80]!r}: there is no such section",
        )


class _Jump(Exception):
    def __init__(self, step: Step, label: str) -> None:
        self.step = step
        self.label = label


class _Return(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class _Transfer(Exception):
    def __init__(self, frame: Frame) -> None:
        self.frame = frame
