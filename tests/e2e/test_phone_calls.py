"""Calls as phones make them: held, transferred, encrypted. Every 20 ms said is looked for in the file.

Each test is a call of a SIP phone to a real FreeSWITCH, whose dialplan hands it to the service.
"""

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import phones
import pytest
import soundfile
from alignment import RATE, Comparison, compare, spoken, tone
from gevent.event import Event as Flag
from handset import SipPhone
from numpy.typing import NDArray
from phones import FreeSwitchPhone
from running import PATIENCE, RunningService, free_port

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl import wire
from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.standin import voice

pytestmark = pytest.mark.slow

if phones.placed_by != "freeswitch" or not shutil.which("freeswitch") or not importlib.util.find_spec("pjsua2"):
    pytest.skip(
        "calls of SIP phones need --switch=freeswitch, `freeswitch` on PATH and `pip install pjsua2-python`",
        allow_module_level=True,
    )

FIXED = {"initial_timeout": 0, "end_silence_timeout": 0, "terminators": "#"}
"""Limits of a `record` that nothing but its length or a digit ends."""

STALLED = 11.0
"""Seconds: longer than the service waits for a switch that writes nothing."""

PACKETS = 60.0
"""Milliseconds a switch may lose or add where media begins, stops or is connected otherwise: three packets."""

REINVITE = 300.0
"""Milliseconds of silence or loss around a re-INVITE: the phone makes its media anew."""

ANN, BOB = spoken(60, seed=1), spoken(60, seed=2)
"""What the caller says, and who is called."""

MODULES = """<load module="mod_conference"/><load module="mod_hash"/></modules>"""

CONFERENCE = """<configuration name="conference.conf"><advertise/><caller-controls/><profiles>
  <profile name="default"><param name="rate" value="16000"/><param name="comfort-noise" value="false"/></profile>
</profiles></configuration>
"""

DIALPLAN = """<include>
<extension name="variable">
  <condition field="destination_number" expression="^var\\.([A-Za-z_]+)\\.([A-Za-z0-9_]+)\\.(\\d+)\\.(.*)$">
  <action application="set" data="$1=$2"/>
  <action application="socket" data="127.0.0.1:$3/$4 async full"/>
  <action application="hangup" data="SUBSCRIBER_ABSENT"/></condition></extension>
<extension name="tones"><condition field="destination_number" expression="^dtmf-(\\d+)-(.*)$">
  <action application="answer"/><action application="start_dtmf"/>
  <action application="socket" data="127.0.0.1:$1/$2 async full"/></condition></extension>
<extension name="tone_500"><condition field="destination_number" expression="^5555$">
  <action application="answer"/><action application="playback" data="tone_stream://L=100;%(1000,0,500)"/></condition></extension>
<extension name="tone_700"><condition field="destination_number" expression="^5556$">
  <action application="answer"/><action application="playback" data="tone_stream://L=100;%(1000,0,700)"/></condition></extension>
<extension name="rings"><condition field="destination_number" expression="^5557$">
  <action application="ring_ready"/><action application="sleep" data="4000"/><action application="answer"/>
  <action application="playback" data="tone_stream://L=100;%(1000,0,500)"/></condition></extension>
<extension name="bridged_700"><condition field="destination_number" expression="^6556$">
  <action application="answer"/><action application="bridge" data="sofia/internal/5556@127.0.0.1:@SIP@"/>
  </condition></extension>
<extension name="room"><condition field="destination_number" expression="^room-(.*)$">
  <action application="answer"/><action application="conference" data="$1@default"/></condition></extension>
</include>
"""


