"""Calls that are connected with others: recorded all the way, and going on afterwards."""

import hashlib
import re
from typing import Any, Self

import gevent
import numpy as np
import pytest
import soundfile
from gevent import socket
from gevent.event import Event as Flag
from numpy.typing import NDArray
from phones import WENT_ON, Dialled, Ended, FreeSwitchPhone, Phone
from receivers import Endpoint
from running import RunningService
from test_control import NO_LIMITS, RATE

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, State

THEIRS = 700
"""Hertz of what those say who are called."""

AFTER = 1700
"""Hertz of what the caller hears when that is over."""

CALLER_ID = "+15550123"
"""Of the calls to others: by it a real switch's legs are told from the caller's own."""

PARTIES = """<include>
<extension name="tone"><condition field="destination_number" expression="^(?:tone-)?(\\d+)[-*](\\d+)$">
  <action application="answer"/><action application="playback" data="tone_stream://%($2,0,$1)"/>
  <action application="hangup"/></condition></extension>
<extension name="late"><condition field="destination_number" expression="^late-(\\d+)$">
  <action application="ring_ready"/><action application="sleep" data="$1"/>
  <action application="answer"/><action application="park"/></condition></extension>
<extension name="early"><condition field="destination_number" expression="^early-(\\d+)$">
  <action application="pre_answer"/><action application="playback" data="tone_stream://%($1,0,1300)"/>
  <action application="answer"/><action application="playback" data="tone_stream://%(1000,0,700)"/>
  <action application="hangup"/></condition></extension>
<extension name="busy"><condition field="destination_number" expression="^busy$">
  <action application="hangup" data="USER_BUSY"/></condition></extension>
<extension name="declines"><condition field="destination_number" expression="^declines$">
  <action application="hangup" data="CALL_REJECTED"/></condition></extension>
<extension name="deaf"><condition field="destination_number" expression="^deaf$">
  <action application="ring_ready"/><action application="sleep" data="100000"/></condition></extension>
<extension name="hold"><condition field="destination_number" expression="^hold$">
  <action application="answer"/><action application="park"/></condition></extension>
</include>
"""


@pytest.fixture(scope="module", autouse=True)
def _parties(exchange: Phone) -> None:
    """Gives a real switch those to be called whom the stand-in has by itself."""
    if isinstance(exchange, FreeSwitchPhone):
        (exchange.folder / "conf/dialplan/default/01_parties.xml").write_text(PARTIES)
        with Inbound(exchange.event_socket, "ClueCon") as switch:
            switch.api("reloadxml")


def speech(seconds: float) -> NDArray[np.int16]:
    """What the caller says: no stretch of it is like another."""
    return (
        np.round(np.random.default_rng(7).normal(0, 3000, round(seconds * RATE))).clip(-32768, 32767).astype(np.int16)
    )


def sip(phone: Phone, name: str) -> str:
    port = phone.sip if isinstance(phone, FreeSwitchPhone) else 5080
    return f"sip:{name}@127.0.0.1:{port}"


def connect(phone: Phone, name: str, **params: object) -> dict[str, Any]:
    return {"connect": {"to": sip(phone, name), "from": CALLER_ID, **params}}


def sounds(ended: Ended) -> dict[str, NDArray[np.int16]]:
    """The audio of each recording, by its control id; shape (samples, channels)."""
    return {
        one.control_id: soundfile.read(one.audio(path), dtype="int16", always_2d=True)[0]
        for path, one in ended.recordings
    }


