"""Whether receivers that hang make others wait: when all events of the others are delivered, with and without them.

    python bench/callbacks.py [--events 1000] [--receivers 100] [--hanging 10]

Sender and receivers, each on an address of its own, share this process; the outbox is SQLite in a temporary directory.
"""
# ruff: noqa: E402  # gevent patches before anything else is imported

from gevent import monkey

monkey.patch_all()

import argparse
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import Connection

from esl_record.cipher import Cipher
from esl_record.database import Database
from esl_record.egress import AddressPolicy
from esl_record.status.outbox import Outbox
from esl_record.status.sender import Sender

ROUNDS = 5
STATES = ("recording", "finished")
LIMIT = 120.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Answers every event, or none."""

    def __init__(self, number: int, hanging: bool) -> None:
        self.hanging = hanging
        self.served = 0
        self._server = StreamServer((f"127.0.{1 + number // 250}.{1 + number % 250}", 0), self._serve)
        self._server.start()
        self.url = f"http://{self._server.server_host}:{self._server.server_port}/status"

    def _serve(self, sock: socket.socket, _: object) -> None:
        received = b""
        with suppress(OSError):
            while data := sock.recv(65536):
                received += data
                head, end, body = received.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                if end and len(body) >= length and not self.hanging:
                    received = body[length:]
                    self.served += 1
                    sock.sendall(ANSWER)

    def close(self) -> None:
        self._server.stop(timeout=0)


def fill(outbox: Outbox, connection: Connection, receivers: list[Receiver], events: int, all_of_them: bool) -> None:
    """Recordings of two events each, one receiver after the other; without ``all_of_them`` none for those that hang."""
    for number in range(events):
        recording, state = divmod(number, len(STATES))
        receiver = receivers[recording % len(receivers)]
        if receiver.hanging and not all_of_them:
            continue
        url = receiver.url
        link = {"url": f"https://pbx.example.com/recordings/{recording}.wav"}
        body = {
            "event_type": "calling.call.record",
            "params": {"state": STATES[state], **link, "record": {**link, "format": "wav"}},
        }
        outbox.put(connection, f"recording-{recording}", STATES[state], url, body, time.time())


def measure(events: int, count: int, hanging: int, all_of_them: bool) -> tuple[float, float]:
    """Seconds until all but the ``hanging`` receivers have all of theirs, and the longest the hub was busy.

    Without ``all_of_them`` there is nothing for the ``hanging``.
    """
    receivers = [Receiver(number, number < hanging) for number in range(count)]
    stalls = [0.0]

    def tick() -> None:
        while True:
            began = time.perf_counter()
            gevent.sleep(0.005)
            stalls.append(time.perf_counter() - began - 0.005)

    with tempfile.TemporaryDirectory() as name:
        database = Database.in_file(Path(name) / "catalog.sqlite")
        database.open()
        outbox = Outbox(database)
        database.run(lambda connection: fill(outbox, connection, receivers, events, all_of_them))
        wanted = sum(callback.url in {one.url for one in receivers if not one.hanging} for callback in outbox.pending())
        delivered, all_told = [0], Flag()

        def told(result: str) -> None:
            delivered[0] += result == "delivered"
            if delivered[0] == wanted:
                all_told.set()

        sender = Sender(
            outbox,
            AddressPolicy(["127.0.0.0/8"]),
            [],
            "key",
            lambda one, suffix: f"https://{one}.{suffix}",
            Cipher.with_new_key(),
            on_result=told,
        )
        ticker = gevent.spawn(tick)
        began = time.perf_counter()
        sender.start()
        if not all_told.wait(LIMIT):
            raise SystemExit(f"{delivered[0]} of {wanted} delivered within {LIMIT:g} s")
        took = time.perf_counter() - began
        ticker.kill()
        sender.stop(0.0)
        database.close()
    for receiver in receivers:
        receiver.close()
    return took, max(stalls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--receivers", type=int, default=100)
    parser.add_argument("--hanging", type=int, default=10)
    options = parser.parse_args()
    others = options.receivers - options.hanging
    table = Table(f"{options.events} events, {options.receivers} receivers", "served s", "slowest s", "hub busy ms")
    medians = []
    for label, all_of_them in ((f"{others} of them alone", False), (f"beside {options.hanging} that hang", True)):
        rounds = [
            measure(options.events, options.receivers, options.hanging, all_of_them)
            for _ in track(range(ROUNDS), description=label, transient=True)
        ]
        times = [took for took, _ in rounds]
        medians.append(statistics.median(times))
        stall = max(longest for _, longest in rounds)
        table.add_row(label, f"{medians[-1]:.3f}", f"{max(times):.3f}", f"{1000 * stall:.0f}")
    Console().print(table)
    Console().print(f"the {others}: {medians[1] - medians[0]:+.3f} s, {medians[1] / medians[0]:.2f} times as long")


if __name__ == "__main__":
    main()
