"""What documents that burn all they may do to other calls: when those record, and how late the hub comes.

    python bench/starve.py [--calls 60] [--seconds 10]

Ordinary calls begin one after the other: an answer, three expressions, a recording. Beside them are calls that do
nothing, then calls whose documents work out expressions that use up their limits, then ones that loop over large
variables, then ones that read large documents. Every call is one of the stand-in switch's in real time; the service
runs as a process of its own.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import gevent
import numpy as np
import requests
from rich.console import Console
from rich.progress import track
from rich.table import Table
from serving import Serving, serving

from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

PAUSE = 0.2
PER_SECOND = 30
"""Calls that begin in one second."""

BURNS = "(() => { let n = 0; for (let i = 0; i < 150000; i++) n += i; return n })()"
INNER = json.dumps({"version": "1.0.0", "sections": {"main": [{"set": {"n": list(range(20_000))}}]}})


def document(*steps: object) -> str:
    return json.dumps({"version": "1.0.0", "sections": {"main": ["answer", *steps, {"sleep": 60_000}]}})


def looped(*steps: object) -> tuple[object, ...]:
    """``steps`` again and again, as long as a call's steps last."""
    rounds = [{"label": f"l{n}"} for n in range(20)]
    jumps = [{"goto": {"label": label["label"], "max": 100}} for label in reversed(rounds)]
    return (*rounds, *steps, *jumps)


DOCUMENTS = {
    "ordinary": document(
        {"set": {f"v{n}": f"${{{n} + 1}}" for n in range(3)}},
        {"record": {"initial_timeout": 0, "max_length": 0.1}},
        "hangup",
    ),
    "nothing else": document(),
    "expressions": document({"set": {f"v{n}": f"${{{BURNS}}}" for n in range(900)}}),
    "some at a time": document(*looped({"set": {f"v{n}": f"${{{BURNS}}}" for n in range(40)}})),
    "short ones": document(*looped({"set": {f"v{n}": f"${{{n} + 1}}" for n in range(900)}})),
    "large variables": document({"set": {"big": ["x" * 8] * 20_000}}, *looped({"set": {"a": "%{big[5]}"}})),
    "conditions": document(*looped({"cond": [{"when": f"{n} + 1 == 0", "then": []} for n in range(900)]})),
    "large texts": document(*looped({"set": {"a": "${" + "1 +" * 5_000 + "1}"}})),
    "large documents": document(
        *looped({"set": {"n": "%{n}%{m}x"}}, {"execute": {"dest": INNER.replace('"main"', '"a%{n}": [], "main"', 1)}})
    ),
}


def begins(switch: Switch, service: Serving) -> float:
    """Seconds from an ordinary call's beginning until it is recorded."""
    caller = Caller(audio=voice.say(2.0), gives_up_after=60)
    began = time.perf_counter()
    call = switch.call(service.address, "ordinary", caller)
    while not call.session.recordings.taps:
        if not call.alive or time.perf_counter() - began > 30:
            return 30.0
        gevent.sleep(0.002)
    took = time.perf_counter() - began
    call.hang_up()
    return took


def stall(service: Serving) -> float:
    """Seconds the service takes to answer a request that needs nothing but the hub."""
    began = time.perf_counter()
    requests.get(f"{service.http}/healthz", timeout=60)
    return time.perf_counter() - began


def watched(service: Serving, times: list[float]) -> None:
    while True:
        times.append(stall(service))
        gevent.sleep(0.01)


def measure(calls: int, seconds: float) -> list[tuple[str, list[float], list[float], float]]:
    results = []
    with tempfile.TemporaryDirectory() as name:
        for path, text in DOCUMENTS.items():
            Path(name, f"{path.replace(' ', '_')}.json").write_text(text)
        for kind in list(DOCUMENTS)[1:]:
            with serving(f"--documents={name}", "--disk-floor=0") as service:
                switch = Switch()
                begins(switch, service)
                for _ in range(calls):
                    caller = Caller(audio=np.zeros(8000, np.int16), gives_up_after=300)
                    switch.call(service.address, kind.replace(" ", "_"), caller)
                    gevent.sleep(1 / PER_SECOND)
                waits: list[float] = []
                watching = gevent.spawn(watched, service, waits)
                cpu = service.cpu()
                starts = []
                for _ in track(range(max(1, int(seconds / PAUSE))), description=kind, transient=True):
                    starts.append(begins(switch, service))
                    gevent.sleep(PAUSE)
                results.append((kind, starts, waits, service.cpu() - cpu))
                watching.kill()
                switch.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    table = Table(
        f"{options.calls} calls of",
        "recorded after: median ms",
        "slowest ms",
        "answer of /healthz: 95 % ms",
        "slowest ms",
        "CPU s",
    )
    for kind, starts, waits, cpu in measure(options.calls, options.seconds):
        found = [np.percentile(starts, 50), max(starts), np.percentile(waits, 95), max(waits)]
        table.add_row(kind, *(f"{1000 * one:.0f}" for one in found), f"{cpu:.1f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
