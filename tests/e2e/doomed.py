"""``esl-record``, killed with SIGKILL at its N-th step from its first call on: before or after it commits, syncs,
renames, deletes or posts.

python doomed.py N serve ...
"""
# ruff: noqa: E402  # as in the program itself, gevent patches before anything else is imported

from gevent import monkey

monkey.patch_all()

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from gevent.event import Event as Flag

from esl_record.__main__ import main
from esl_record.database import Database
from esl_record.esl.session import Session

_steps = itertools.count(1)
_called = Flag()


def _step() -> None:
    if _called.is_set() and next(_steps) >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)


def _stepping(owner: Any, name: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def stepping(*arguments: Any, **named: Any) -> Any:
        _step()
        result = real(*arguments, **named)
        _step()
        return result

    setattr(owner, name, stepping)


def _begin(session: Session) -> None:
    _called.set()
    _real_begin(session)


if __name__ == "__main__":
    _real_begin, Session.begin = Session.begin, _begin  # type: ignore[method-assign]
    for owner, name in (
        (Database, "_commit"),
        (os, "fsync"),
        (Path, "replace"),
        (Path, "unlink"),
        (requests.Session, "send"),
    ):
        _stepping(owner, name)
    sys.exit(main(sys.argv[2:]))
