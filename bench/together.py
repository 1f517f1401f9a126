"""What ordinary calls notice of a peer, a document author and an HTTP client that all misbehave at the same time.

    python bench/together.py [--seconds 20]

The peer floods the event socket, the client sends requests one behind the other on 20 connections, and calls whose
documents burn all they may go on beside them. An ordinary call begins, is recorded for half a second, and its caller
presses ``#``.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import flood
import gevent
import numpy as np
from flood import stalls
from rich.console import Console
from rich.progress import track
from rich.table import Table
from serving import Serving, serving
from starve import DOCUMENTS, document

from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

PAUSE = 0.2
AUTHORS = ("expressions", "large variables", "conditions")
CALLS = 20
"""Calls of each of the documents."""

ORDINARY = document({"record": {"initial_timeout": 0, "end_silence_timeout": 0, "terminators": "#"}}, "hangup")


def call(switch: Switch, service: Serving) -> tuple[float, float]:
    """Seconds from an ordinary call's beginning until it is recorded, and from its digit until it no longer is."""
    began = time.perf_counter()
    call = switch.call(service.address, "ordinary", Caller(audio=voice.say(2.0), gives_up_after=60))
    taps = call.session.recordings
    while not taps and call.alive:
        gevent.sleep(0.002)
    recorded = time.perf_counter() - began
    gevent.sleep(0.5)
    pressed = time.perf_counter()
    call.press("#")
    while taps:
        gevent.sleep(0.002)
    ended = time.perf_counter() - pressed
    call.hang_up()
    return recorded, ended


def misbehave(service: Serving, switch: Switch, stack: ExitStack) -> None:
    """Start everything that is to go on beside the ordinary calls."""
    for name in ("blank lines", "requests, HTTP"):
        ports = [str(service.address[1]), str(urlsplit(service.http).port)]
        process = subprocess.Popen([sys.executable, flood.__file__, "--flood", name, *ports], stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
    for name in AUTHORS * CALLS:
        caller = Caller(audio=np.zeros(8000, np.int16), gives_up_after=300)
        switch.call(service.address, name.replace(" ", "_"), caller)
        gevent.sleep(0.03)


def measure(name: str, seconds: float, *, calm: bool) -> tuple[list[tuple[float, float]], tuple[int, int]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for path, text in {**DOCUMENTS, "ordinary": ORDINARY}.items():
            Path(folder, f"{path.replace(' ', '_')}.json").write_text(text)
        service = stack.enter_context(serving(f"--documents={folder}", "--disk-floor=0"))
        switch = Switch()
        stack.callback(switch.close)
        call(switch, service)
        if not calm:
            misbehave(service, switch, stack)
        before, found = stalls(service), []
        for _ in track(range(max(1, int(seconds / (0.5 + PAUSE)))), description=name, transient=True):
            found.append(call(switch, service))
            gevent.sleep(PAUSE)
        after = stalls(service)
        return found, (after[0] - before[0], after[1] - before[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    table = Table(
        "beside", "recorded after: median ms", "slowest ms", "ended after: median ms", "slowest ms", "stalls over 50 ms"
    )
    for name, calm in (("nothing", True), ("all three", False)):
        times, (late, of) = measure(name, options.seconds, calm=calm)
        figures = [f"{1000 * value:.0f}" for each in zip(*times, strict=True) for value in (np.median(each), max(each))]
        table.add_row(name, *figures, f"{late} of {of}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
