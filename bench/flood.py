"""What other calls notice of a flood: seconds until a call is taken, stalls of the hub, lines of log.

    python bench/flood.py [--seconds 5]

The service and each flooding peer are processes of their own; a peer that is cut off comes back at once.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import gevent
import numpy as np
from gevent import socket
from rich.console import Console
from rich.progress import track
from rich.table import Table
from serving import Serving, serving

DATA = b"Event-Name: CHANNEL_DATA\nUnique-ID: %b\nContent-Type: command/reply\nReply-Text: %%2BOK%%0A\n\n"
REPLY = b"Content-Type: command/reply\nReply-Text: +OK\n\n"
EVENT = b"Event-Name: DTMF\nDTMF-Digit: 1\nvariable_x: %b\n\n" % (b"%41" * 1000)
PIECE = 1 << 16
BETWEEN = 0.05
"""Seconds from one measured call to the next."""

Address = tuple[str, int]


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(body) + body


SENT = {
    "blank lines": b"\n",
    "empty events": b"Content-Type: text/event-plain\n\n",
    "replies to no command": REPLY,
    "events of a call": framed(EVENT),
    "the costliest events": framed(b"a: " + b"%41" * 32000 + b"\n\n"),
    "header lines without an end": b"X: y\n",
}


def send(frame: bytes, address: Address) -> None:
    """Sends ``frame`` without an end on one connection after the other; each first says what call it is of."""
    while True:
        with suppress(OSError), socket.create_connection(address) as sock:
            sock.sendall(DATA % b"flood" + REPLY * 3)
            while True:
                sock.sendall(frame * (PIECE // len(frame) + 1))


def connect(address: Address) -> None:
    """Opens connections and closes them at once."""
    while True:
        with suppress(OSError):
            socket.create_connection(address).close()


def idle(address: Address, many: int) -> None:
    """Holds ``many`` connections that say nothing."""
    while True:
        with ExitStack() as stack:
            socks = [stack.enter_context(socket.create_connection(address)) for _ in range(many)]
            with suppress(OSError):
                while socks[0].recv(PIECE):
                    pass


def request(address: Address) -> None:
    """Sends requests one behind the other on 20 connections and reads the answers."""

    def pipe() -> None:
        while True:
            with suppress(OSError), socket.create_connection(address) as sock:
                gevent.spawn(sock.sendall, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
                while sock.recv(PIECE):
                    gevent.sleep(0)

    gevent.joinall([gevent.spawn(pipe) for _ in range(20)])


FLOODS: dict[str, Callable[[Address, Address], None]] = {
    **{name: lambda esl, http, frame=frame: send(frame, esl) for name, frame in SENT.items()},  # type: ignore[misc]
    "connections": lambda esl, http: connect(esl),
    "900 silent connections": lambda esl, http: idle(esl, 900),
    "requests, HTTP": lambda esl, http: request(http),
    "900 silent connections, HTTP": lambda esl, http: idle(http, 900),
}


def taken(address: Address) -> float:
    """Seconds from the connection of a call until it is under control."""
    began = time.perf_counter()
    with socket.create_connection(address) as sock:
        said = b""
        for answer in (DATA % b"other", REPLY, REPLY, REPLY):
            while b"\n\n" not in said:
                said += sock.recv(PIECE)
            said = said.partition(b"\n\n")[2]
            sock.sendall(answer)
        return time.perf_counter() - began


def stalls(service: Serving) -> tuple[int, int]:
    """How often the hub was more than 50 ms late, and how often that was looked at."""
    bucket = r'esl_record_hub_stall_seconds_bucket{le="%s"} ([\d.]+)'
    within, of = (float(re.findall(bucket % le, service.metrics())[0]) for le in ("0.05", r"\+Inf"))
    return round(of - within), round(of)


def measure(kinds: list[str], seconds: float) -> list[tuple[str, list[float], tuple[int, int], int]]:
    results = []
    for name in track(kinds, description="floods", transient=True):
        with serving() as service:
            http = urlsplit(service.http)
            flood = subprocess.Popen(
                [sys.executable, __file__, "--flood", name, f"{service.address[1]}", f"{http.port}"],
                stderr=subprocess.DEVNULL,
            )
            try:
                gevent.sleep(1.0)
                before, lines = stalls(service), service.lines()
                times, end = [], time.monotonic() + seconds
                while time.monotonic() < end:
                    times.append(taken(service.address))
                    gevent.sleep(BETWEEN)
                after = stalls(service)
                results.append((name, times, (after[0] - before[0], after[1] - before[1]), service.lines() - lines))
            finally:
                flood.kill()
                flood.wait()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("kinds", nargs="*", metavar="FLOOD", help=f"some of: {', '.join(FLOODS)}")
    parser.add_argument("--flood", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        name, esl, http = options.flood
        if name in FLOODS:
            FLOODS[name](("127.0.0.1", int(esl)), ("127.0.0.1", int(http)))
        return
    table = Table("flood", "a call is taken: median ms", "95 % ms", "slowest ms", "stalls over 50 ms", "log lines")
    for name, times, (late, of), lines in measure(["nothing", *(options.kinds or FLOODS)], options.seconds):
        figures = (f"{1000 * np.percentile(times, part):.1f}" for part in (50, 95, 100))
        table.add_row(name, *figures, f"{late} of {of}", str(lines))
    Console().print(table)


if __name__ == "__main__":
    main()
