"""The service as a process, its documents, and what it has recorded."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
import requests
import yaml
from gevent import socket

from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

PATIENCE = 60.0
"""Seconds of wall time a test waits for what must come."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class RunningService:
    """``esl-record serve`` under ``folder``. ``speed``: how much faster than real time its calls run."""

    def __init__(self, folder: Path, *, speed: float = 1.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self.documents = folder / "documents"
        self.documents.mkdir(exist_ok=True)
        self.address = ("127.0.0.1", free_port())
        self.http = f"127.0.0.1:{free_port()}"
        self.settings: dict[str, object] = {
            "tick": 0.1 / speed,
            "http": self.http,
            "callback_networks": "127.0.0.0/8",
            "callback_retry": 0.1,
            "disk_floor": 0,
            # Nobody listens there, unless a test says so.
            "event_socket": f"127.0.0.1:{free_port()}",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    @property
    def arguments(self) -> list[str]:
        """What the command ``esl-record`` is given."""
        options = {
            "data-dir": self.data,
            "documents": self.documents,
            "listen": f"{self.address[0]}:{self.address[1]}",
            **{name.replace("_", "-"): value for name, value in self.settings.items()},
        }
        return ["serve", "-v", *(f"--{name}={value}" for name, value in options.items())]

    def start(self, *, doomed: int | None = None) -> None:
        """Starts and waits until it listens; ``doomed`` is the step at which it is killed. What an earlier run logged
        stays in the log."""
        program = ["-m", "esl_record"] if doomed is None else [str(Path(__file__).with_name("doomed.py")), str(doomed)]
        command = [sys.executable, *program, *self.arguments]
        with (self.folder / "log").open("ab") as log:
            before = log.tell()
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, "PYTHONWARNINGS": "error"})
        self.wait(lambda: "listening on" in self.log[before:], "the service to listen")

    def stop(self) -> int:
        """SIGTERM; gives the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def died(self) -> None:
        """Waits for the end of a doomed service."""
        assert self.process is not None
        assert self.process.wait(PATIENCE) == -signal.SIGKILL

    def wait(self, condition: Any, what: str, *, timeout: float = PATIENCE) -> Any:
        """Waits until ``condition()`` is true and gives it."""
        with gevent.Timeout(timeout, AssertionError(f"waited in vain for {what}; log:\n{self.log[-3000:]}")):
            while not (result := condition()):
                assert self.process is None or self.process.poll() is None, f"the service died:\n{self.log[-3000:]}"
                gevent.sleep(0.02)
        return result

    def document(self, name: str, *steps: object, **sections: list[object]) -> str:
        """Puts a document into the documents folder, ``steps`` its section main; gives its name."""
        tree = {"version": "1.0.0", "sections": {"main": list(steps), **sections}}
        (self.documents / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        return name

    def recordings(self, call_id: str) -> list[tuple[Path, Recording]]:
        """The recordings of a call, with their JSON files."""
        return [entry for entry in Storage(self.data).filed() if entry[1].call_id == call_id]

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"http://{self.http}{path}", timeout=PATIENCE, **options)

    def command(self, command: str, call_id: str, **params: object) -> requests.Response:
        """One command of the calling API."""
        body = {"command": command, "id": call_id, "params": params}
        return requests.post(f"http://{self.http}/api/calling/calls", json=body, timeout=PATIENCE)

    def spooled(self) -> list[str]:
        """The files of recordings that are not complete: their audio, and what is to become of it."""
        folders = (self.data / "spool", self.data / "pending")
        return sorted(path.name for folder in folders for path in folder.glob("[!.]*"))