class Lab(FreeSwitchPhone):
    """A switch with what these calls need, and the service that records them."""

    def __init__(self, folder: Path, service: RunningService) -> None:
        super().__init__(folder)
        self.service = service
        # Where the service looks for it since its start.
        host, port = str(service.settings["event_socket"]).split(":")
        self.event_socket = (host, int(port))
        self.late_sip = free_port()
        """Port of the profile that negotiates late."""
        self.names = count(1)

    def configure(self, conf: Path) -> None:
        sofia = conf / "autoload_configs/sofia.conf.xml"
        text = sofia.read_text()
        start, end = text.index('<profile name="internal">'), text.index("</profiles>")
        # Digits by INFO are taken in a call that has others, too.
        internal = text[start:end].replace("</settings>", '<param name="liberal-dtmf" value="true"/></settings>')
        late = internal.replace('"internal"', '"late"').replace(str(self.sip), str(self.late_sip))
        late = late.replace("</settings>", '<param name="inbound-late-negotiation" value="true"/></settings>')
        sofia.write_text(text[:start] + internal + late + text[end:])
        modules = conf / "autoload_configs/modules.conf.xml"
        modules.write_text(modules.read_text().replace("</modules>", MODULES))
        (conf / "autoload_configs/conference.conf.xml").write_text(CONFERENCE)
        (conf / "dialplan/default/01_ordinary.xml").write_text(DIALPLAN.replace("@SIP@", str(self.sip)))

    @contextmanager
    def phone(self, name: str, **options: Any) -> Iterator[SipPhone]:
        """A phone with a number of its own."""
        with SipPhone(f"{name}-{next(self.names)}", **options) as phone:
            yield phone

    def uri(self, extension: str, *, port: int = 0) -> str:
        return f"sip:{extension}@127.0.0.1:{port or self.sip}"

    def extension(self, *steps: object, kind: str = "doc") -> str:
        """What is dialled for a document of these steps; `kind` may set a channel variable, as `var.NAME.VALUE`."""
        name = self.service.document(f"ordinary{next(self.names)}", *steps)
        delimiter = "." if kind.startswith("var.") else "-"
        return delimiter.join([kind, str(self.service.address[1]), name])

    @contextmanager
    def recorded(self, ann: SipPhone, *steps: object, kind: str = "doc", late: bool = False) -> Iterator["Call"]:
        """A call of `ann` to a document of these steps, from its first recording on."""
        with Inbound(self.event_socket, "ClueCon") as switch:
            call = Call(self, switch, ann)
            ann.call(self.uri(self.extension(*steps, kind=kind), port=self.late_sip if late else 0))
            try:
                yield call
            finally:
                # One that failed is not to trouble the next.
                with suppress(CommandRefused, CallGone):
                    switch.api("hupall")
                self.service.wait(lambda: not self.service.spooled(), "the spool to be emptied")


class Call:
    """A recorded call, seen over the switch's event socket. Positions are seconds since `speak`."""

    EVENTS = "RECORD_START CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CODEC"

    def __init__(self, lab: Lab, switch: Inbound, ann: SipPhone) -> None:
        self.lab = lab
        self.switch = switch
        self.ann = ann
        self.uuid = ""
        self.events: list[tuple[float, wire.Event]] = []
        self._changed = Flag()
        switch.listen(self._on_event)
        switch.send(f"event plain {self.EVENTS}")

    def _on_event(self, event: wire.Event) -> None:
        # A number tells the leg: the one that comes from the phone has its name.
        if event.get("Caller-Caller-ID-Number") == self.ann.name and event.get("Call-Direction") == "inbound":
            self.uuid = self.uuid or event.get("Unique-ID")
        self.events.append((time.monotonic(), event))
        self._changed.set()

    def wait(self, name: str, uuid: str = "", timeout: float = PATIENCE) -> float:
        """When the first such event of the recorded leg, or of another, came."""
        with gevent.Timeout(timeout, AssertionError(f"no {name}; the service:\n{self.lab.service.log[-3000:]}")):
            while True:
                self._changed.clear()
                for at, event in self.events:
                    if event.name == name and event.get("Unique-ID") == (uuid or self.uuid):
                        return at
                self._changed.wait()

    def begun(self) -> float:
        """When the recording had begun."""
        return self.wait("RECORD_START")

    def bridged(self) -> None:
        self.wait("CHANNEL_BRIDGE")

    def under_way(self, ann: SipPhone, bob: SipPhone) -> float:
        """When the recording of a call that connects the two had begun; then both speak."""
        self.bridged()
        begun = self.begun()
        self.say(ann, ANN)
        self.say(bob, BOB)
        return begun

    def say(self, phone: SipPhone, samples: NDArray[np.int16]) -> float:
        """Let a phone speak; gives when it began."""
        path = self.lab.folder / f"{phone.name}.wav"
        soundfile.write(path, samples, RATE, "PCM_16")
        phone.do("play", path=str(path))
        return time.monotonic()

    def talk(self, seconds: float) -> None:
        """The call goes on for so long."""
        gevent.sleep(seconds)

    def ended(self) -> "Taken":
        """The recordings, once the recorded leg has gone and they are complete."""
        at = self.wait("CHANNEL_HANGUP_COMPLETE", timeout=PATIENCE * 2)
        service = self.lab.service
        service.wait(lambda: not service.spooled(), "the spool to be emptied")
        return Taken(service.recordings(self.uuid), at)

    def hang_up(self) -> "Taken":
        self.ann.hang_up()
        return self.ended()


