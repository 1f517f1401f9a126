"""How soon a burst of simultaneous calls is taken: seconds from connect to the service's first word, and accept alone.

    python bench/burst.py [--calls 50]

Every call is one of the stand-in switch's in real time; the service runs as a process of its own.
"""

import argparse
import time

import gevent
import numpy as np
from gevent import socket
from rich.console import Console
from rich.progress import track
from rich.table import Table
from serving import serving

from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

ROUNDS = 5


def first_word(address: tuple[str, int]) -> float:
    """Seconds from connect to the service's `connect` command."""
    began = time.perf_counter()
    with socket.create_connection(address) as sock:
        sock.recv(8)
        return time.perf_counter() - began


def measure(calls: int) -> list[tuple[str, list[float]]]:
    results: list[tuple[str, list[float]]] = []
    with serving() as service:
        for name, live in (("idle service", 0), (f"{calls} calls being recorded", calls)):
            switch = Switch()
            caller = Caller(audio=np.concatenate([np.zeros(8000, np.int16), voice.say(20.0)]), gives_up_after=60)
            for _ in range(live):
                switch.call(service.address, "voicemail", caller)
            gevent.sleep(2.0 if live else 0.0)
            times: list[float] = []
            for _ in track(range(ROUNDS), description=name, transient=True):
                burst = [gevent.spawn(first_word, service.address) for _ in range(calls)]
                gevent.joinall(burst)
                times += [one.value for one in burst]
                gevent.sleep(0.3)
            results.append((name, times))
            switch.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50)
    options = parser.parse_args()
    results = measure(options.calls)
    table = Table(f"{options.calls} connects at once, {ROUNDS} times", "median ms", "95 % ms", "slowest ms")
    for name, times in results:
        table.add_row(name, *(f"{1000 * np.percentile(times, part):.1f}" for part in (50, 95, 100)))
    Console().print(table)


if __name__ == "__main__":
    main()
