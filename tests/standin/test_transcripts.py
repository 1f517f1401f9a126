"""The stand-in switch says what a real one said, header by header, when it is asked what that one was asked."""

import re
from pathlib import Path
from typing import NamedTuple

import gevent
import pytest
import soundfile
from standin_client import NOON, Client, Said, frames

from esl_record.standin.caller import Caller
from esl_record.standin.switch import PACE, Switch
from esl_record.standin.voice import say

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"

# What the far end and others did meanwhile, in seconds of the transcript: a frame before the switch told of it.
HAPPENINGS = {
    "record": [(5.64, "press 5"), (5.70, "press #")],
    "caller_hangs_up": [(2.71, "hang up")],
    "caller_hangs_up_without_linger": [(2.41, "hang up")],
    "playback_queue_digits_speech": [
        (5.51, "press #"), (7.02, "press 4"), (7.06, "press 2"), (7.34, "press #"), (13.16, "kill"),
    ],
    "bridge": [(3.95, "press 9"), (4.52, "hang up")],
    "header_encoding": [(4.00, "kill")],
    "hold": [(1.92, "hold"), (3.67, "unhold"), (4.91, "hold"), (6.66, "unhold")],
    "codec": [(1.96, "codec 16000")],
    "bridge_hold": [(3.38, "far end holds"), (4.88, "far end unholds")],
    "transfer_recorded": [(1.92, "uuid_transfer {uuid} 5556")],
    "transfer": [(1.00, "uuid_transfer {uuid} 'sleep:300,set:a=b,hangup:USER_BUSY' inline")],
}  # fmt: skip

# When the ACK to the answer comes depends on SIP alone; until then these stand where the INVITE put them.
ACK = frozenset(
    f"sip_{name}"
    for name in ("to_tag", "from_tag", "cseq", "call_id", "full_via", "from_display", "full_from", "full_to")
)

# Values that differ from one host, second or RTP stream to the next. The headers themselves must be there, in place.
VOLATILE = re.compile(
    r"Core-UUID|FreeSWITCH-.*|Event-Date-.*|Event-Sequence|Content-Length|.*-(Time|Last-Hold|Hold-Accum)|variable_.*(stamp|epoch|duration|sec)"
    r"|variable_(session_id|switch_[rm]_sdp|rtp_(local_sdp_str|use_ssrc|audio_.*)|(remote|local)_media_port)"
    r"|variable_record_(file_size|samples|seconds|ms)"
)

