"""A call that is handed back leaves nothing behind: the dialplan's next action runs its own document."""

import pytest
from phones import Dialled, Ended, Phone
from running import RunningService
from test_control import NO_LIMITS

from esl_record.recording.machine import State
from esl_record.standin import voice

BACKGROUND = {"record_call": {"control_id": "first"}}
FAILS = {"transfer": "${call.to}-nowhere"}
FIRST = {
    "fails beside a recording": ["answer", BACKGROUND, {"sleep": 500}, FAILS],
    "fails behind a recording": ["answer", {"record": {**NO_LIMITS, "max_length": 0.5, "control_id": "first"}}, FAILS],
    "fails within a section": ["answer", BACKGROUND, {"execute": "inner"}],
}


@pytest.fixture
def own(phone: Phone, own_service: RunningService) -> RunningService:
    (own_service.folder / "handlers").mkdir()
    own_service.settings["handlers"] = own_service.folder / "handlers"
    own_service.start()
    phone.service = own_service
    return own_service


def made(ended: Ended) -> list[tuple[str, str, State]]:
    """Control id, document and state of the recordings of the call, the first first."""
    recordings = sorted((one for _, one in ended.recordings), key=lambda one: one.start_time)
    return [(one.control_id, one.document, one.state) for one in recordings]


def kept(service: RunningService) -> list[str]:
    """What is kept of calls under way."""
    return [path.name for path in service.data.glob("calls/*")]


@pytest.mark.parametrize("steps", FIRST.values(), ids=FIRST)
def test_behind_a_document_that_fails_the_next_one_runs(phone: Phone, own: RunningService, steps: list[object]) -> None:
    own.document("one", *steps, inner=[{"sleep": 300}, FAILS])
    own.document("two", {"record": {**NO_LIMITS, "max_length": 1.0, "control_id": "second"}}, "hangup")
    ended = phone.call(Dialled("one", voice.say(20.0), then="two"))
    assert made(ended) == [("first", "one", State.FINISHED), ("second", "two", State.FINISHED)]
    assert ended.variables["script_error"] == "relay_script_method_parameter_invalid_value"
    assert not ended.went_on
    assert own.log.count("the dialplan goes on") == 1
    own.wait(lambda: not kept(own), "its checkpoint to be removed")


def test_two_documents_that_fail_are_run_once_each(phone: Phone, own: RunningService) -> None:
    own.document("one", "answer", BACKGROUND, {"sleep": 300}, FAILS)
    own.document("two", {"record_call": {"control_id": "second"}}, {"sleep": 300}, FAILS)
    ended = phone.call(Dialled("one", voice.say(20.0), then="two"))
    assert made(ended) == [("first", "one", State.FINISHED), ("second", "two", State.FINISHED)]
    assert ended.went_on
    assert own.log.count("the dialplan goes on") == 2
    own.wait(lambda: not kept(own), "its checkpoint to be removed")


def test_behind_a_handler_a_document_runs(phone: Phone, own: RunningService) -> None:
    (own.folder / "handlers" / "one.py").write_text(
        """
def handler(session, args):
    session.answer()
    session.record(control_id="first", max_length=0.5, initial_timeout=0, end_silence_timeout=0)
"""
    )
    own.document("two", {"record": {**NO_LIMITS, "max_length": 1.0, "control_id": "second"}}, "hangup")
    ended = phone.call(Dialled("python/one", voice.say(20.0), then="two"))
    assert made(ended) == [("first", "python/one", State.FINISHED), ("second", "two", State.FINISHED)]
    assert not ended.went_on
    own.wait(lambda: not kept(own), "its checkpoint to be removed")
