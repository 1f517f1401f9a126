"""The examples of SignalWire's reference pages, run on whole calls: each does what its page says it does.

They run as they stand there, with a server of this test for every host. All calls are made at once and in real time.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import requests
import soundfile
from following import following
from hearing import loud, loud_seconds, seconds_besides
from page_calls import EXAMPLES, Check, Example, Outcome, example, run
from pages import HERTZ, LEVEL, PAGES, Asked, Server, play
from phones import FreeSwitchPhone, Phone, StandInPhone
from running import RunningService
from test_control import OPEN, level, tone

from esl_record.esl.inbound import Inbound
from esl_record.esl.session import SPEECH
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import Format
from esl_record.standin import voice

pytestmark = pytest.mark.slow

SLEEPS = {"sleep": 1500}

PARTIES = """<include>
<extension name="takes"><condition field="destination_number" expression="^(\\+1555\\d+|bob|agent2|backup|fallback)$">
  <action application="socket" data="{service} async full"/></condition></extension>
<extension name="busy"><condition field="destination_number" expression="^(alice|agent1|primary)$">
  <action application="socket" data="{service}-busy async full"/></condition></extension>
</include>
"""
"""Those whom the pages connect a call with, on a real switch: the first of several is busy. On the stand-in all take
the call."""


# ---- record


@example("record: Record some audio and play it back", says=voice.say(9.0))
def what_was_said_until_the_silence_is_played_back(call: Outcome) -> None:
    assert call.sounds == [
        "Start speaking after the beep. Press hash to end recording.",
        "tone",
        "Recording success. Playing back recording:",
        call.variable("record_url"),
    ]
    recording = call.ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert requests.get(call.variable("record_url"), timeout=10).content == call.ended.audio.read_bytes()
    assert call.hears_again(call.ended.samples[:, 0])


@example("record: Record some audio and play it back", says=voice.say(30.0), presses=(("tone", "#"),), as_json=True)
def the_hash_key_ends_the_recording(call: Outcome) -> None:
    assert call.sounds[2:] == ["Recording success. Playing back recording:", call.variable("record_url")]
    assert call.ended.recording.end_reason is EndReason.TERMINATOR


# ---- record_call and stop_record_call


@example("record_call: Start an MP3 recording of the call")
def a_call_that_is_never_answered_is_not_recorded(call: Outcome) -> None:
    assert call.ended.recordings == []
    assert call.variable("record_call_result") == "success"


@example("record_call: Start an MP3 recording of the call", around=(["answer"], [SLEEPS]), says=tone(OPEN, 10.0))
def the_recording_is_an_mp3_file(call: Outcome) -> None:
    assert call.ended.recording.format is Format.MP3
    assert soundfile.info(call.ended.audio).format == "MP3"
    assert call.ended.recording.duration > 1.0
    assert level(call.ended.samples[:, 0], OPEN) > 2000


def plays_the_message_back(call: Outcome) -> None:
    url = call.variable("record_call_url")
    assert call.sounds == ["tone", "Leave your message now", "silence:10", "Playing back", url]
    assert call.ended.recording.end_reason is EndReason.STOP
    assert call.ended.recording.duration > 10.0
    assert requests.get(url, timeout=10).content == call.ended.audio.read_bytes()
    assert level(call.ended.samples[:, 0], OPEN) > 2000
    # Nothing else that is played has this frequency.
    assert not call.fetches or level(call.heard, OPEN) > 1000


@example("record_call: Record both sides of the conversation and play back", says=tone(OPEN, 40.0))
def caller_and_prompt_are_recorded_and_played_back(call: Outcome) -> None:
    plays_the_message_back(call)
    assert seconds_besides(call.ended.samples[:, 0], OPEN) >= 0.5


@example("record_call: Record only the speaker's side and play back", says=tone(OPEN, 40.0), as_json=True)
def the_caller_alone_is_recorded_and_played_back(call: Outcome) -> None:
    plays_the_message_back(call)
    assert not seconds_besides(call.ended.samples[:, 0], OPEN)


@example("stop_record_call: Stop last call recording")
def there_is_nothing_to_stop(call: Outcome) -> None:
    assert call.variable("stop_record_call_result") == "failed"
    assert not call.ended.recordings


def began(*names: str) -> list[Any]:
    return ["answer", *({"record_call": {"control_id": name}} for name in names), SLEEPS]


def reasons(call: Outcome) -> dict[str, EndReason | None]:
    return {recording.control_id: recording.end_reason for _, recording in call.ended.recordings}


@example("stop_record_call: Stop last call recording", around=(began("one", "two"), [SLEEPS]))
def the_recording_started_last_is_stopped(call: Outcome) -> None:
    assert reasons(call) == {"one": EndReason.HANGUP, "two": EndReason.STOP}
    assert call.variable("stop_record_call_result") == "success"


@example("stop_record_call: Stop a specific call recording", around=(began("my-recording-id", "other"), [SLEEPS]))
def the_recording_of_that_name_is_stopped(call: Outcome) -> None:
    assert reasons(call) == {"my-recording-id": EndReason.STOP, "other": EndReason.HANGUP}
    assert call.variable("stop_record_call_result") == "success"


# ---- play


@example("play: Playing a single URL")
def the_sound_is_heard(call: Outcome) -> None:
    assert call.sounds == ["audio"]
    assert level(call.heard, HERTZ) > LEVEL / 2


SEVERAL = ["audio", "this is something to say", "silence:3", "tone"]


@example("play: Playing multiple URLs")
def sounds_are_heard_one_after_the_other(call: Outcome) -> None:
    assert call.sounds == SEVERAL
    # Ten seconds of the ring of the United States: two of tone, four of silence, the tone again.
    assert loud_seconds(call.heard, 440.0) == pytest.approx(4.0, abs=0.5)


@example("play: Playing multiple URLs with volume adjusted")
def sounds_are_heard_louder(call: Outcome) -> None:
    assert call.sounds == SEVERAL
    assert not call.real or level(call.heard, HERTZ) > 2 * LEVEL


def voices(call: Outcome) -> list[str]:
    return [one.argument.split("|")[1] for one in call.executed if one.argument.startswith(SPEECH)]


@example("play: A voice for all that is spoken")
def everything_is_said_with_that_voice(call: Outcome) -> None:
    assert call.sounds == ["Hi, do I sound different?", "I don't, do I?"]
    assert voices(call) == ["rms", "rms"]


@example("play: A voice for just one instance")
def one_thing_is_said_with_that_voice(call: Outcome) -> None:
    assert call.sounds == ["Hi, do I sound different?", "I was down with the flu"]
    assert voices(call) == ["rms", "slt"]


# ---- cond and switch

MENU = "Press 1 to listen to music; 2 to hear your phone number; and anything else to hang up"


@example("cond: Tell the caller what he's calling from", as_json=True)
def the_caller_is_told_to_be_calling_from_sip(call: Outcome) -> None:
    assert call.sounds == ["You're calling from SIP."]


@example("cond: Perform tasks based on user input", presses=((MENU, "1"), (MENU, "3")))
def music_is_played_and_the_menu_begins_again_until_another_key(call: Outcome) -> None:
    assert call.sounds == [MENU, "April_Kisses", MENU]


@example("switch: On the type of the call")
def the_case_of_the_type_is_taken(call: Outcome) -> None:
    assert call.sounds == ["You're calling from SIP."]


@example("switch: On a parameter", as_json=True)
def the_case_of_the_parameter_is_taken(call: Outcome) -> None:
    assert call.sounds == ["yup, math works!"]


# ---- goto


@example("goto: Loop with max")
def the_speech_is_repeated_four_times(call: Outcome) -> None:
    assert call.sounds == ["This speech will be repeated 4 times."] * 4


@example("goto: Loop if a condition is satisfied", as_json=True)
def the_text_is_repeated_four_times(call: Outcome) -> None:
    assert call.sounds == ["This is some text that will be repeated 4 times."] * 4


# ---- execute


@example("execute: Executing a subroutine")
def the_subroutine_plays_its_parameter(call: Outcome) -> None:
    assert call.sounds == ["April_Kisses"]
    assert level(call.heard, HERTZ) > LEVEL / 2


@example("execute: Executing a subroutine and branching on return", as_json=True)
def the_branch_of_the_sum_is_taken(call: Outcome) -> None:
    assert call.sounds == ["Math works!"]


CALL = {
    *("call_id", "node_id", "call_state", "direction", "type", "from", "to", "from_number", "to_number"),
    *("project_id", "space_id", "segment_id", "headers"),
}
"""What the pages show of the call."""


def of_type(asked: Asked) -> str:
    return play(f"The call type is {asked.body['call']['type']}")


@example(
    "execute: Execute a SWML script hosted on a server",
    serves=of_type,
    around=([], [{"play": {"url": "say:Back!"}}]),
)
def the_script_of_the_server_is_run_as_a_subroutine(call: Outcome) -> None:
    assert call.sounds == ["The call type is sip", "Back!"]
    (asked,) = call.asked
    assert asked.method == "POST"
    assert asked.body["call"]["call_state"] == "answered"
    assert asked.body["call"]["call_id"] == call.ended.uuid
    assert asked.body["vars"] == {"answer_result": "success"}
    assert asked.body["params"] == {"some_info": 12345}
    assert asked.body["call"].keys() >= CALL


# ---- transfer


@example("transfer: Basic transfer to a URL", serves=lambda _: play("This is the next script"))
def the_script_of_the_server_is_run(call: Outcome) -> None:
    assert [(asked.method, asked.path.rpartition("/")[2]) for asked in call.asked] == [("POST", "next")]
    assert call.sounds == ["This is the next script"]


@example("transfer: Basic transfer to a section", as_json=True)
def nobody_comes_back_from_the_section(call: Outcome) -> None:
    assert call.sounds == ["Transferring you to another section", "inside a subsection"]


def with_foo(asked: Asked) -> str:
    return play(f"The value of foo is {asked.body['params']['foo']}")


@example("transfer: Named parameter with sub-parameters", serves=with_foo)
def the_server_is_sent_the_parameters(call: Outcome) -> None:
    assert [asked.body["params"] for asked in call.asked] == [{"foo": "bar"}]
    assert call.sounds == ["The value of foo is bar"]


DEPARTMENTS = (
    "Press 1 to be transfered to the Sales department, 2 for marketing department or anything else to listen to some "
    "music."
)


def welcome(asked: Asked) -> str:
    return play(f"Welcome to the {asked.body['params']['where']} department.")


def transferred(key: str) -> Callable[[Check], Check]:
    return example(
        "transfer: Transfer to a SWML script hosted on a server", serves=welcome, presses=((DEPARTMENTS, key),)
    )


@transferred("2")
def the_caller_is_transferred_to_marketing(call: Outcome) -> None:
    assert call.sounds == [DEPARTMENTS, "Welcome to the marketing department."]
    (asked,) = call.asked
    shown = {"prompt_result": "match_digits", "prompt_value_raw": "2", "prompt_value": "2"}
    assert asked.body["vars"] | shown == asked.body["vars"]
    assert asked.body["params"] == {"where": "marketing"}
    assert asked.body["call"].keys() >= CALL


@transferred("1")
def the_caller_is_transferred_to_sales(call: Outcome) -> None:
    assert call.sounds == [DEPARTMENTS, "Welcome to the sales department."]


@transferred("9")
def anything_else_is_answered_with_music(call: Outcome) -> None:
    assert call.sounds == [DEPARTMENTS, "April_Kisses"]
    assert not call.asked


# ---- prompt


@example("prompt: Play prompt and wait for digit press", presses=(("Input a number", "2"), ("Input a number", "1")))
def the_prompt_is_repeated_until_one_is_pressed(call: Outcome) -> None:
    assert call.sounds == ["Input a number", "You didn't press one", "Input a number", "You pressed one"]


@example("prompt: Using terminators", presses=(("PIN number please", "1234#"),))
def the_terminator_is_told(call: Outcome) -> None:
    assert call.sounds == ["PIN number please", "1234 was terminated by #"]


@example("prompt: Using terminators", presses=(("PIN number please", "675"),))
def a_digit_can_be_a_terminator(call: Outcome) -> None:
    assert call.sounds == ["PIN number please", "67 was terminated by 5"]


@example(
    "prompt: Play prompt and wait for digit or speech",
    presses=(("press_or_say_one", "7"), ("press_or_say_one", "1")),
    serves=lambda _: play("This is the sales department"),
)
def the_digit_one_leads_to_sales(call: Outcome) -> None:
    assert call.sounds == ["press_or_say_one", "bad_input", "press_or_say_one", "This is the sales department"]
    assert [asked.path.rpartition("/")[2] for asked in call.asked] == ["sales.swml"]


@example(
    "prompt: Play prompt and collect digits, then pass the data to an external action",
    presses=(("menu", "7"),),
    serves=lambda asked: play(f"menu {asked.body['vars']['prompt_value']}"),
)
def the_server_is_sent_what_was_pressed(call: Outcome) -> None:
    assert call.sounds == ["menu", "menu 7"]
    assert call.asked[0].body["vars"]["prompt_result"] == "match_digits"


# ---- request, sleep, send_digits


@example(
    "request: Making a GET Request",
    serves=lambda _: json.dumps({"userId": 1, "id": 1, "title": "delectus aut autem", "completed": False}),
)
def a_field_of_the_answer_is_said(call: Outcome) -> None:
    assert [(asked.method, asked.body) for asked in call.asked] == [("GET", None)]
    assert call.sounds == ["the title is: delectus aut autem"]


@example("sleep: Timed Sleep Example")
def the_call_sleeps_five_seconds(call: Outcome) -> None:
    assert [one.application for one in call.executed if one.application != "socket"] == ["sleep"]
    assert 5.0 <= call.seconds_since("sleep") < 7.0


@example("sleep: Forever Sleep Example", hangs_up_after=8.0)
def the_call_sleeps_until_the_caller_hangs_up(call: Outcome) -> None:
    assert call.seconds_since("sleep") > 7.0


@example("send_digits: Send digits")
def the_digits_are_sent(call: Outcome) -> None:
    assert call.sounds == ["success"]
    assert [one.argument for one in call.executed if one.application == "send_dtmf"] == ["012345"]
    assert not call.real or call.dtmf == "012345"


# ---- connect


def connected(call: Outcome, *parties: tuple[str, str, str]) -> None:
    """``parties``: whom the switch was told to call, in this order, and the number and name they are called from, empty
    for the caller's own."""
    told = next(one.argument for one in call.executed if one.application == "bridge")
    places = [told.index(f"/{to}@") for to, _, _ in parties]
    assert places == sorted(places)
    if not call.real:
        return
    for to, number, name in parties:
        saw = {(party["from"] if number else "", party["name"]) for party in call.parties if party["to"] == to}
        assert (number, name or call.caller) in saw
    assert call.variable("connect_result") == "connected"
    assert loud_seconds(call.heard, OPEN) == pytest.approx(2.0, abs=0.3)


