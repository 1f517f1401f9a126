"""Runs a document on a call, step by step."""

import logging

from esl_record.errors import CommandRefused, DocumentError
from esl_record.recording.params import ParameterError
from esl_record.swml.call import Call
from esl_record.swml.document import Document, Step
from esl_record.swml.expressions import substitute
from esl_record.swml.methods import METHODS

log = logging.getLogger(__name__)


def run(document: Document, call: Call) -> None:
    """Runs section ``main`` and hangs up at its end, as SWML does.

    Raises DocumentError, naming document, section and step, with ``script_error`` set; CallGone when the caller
    hangs up.
    """
    check(document)
    for step in document.sections["main"]:
        log.debug("%s: %s: %s", call.session.label, step, step.method)
        try:
            _perform(step, call)
        except DocumentError as error:
            call.publish(script_error=error.code)
            raise DocumentError(error.code, f"{document.name}, {step}: {error}") from error
    call.session.hangup()


def check(document: Document) -> None:
    """Raises DocumentError for a method this service has not, before the first step runs."""
    for steps in document.sections.values():
        for step in steps:
            if step.method not in METHODS:
                raise DocumentError(
                    "relay_script_method_undefined",
                    f"{document.name}, {step}: no method {step.method[:40]!r}; known are {', '.join(sorted(METHODS))}",
                )


def _perform(step: Step, call: Call) -> None:
    try:
        METHODS[step.method](call, substitute(step.params, call.scopes))
    except ParameterError as error:
        raise DocumentError(f"relay_script_method_parameter_{error.code}", str(error)) from error
    except CommandRefused as error:
        raise DocumentError("relay_script_method_execute_failed", f"{step.method}: {error}") from error