def loud(samples: NDArray[np.int16], hertz: float) -> NDArray[np.int64]:
    """The 100 ms stretches in which a frequency is heard."""
    size = RATE // 10
    wave = np.exp(-2j * np.pi * hertz * np.arange(size) / RATE)
    blocks = samples[: len(samples) // size * size].reshape(-1, size).astype(float)
    return np.flatnonzero(np.abs(blocks @ wave) / size > 3000)


def lost(phone: Phone, recorded: NDArray[np.int16], said: NDArray[np.int16]) -> int:
    """How many packets of 20 ms are lacking, or too many, somewhere in what is recorded of the caller.

    A real switch drops the one it has at hand when a bridge begins.
    """
    jumps = np.diff(places(recorded, said))
    packets, rest = divmod(int(np.abs(jumps).sum()), RATE // 50)
    assert rest == 0, jumps
    if not isinstance(phone, FreeSwitchPhone):
        assert packets == 0
    return packets


def places(recorded: NDArray[np.int16], said: NDArray[np.int16]) -> NDArray[np.int64]:
    """Where in ``said`` each fifth of a second of ``recorded`` is, as a difference in samples from where it would be if
    nothing had been lost or added before. Those in which that happens are left out."""
    size = RATE // 5
    recorded = recorded[np.flatnonzero(np.abs(recorded) > 500)[0] :]
    whole = said.astype(float)
    energies = np.concatenate([[0.0], np.cumsum(whole * whole)])
    norm = np.sqrt(np.maximum(energies[size:] - energies[:-size], 1.0))
    length = 1 << (len(whole) + size).bit_length()
    spectrum = np.fft.rfft(whole, length)
    found = []
    for at in range(0, len(recorded) - size + 1, size):
        block = recorded[at : at + size].astype(float)
        cross = np.fft.irfft(spectrum * np.conj(np.fft.rfft(block, length)), length)[: len(norm)] / norm
        best = int(cross.argmax())
        if cross[best] > 2 * np.sort(cross)[-50]:
            found.append(best - at)
    return np.array(found)


def test_recordings_go_on_through_a_bridge_and_behind_it(phone: Phone) -> None:
    document = phone.service.document(
        "bridged",
        "answer",
        {"record_call": {"control_id": "stereo", "stereo": True}},
        {"record_call": {"control_id": "mono"}},
        {"play": "silence:1"},
        connect(phone, f"tone-{THEIRS}-3000"),
        {"play": f"tone_stream://%(1000,0,{AFTER})"},
        {"record": {**NO_LIMITS, "max_length": 1.0, "control_id": "message"}},
        "hangup",
    )
    said = speech(12.0)
    ended = phone.call(Dialled(document, said))
    assert (ended.variables["connect_result"], ended.variables.get("connect_failed_reason")) == ("connected", None)
    assert {one.control_id: (one.state, one.end_reason) for _, one in ended.recordings} == {
        "stereo": (State.FINISHED, EndReason.HANGUP),
        "mono": (State.FINISHED, EndReason.HANGUP),
        "message": (State.FINISHED, EndReason.MAX_LENGTH),
    }
    files = sounds(ended)
    left, right = files["stereo"].T
    mono, message = files["mono"][:, 0], files["message"][:, 0]
    theirs, after = loud(right, THEIRS), loud(right, AFTER)
    assert (len(theirs), len(after)) == (pytest.approx(30, abs=2), pytest.approx(10, abs=2))
    assert after.min() > theirs.max()
    assert not len(loud(left, THEIRS))
    assert len(loud(mono, THEIRS)) == pytest.approx(30, abs=2)
    # All the caller has said is there, before, during and after.
    assert min(len(left), len(mono)) > 6.0 * RATE
    for recorded in (left, mono, message):
        assert lost(phone, recorded, said) <= 1


def test_a_digit_ends_a_recording_and_not_the_bridge(phone: Phone) -> None:
    document = phone.service.document(
        "bridged-digit",
        "answer",
        {"record_call": {"control_id": "until", "stereo": True, "terminators": "#"}},
        {"record_call": {"control_id": "all", "stereo": True}},
        connect(phone, f"tone-{THEIRS}-4000"),
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(8.0), digits=((1.5, "5"), (2.5, "#"))))
    reasons = {one.control_id: (one.end_reason, one.terminator) for _, one in ended.recordings}
    assert reasons == {"until": (EndReason.TERMINATOR, "#"), "all": (EndReason.HANGUP, "")}
    files = sounds(ended)
    assert len(files["until"]) < 3.2 * RATE
    assert len(loud(files["all"][:, 1], THEIRS)) == pytest.approx(40, abs=2)


def test_a_caller_who_hangs_up_ends_the_bridge_and_the_document(phone: Phone) -> None:
    document = phone.service.document(
        "bridged-gone",
        "answer",
        {"record_call": {"control_id": "all", "stereo": True}},
        connect(phone, "hold"),
        {"record": {**NO_LIMITS, "max_length": 1.0, "control_id": "never"}},
    )
    ended = phone.call(Dialled(document, speech(8.0), hangup_after=2.5))
    assert [(one.control_id, one.end_reason) for _, one in ended.recordings] == [("all", EndReason.HANGUP)]
    assert ended.recording.duration == pytest.approx(2.4, abs=0.4)
    if isinstance(phone, FreeSwitchPhone):
        with Inbound(phone.event_socket, "ClueCon") as switch:
            phone.service.wait(lambda: "0 total" in switch.api("show channels"), "the other leg to end")


RESULT = {
    "case": {"connected": [{"set": {"way": "connected"}}]},
    "default": [{"set": {"way": "${connect_failed_reason}"}}],
}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("busy", "busy"), ("declines", "declined"), ("0000", "no_route_destination"), ("deaf", "no_answer")],
)
def test_the_document_goes_on_by_why_nobody_was_reached(phone: Phone, name: str, reason: str) -> None:
    document = phone.service.document(
        f"unreached-{name}",
        "answer",
        {"record_call": {"control_id": "all"}},
        connect(phone, name, timeout=1, result=RESULT),
        {"record": {**NO_LIMITS, "max_length": 0.5, "control_id": "message-${way}"}},
        "hangup",
    )
    said = speech(8.0)
    ended = phone.call(Dialled(document, said))
    assert ended.variables["connect_result"] == "failed"
    assert ended.variables["connect_failed_reason"] == reason
    files = sounds(ended)
    assert len(files[f"message-{reason}"]) == RATE // 2
    assert lost(phone, files["all"][:, 0], said) == 0