@example("connect: Dial a single phone number", hangs_up_after=8.0)
def the_number_is_called_from_the_one_that_is_given(call: Outcome) -> None:
    connected(call, ("+15551231234", "+15553214321", "+15553214321"))


@example("connect: Dial numbers in parallel", hangs_up_after=8.0)
def whoever_answers_first_is_connected(call: Outcome) -> None:
    connected(call, ("+15551231234", "", ""), ("+15553214321", "", ""))


@example("connect: Dial SIP serially with a timeout", hangs_up_after=8.0)
def the_second_address_is_called_where_the_first_is_busy(call: Outcome) -> None:
    connected(call, ("alice", "chris", "chris"), ("bob", "", ""))


@example("connect: Set the caller ID name on SIP legs", hangs_up_after=8.0, as_json=True)
def each_sees_the_name_it_is_to_see(call: Outcome) -> None:
    connected(call, ("agent1", "+15551000001", "Support Team"), ("agent2", "+15551000001", "Billing Dept"))


@example("connect: One SIP address with credentials", hangs_up_after=8.0)
def the_address_is_called(call: Outcome) -> None:
    told = next(one.argument for one in call.executed if one.application == "bridge")
    assert "sip_auth_username=sipuser" in told
    assert "sip_auth_password=s3cret" in told
    if call.real:
        assert (call.variable("connect_result"), call.variable("connect_failed_reason")) == ("failed", "busy")


