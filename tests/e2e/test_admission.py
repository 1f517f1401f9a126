"""A service that wants a secret: calls that have it are recorded, and it is written nowhere; others go on."""

from collections.abc import Iterator

import pytest
from phones import SECRET, Dialled, Phone
from running import RunningService

from esl_record.recording.machine import State
from esl_record.standin import voice


def traces(service: RunningService) -> list[str]:
    """The files under the service's folder, its log among them, with the secret in them."""
    files = [path for path in service.folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.fixture
def own(phone: Phone, own_service: RunningService) -> Iterator[RunningService]:
    own_service.settings["socket_secrets"] = f"0123456789abcdef,{SECRET}"
    own_service.start()
    phone.service = own_service
    yield own_service
    assert own_service.stop() == 0
    assert traces(own_service) == []


def test_a_call_with_the_secret_is_recorded(phone: Phone, own: RunningService) -> None:
    own.document("held", "answer", {"record_call": {}}, {"sleep": 60000})
    live = phone.dial(Dialled("held", voice.say(1.0), secret=True))
    own.wait(lambda: list(own.data.glob("calls/*")), "the checkpoint")
    own.wait(lambda: "begun" in own.log, "the recording")
    calls = own.get("/api/v1/calls")
    assert len(calls.json()["data"]) == 1
    assert SECRET not in calls.text
    assert traces(own) == []
    live.hang_up()
    assert live.end().recording.state is State.FINISHED


def test_a_call_without_it_goes_on_in_its_dialplan(phone: Phone, own: RunningService) -> None:
    own.document("held", "answer", {"record_call": {}}, {"sleep": 60000})
    ended = phone.call(Dialled("held"))
    assert ended.went_on
    assert ended.variables["esl_record_refused"] == "secret"
    assert "refused: no valid secret in its variable esl_record_secret" in own.log
    assert ended.recordings == []