def several(phone: Phone, *groups: tuple[str, ...], **params: object) -> dict[str, Any]:
    parties = [[{"to": sip(phone, name)} for name in group] for group in groups]
    return {"connect": {"serial_parallel": parties, "from": CALLER_ID, **params}}


def test_groups_are_rung_one_after_the_other_and_the_first_to_answer_wins(phone: Phone) -> None:
    document = phone.service.document(
        "groups",
        "answer",
        {"record_call": {"control_id": "all", "stereo": True}},
        several(phone, ("busy", "deaf"), ("late-5000", f"tone-{THEIRS}-1000"), ("hold",), timeout=1),
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(8.0)))
    assert ended.variables["connect_result"] == "connected"
    assert len(loud(sounds(ended)["all"][:, 1], THEIRS)) == pytest.approx(10, abs=2)


def test_the_other_leg_alone_is_ended_when_its_time_is_up(phone: Phone) -> None:
    document = phone.service.document(
        "bridged-long",
        {"record_call": {"control_id": "all", "stereo": True}},
        connect(phone, "hold", max_duration=2),
        {"play": f"tone_stream://%(1000,0,{AFTER})"},
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(8.0)))
    assert ended.variables["connect_result"] == "connected"
    after = loud(sounds(ended)["all"][:, 1], AFTER)
    assert len(after) == pytest.approx(10, abs=2)
    assert after.min() == pytest.approx(21, abs=6)


def test_the_caller_hears_a_ringback_again_and_again(phone: Phone) -> None:
    tones = [f"tone_stream://%(300,0,{AFTER})", "tone_stream://%(300,0,1100)"]
    document = phone.service.document(
        "ringback",
        "answer",
        {"record_call": {"control_id": "all", "stereo": True}},
        connect(phone, "late-3000", ringback=tones, max_duration=1),
        connect(phone, "late-1000", max_duration=1),
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(10.0)))
    heard = sounds(ended)["all"][:, 1]
    first, second = loud(heard, AFTER), loud(heard, 1100)
    assert (len(first), len(second)) == (pytest.approx(12, abs=4), pytest.approx(12, abs=4))
    assert second.min() > first.min()
    assert first.max() > second.min() + 3
    # The second call has none.
    assert max(first.max(), second.max()) < 35


def test_a_number_is_called_by_its_dial_string(phone: Phone, own_service: RunningService) -> None:
    port = phone.sip if isinstance(phone, FreeSwitchPhone) else 5080
    phone.service = own_service
    own_service.settings["dial_number"] = f"sofia/internal/{{number}}@127.0.0.1:{port}"
    own_service.start()
    document = own_service.document(
        "number",
        {"record_call": {"control_id": "all", "stereo": True}},
        {"connect": {"to": f"{THEIRS}*1000", "from": CALLER_ID, "answer_on_bridge": True}},
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(5.0)))
    assert ended.variables["connect_result"] == "connected"
    assert len(loud(sounds(ended)["all"][:, 1], THEIRS)) == pytest.approx(10, abs=2)


