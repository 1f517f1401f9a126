"""Two hundred calls at once, each with a document of its own: none hears, records or knows anything of another's."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from phones import Dialled, Ended, Phone, StandInPhone
from running import RunningService
from test_control import NO_LIMITS, tone

from esl_record.audio import sound
from esl_record.recording.machine import EndReason

pytestmark = pytest.mark.slow

CALLS = 200
LOWEST, STEP = 400, 14
"""Hz: the caller of each call sounds on a frequency of its own."""

BEGIN = ("answer", {"sleep": 4000})
"""Until the caller of a switch with four hundred legs is heard."""


@dataclass(frozen=True)
class Plan:
    """What a call runs, does, and must leave: seconds of audio, and why it ended, by control id."""

    sections: Mapping[str, object]
    left: Mapping[str, tuple[float | None, EndReason]]
    went_on: bool = False
    digits: tuple[tuple[float, str], ...] = ()


def take(name: str, **params: object) -> dict[str, object]:
    return {"record": {**NO_LIMITS, "control_id": name, **params}}


def loops(number: int, name: str) -> Plan:
    """As many takes as the call's own counter says, each longer than the one before."""
    times = 2 + number % 3
    steps = [
        *BEGIN,
        {"set": {"name": name, "n": 0, "times": times}},
        {"label": "again"},
        {"set": {"n": "${n + 1}"}},
        take("${name}-${n}", max_length="${n / 5}"),
        {"goto": {"label": "again", "when": "vars.n < vars.times"}},
    ]
    return Plan({"main": steps}, {f"{name}-{n}": (n / 5, EndReason.MAX_LENGTH) for n in range(1, times + 1)})


def calls_a_section(number: int, name: str) -> Plan:
    """A section is given what this call alone knows, and what it returns chooses the branch."""
    case = {str(other): [take(f"{name}-{other}", max_length=0.4)] for other in range(CALLS)}
    steps = [
        *BEGIN,
        {"execute": {"dest": "twice", "params": {"of": number}, "result": {"case": case}}},
    ]
    twice = [{"return": f"${{params.of * 2 % {CALLS}}}"}]
    return Plan({"main": steps, "twice": twice}, {f"{name}-{number * 2 % CALLS}": (0.4, EndReason.MAX_LENGTH)})


def records_beside(number: int, name: str) -> Plan:
    """Two in the background under names every other call uses too, one of them stopped, and one in front."""
    steps = [
        *BEGIN,
        {"record_call": {"control_id": "first", "direction": "speak"}},
        {"record_call": {"control_id": "second", "direction": "speak"}},
        take(name, max_length=0.3 + number / 1000),
        "stop_record_call",
        {"sleep": 100},
    ]
    left = {
        "first": (None, EndReason.HANGUP),
        "second": (None, EndReason.STOP),
        name: (0.3 + number / 1000, EndReason.MAX_LENGTH),
    }
    return Plan({"main": steps}, left)


def is_ended_by_a_digit(number: int, name: str) -> Plan:
    digit = "0123456789*#"[number % 12]
    return Plan(
        {"main": [*BEGIN, take(name, terminators=digit)]},
        {name: (None, EndReason.TERMINATOR)},
        digits=((14.0 + number % 7 / 5, digit),),
    )


def breaks_off(number: int, name: str) -> Plan:
    """A document that fails goes back to the dialplan with what it has recorded."""
    steps = [
        *BEGIN,
        take(name, max_length=0.4),
        {"set": {"n": f"${{vars.missing.{name}}}"}},
        {"set": {"n": f"${{(() => {{ throw new Error('{name}') }})()}}"}},
        take("never"),
    ]
    return Plan({"main": steps}, {name: (0.4, EndReason.MAX_LENGTH)}, went_on=True)


KINDS: tuple[Callable[[int, str], Plan], ...] = (
    loops,
    calls_a_section,
    records_beside,
    is_ended_by_a_digit,
    breaks_off,
)


@pytest.fixture
def crowd(switch: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Phone]:
    """In real time: each call is to wait for the others as little as it would."""
    service = RunningService(tmp_path / "own")
    service.settings["capacity"] = CALLS
    service.start()
    with StandInPhone(1.0) if switch == "standin" else nullcontext(request.getfixturevalue("exchange")) as phone:
        phone.service = service
        yield phone
    service.kill()


def loudest(samples: NDArray[np.int16], rate: int) -> float:
    """The strongest frequency in Hz."""
    heard = samples[rate // 20 :].astype(float)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 8 * rate))
    return float(np.argmax(spectrum)) / 8


def test_two_hundred_calls_do_not_interfere(crowd: Phone) -> None:
    service = crowd.service
    plans = [KINDS[number % len(KINDS)](number, f"take{number}") for number in range(CALLS)]
    for number, plan in enumerate(plans):
        tree = {"version": "1.0.0", "sections": dict(plan.sections)}
        (service.documents / f"call{number}.yaml").write_text(yaml.safe_dump(tree))
    calls = [
        crowd.dial(Dialled(f"call{number}", tone(LOWEST + STEP * number, 60.0), digits=plan.digits))
        for number, plan in enumerate(plans)
    ]
    for number, (plan, call) in enumerate(zip(plans, calls, strict=True)):
        check(number, plan, call.end())


def check(number: int, plan: Plan, ended: Ended) -> None:
    files = {recording.control_id: (path, recording) for path, recording in ended.recordings}
    assert set(files) == set(plan.left), (number, ended.variables.get("script_error"))
    assert ended.went_on == plan.went_on
    assert (ended.variables.get("script_error") == "relay_script_js_eval_error") == plan.went_on
    for control_id, (seconds, reason) in plan.left.items():
        path, recording = files[control_id]
        assert recording.end_reason is reason, (number, control_id, recording.error)
        if seconds is not None:
            assert recording.duration == pytest.approx(seconds, abs=1e-6)
        audio = recording.audio(path)
        assert audio is not None
        samples, rate = sound.read(audio)
        assert loudest(samples, rate) == pytest.approx(LOWEST + STEP * number, abs=STEP / 2), (number, control_id)