# A uuid the switch makes up, with the second before it in which a call was transferred; those the service chose begin
# with ones.
MADE_UP = re.compile(r"(\d{10}%3A)?(?!1111)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Entry(NamedTuple):
    at: float
    what: str
    text: bytes


def entries(name: str) -> list[Entry]:
    found: list[Entry] = []
    for line in (TRANSCRIPTS / f"{name}.txt").read_bytes().split(b"\n"):
        mark = re.match(rb"@@ +([\d.]+) (>>|<<|##|EOF) ?(.*)$", line)
        if mark:
            found.append(Entry(float(mark[1]), mark[2].decode(), mark[3]))
        elif found:
            last = found[-1]
            found[-1] = last._replace(text=last.text + line + b"\n")
    return found


def spoken(parts: list[Entry]) -> bytes:
    """What the switch sent, as one stream."""
    return b"".join(part.text for part in parts if part.what == "<<")


NOT_COMPARED = {*ACK, PACE}
"""``PACE`` is the stand-in's own: it says that its time is not the clock's."""


def names(said: Said) -> list[str]:
    return [name for name, _ in said.headers if name.removeprefix("variable_") not in NOT_COMPARED]


def values(said: Said) -> dict[str, str]:
    return {
        name: MADE_UP.sub("made-up", value)
        for name, value in said.headers
        if not VOLATILE.fullmatch(name) and name.removeprefix("variable_") not in NOT_COMPARED
    }


class Replay:
    """Sends a transcript's commands to the stand-in at their call times, and keeps what it answers."""

    def __init__(self, name: str, spool: Path) -> None:
        self.name = name
        self.spool = spool
        self.log = entries(name)
        self.was = dict(frames(spoken(self.log[:2]))[0].headers)
        self.switch = Switch(speed=0, began_us=NOON)
        self.switch.extensions["5556"] = [("answer", ""), ("playback", "tone_stream://L=100;%(1000,0,700)")]
        self.client = Client()
        self.call = self.switch.call(
            self.client.address,
            "",
            Caller(
                say(1.0),
                name=self.was["Caller-Caller-ID-Name"].replace("%20", " "),
                destination=self.was["Caller-Destination-Number"],
            ),
        )

    def run(self) -> None:
        self.switch.advance(0.02)
        self.client.accept()
        self.advance(0.04)
        steps = [(entry.at, entry.text.rstrip(b"\n").decode()) for entry in self.log if entry.what == ">>"]
        now = 0.0
        for at, what in sorted(steps + HAPPENINGS.get(self.name, [])):
            self.advance(at - now)
            now += round((at - now) * 50) / 50
            self.step(what)
        self.advance(1.0)

    def step(self, what: str) -> None:
        if what.startswith("press "):
            self.call.press(what[6:])
        elif what == "hang up":
            self.call.hang_up()
        elif what == "hold":
            self.call.hold()
        elif what == "unhold":
            self.call.unhold()
        elif what in ("far end holds", "far end unholds"):
            self.call.hold_by_far_end(on=what == "far end holds")
        elif what.startswith("codec "):
            self.call.change_codec(int(what[6:]))
        elif what == "kill":
            self.switch.api(f"uuid_kill {self.call.uuid} MANAGER_REQUEST")
        elif what.startswith("uuid_"):
            self.switch.api(what.format(uuid=self.call.uuid))
        elif not self.client.ended:
            what = what.replace(self.was["Unique-ID"], self.call.uuid)
            what = what.replace("/var/spool/esl-record", str(self.spool))
            self.client.send(what.replace("/var/lib/esl-record", str(self.spool)))
            self.client.hear(2.0)

    def put_back(self, said: dict[str, str]) -> dict[str, str]:
        """Addresses and paths of this replay as they were in the transcript."""
        port = f"127.0.0.1%3A{self.client.address[1]}%20"
        was = f"127.0.0.1%3A{self.was['Caller-Destination-Number']}%20"
        found = {}
        for name, value in said.items():
            folder = "/var/lib/esl-record" if value.endswith("caller.wav") else "/var/spool/esl-record"
            found[name] = value.replace(port, was).replace(str(self.spool), folder)
        return found

    def advance(self, seconds: float) -> None:
        """A frame at a time, so that the connection is served in between."""
        for _ in range(round(seconds * 50)):
            self.switch.advance(0.02)
            gevent.sleep(0)
        self.client.hear()


@pytest.fixture(scope="module", params=sorted(path.stem for path in TRANSCRIPTS.glob("*.txt")))
def replay(request, tmp_path_factory):
    spool = tmp_path_factory.mktemp("spool")
    soundfile.write(spool / "caller.wav", say(3.0), 8000)
    replay = Replay(request.param, spool)
    replay.run()
    yield replay
    replay.client.close()
    replay.switch.close()


def told(replay: Replay) -> list[tuple[Said, Said]]:
    """Real and stand-in frame by frame."""
    real = frames(spoken(replay.log))
    ours = replay.client.told
    assert [said.kind for said in ours] == [said.kind for said in real]
    return list(zip(real, ours, strict=True))


def test_the_same_frames_come_in_the_same_order(replay):
    assert told(replay)
    assert replay.client.ended == any(entry.what == "EOF" for entry in replay.log)


def test_every_frame_has_the_same_headers_in_the_same_order(replay):
    for real, ours in told(replay):
        assert names(ours) == names(real), real.kind


def test_answers_say_the_same(replay):
    for real, ours in told(replay):
        if not real.kind.isupper():
            assert ours.body == real.body


def test_headers_say_the_same(replay):
    for real, ours in told(replay):
        assert replay.put_back(values(ours)) == values(real), real.kind