class Taken:
    """What was recorded of a call that ended at `at`."""

    def __init__(self, recordings: list[tuple[Path, Recording]], at: float) -> None:
        assert len(recordings) == 1, recordings
        self.at = at
        self.path, self.recording = recordings[0]
        audio = self.recording.audio(self.path)
        assert audio is not None, self.recording
        self.samples, self.rate = soundfile.read(audio, dtype="int16", always_2d=True)
        assert self.rate == self.recording.sample_rate

    @property
    def right(self) -> NDArray[np.int16]:
        """What the party hears."""
        heard: NDArray[np.int16] = self.samples[:, 1]
        return heard

    def compare(self, said: NDArray[np.int16], channel: int = 0, *, until: float | None = None) -> Comparison:
        """`until` is in seconds of the recording."""
        end = None if until is None else round(until * self.rate)
        return compare(said, self.samples[:end, channel], self.rate)

    def finished(self, reason: EndReason = EndReason.HANGUP) -> "Taken":
        """It ended well, and is as long as it says."""
        one = self.recording
        assert (one.state, one.end_reason, one.error) == (State.FINISHED, reason, "")
        assert len(self.samples) / self.rate == pytest.approx(one.duration, abs=0.001)
        return self

    def lasted(self, begun: float, tolerance: float = 0.4) -> "Taken":
        """Its length is the wall time from its beginning to the end of the call."""
        assert self.recording.duration == pytest.approx(self.at - begun, abs=tolerance)
        return self


def whole(comparison: Comparison, *, seconds: float, jump: float = PACKETS, other: int = 60, silent: int = 200) -> None:
    """All of it was said, at the right speed and in its place; `seconds` at least, but for the silence before and
    behind it. `silent` is how long a silence within may be, `other` how much may be neither."""
    assert comparison.said >= seconds * 1000 - 300, str(comparison)
    assert all(abs(one) <= jump for one in comparison.jumps), str(comparison)
    assert comparison.other <= other, str(comparison)
    first, last = comparison.heard[0].start, comparison.heard[-1].end
    assert not [one for one in comparison.silences(silent) if first <= one[0] and one[1] <= last], str(comparison)


def aligned(comparison: Comparison, tolerance: float = PACKETS) -> None:
    """Everything that is there is where it was said, whatever is silent in between."""
    offsets = [stretch.offset for stretch in comparison.heard if stretch.offset is not None]
    assert offsets, str(comparison)
    assert max(offsets) - min(offsets) <= tolerance, str(comparison)


def silent_once(comparison: Comparison, seconds: float, tolerance: float = 0.5) -> None:
    """There is one silence within what was said, of about that length, and speech before and behind it."""
    first, last = comparison.heard[0].start, comparison.heard[-1].end
    inner = [one for one in comparison.silences(400) if first <= one[0] and one[1] <= last]
    assert len(inner) == 1, str(comparison)
    assert (inner[0][1] - inner[0][0]) / 1000 == pytest.approx(seconds, abs=tolerance), str(comparison)


def connect(to: str, **params: object) -> dict[str, Any]:
    return {"connect": {"to": to, "from": "+15550123", **params}}


STEREO = {"record_call": {"stereo": True}}


