"""A service that is killed at random moments under load: every sample of every call is in exactly one recording, and
every recording is told of to its end."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import gevent
import numpy as np
import pytest
import requests
import soundfile
from gevent.event import Event as Flag
from numpy.typing import NDArray
from phones import Dialled, FreeSwitchPhone, Phone
from receivers import Endpoint, Post
from running import PATIENCE, RunningService
from test_control import NO_LIMITS, live
from test_taken_back import LOST, heard_from

from esl_record.database import Database
from esl_record.recording.catalog import Catalog
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage
from esl_record.service import CATALOG
from esl_record.standin import voice
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.media import MediaBug
from esl_record.standin.switch import Switch
from esl_record.standin.transfer import FORWARDS

pytestmark = pytest.mark.slow

LIVE = 20
"""Calls under way at any time."""

SPEED = 3.0
RATE, FRAME = 8000, 160
STALL = 3.0

LOST_A_TRANSFER = 2
"""Frames a switch gives up each time it moves a call."""

SLACK = RATE
"""Samples the switch may write on from when a recording is stopped until it has been told to."""

DOCUMENTS: dict[str, list[object]] = {
    "message": ["answer", {"record": {**NO_LIMITS, "control_id": "front"}}],
    "stereo": ["answer", {"record": {**NO_LIMITS, "control_id": "front", "stereo": True}}],
    "mp3": ["answer", {"record": {**NO_LIMITS, "control_id": "front", "format": "mp3"}}],
    "short": ["answer", {"record": {**NO_LIMITS, "control_id": "front", "max_length": 0.51}}],
    "takes": [
        "answer",
        *({"record": {**NO_LIMITS, "control_id": f"front-{n}", "max_length": n / 4}} for n in range(1, 9)),
        {"record": {**NO_LIMITS, "control_id": "front-9"}},
    ],
    "beside": ["answer", {"record_call": {"control_id": "back"}}, {"sleep": -1}],
    "both": [
        "answer",
        {"record_call": {"control_id": "back", "stereo": True}},
        {"record": {**NO_LIMITS, "control_id": "front-1", "max_length": 2.5}},
        {"record": {**NO_LIMITS, "control_id": "front-2"}},
    ],
}

CONTROL_IDS = {
    name: [params["control_id"] for step in steps if isinstance(step, dict) for params in step.values() if params != -1]
    for name, steps in DOCUMENTS.items()
}


class ForkedService(RunningService):
    """Starts in a tenth of a second, as ``zygote.py`` has it. ``settle`` ends what it takes for that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._logged = 0
        with (folder / "log").open("ab") as log:
            self._zygote = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("zygote.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._asks: IO[bytes] = self._zygote.stdin
        self._tells: IO[bytes] = self._zygote.stdout
        self._running: int | None = None

    def begin(self) -> None:
        """Starts, and does not wait for anything."""
        self._logged = (self.folder / "log").stat().st_size
        self._asks.write(json.dumps(self.arguments).encode() + b"\n")
        self._asks.flush()
        self._running = int(self._tells.readline())

    @property
    def listens(self) -> bool:
        with (self.folder / "log").open("rb") as log:
            log.seek(self._logged)
            return b"listening on" in log.read()

    def end(self, number: int) -> int:
        """Ends it by a signal; gives how it ended."""
        running, self._running = self._running, None
        assert running is not None
        try:
            os.kill(running, number)
        except ProcessLookupError:
            raise AssertionError(f"the service died:\n{self.log[-3000:]}") from None
        return int(self._tells.readline())

    def settle(self) -> None:
        if self._running is not None:
            self.end(signal.SIGKILL)
        self._asks.close()
        self._zygote.wait(PATIENCE)


@dataclass
class Placed:
    """A call and who made it: ``noise`` is what its caller says and no other does."""

    number: int
    call: Call
    document: str
    stays: bool
    """Its dialplan parks it, instead of trying again."""
    skips: int = 0
    """Pauses asked for that leave audio out."""
    taps: list[MediaBug] = field(default_factory=list)
    transfers: int = 0

    @property
    def noise(self) -> NDArray[np.int16]:
        return noise(self.number)


def noise(number: int) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(-9000, 9000, 16 * RATE).astype(np.int16)


class Crowd:
    """Keeps so many calls under way from ``begin`` to ``end``. ``open``: the service is there to take new ones."""

    def __init__(self, switch: Switch, service: RunningService, seed: int) -> None:
        self.placed: list[Placed] = []
        self.live: dict[str, Placed] = {}
        self.open = Flag()
        self._switch = switch
        self._service = service
        self._chance = random.Random(seed)
        self._ends = False
        self._slots: list[gevent.Greenlet] = []

    def begin(self) -> None:
        self._slots = [gevent.spawn(self._slot) for _ in range(LIVE)]

    def end(self) -> None:
        """Lets the calls end that there are."""
        self._ends = True
        self.open.set()
        gevent.joinall(self._slots, timeout=PATIENCE, raise_error=True)
        assert not self.live

    def give_up_unanswered(self) -> None:
        """Whom nobody has answered, and nobody will."""
        for one in self.live.values():
            if one.stays and not one.call.channel.answered:
                one.call.hang_up()

    def _slot(self) -> None:
        while self.open.wait() and not self._ends:
            one = self._place()
            one.call.wait(PATIENCE)
            del self.live[one.call.uuid]
            one.taps = one.call.session.recordings.taps
            one.transfers = FORWARDS - int(one.call.variables.get("max_forwards", FORWARDS))
            # What a call holds of audio would add up.
            del self._switch.calls[one.call.uuid]

    def _place(self) -> Placed:
        number, chance = len(self.placed), self._chance
        document, stays = chance.choice(list(DOCUMENTS)), chance.random() < 0.5
        host, port = self._service.address
        again = [("sleep", "200"), ("socket", f"{host}:{port}/{document} async full")]
        caller = Caller(noise(number), hangup_after=chance.uniform(1.0, 16.0), gives_up_after=16.0)
        behind = [("park", "")] if stays else again * 500
        call = self._switch.call(self._service.address, document, caller, behind=behind)
        one = Placed(number, call, document, stays)
        self.placed.append(one)
        self.live[call.uuid] = one
        return one


class Meddler:
    """Pauses, resumes and stops recordings over the API, whether the service is there or not."""

    def __init__(self, crowd: Crowd, service: RunningService, seed: int) -> None:
        self._crowd, self._service, self._chance = crowd, service, random.Random(seed)
        self._ends = False
        self._greenlet = gevent.spawn(self._run)

    def end(self) -> None:
        self._ends = True
        self._greenlet.join()

    def _run(self) -> None:
        chance = self._chance
        while not self._ends:
            gevent.sleep(chance.uniform(0.0, 0.1))
            if not self._crowd.live:
                continue
            one = chance.choice(list(self._crowd.live.values()))
            control_id = chance.choice(CONTROL_IDS[one.document])
            command = chance.choice(["pause", "pause", "resume", "resume", "resume", "stop"])
            behavior = chance.choice(["skip", "silence"])
            given = {"behavior": behavior} if command == "pause" else {}
            one.skips += command == "pause" and behavior == "skip"
            with suppress(requests.RequestException):
                self._service.command(f"calling.record.{command}", one.call.uuid, control_id=control_id, **given)


@pytest.fixture
def forked(switch: str, tmp_path: Path) -> Iterator[ForkedService]:
    if switch != "standin":
        pytest.skip("a real switch is killed under below")
    running = ForkedService(tmp_path / "own")
    yield running
    running.settle()


def test_a_service_killed_under_load_loses_nothing(forked: ForkedService, pytestconfig: pytest.Config) -> None:
    kills, seed = int(pytestconfig.getoption("--kills")), int(pytestconfig.getoption("--kill-seed"))
    print(f"--kills={kills} --kill-seed={seed}")
    endpoint = Endpoint()
    switch = Switch(speed=SPEED)
    host, port = switch.listen()
    service = forked
    service.settings |= {"event_socket": f"{host}:{port}", "stall_timeout": STALL, "tick": 0.05}
    for name, steps in DOCUMENTS.items():
        told = [_told(step, endpoint.url) for step in steps]
        service.document(name, *told)
    chance = random.Random(seed)
    crowd = Crowd(switch, service, seed)
    meddler = Meddler(crowd, service, seed)
    crowd.begin()
    for _ in range(kills):
        service.begin()
        _live(service, crowd, chance.choice([0.1, 0.5, 1.0]) * chance.random())
        crowd.open.clear()
        assert service.end(signal.SIGKILL) == signal.SIGKILL
        crowd.give_up_unanswered()
        gevent.sleep(chance.choice([0.0, 0.2]) * chance.random())
    meddler.end()
    service.begin()
    service.wait(lambda: service.listens, "the service to listen")
    crowd.end()
    service.wait(lambda: not service.spooled(), "the spool to be emptied")
    filed = {one.recording_id: (path, one) for path, one in Storage(service.data).filed()}
    service.wait(lambda: set(filed) <= ended(endpoint.posts), "the last events")
    assert service.end(signal.SIGTERM) == 0
    switch.close()

    check(crowd.placed, filed, endpoint.posts, service)


def _told(step: object, url: str) -> object:
    if isinstance(step, dict) and ("record" in step or "record_call" in step):
        return {name: {**params, "status_url": url} for name, params in step.items()}
    return step


def _live(service: ForkedService, crowd: Crowd, seconds: float) -> None:
    """For ``seconds`` from its start on; calls come as soon as it listens."""
    with gevent.Timeout(seconds, False):
        while not service.listens:
            gevent.sleep(0.01)
        crowd.open.set()
        gevent.sleep(seconds)


def ended(posts: list[Post]) -> set[str]:
    """The recordings whose end has been told."""
    told = [post.json["params"] for post in posts]
    return {params["recording_id"] for params in told if State(params["state"]).final}


def check(
    placed: list[Placed], filed: dict[str, tuple[Path, Recording]], posts: list[Post], service: RunningService
) -> None:
    by_call: dict[str, list[Recording]] = defaultdict(list)
    for _, recording in filed.values():
        by_call[recording.call_id].append(recording)
    assert set(by_call) <= {one.call.uuid for one in placed}
    wrong = [
        f"call {one.number} {one.call.uuid}, {one.document}: {what}"
        for one in placed
        for what in call_wrong(one, filed, by_call[one.call.uuid])
    ]
    wrong += [*telling_wrong(filed, posts), *rows_wrong(service, filed)]
    wrong += [f"{path} is left" for path in (service.data / "quarantine").glob("*")]
    wrong += [line for line in service.log.splitlines() if "Traceback" in line]
    ends = Counter(str(recording.end_reason) for _, recording in filed.values())
    print(f"{len(placed)} calls, {len(posts)} events, {service.log.count('goes on')} times gone on; {ends}")
    assert not wrong, "\n".join(wrong)


def call_wrong(one: Placed, filed: dict[str, tuple[Path, Recording]], recordings: list[Recording]) -> Iterator[str]:
    taps = {Path(tap.path).stem: tap for tap in one.taps}
    for recording_id in taps:
        if recording_id not in filed or filed[recording_id][1].call_id != one.call.uuid:
            yield f"tap {recording_id} has become no recording of its call"
    spans: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for recording in recordings:
        tap = taps.get(recording.recording_id)
        named = f"{recording.recording_id} {recording.control_id} {recording.state} {recording.end_reason}"
        if tap is None or not tap.writes:
            # Killed before the tap, or hung up before its first frame.
            if recording.file or not recording.state.final or (tap is None and recording.state is not State.ERROR):
                yield f"{named}: of what?"
            continue
        for what in recording_wrong(one, tap, filed[recording.recording_id][0], recording):
            yield f"{named}: {what}"
        end = tap.began + round(recording.duration * RATE) // FRAME
        spans[recording.control_id.partition("-")[0]].append((tap.began, end, recording.recording_id))
    for side_by_side in spans.values():
        for (_, end, first), (begin, _, second) in pairwise(sorted(side_by_side)):
            if begin < end:
                yield f"{first} and {second} both have {end - begin} frames"


def recording_wrong(one: Placed, tap: MediaBug, path: Path, recording: Recording) -> Iterator[str]:
    written, kept = tap.samples_out, round(recording.duration * RATE)
    if recording.state is not State.FINISHED:
        yield f"is {recording.state}: {recording.error}"
    if (recording.end_reason in (EndReason.HANGUP, EndReason.RECOVERED) and kept != written) or (
        recording.end_reason is EndReason.STOP and not written - SLACK <= kept <= written
    ):
        yield f"{kept} samples of {written}"
    elif recording.end_reason is EndReason.MAX_LENGTH:
        held = sum(pause.end - pause.start for pause in recording.pauses)
        if kept != round((recording.parameters["max_length"] + held) * RATE):
            yield f"{kept} samples for {recording.parameters['max_length']} s and {held} s paused"
    audio = recording.audio(path)
    if audio is None:
        if kept:
            yield "has no audio"
        return
    samples, rate = soundfile.read(audio, dtype="int16", always_2d=True)
    if (rate, len(samples)) != (RATE, kept):
        yield f"{len(samples)} samples at {rate} Hz in the file, {kept} told"
    if recording.format != "wav":
        return
    # The leg that carries nothing is -1.
    mixed = recording.direction == "both" and not recording.stereo
    gaps, lost, masked, strange = compared(samples[:, 0] + mixed, one.noise, tap.began, mixed)
    if strange is not None:
        yield f"from frame {strange} on of {len(samples) // FRAME} it is not what was said"
    if gaps > one.skips:
        yield f"{gaps} gaps, {one.skips} pauses"
    if lost > LOST_A_TRANSFER * one.transfers:
        yield f"{lost} frames lost in {one.transfers} transfers"
    if masked and not recording.pauses:
        yield f"{masked} frames of silence and no pause"


def compared(
    heard: NDArray[np.int16], said: NDArray[np.int16], began: int, silence: int
) -> tuple[int, int, int, int | None]:
    """Gaps, frames lost and frames of silence in what was heard, and from which frame on it is something else, if it
    is; as against what was said from frame ``began`` on."""
    gaps = lost = masked = 0
    at = began
    places: dict[bytes, int] = {}
    whole = len(heard) // FRAME
    for number in range(whole + 1):
        frame = heard[number * FRAME : (number + 1) * FRAME]
        if np.array_equal(frame, said[at * FRAME : at * FRAME + len(frame)]):
            at += 1
        elif (frame == -1).all():
            lost, at = lost + 1, at + 1
        elif (frame == silence).all():
            masked, at = masked + 1, at + 1
        else:
            places = places or {said[n * FRAME : (n + 1) * FRAME].tobytes(): n for n in range(len(said) // FRAME)}
            found = places.get(frame.tobytes())
            if found is None or found < at:
                return gaps, lost, masked, number
            gaps, at = gaps + 1, found + 1
    return gaps, lost, masked, None


def telling_wrong(filed: dict[str, tuple[Path, Recording]], posts: list[Post]) -> Iterator[str]:
    told: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    for post in posts:
        params = post.json["params"]
        told[params["recording_id"]].setdefault(post.headers["webhook-id"], params)
    for recording_id in set(told) - set(filed):
        yield f"{recording_id} is told of, and is nowhere"
    for recording_id, (_, recording) in filed.items():
        events = list(told[recording_id].values())
        states = [State(str(event["state"])) for event in events]
        *before, last = states or [None]
        if last is not recording.state or any(state.final for state in before) or before[:1] != [State.RECORDING]:
            yield f"{recording_id}, {recording.state}, is told of as {states}"
        elif recording.file and (events[-1]["duration"], events[-1]["size"]) != (recording.duration, recording.size):
            yield f"{recording_id}: {events[-1]} is told of {recording}"


def rows_wrong(service: RunningService, filed: dict[str, tuple[Path, Recording]]) -> Iterator[str]:
    with closing(Database.in_file(service.data / CATALOG)) as database:
        database.open()
        rows = {one.recording_id: one for one in Catalog(database).all()}
    for recording_id in set(rows) ^ set(filed):
        yield f"{recording_id} is {'in the catalog' if recording_id in rows else 'on disk'} only"
    for recording_id, (path, recording) in filed.items():
        if recording_id in rows and rows[recording_id] != recording:
            yield f"{path} has another row"
        audio = recording.audio(path)
        if audio is not None and audio.stat().st_size != recording.size:
            yield f"{audio} has another size"


# ---- on a real switch


def test_five_calls_outlive_five_kills(phone: Phone, own_service: RunningService) -> None:
    """Those that wait parked are asked back, the others come back by themselves; all are recorded to their end."""
    if not isinstance(phone, FreeSwitchPhone):
        pytest.skip("the stand-in is killed under above, and oftener")
    service, calls, kills = own_service, 5, 5
    host, port = phone.event_socket
    service.settings["event_socket"] = f"{host}:{port}"
    service.start()
    phone.service = service
    document = service.document("long", "answer", {"record": {**NO_LIMITS, "control_id": "r"}})
    voices = [voice.say(120.0, pitch=90.0 + 20 * number, seed=number) for number in range(calls)]
    lives = [
        phone.dial(Dialled(document, said, parked=number % 2 == 0, again=number % 2 == 1))
        for number, said in enumerate(voices)
    ]
    service.wait(lambda: len(live(service)) == calls, "all calls")
    grown(service, 2.0)
    for _ in range(kills):
        service.kill()
        service.process = None
        grown(service, 1.0)
        back = len(service.log)
        service.start()
        service.wait(lambda at=back: service.log[at:].count("goes on") == calls, "all calls to come back")
        grown(service, 1.0)
    for call in lives:
        call.hang_up()
    for number, (call, said) in enumerate(zip(lives, voices, strict=True)):
        ended = call.end()
        recording = ended.recording
        assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
        assert recording.duration > 2.0 + 2 * kills
        lost = frames_lost(ended.samples[:, 0], said)
        print(f"{recording.duration:.2f} s, {lost} frames lost, {'asked back' if number % 2 == 0 else 'by itself'}")
        assert lost <= kills * LOST


def frames_lost(kept: NDArray[np.int16], said: NDArray[np.int16]) -> int:
    """Frames of what was said that are not in what was kept, or as something else, once the caller is heard."""
    here = heard_from(kept)
    probe = kept[here : here + 50 * FRAME].astype(float)
    there = int(np.argmax(np.correlate(said[: 10 * RATE].astype(float), probe)))

    def same(ahead: int, frames: int) -> bool:
        at, length = there + ahead * FRAME, frames * FRAME
        return bool((np.abs(kept[here : here + length].astype(int) - said[at : at + length]) < 1500).all())

    lost = 0
    # The last that the switch drains at its end is no whole frame.
    while here + 11 * FRAME < len(kept):
        if not same(0, 1):
            # A packet that comes late may be made up for, and be there as well.
            ahead = next((frames for frames in (*range(1, 50), *range(-5, 0)) if same(frames, 10)), 0)
            lost, there = lost + max(1, ahead), there + ahead * FRAME
        here, there = here + FRAME, there + FRAME
    return lost


def grown(service: RunningService, seconds: float) -> None:
    """Every spool has grown by so much, and none is missing."""
    sizes = {path: path.stat().st_size for path in (service.data / "spool").glob("*.raw")}
    more = 2 * round(seconds * RATE)
    service.wait(lambda: all(path.stat().st_size >= size + more for path, size in sizes.items()), "the calls to go on")
