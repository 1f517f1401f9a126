"""gevent's hub: what must not run on it."""

from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def off_hub(work: Callable[[], T]) -> T:
    """Runs what waits for a disk on a thread, so that other calls do not wait with it; gives its result.

    ``work`` must take no lock that greenlets take too: patched locks do not pass between threads. Logging takes one.
    """
    result: T = gevent.get_hub().threadpool.apply(work)
    return result