@pytest.fixture(scope="module")
def lab(switch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if switch != "freeswitch" or importlib.util.find_spec("pjsua2") is None:
        pytest.skip("ordinary calls need a phone and a switch: pip install pjsua2-python, and --switch=freeswitch")
    service = RunningService(tmp_path_factory.mktemp("service"))
    with Lab(tmp_path_factory.mktemp("lab"), service) as lab:
        service.settings["event_socket"] = "{}:{}".format(*lab.event_socket)
        service.start()
        service.wait(lambda: "connected" in service.log, "the service to reach the switch")
        yield lab
        service.kill()


# ---- hold


@pytest.mark.parametrize("kind", ["sendonly", "inactive", "address", "uuid_hold"])
def test_the_caller_holds(lab: Lab, kind: str) -> None:
    """By a re-INVITE of its phone, or by the switch's command `uuid_hold`."""
    with (
        lab.phone("ann", hold_address=kind == "address") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        held = time.monotonic()
        if kind == "uuid_hold":
            call.switch.api(f"uuid_hold {call.uuid}")
            call.talk(STALLED)
            call.switch.api(f"uuid_hold off {call.uuid}")
        else:
            ann.reinvite("inactive" if kind == "inactive" else "hold")
            call.talk(STALLED)
            ann.reinvite("unhold")
        held = time.monotonic() - held
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    left, right = taken.compare(ANN), taken.compare(BOB, 1)
    aligned(left)
    aligned(right)
    silent_once(left, held)
    (hold,) = taken.recording.holds
    assert not hold.far
    assert hold.end - hold.start == pytest.approx(held, abs=1.0)
    (gap,) = [one for one in taken.recording.gaps if one[1] - one[0] > 1]
    assert gap[1] - gap[0] == pytest.approx(held, abs=1.0)
    assert left.said >= 5500, str(left)
    assert right.said >= 5500, str(right)


def test_the_far_end_holds(lab: Lab) -> None:
    lab.service.wait(lambda: "event socket" not in lab.service.get("/readyz").text, "the link", timeout=40.0)
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        held = time.monotonic()
        bob.reinvite("hold", "in-1")
        call.talk(STALLED)
        bob.reinvite("unhold", "in-1")
        held = time.monotonic() - held
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    left, right = taken.compare(ANN), taken.compare(BOB, 1)
    # Who is held speaks on, and the switch hears it.
    whole(left, seconds=held + 6)
    (hold,) = taken.recording.holds
    assert hold.far
    assert hold.end - hold.start == pytest.approx(held, abs=0.5)
    aligned(right)
    silent_once(right, held)


def test_both_hold(lab: Lab) -> None:
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        ann.reinvite("hold")
        call.talk(2)
        bob.reinvite("hold", "in-1")
        call.talk(STALLED)
        ann.reinvite("unhold")
        call.talk(2)
        bob.reinvite("unhold", "in-1")
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    left, right = taken.compare(ANN), taken.compare(BOB, 1)
    aligned(left)
    aligned(right)
    silent_once(left, STALLED + 2, tolerance=1.0)
    silent_once(right, STALLED + 4, tolerance=1.5)


@pytest.mark.parametrize(
    ("speaks", "limits", "reason", "lasts"),
    [
        (True, {"end_silence_timeout": 3, "initial_timeout": 0}, EndReason.END_SILENCE, 6.0),
        (False, {"initial_timeout": 4, "end_silence_timeout": 0}, EndReason.INITIAL_TIMEOUT, 4.0),
    ],
)
def test_a_hold_is_silence_to_the_timers(
    lab: Lab, speaks: bool, limits: dict[str, int], reason: EndReason, lasts: float
) -> None:
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", {"record": limits}, "hangup") as call:
        begun = call.begun()
        if speaks:
            call.say(ann, voice.say(10))
        call.talk(3 if speaks else 1)
        ann.reinvite("hold")
        call.wait("CHANNEL_HANGUP_COMPLETE")
        lab.service.wait(lambda: lab.service.recordings(call.uuid), "the recording")
        lasted = time.monotonic() - begun
    ((_, recording),) = lab.service.recordings(call.uuid)
    assert recording.end_reason is reason
    assert recording.state is (State.FINISHED if speaks else State.NO_INPUT)
    assert recording.duration == pytest.approx(lasts, abs=0.5)
    assert recording.duration == pytest.approx(lasted, abs=1.5)


def test_a_held_message_is_as_long_as_it_was_allowed_to_be(lab: Lab) -> None:
    with (
        lab.phone("ann") as ann,
        lab.recorded(ann, "answer", {"record": {**FIXED, "max_length": 10}}, "hangup") as call,
    ):
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(3)
        ann.reinvite("hold")
        call.talk(4)
        ann.reinvite("unhold")
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun, tolerance=0.6)
    assert taken.recording.duration == 10.0
    aligned(taken.compare(ANN))


# ---- codecs


@pytest.mark.parametrize(("first", "second"), [("G722", "PCMU"), ("PCMU", "G722")])
def test_the_codec_changes_in_a_message(lab: Lab, first: str, second: str) -> None:
    message = {"record": {**FIXED, "max_length": 9}}
    with lab.phone("ann", codecs=[first]) as ann, lab.recorded(ann, "answer", message, "hangup") as call:
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(4)
        assert ann.reinvite("codecs", names=[second])["codec"] == second
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun, tolerance=0.6)
    assert taken.recording.duration == 9.0
    whole(taken.compare(ANN), seconds=8, jump=REINVITE, other=200, silent=400)


@pytest.mark.parametrize(("first", "second"), [("G722", "PCMU"), ("PCMU", "G722")])
def test_the_codec_changes_in_a_bridge(lab: Lab, first: str, second: str) -> None:
    with (
        lab.phone("ann", codecs=[first]) as ann,
        lab.phone("bob", answer=200, codecs=["PCMU", "G722"]) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(4)
        ann.reinvite("codecs", names=[second])
        call.talk(4)
        ann.reinvite("codecs", names=[first])
        call.talk(4)
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=12, jump=REINVITE, other=400, silent=400)
    whole(taken.compare(BOB, 1), seconds=12, jump=REINVITE, other=400, silent=400)


