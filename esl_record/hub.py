"""gevent's hub: what must not run on it."""

from collections.abc import Callable
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import gevent
from gevent.threadpool import ThreadPool

T = TypeVar("T")

_THREADS = 10
_pools: WeakKeyDictionary[object, ThreadPool] = WeakKeyDictionary()


def off_hub(work: Callable[[], T], pool: ThreadPool | None = None) -> T:
    """Runs what waits for a disk on a thread, of ``pool`` if one is given, so that other calls do not wait too; gives
    its result or raises.

    ``work`` must take no lock that greenlets take too: patched locks do not pass between threads. Logging takes one.
    """
    # An idle pool is false, so this asks for None. And gevent prints the traceback of a task that fails, whoever may be
    # there to handle the error.
    threads = _threads() if pool is None else pool
    outcome: tuple[T | None, Exception | None] = threads.apply(_outcome, (work,))
    result, error = outcome
    if error is not None:
        raise error
    return cast(T, result)


def _threads() -> ThreadPool:
    # Not the hub's own threads: names are resolved there, and a name server that hangs must not hold up a recording.
    hub = gevent.get_hub()
    if hub not in _pools:
        _pools[hub] = ThreadPool(_THREADS, hub)
    return _pools[hub]


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error
