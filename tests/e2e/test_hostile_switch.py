"""The switch's user puts other files in place of what it was asked to write, during a call and before a start."""

import os
from pathlib import Path

import gevent
import numpy as np
import pytest
from phones import Dialled, Phone
from running import RunningService
from test_control import live
from test_record import likeness, said

from esl_record.recording.machine import State

NO_LIMITS = {"initial_timeout": 0, "end_silence_timeout": 0, "terminators": "", "max_length": 4}


def recorded(service: RunningService) -> Path:
    """The spool of the one recording that runs, once there is something in it."""

    def spool() -> Path | None:
        for recording in live(service):
            path = service.data / "spool" / f"{recording['recording_id']}.raw"
            if path.exists() and path.stat().st_size > 8000:
                return path
        return None

    found: Path = service.wait(spool, "a recording")
    return found


def link(path: Path, key: Path) -> None:
    path.symlink_to(key)


def second_name(path: Path, key: Path) -> None:
    path.hardlink_to(key)


# At a FIFO the real switch stops itself, as it opens the file once more at the end of its tap.
@pytest.mark.parametrize("put", [link, second_name])
def test_what_takes_the_place_of_a_spool_during_its_call_is_not_in_the_recording(
    phone: Phone, own_service: RunningService, put: object
) -> None:
    assert callable(put)
    service = phone.service = own_service
    service.start()
    key = service.data / "link.key"
    before = key.read_bytes()
    document = service.document("long", "answer", {"record": {**NO_LIMITS, "control_id": "r"}}, "hangup")
    voice = said(5.0, lead=0.0)
    call = phone.dial(Dialled(document, voice))
    path = recorded(service)
    path.unlink()
    put(path, key)
    for name in (f".{path.stem}.json.part", f"{path.stem}.json"):
        (path.parent / name).symlink_to(key)
    (one,) = live(service)
    for command, params in (("pause", {"behavior": "silence"}), ("resume", {})):
        answer = service.command(f"calling.record.{command}", one["call_id"], control_id="r", **params)
        assert answer.status_code == 200, answer.text
    service.wait(lambda: f"spool {path}: is " in service.log, "the line that names what is there")
    assert os.path.lexists(path)
    for planted in (service.data / "spool").glob("[!.]*"):
        planted.unlink()
    for planted in (service.data / "spool").glob(".*.part"):
        planted.unlink()
    ended = call.end()
    assert ended.recording.state is State.FINISHED
    assert ended.recording.duration >= 4.0
    assert likeness(ended.samples[:, 0], voice[: len(voice) // 2]) > 0.3
    assert key.read_bytes() == before
    assert not any(before.strip() in file.read_bytes() for file in service.data.glob("recordings/*/*/*/*"))


def test_what_takes_its_place_while_no_service_runs_ends_the_recording_in_error(
    phone: Phone, own_service: RunningService
) -> None:
    service = phone.service = own_service
    service.settings["stall_timeout"] = 1
    service.start()
    document = service.document("long", "answer", {"record": {**NO_LIMITS, "max_length": 60}}, "hangup")
    call = phone.dial(Dialled(document, np.tile(said(5.0, lead=0.0), 4), patience=60.0))
    path = recorded(service)
    service.kill()
    path.rename(path.with_name("theirs"))
    path.symlink_to(service.data / "link.key")
    call.hang_up()
    gevent.sleep(0.1)
    service.start()
    service.wait(lambda: list(service.data.glob("recordings/*/*/*/*.json")), "the recording")
    (found,) = service.data.glob("recordings/*/*/*/*")
    assert "is a symbolic link, no regular file" in found.read_text()
    assert path.is_symlink()