@pytest.mark.parametrize(("first", "second"), [("G722", "PCMU"), ("PCMU", "G722")])
def test_the_codec_changes_while_the_call_is_held(lab: Lab, first: str, second: str) -> None:
    with (
        lab.phone("ann", codecs=[first]) as ann,
        lab.phone("bob", answer=200, codecs=["PCMU", "G722"]) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        held = time.monotonic()
        ann.reinvite("hold")
        call.talk(1.5)
        ann.reinvite("codecs", names=[second])
        call.talk(1.5)
        assert ann.reinvite("unhold")["codec"] == second
        held = time.monotonic() - held
        call.talk(4)
        taken = call.hang_up().finished().lasted(begun)
    left, right = taken.compare(ANN), taken.compare(BOB, 1)
    aligned(left, REINVITE)
    aligned(right)
    silent_once(left, held)
    assert left.said >= 6500, str(left)
    assert right.said >= 6500, str(right)
    assert left.other <= 200, str(left)
    assert right.other <= 200, str(right)


@pytest.mark.parametrize(("first", "second"), [("G722", "PCMU"), ("PCMU", "G722")])
def test_a_recording_that_begins_behind_a_change_of_codec(lab: Lab, first: str, second: str) -> None:
    """The codec then changes back: the switch's variable `read_rate` has named that one all the time."""
    message = {"record": {**FIXED, "max_length": 8}}
    with (
        lab.phone("ann", codecs=[first]) as ann,
        lab.recorded(ann, "answer", {"sleep": 3000}, message, "hangup") as call,
    ):
        ann.wait("media", call="call")
        call.say(ann, ANN)
        assert ann.reinvite("codecs", names=[second])["codec"] == second
        begun = call.begun()
        call.talk(3)
        assert ann.reinvite("codecs", names=[first])["codec"] == first
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun, tolerance=0.6)
    assert taken.recording.duration == 8.0
    whole(taken.compare(ANN), seconds=7, jump=REINVITE, other=200, silent=400)


# ---- transfer


def tones_in_turn(samples: NDArray[np.int16], rate: int, first: int, second: int, seconds: float) -> None:
    """One tone and then another, each about that long."""
    before, after = tone(samples, first, rate), tone(samples, second, rate)
    assert len(before) == pytest.approx(seconds * 10, abs=8)
    assert len(after) == pytest.approx(seconds * 10, abs=8)
    assert before.max() <= after.min()


def test_an_operator_transfers_the_recorded_leg(lab: Lab) -> None:
    with (
        lab.phone("ann") as ann,
        lab.recorded(ann, "answer", STEREO, connect(lab.uri("5555")), "hangup") as call,
    ):
        call.bridged()
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(4)
        call.switch.api(f"uuid_transfer {call.uuid} 5556")
        call.talk(4)
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=8)
    tones_in_turn(taken.right, taken.rate, 500, 700, 4.0)


def test_an_operator_connects_the_recorded_leg_with_another_call(lab: Lab) -> None:
    with lab.phone("ann") as ann, lab.phone("bob") as bob:
        bob.call(lab.uri("5556"), "own")
        bob.answered("own")
        with lab.recorded(ann, "answer", STEREO, connect(lab.uri("5555")), "hangup") as call:
            begun = call.under_way(ann, bob)
            call.talk(4)
            rows = call.switch.api("show channels as delim |").splitlines()
            other = next(row.split("|")[0] for row in rows if bob.name in row)
            call.switch.api(f"uuid_bridge {call.uuid} {other}")
            call.talk(4)
            taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=8, jump=2 * PACKETS)
    assert len(tone(taken.right, 500, taken.rate)) == pytest.approx(40, abs=8)
    whole(taken.compare(BOB, 1), seconds=4, other=5000)


def test_the_far_end_transfers_blindly(lab: Lab) -> None:
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(4)
        bob.do("refer", call="in-1", to=lab.uri("5556"))
        bob.gone("in-1")
        call.talk(4)
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=8)
    aligned(taken.compare(BOB, 1))
    assert len(tone(taken.right, 700, taken.rate)) >= 36


def test_the_caller_transfers_blindly(lab: Lab) -> None:
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(4)
        ann.do("refer", call="call", to=lab.uri("5556"))
        taken = call.ended().finished().lasted(begun)
        call.talk(0.5)
        # Who was transferred is where it was sent.
        assert not [event for event in bob.events if event.get("state") == "DISCONNECTED"]
    whole(taken.compare(ANN), seconds=4)
    whole(taken.compare(BOB, 1), seconds=4)


