"""Reads documents off the hub, and the same text once: calls come by the hundred, and a document takes milliseconds to
read, a hostile one seconds."""

import functools
import gc
import hashlib
from collections import OrderedDict

import gevent
from gevent.event import AsyncResult

from esl_record.errors import DocumentError
from esl_record.swml.budget import Budget, reader, small_reader
from esl_record.swml.check import check
from esl_record.swml.document import SIZE_LIMIT, Document, parse

MOST, LARGEST = 256, 4 << 20
"""Documents kept, and bytes of their texts."""

_SMALL = 32 << 10
"""Bytes up to which a document does not wait for a larger one."""

Outcome = Document | DocumentError


def read(text: bytes, name: str, budget: Budget | None = None) -> Document:
    """The document written in ``text``, YAML or JSON, checked. Raises DocumentError; ``name`` is in its message.

    Raises CallGone as soon as the call of ``budget`` is over.
    """
    if len(text) > SIZE_LIMIT:
        raise DocumentError("relay_script_parse_error", f"{name}: larger than {SIZE_LIMIT} bytes")
    outcome = _known().find(text, name, budget or Budget())
    if isinstance(outcome, DocumentError):
        # What is raised is changed by it.
        raise DocumentError(outcome.code, str(outcome), outcome.codes)
    return outcome


class _Known:
    """What came of the texts read last."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[bytes, str], tuple[AsyncResult[Outcome], int]] = OrderedDict()
        self._size = 0

    def find(self, text: bytes, name: str, budget: Budget) -> Outcome:
        key = hashlib.sha256(text).digest(), name
        if key in self._found:
            self._found.move_to_end(key)
        else:
            self._found[key] = AsyncResult(), len(text)
            self._size += len(text)
            gevent.spawn(self._read, text, key, self._found[key][0], budget)
        answer = self._found[key][0]
        while len(self._found) > MOST or self._size > LARGEST:
            self._forget(next(iter(self._found)))
        outcome: Outcome = budget.wait(answer)
        return outcome

    def _read(self, text: bytes, key: tuple[bytes, str], answer: "AsyncResult[Outcome]", budget: Budget) -> None:
        try:
            if len(text) <= _SMALL:
                answer.set(small_reader.run_through(functools.partial(_outcome, text, key[1]), budget))
            else:
                answer.set(reader.run_through(functools.partial(_outcome_of_large, text, key[1]), budget))
        except Exception as error:
            self._forget(key)
            answer.set_exception(error)

    def _forget(self, key: tuple[bytes, str]) -> None:
        if key in self._found:
            self._size -= self._found.pop(key)[1]


# One for the process: what comes of a text is the same for all.
_known = functools.cache(_Known)


def _outcome_of_large(text: bytes, name: str) -> Outcome:
    collecting = gc.isenabled()
    # What a large YAML is read into are a million objects: to go through them for garbage, of which there is none yet,
    # would hold up the hub for a tenth of a second each time.
    gc.disable()
    try:
        return _outcome(text, name)
    finally:
        if collecting:
            gc.enable()


def _outcome(text: bytes, name: str) -> Outcome:
    try:
        return check(parse(text.decode(), name))
    except DocumentError as error:
        # Without its traceback, which holds all the document was made of.
        return DocumentError(error.code, str(error), error.codes)
    except UnicodeDecodeError:
        return DocumentError("relay_script_parse_error", f"{name}: is no UTF-8 text")
