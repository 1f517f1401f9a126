"""The service as a process of its own, for the benchmarks to call."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import gevent
import requests
from gevent import socket


@dataclass(frozen=True)
class Serving:
    address: tuple[str, int]
    http: str
    """Its base URL."""
    pid: int
    log: Path

    def lines(self) -> int:
        """How many lines it has logged."""
        return self.log.read_bytes().count(b"\n")

    def cpu(self) -> float:
        """Seconds of CPU the process has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> str:
        return requests.get(f"{self.http}/metrics", timeout=10).text

    def memory(self) -> float:
        """MiB of resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def serving(*flags: str) -> Iterator[Serving]:
    """`esl-record serve` on free ports, with a data directory that goes with it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = ("127.0.0.1", int(sock.getsockname()[1]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "esl_record", "serve", "--http=127.0.0.1:0", *flags]
        command.append(f"--listen={address[0]}:{address[1]}")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*command, f"--data-dir={folder / 'data'}", "--drain-timeout=2"], stderr=log)
        try:
            while not (http := re.search(r"downloads from (\S+)", (folder / "log").read_text())):
                if process.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                gevent.sleep(0.05)
            yield Serving(address, http[1], process.pid, folder / "log")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