@pytest.mark.parametrize("to", ["6556", "5556"])
def test_the_far_end_transfers_after_asking(lab: Lab, to: str) -> None:
    """REFER with Replaces: the recorded leg stays. `6556` is a call of its own behind the switch, 5556 a sound."""
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        bob.call(lab.uri(to), "second")
        bob.answered("second")
        call.talk(1)
        bob.do("refer_replaces", call="in-1", other="second")
        bob.gone("in-1")
        call.talk(4)
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=8)
    aligned(taken.compare(BOB, 1))
    assert len(tone(taken.right, 700, taken.rate)) >= 36


@pytest.mark.parametrize("follow", [False, True])
def test_the_caller_transfers_after_asking(lab: Lab, follow: bool) -> None:
    """REFER with Replaces: the recorded leg is replaced by another, and its recording ends with all that was said.

    With `recording_follow_transfer` the switch takes the tap to the leg that stays, and the recording goes on there.
    """
    kind = "var.recording_follow_transfer.true" if follow else "doc"
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup", kind=kind) as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        ann.call(lab.uri("6556"), "second")
        ann.answered("second")
        call.talk(1)
        until = time.monotonic() - begun
        ann.do("refer_replaces", call="call", other="second")
        if follow:
            call.wait("CHANNEL_HANGUP_COMPLETE")
            call.talk(3)
            bob.do("hangup", call="in-1")
            moved = call.ended().finished()
            # There the far end is the party.
            behind = moved.samples[round(-2.5 * moved.rate) :, 0]
            assert compare(BOB, behind, moved.rate).said >= 2000
            assert moved.recording.duration == pytest.approx(until + 3, abs=1.0)
            return
        taken = call.ended().finished()
        call.talk(0.5)
        assert not [event for event in bob.events if event.get("state") == "DISCONNECTED"]
    whole(taken.compare(ANN, until=until), seconds=4)
    whole(taken.compare(BOB, 1, until=until), seconds=4)


def test_the_recorded_leg_goes_into_a_conference(lab: Lab) -> None:
    with lab.phone("ann") as ann, lab.phone("bob") as bob:
        bob.call(lab.uri("room-ordinary"), "own")
        bob.answered("own")
        with lab.recorded(ann, "answer", STEREO, connect(lab.uri("5555")), "hangup") as call:
            begun = call.under_way(ann, bob)
            call.talk(3)
            call.switch.api(f"uuid_transfer {call.uuid} room-ordinary")
            call.talk(5)
            taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=8)
    right = taken.compare(BOB, 1)
    assert right.said >= 4000, str(right)


def test_a_bridge_with_a_conference(lab: Lab) -> None:
    with lab.phone("ann", codecs=["G722"]) as ann, lab.phone("bob") as bob:
        bob.call(lab.uri("room-bridged"), "own")
        bob.answered("own")
        with lab.recorded(ann, "answer", STEREO, connect(lab.uri("room-bridged")), "hangup") as call:
            begun = call.under_way(ann, bob)
            call.talk(12)
            taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=12)
    right = taken.compare(BOB, 1)
    assert right.said >= 11000, str(right)


# ---- media


def test_an_encrypted_call(lab: Lab) -> None:
    with lab.phone("ann", srtp=True) as ann, lab.recorded(ann, "answer", STEREO, connect(lab.uri("5555"))) as call:
        call.bridged()
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(5)
        assert "HMAC_SHA1" in call.switch.api(f"uuid_getvar {call.uuid} rtp_has_crypto")
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=5)
    assert len(tone(taken.right, 500, taken.rate)) >= 46


@pytest.mark.parametrize("answered", [True, False])
def test_the_callee_speaks_before_it_answers(lab: Lab, answered: bool) -> None:
    """Early media: heard by a caller whom the document has answered, and by one whom it has not."""
    early = {"record_call": {"stereo": True, "early_media": True}}
    steps: list[object] = ["answer", STEREO] if answered else [early]
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=183) as bob,
        lab.recorded(ann, *steps, connect(bob.uri, answer_on_bridge=not answered), "hangup") as call,
    ):
        bob.wait("media")
        call.say(bob, BOB)
        call.talk(3)
        bob.do("answer", call="in-1", status=200)
        bob.answered("in-1")
        ann.answered()
        call.say(ann, ANN)
        call.talk(3)
        taken = call.hang_up().finished()
    whole(taken.compare(ANN), seconds=3)
    whole(taken.compare(BOB, 1), seconds=6, jump=REINVITE, silent=400)