THEIRS = "+15551112222"


@example("connect: SIP addresses in parallel", hangs_up_after=8.0)
def the_one_that_is_not_busy_is_connected(call: Outcome) -> None:
    connected(call, ("alice", THEIRS, THEIRS), ("bob", THEIRS, THEIRS))


@example("connect: SIP addresses in turn", hangs_up_after=8.0)
def the_one_in_reserve_is_connected(call: Outcome) -> None:
    connected(call, ("primary", THEIRS, THEIRS), ("backup", THEIRS, THEIRS))


@example("connect: SIP addresses in parallel and in turn", hangs_up_after=8.0)
def one_of_the_first_group_is_connected(call: Outcome) -> None:
    connected(call, ("alice", THEIRS, THEIRS), ("bob", THEIRS, THEIRS))


@example("connect: Use connect with a Resource Address", refused=True)
def it_is_not_connected_with_a_resource(call: Outcome) -> None:
    assert not any(one.application == "bridge" for one in call.executed)


@example("connect: Connect to a queue with transfer after bridge", refused=True)
def it_is_not_connected_with_a_queue(call: Outcome) -> None:
    assert not any(one.application == "bridge" for one in call.executed)


@example("connect: Connect to a WebSocket stream", refused=True)
def it_is_not_connected_with_a_stream(call: Outcome) -> None:
    assert not any(one.application == "bridge" for one in call.executed)


