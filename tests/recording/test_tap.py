"""The tap: what each media bug is asked for, what becomes of it when the leg changes, and how its file must grow."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.audio.spool import Spool
from esl_record.audio.timeline import Segment
from esl_record.errors import CallGone, CommandRefused
from esl_record.esl.channel import ReachedCall
from esl_record.recording.params import Direction, RecordParams
from esl_record.recording.tap import NARROW_BAND, Growth, Tap, tap_variables

SIDES = ("RECORD_STEREO", "RECORD_READ_ONLY", "RECORD_WRITE_ONLY")


class Leg:
    """What a tap asks of a session."""

    label = "call c1"

    def __init__(self) -> None:
        self.channels = 1
        self.rate: str | None = "16000"
        self.running: dict[str, Mapping[str, str]] = {}
        """Settings of the media bugs that run, by path."""
        self.said: list[str] = []
        self.failure: Exception | None = None

    def leg_rate(self) -> str:
        return self.rate or ""

    def leg_channels(self) -> int:
        return self.channels

    def start_tap(self, path: str, variables: Mapping[str, str]) -> None:
        if self.failure is not None:
            raise self.failure
        self.running[path] = variables
        Path(path).touch()

    def stop_tap(self, path: str) -> None:
        if self.running.pop(path, None) is None:
            raise CommandRefused("-ERR Cannot stop record session!")

    def pause_tap(self, path: str, *, mask: bool) -> None:
        self.said.append(f"{'mask' if mask else 'pause'} {Path(path).name}")

    def resume_tap(self, path: str, *, mask: bool) -> None:
        self.said.append(f"{'unmask' if mask else 'resume'} {Path(path).name}")

    @property
    def names(self) -> list[str]:
        return sorted(Path(path).name for path in self.running)


@pytest.fixture
def leg() -> Leg:
    return Leg()


Make = Callable[..., Tap]


@pytest.fixture
def tap(leg: Leg, tmp_path: Path) -> Make:
    def making(**params: object) -> Tap:
        chosen = RecordParams.of("record", params)
        spool = Spool(tmp_path / "a.raw", 2 if chosen.stereo else 1, pace=1.0)
        return Tap(cast(ReachedCall, leg), spool, chosen)

    return making


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("stereo", [False, True])
@given(rate=st.sampled_from([8000, 16000, 48000]))
def test_only_the_side_and_the_rate_depend_on_the_parameters(stereo: bool, direction: Direction, rate: int) -> None:
    given, usual = (
        tap_variables(RecordParams(stereo=stereo, direction=direction), rate),
        tap_variables(RecordParams(), 8000),
    )
    assert given.keys() == usual.keys()
    varying = {*SIDES, "record_sample_rate"}
    assert {name: value for name, value in given.items() if name not in varying} == {
        name: value for name, value in usual.items() if name not in varying
    }
    assert given["record_sample_rate"] == str(rate)
    sides = {Direction.SPEAK: "RECORD_READ_ONLY", Direction.LISTEN: "RECORD_WRITE_ONLY"}
    wanted = "RECORD_STEREO" if stereo else sides.get(direction)
    assert [name for name in SIDES if given[name] == "true"] == ([wanted] if wanted else [])
    # A comma or a brace would end a value.
    assert all(value.isalnum() for value in given.values())


@pytest.mark.parametrize(
    ("told", "rate"), [("16000", 16000), ("", NARROW_BAND), (None, NARROW_BAND), ("x", NARROW_BAND)]
)
def test_the_rate_is_the_legs_or_narrow_band(leg: Leg, tap: Make, told: str | None, rate: int) -> None:
    leg.rate = told
    one = tap()
    assert one.ask_rate() == rate
    one.start()
    (settings,) = leg.running.values()
    assert settings["record_sample_rate"] == str(rate)


def test_a_leg_of_two_channels_gives_both_sides_a_file_in_stereo(leg: Leg, tap: Make) -> None:
    leg.channels = 2
    one = tap(stereo=True)
    one.start()
    assert leg.names == ["a.far.raw", "a.raw"]
    sides = {Path(path).name: [side for side in SIDES if told[side] == "true"] for path, told in leg.running.items()}
    assert sides == {"a.raw": ["RECORD_READ_ONLY"], "a.far.raw": ["RECORD_WRITE_ONLY"]}
    one.pause(mask=False)
    one.resume(mask=False)
    one.pause(mask=True)
    one.resume(mask=True)
    assert leg.said == [
        f"{verb} {name}" for verb in ("pause", "resume", "mask", "unmask") for name in ("a.raw", "a.far.raw")
    ]
    one.stop()
    assert leg.running == {}


@pytest.mark.parametrize(
    ("channels", "stereo", "segment"),
    [
        (1, False, Segment(channels=1)),
        (1, True, Segment(channels=2)),
        (2, False, Segment(channels=2)),
        (2, True, Segment(channels=2, split=True)),
    ],
)
def test_the_segment_is_what_such_a_leg_makes_of_a_tap(
    leg: Leg, tap: Make, channels: int, stereo: bool, segment: Segment
) -> None:
    leg.channels = channels
    one = tap(stereo=stereo)
    one.start()
    assert one.fits()
    assert one._spool.timeline.segments == [segment]
    leg.channels = 3 - channels
    assert not one.fits()


def test_a_moved_tap_leaves_none_of_the_earlier_running(leg: Leg, tap: Make) -> None:
    leg.channels = 2
    one = tap(stereo=True)
    one.start()
    assert one.started
    leg.channels = 1
    one.add()
    assert (leg.names, one.started) == (["a.far.raw", "a.raw"], False)
    one.move()
    assert (leg.names, one.started) == (["a.1.raw"], True)
    assert [one.writes(str(path)) for path in one._spool.all_paths] == [False, False, True]


def test_a_tap_that_cannot_be_started_again_still_ends_the_one_before(leg: Leg, tap: Make) -> None:
    one = tap()
    one.start()
    one.add()
    leg.failure = CallGone("call c1: gone")
    with pytest.raises(CallGone):
        one.move()
    assert leg.running == {}


def test_what_an_earlier_run_left_running_is_stopped_and_nothing_else(leg: Leg, tap: Make) -> None:
    one = tap()
    one.start()
    one.add()
    one._start()
    assert leg.names == ["a.1.raw", "a.raw"]
    one.stop_earlier()
    one.stop_earlier()
    assert leg.names == ["a.1.raw"]


def test_a_codec_counts_as_another_by_its_rate_alone(leg: Leg, tap: Make) -> None:
    one = tap()
    one.ask_rate()
    assert [one.takes_codec(rate) for rate in ("16000", "", "0", "8000", "8000", "x", "16000")] == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
    ]


def test_behind_a_restart_a_codec_is_compared_with_what_was_noted(tap: Make) -> None:
    one = tap()
    one.take_over(8000)
    assert [one.takes_codec(rate) for rate in ("", "8000", "16000", "16000")] == [False, False, True, False]
    assert one.rate == 8000


# ---- growth: looks are (seconds, samples in the file), from a restart at 0 s and 0 samples


@pytest.mark.parametrize(
    ("pace", "looks", "excess"),
    [
        pytest.param(8000, [], 0.0, id="nothing yet"),
        pytest.param(8000, [(1.0, 8000)], 0.0, id="as it must from the start"),
        pytest.param(8000, [(1.0, 8000), (2.0, 16000)], 0.0, id="as it must"),
        pytest.param(8000, [(1.0, 16000)], 1.0, id="twice from the start"),
        pytest.param(8000, [(1.0, 8000), (2.0, 24000)], 1.0, id="twice after a while"),
        pytest.param(8000, [(1.0, 8000), (3.0, 16000)], -1.0, id="half"),
        pytest.param(8000, [(5.0, 8000), (6.0, 48000)], 0.0, id="late, and made up for"),
        pytest.param(32000, [(1.0, 32000), (2.0, 64000)], 0.0, id="four times the clock, as agreed"),
        pytest.param(0, [(1.0, 8000), (2.0, 80000)], 0.0, id="no pace to be held to"),
    ],
)
def test_how_a_file_grows(pace: float, looks: list[tuple[float, int]], excess: float) -> None:
    growth = Growth(pace)
    growth.restart(0, 0.0)
    now = 0.0
    for now, written in looks:
        growth.look(written, now)
    assert growth.excess(now) == pytest.approx(excess)


@pytest.mark.parametrize(
    ("looks", "ahead"),
    [
        pytest.param([(0.5, 8000), (0.9, 14400)], True, id="twice from the start"),
        pytest.param([(60.0, 480_000), (61.0, 496_000), (61.5, 504_000)], True, id="twice after a minute"),
        pytest.param([(0.5, 8000)], False, id="not confirmed yet"),
        pytest.param([(0.5, 12_000), (0.9, 15_200), (5.0, 48_000)], False, id="late at the start, and made up for"),
        pytest.param([(0.5, 12_000), (0.9, 15_200), (1.9, 31_200), (2.4, 39_200)], True, id="late, then twice"),
    ],
)
def test_a_tap_that_is_wrong_goes_on_being_so(looks: list[tuple[float, int]], ahead: bool) -> None:
    growth = Growth(8000)
    growth.restart(0, 0.0)
    found = False
    for now, written in looks:
        growth.look(written, now)
        found = growth.runs_ahead(now)
    assert found is ahead


def test_a_pause_is_no_time_in_which_it_had_to_grow() -> None:
    growth = Growth(8000)
    growth.restart(0, 0.0)
    growth.look(16000, 2.0)
    growth.stop(2.0)
    assert growth.excess(30.0) == 0
    growth.look(16000, 30.0)
    growth.look(16800, 30.1)
    assert growth.excess(30.1) == pytest.approx(0)
    growth.look(16800 + 16000, 31.1)
    assert growth.excess(31.1) == pytest.approx(1.0)


def test_a_file_that_does_not_grow_says_since_when(leg: Leg) -> None:
    growth = Growth(8000)
    growth.restart(100, 5.0)
    assert [growth.look(*one) for one in ((100, 6.0), (200, 7.0), (200, 8.0), (150, 9.0))] == [
        False,
        True,
        False,
        False,
    ]
    assert (growth.written, growth.since) == (200, 7.0)


@given(
    steps=st.lists(st.tuples(st.floats(0.001, 2.0), st.integers(0, 20_000)), min_size=1, max_size=20),
    pace=st.sampled_from([8000.0, 16000.0]),
)
def test_only_what_grew_since_the_restart_counts(steps: list[tuple[float, int]], pace: float) -> None:
    """A restart, as with a new file, forgets all that was written before."""
    fresh, used = Growth(pace), Growth(pace)
    used.restart(0, 0.0)
    used.look(5_000_000, 1.0)
    used.look(9_000_000, 2.0)
    used.restart(9_000_000, 10.0)
    fresh.restart(0, 10.0)
    now, written = 10.0, 0
    for seconds, samples in steps:
        now, written = now + seconds, written + samples
        assert used.look(9_000_000 + written, now) == fresh.look(written, now)
        assert used.excess(now) == pytest.approx(fresh.excess(now))
        assert used.since == fresh.since