def test_a_phone_that_sends_nothing_for_a_while(lab: Lab) -> None:
    silence = STALLED + 4
    with lab.phone("ann", vad=True) as ann, lab.recorded(ann, "answer", {"record": FIXED}, "hangup") as call:
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(3)
        ann.do("mute", call="call")
        call.talk(silence)
        ann.do("unmute", call="call")
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    left = taken.compare(ANN)
    aligned(left, tolerance=2 * PACKETS)
    silent_once(left, silence)


def test_a_phone_that_is_stopped_and_goes_on(lab: Lab) -> None:
    """Nothing at all comes from it, no RTP and no SIP."""
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", {"record": FIXED}, "hangup") as call:
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(3)
        with ann.frozen():
            call.talk(STALLED + 4)
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    left = taken.compare(ANN)
    silent_once(left, STALLED + 4)
    assert left.said >= 5000, str(left)
    assert left.heard[-1].end >= len(taken.samples) * 1000 / taken.rate - 500, str(left)


def test_a_fax_is_refused_and_the_recording_goes_on(lab: Lab) -> None:
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", STEREO, connect(lab.uri("5555")), "hangup") as call:
        call.bridged()
        begun = call.begun()
        call.say(ann, ANN)
        call.talk(3)
        after = ann.mark()
        ann.do("t38", call="call")
        assert ann.wait("refused", after=after)["status"] >= 400
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    whole(taken.compare(ANN), seconds=6, jump=REINVITE, other=200, silent=400)
    assert len(tone(taken.right, 500, taken.rate)) >= 54


@contextmanager
def baresip(lab: Lab, to: str, samples: NDArray[np.int16], *, stereo: bool) -> Iterator[str]:
    """A phone with Opus, which pjsua2 has not; it speaks as soon as it is answered. Gives its number."""
    if shutil.which("baresip") is None:
        pytest.skip("Opus with two channels needs the phone `baresip`")
    name = f"opus-{next(lab.names)}"
    folder = lab.folder / name
    folder.mkdir()
    wide = np.repeat(samples.astype(np.int16), 6)
    spectrum = np.fft.rfft(wide.astype(float))
    spectrum[np.fft.rfftfreq(len(wide), 1 / 48000) > 3600] = 0
    wide = np.round(np.fft.irfft(spectrum, len(wide))).astype(np.int16)
    soundfile.write(folder / "said.wav", np.stack([wide, wide], axis=1), 48000, "PCM_16")
    channels = "2" if stereo else "1"
    modules = next(
        (path for path in map(Path, ("/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules")) if path.exists()),
        Path(),
    )
    (folder / "config").write_text(
        f"sip_listen 127.0.0.1:{free_port()}\nnet_interface 127.0.0.1\nmodule_path {modules}\n"
        "module stdio.so\nmodule opus.so\nmodule aufile.so\n"
        "module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n"
        f"audio_source aufile,{folder}/said.wav\naudio_player aufile,{folder}/heard.wav\n"
        f"audio_channels {channels}\nausrc_channels 2\nauplay_channels 2\nausrc_srate 48000\nauplay_srate 48000\n"
        f"opus_stereo {'yes' if stereo else 'no'}\nopus_sprop_stereo {'yes' if stereo else 'no'}\nopus_bitrate 64000\n"
        "rtp_ports 30000-32000\n"
    )
    (folder / "accounts").write_text(f"<sip:{name}@127.0.0.1>;regint=0;audio_codecs=opus/48000/2\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["baresip", "-4", "-f", folder, "-e", f"/dial {to}"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        try:
            yield name
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("stereo", [False, True])
def test_a_phone_with_opus_in_stereo(lab: Lab, stereo: bool) -> None:
    """A mono recording has one channel, a stereo one two: what the party says is on the left of it, mixed."""
    message = {"record": {**FIXED, "max_length": 5, "stereo": stereo}}
    extension = lab.extension("answer", message, "hangup")
    with Inbound(lab.event_socket, "ClueCon") as switch, baresip(lab, lab.uri(extension), ANN, stereo=True) as name:
        call = Call(lab, switch, SipPhone(name))
        begun = call.begun()
        assert "stereo=1" in switch.api(f"uuid_getvar {call.uuid} rtp_use_codec_fmtp")
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun, tolerance=0.6)
    assert taken.recording.duration == 5.0
    assert taken.samples.shape[1] == taken.recording.channels == (2 if stereo else 1)
    whole(taken.compare(ANN), seconds=4, other=100)
    if stereo:
        assert taken.compare(ANN, 1).said == 0


