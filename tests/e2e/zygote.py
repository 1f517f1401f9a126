"""``esl-record``, started many times at the price of one: a process that has imported everything, and forks.

python zygote.py: every line it reads is a JSON list of arguments. It answers each with the id of the process that runs
them, and once that has ended with how, as ``wait`` has it.
"""
# ruff: noqa: E402  # as in the program itself, gevent patches before anything else is imported

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from gevent import monkey

monkey.patch_all()

import gc
import json
import sys
from types import SimpleNamespace

import numpy as np

import esl_record.service  # noqa: F401  # as `serve` imports it
from esl_record import cli, egress, vad
from esl_record.swml import javascript

# gevent's own would make a hub here, of which a child has no use.
_fork, _waitpid = monkey.get_original("os", ["fork", "waitpid"])


def _warm() -> None:
    """Makes what comes out the same at every start, without a hub or a thread: a child has neither."""
    vad.detect(np.zeros(8000, np.int16), 8000)
    egress.authorities()
    engine = javascript._Engine()
    javascript._makers.append(SimpleNamespace(exception=None, get=lambda: engine))  # type: ignore[arg-type]
    gc.collect()
    gc.freeze()


def _run(arguments: list[str]) -> int:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdin.fileno())
    os.dup2(nowhere, sys.stdout.fileno())
    try:
        return cli.main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


if __name__ == "__main__":
    _warm()
    for line in iter(sys.stdin.readline, ""):
        child = _fork()
        if not child:
            os._exit(_run(json.loads(line)))
        print(child, flush=True)
        print(_waitpid(child, 0)[1], flush=True)