# ---- how they are run


def test_every_example_of_the_pages_is_run() -> None:
    there = {f"{page}: {heading}" for page, headings in PAGES.items() for heading in headings}
    assert {one.page for one in EXAMPLES} == there


@pytest.fixture(scope="module")
def outcomes(switch: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What came of the selected examples, by their names."""
    folder = tmp_path_factory.mktemp("reference")
    chosen = [item.callspec.params["one"] for item in request.session.items if item.name.startswith("test_an_example")]
    # In real time: what is said takes its time, and how busy the machine is changes nothing of a call.
    with StandInPhone(1.0) if switch == "standin" else nullcontext(request.getfixturevalue("exchange")) as phone:
        port = phone.sip if isinstance(phone, FreeSwitchPhone) else 5080
        server = Server(folder, f"127.0.0.1:{port}")
        phone.service = service = RunningService(folder / "service")
        service.settings["voices"] = "gcloud.en-US-Neural2-A=flite|rms"
        service.settings["dial_number"] = f"sofia/internal/{{number}}@{server.switch}"
        service.start()
        _introduce_parties(phone, server)
        with following(phone, folder) as follower:
            yield run(chosen, follower, server)
    server.stop()
    service.stop()


def _introduce_parties(phone: Phone, server: Server) -> None:
    service = phone.service
    server.answers["parties"] = lambda _: "{}"
    seen = {"to": "${call.to}", "from": "${call.from}", "name": "${call.from_name}"}
    tells = {"request": {"url": f"{server.url}/parties", "method": "POST", "body": seen}}
    service.document("party", tells, "answer", {"play": f"tone_stream://%(2000,0,{OPEN:g})"})
    service.document("party-busy", tells, {"hangup": "busy"})
    if isinstance(phone, FreeSwitchPhone):
        address = f"127.0.0.1:{service.address[1]}/party"
        (phone.folder / "conf/dialplan/default/02_pages.xml").write_text(PARTIES.format(service=address))
        with Inbound(phone.event_socket, "ClueCon") as inbound:
            inbound.api("reloadxml")


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: f"{one.page}: {one.name}")
def test_an_example(one: Example, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[one.name]
    assert not outcome.late, f"the call did not end; it was played {outcome.sounds[:20]}"
    assert outcome.ended.went_on == one.refused, outcome.ended.variables.get("script_error")
    one.check(outcome)
    speeches = sum(one.argument.startswith(SPEECH) for one in outcome.executed if outcome.speaks)
    assert np.count_nonzero(loud(outcome.heard)) / 50 >= 0.2 * speeches