def test_media_that_leave_the_switch_for_a_while(lab: Lab) -> None:
    """By `uuid_media off`, as operators and `bypass_media_after_bridge` do: there is nothing to record meanwhile."""
    with (
        lab.phone("ann") as ann,
        lab.phone("bob", answer=200) as bob,
        lab.recorded(ann, "answer", STEREO, connect(bob.uri), "hangup") as call,
    ):
        begun = call.under_way(ann, bob)
        call.talk(3)
        away = time.monotonic()
        call.switch.api(f"uuid_media off {call.uuid}")
        call.talk(STALLED)
        call.switch.api(f"uuid_media {call.uuid}")
        away = time.monotonic() - away
        call.talk(3)
        taken = call.hang_up().finished().lasted(begun)
    for said, channel in ((ANN, 0), (BOB, 1)):
        aligned(taken.compare(said, channel), REINVITE)
        silent_once(taken.compare(said, channel), away)
    assert len(taken.recording.gaps) == 1


# ---- channel variables, and the unanswered


@pytest.mark.parametrize(
    "variable",
    [
        "RECORD_STEREO.true",
        "RECORD_READ_ONLY.true",
        "RECORD_WRITE_ONLY.true",
        "RECORD_STEREO_SWAP.true",
        "RECORD_ANSWER_REQ.true",
        "RECORD_BRIDGE_REQ.true",
        "RECORD_APPEND.true",
        "RECORD_MIN_SEC.30",
        "record_sample_rate.16000",
        "enable_file_write_buffering.true",
        "RECORD_PRE_BUFFER_FRAMES.25",
        "RECORD_INITIAL_TIMEOUT_MS.500",
        "RECORD_TOGGLE_ON_REPEAT.true",
        "media_bug_answer_req.true",
    ],
)
def test_no_channel_variable_spoils_a_message(lab: Lab, variable: str) -> None:
    message = {"record": {**FIXED, "max_length": 3}}
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", message, "hangup", kind=f"var.{variable}") as call:
        begun = call.begun()
        call.say(ann, ANN)
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun)
    assert (taken.recording.duration, taken.recording.channels) == (3.0, 1)
    whole(taken.compare(ANN), seconds=2.7)


def test_a_tap_that_waits_for_the_answer_waits_no_longer(lab: Lab) -> None:
    bridge = connect(lab.uri("5557"), answer_on_bridge=True)
    with (
        lab.phone("ann") as ann,
        lab.recorded(ann, STEREO, bridge, "hangup", kind="var.RECORD_ANSWER_REQ.true") as call,
    ):
        ann.answered()
        call.say(ann, ANN)
        call.talk(4)
        taken = call.hang_up().finished()
    whole(taken.compare(ANN), seconds=4)
    assert len(tone(taken.right, 500, taken.rate)) >= 36


def test_late_negotiation_of_a_call_that_is_not_answered(lab: Lab) -> None:
    message = {"record": {**FIXED, "max_length": 5}}
    with lab.phone("ann", codecs=["G722"]) as ann, lab.recorded(ann, message, "hangup", late=True) as call:
        begun = call.begun()
        call.say(ann, ANN)
        taken = call.ended().finished(EndReason.MAX_LENGTH).lasted(begun, tolerance=0.6)
    assert taken.recording.duration == 5.0
    whole(taken.compare(ANN), seconds=4)


def test_speech_that_ends_within_a_frame(lab: Lab) -> None:
    prompt = {"prompt": {"play": "say:Enter your pin", "max_digits": 4, "digit_timeout": 3, "initial_timeout": 2}}
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", STEREO, prompt, {"sleep": 12000}, "hangup") as call:
        begun = call.begun()
        call.say(ann, ANN)
        taken = call.ended().finished().lasted(begun)
    assert taken.recording.duration > 14
    whole(taken.compare(ANN), seconds=14, jump=2 * PACKETS)


@pytest.mark.parametrize("method", ["rfc2833", "info", "inband"])
def test_a_digit_of_any_kind_ends_a_message(lab: Lab, method: str) -> None:
    """In-band tones are digits where the dialplan says `start_dtmf`."""
    kind = "dtmf" if method == "inband" else "doc"
    with lab.phone("ann") as ann, lab.recorded(ann, "answer", {"record": FIXED}, "hangup", kind=kind) as call:
        begun = call.begun()
        if method != "inband":
            call.say(ann, ANN)
        call.talk(3)
        ann.do("dtmf", call="call", digits="#", method=method)
        taken = call.ended().finished(EndReason.TERMINATOR).lasted(begun, tolerance=0.6)
    assert taken.recording.terminator == "#"
    assert taken.recording.duration == pytest.approx(3.0, abs=0.6)