def test_without_a_dial_string_no_number_is_called(phone: Phone) -> None:
    document = phone.service.document(
        "no-number", "answer", {"connect": {"to": "+15551234567", "from": CALLER_ID}}, {"record": {"max_length": 0.5}}
    )
    ended = phone.call(Dialled(document, speech(5.0)))
    assert ended.variables["connect_result"] == "failed"
    assert "dial_number" in ended.variables["connect_failed_reason"]
    assert ended.recording.state is State.FINISHED


def test_what_follows_the_bridge_may_be_another_document(phone: Phone) -> None:
    then = """{"version": "1.0.0", "sections": {"main": [
        {"record": {"initial_timeout": 0, "max_length": 0.5, "control_id": "then-${connect_result}"}}, "hangup"]}}"""
    document = phone.service.document(
        "followed",
        "answer",
        connect(phone, "busy", transfer_after_bridge=then),
        {"record": {**NO_LIMITS, "max_length": 0.5, "control_id": "still here"}},
        connect(phone, f"tone-{THEIRS}-500", transfer_after_bridge=then),
        {"record": {**NO_LIMITS, "max_length": 0.5, "control_id": "never"}},
    )
    ended = phone.call(Dialled(document, speech(8.0)))
    assert {one.control_id for _, one in ended.recordings} == {"still here", "then-connected"}


def test_those_who_want_to_know_are_told_how_it_goes(phone: Phone, own_service: RunningService) -> None:
    phone.service = own_service
    own_service.start()
    whole, legs = Endpoint(), Endpoint()
    document = own_service.document(
        "told",
        "answer",
        several(
            phone,
            ("busy",),
            (f"tone-{THEIRS}-500", "deaf"),
            status_url=whole.url,
            call_state_url=legs.url,
            call_state_events=["created", "answered", "ended"],
        ),
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(5.0)))
    connects = [post.json["params"] for post in whole.wait(3)]
    assert [params["connect_state"] for params in connects] == ["connecting", "connected", "disconnected"]
    assert {params["call_id"] for params in connects} == {ended.uuid}
    states: dict[str, list[tuple[str, str | None]]] = {}
    ids = set()
    for post in legs.wait(7):
        params = post.json["params"]
        to = params["device"]["params"]["to_number"].partition("@")[0]
        ids.add((to, params["call_id"]))
        states.setdefault(to, []).append((params["call_state"], params["end_reason"]))
    assert states == {
        "sip:busy": [("created", None), ("ended", "busy")],
        f"sip:tone-{THEIRS}-500": [("created", None), ("answered", None), ("ended", "hangup")],
        "sip:deaf": [("created", None), ("ended", "cancel")],
    }
    peer = connects[1]["peer"]
    assert (f"sip:tone-{THEIRS}-500", peer["call_id"]) in ids
    assert peer["device"]["type"] == "sip"


# ---- what only a real switch can show


@pytest.fixture
def real(phone: Phone) -> FreeSwitchPhone:
    if not isinstance(phone, FreeSwitchPhone):
        pytest.skip("the stand-in's parties have no such behaviour")
    return phone


def test_early_media_is_heard_and_is_no_answer(real: FreeSwitchPhone) -> None:
    endpoint = Endpoint()
    document = real.service.document(
        "early",
        "answer",
        {"record_call": {"control_id": "all", "stereo": True}},
        several(real, ("early-2000", "late-1000"), status_url=endpoint.url, max_duration=1),
        connect(real, "early-10000", timeout=1),
        "hangup",
    )
    said = speech(8.0)
    ended = real.call(Dialled(document, said))
    # Of two the one that answers is connected, not the one that sends something first.
    told = [post.json["params"] for post in endpoint.wait(3)]
    assert "late-1000" in told[1]["peer"]["device"]["params"]["to_number"]
    assert ended.variables["connect_failed_reason"] == "no_answer"
    left, right = sounds(ended)["all"].T
    early = loud(right, 1300)
    assert early.min() < 5
    assert early.max() > 20
    assert lost(real, left, said) <= 1


