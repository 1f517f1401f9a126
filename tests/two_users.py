"""The service and the switch as two users that share a group: what one can do to the other's files.

These tests fork, so they have a process of their own: see ``test_two_users.py``.
"""

import gc
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from gevent.monkey import get_original

from esl_record import keys
from esl_record.config import Settings
from esl_record.lock import held
from esl_record.permissions import check
from esl_record.recording.params import RecordParams
from esl_record.recording.quarantine import Quarantine, clear, torn
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.storage import Storage

SERVICE, SWITCH, SHARED = 64101, 64102, 64100
"""Two users, and the group both are in."""

ONE = "3f5b0000-0000-4000-8000-000000000001"
TWO = "3f5b0000-0000-4000-8000-000000000002"

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def begun(name: str, **params: Any) -> Recording:
    one = Recording.begun(name, Party(call_id="c1"), RecordParams(**params), 1.7e9)
    return one.model_copy(update={"sample_rate": 8000})


class Users:
    """Runs code as one of them; ``data`` is the service's, made under a umask of 000."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.spool = self.data / "spool"
        self.log = ""

    def run(self, user: int, code: Callable[[], Any]) -> Any:
        """What ``code`` gives in a process of ``user``; ``log`` is what that has logged."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            # What an earlier test left as garbage may wait for threads that a child does not have.
            gc.disable()
            try:
                os.setgroups([])
                os.setgid(SHARED)
                os.setuid(user)
                os.umask(0)
                log = StringIO()
                logging.basicConfig(stream=log, format="%(message)s", force=True)
                answer = {"result": code(), "log": log.getvalue()}
            except BaseException as error:
                answer = {"error": repr(error)}
            get_original("os", "write")(writing, json.dumps(answer).encode())
            os._exit(0)
        get_original("os", "close")(writing)
        with os.fdopen(reading, "rb") as file:
            answer = json.loads(file.read())
        get_original("os", "waitpid")(child, 0)
        assert "error" not in answer, answer
        self.log = answer["log"]
        return answer["result"]

    def start(self) -> Any:
        """A start of the service: id, state and error of each recording it completes."""
        return self.run(SERVICE, self._start)

    def _start(self) -> Any:
        storage = Storage(self.data)
        storage.prepare()
        check(Settings(data_dir=self.data), storage)
        keys.link_key(self.data)
        told: list[Recording] = []
        with held(self.data), held(storage.spool_dir, "spool_dir", shared=True):
            clear(Quarantine(self.data / "quarantine"), lambda: torn(storage))
            recovery = Recovery(storage, lambda one: None, lambda one, pausing: told.append(one), quiet=0.0)
            recovery.find()
            list(recovery.run())
        return [[one.recording_id, one.state.value, one.error] for one in told]

    def announce(self, *names: str) -> None:
        def announce() -> None:
            for name in names:
                Storage(self.data).announce(begun(name))

        self.run(SERVICE, announce)

    @property
    def key(self) -> bytes:
        return (self.data / "link.key").read_bytes()

    def copies_of_key(self) -> list[Path]:
        own = self.data / "link.key"
        found = (path for path in self.data.rglob("*") if path.is_file() and not path.samefile(own))
        return [path for path in found if self.key.strip() in path.read_bytes()]


@pytest.fixture
def users() -> Iterator[Users]:
    # pytest's own folders are root's alone.
    folder = Path(tempfile.mkdtemp(prefix="esl-record-users-"))
    os.chown(folder, SERVICE, SHARED)
    folder.chmod(0o755)
    users = Users(folder)
    users.start()
    yield users
    shutil.rmtree(folder)


def test_the_switch_can_write_the_spool_folder_and_nothing_else(users: Users) -> None:
    users.announce(ONE)
    attempts: dict[str, Callable[[], object]] = {
        "spool": lambda: (users.spool / "x.raw").write_bytes(b"call"),
        "key": lambda: users.key,
        "pending": lambda: list((users.data / "pending").iterdir()),
        "sidecar": (users.data / "pending" / f"{ONE}.json").stat,
        "data": (users.data / "x").touch,
        "recordings": (users.data / "recordings" / "x").touch,
        "replaced": lambda: users.spool.rename(users.data / "away"),
        "lock": lambda: (users.spool / ".lock").open("r+"),
    }

    def refused() -> list[str]:
        found = []
        for name, attempt in attempts.items():
            try:
                attempt()
            except PermissionError:
                found.append(name)
        return found

    assert users.run(SWITCH, refused) == ["key", "pending", "sidecar", "data", "recordings", "replaced", "lock"]
    assert (users.spool / "x.raw").stat().st_gid == SHARED
    assert users.run(SERVICE, (users.spool / "x.raw").read_text) == "call"
    others = [path for path in users.data.rglob("*") if path.lstat().st_mode & 0o007 and path.name != "x.raw"]
    assert others == []


def test_a_link_to_the_key_in_place_of_a_spool_gives_nothing_away(users: Users) -> None:
    users.announce(ONE, TWO)

    def put() -> None:
        (users.spool / f"{ONE}.raw").symlink_to(users.data / "link.key")
        (users.spool / f"{TWO}.raw").write_bytes(bytes(1600))

    users.run(SWITCH, put)
    told = users.start()
    assert [one[:2] for one in told] == [[ONE, "error"], [TWO, "finished"]]
    assert "is a symbolic link, no regular file" in told[0][2]
    assert users.copies_of_key() == []


def test_what_the_switch_puts_into_the_spool_neither_stops_a_start_nor_makes_a_recording(users: Users) -> None:
    def put() -> None:
        forged = begun(ONE, status_url="http://127.0.0.1:9/").model_dump_json()
        (users.spool / f"{ONE}.json").write_text(forged)
        (users.spool / f"{ONE}.raw").write_bytes(bytes(1600))
        (users.spool / "x.json").write_text(forged.replace(ONE, "x/../../.."))
        (users.spool / f".{ONE}.json.part").symlink_to(users.data / "link.key")
        os.mkfifo(users.spool / f"{TWO}.raw")
        os.mkfifo(users.spool / f"{TWO}.json")
        (users.spool / ".lock").rename(users.spool / "taken")
        (users.spool / ".lock" / "full").mkdir(parents=True)

    users.run(SWITCH, put)
    key = users.key
    assert users.start() == []
    assert users.key == key
    assert list((users.data / "recordings").iterdir()) == []
    kept = {path.name for path in (users.data / "quarantine").iterdir()}
    assert {f"{ONE}.json", f"{ONE}.raw", "x.json"} <= kept
    assert (users.data / "quarantine").stat().st_mode & 0o777 == 0o700
    assert users.log.count("it stays: spool ") == 3
    assert f"{TWO}.raw: is a FIFO, no regular file" in users.log


def test_a_pause_overwrites_no_file_of_the_service(users: Users) -> None:
    """The name under which the sidecar was written was known, and in the shared folder."""
    key = users.key

    def put() -> None:
        for name in (f".{ONE}.json.part", f"{ONE}.json"):
            (users.spool / name).symlink_to(users.data / "link.key")

    users.run(SWITCH, put)
    users.announce(ONE)
    users.announce(ONE)
    assert users.key == key


def test_the_quarantine_takes_no_second_name(users: Users) -> None:
    """Where the kernel lets anybody link to files he cannot read."""
    os.link(users.data / "link.key", users.spool / "stray.raw")
    users.start()
    assert "stray.raw: is a file with 2 names" in users.log
    (users.spool / "stray.raw").unlink()
    assert users.copies_of_key() == []
