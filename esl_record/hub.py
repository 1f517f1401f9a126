"""gevent's hub: what must not run on it."""

from collections.abc import Callable
from typing import TypeVar, cast

import gevent

T = TypeVar("T")


def off_hub(work: Callable[[], T]) -> T:
    """Runs what waits for a disk on a thread, so that other calls do not wait too; gives its result or raises.

    ``work`` must take no lock that greenlets take too: patched locks do not pass between threads. Logging takes one.
    """
    # gevent prints the traceback of a task that fails, whoever may be there to handle the error.
    outcome: tuple[T | None, Exception | None] = gevent.get_hub().threadpool.apply(_outcome, (work,))
    result, error = outcome
    if error is not None:
        raise error
    return cast(T, result)


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