class SipPeer:
    """Takes calls as a SIP server that wants to know who calls, and is busy then; keeps every INVITE."""

    def __init__(self) -> None:
        self.invites: list[str] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._greenlet = gevent.spawn(self._serve)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()
        self._sock.close()

    def address(self, user: str) -> str:
        return f"sip:{user}@127.0.0.1:{self._sock.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            data, sender = self._sock.recvfrom(65536)
            head = data.decode().partition("\r\n\r\n")[0]
            if not head.startswith("INVITE"):
                continue
            self.invites.append(head)
            lines = [line for line in head.split("\r\n") if re.match("(Via|From|To|Call-ID|CSeq):", line)]
            lines = [f"{line};tag=peer" if line.startswith("To:") else line for line in lines]
            if "\r\nAuthorization: " in head:
                lines.insert(0, "SIP/2.0 486 Busy Here")
            else:
                lines.insert(0, "SIP/2.0 401 Unauthorized")
                lines.append('WWW-Authenticate: Digest realm="test", nonce="abc", algorithm=MD5')
            self._sock.sendto("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode(), sender)


def test_what_is_told_of_the_caller_arrives_as_it_is(real: FreeSwitchPhone) -> None:
    value = 'a, b;c=d <sip:+1@h:5060;x=y>, "q" (100%) & #!?* \u00fc\u4e2d'
    with SipPeer() as peer:
        document = real.service.document(
            "identity",
            "answer",
            {
                "connect": {
                    "serial": [
                        {"to": peer.address("bob"), "from": "sip:ann@pbx.example.com"},
                        {"to": f"{peer.address('b+o*b#1')};user=phone", "from_name": "${vars.none}"},
                    ],
                    "from": CALLER_ID,
                    "from_name": 'Doe, John (O\'Brien) \u00fc & "Co" 100%/x@y:z',
                    "headers": [{"name": "X-Account", "value": value}, {"name": "X-Empty", "value": "${vars.none}"}],
                    "username": "ann",
                    "password": 's3cret, with = "and" ;',
                    "session_timeout": 600,
                }
            },
            "hangup",
        )
        ended = real.call(Dialled(document))
    assert ended.variables["connect_failed_reason"] == "busy"
    first, authorized, second, _ = peer.invites
    for invite in peer.invites:
        assert f"\r\nX-Account: {value}\r\n" in invite
        assert "\r\nSession-Expires: 600" in invite
        assert "X-Empty" not in invite
    name = "Doe, John (O\u2019Brien) \u00fc & Co 100 x y z"
    assert f'\r\nFrom: "{name}" <sip:ann@pbx.example.com>;tag=' in first
    assert f'\r\nFrom: "{CALLER_ID}" <sip:{CALLER_ID}@127.0.0.1>;tag=' in second
    assert second.startswith("INVITE sip:b+o*b%231@127.0.0.1:")
    uri, response = re.findall(r'uri="(.*?)", response="(.*?)"', authorized)[0]
    ha1, ha2 = md5('ann:test:s3cret, with = "and" ;'), md5(f"INVITE:{uri}")
    assert 'username="ann"' in authorized
    assert response == md5(f"{ha1}:abc:{ha2}")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def test_a_party_behind_a_loopback_stays_bridged(real: FreeSwitchPhone, own_service: RunningService) -> None:
    real.service = own_service
    own_service.settings["dial_number"] = "loopback/{number}/default/XML"
    own_service.start()
    document = own_service.document(
        "loopback",
        "answer",
        {"record_call": {"control_id": "all", "stereo": True}},
        {"connect": {"to": f"{THEIRS}*2000", "from": CALLER_ID}},
        {"play": f"tone_stream://%(1000,0,{AFTER})"},
        "hangup",
    )
    said = speech(8.0)
    ended = real.call(Dialled(document, said))
    left, right = sounds(ended)["all"].T
    assert len(loud(right, THEIRS)) == pytest.approx(20, abs=2)
    assert len(loud(right, AFTER)) == pytest.approx(10, abs=2)
    assert lost(real, left, said) <= 1


def test_a_service_that_stops_cuts_no_bridge(phone: Phone, own_service: RunningService) -> None:
    own_service.settings["drain_timeout"] = 0.2
    own_service.start()
    phone.service = own_service
    document = own_service.document(
        "talks", "answer", {"record_call": {}}, connect(phone, f"tone-{THEIRS}-6000"), "hangup"
    )
    bridged = Flag()
    with Inbound(phone.event_socket, "ClueCon") as switch:
        switch.listen(lambda event: bridged.set())
        switch.send("event plain CHANNEL_BRIDGE")
        live = phone.dial(Dialled(document, speech(60.0)))
        assert bridged.wait(30)
    assert own_service.stop() == 0
    own_service.process = None
    ended = live.end()
    # A real switch reports the cause of the bridge to its caller, not that of the dialplan.
    assert ended.went_on or ended.variables["hangup_cause"] == WENT_ON
    assert int(ended.variables["billmsec"]) > 6000
