"""What lands in a spool file, sample by sample."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_record.standin.caller import Caller
from esl_record.standin.channel import Channel
from esl_record.standin.core import Core
from esl_record.standin.faults import Faults
from esl_record.standin.media import Legs
from esl_record.standin.recordings import Recordings
from esl_record.standin.voice import say

FRAME = 160
TONE = "tone_stream://%(200,0,1000)"


def spool(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), "<i2")


def at(call) -> int:
    """How many samples the party has said."""
    return round(call.position * call.channel.caller.rate)


@pytest.fixture
def party() -> Caller:
    return Caller(say(8.0))


def test_read_only_is_what_the_party_says(bench, party, tmp_path):
    call = bench.place(party)
    bench.advance(0.5)
    begin = at(call)
    assert bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true") == "+OK Success\n"
    assert spool(tmp_path / "a.raw").size == 0
    bench.client.execute("playback", TONE)
    bench.advance(3.0)
    bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw")
    np.testing.assert_array_equal(spool(tmp_path / "a.raw"), party.audio[begin : at(call)])


def test_every_tap_there_was_tells_where_it_began_and_what_it_wrote(bench, party, tmp_path):
    call = bench.place(party)
    for name in ("a.raw", "b.raw"):
        bench.advance(0.5)
        bench.record(tmp_path / name, "RECORD_READ_ONLY=true")
        bench.advance(1.0)
        bench.api(f"uuid_record {call.uuid} stop {tmp_path}/{name}")
    for tap in call.session.recordings.taps:
        begin = 160 * tap.began
        written = spool(Path(tap.path))
        assert len(written) == tap.samples_out
        np.testing.assert_array_equal(written, party.audio[begin : begin + tap.samples_out])
    assert len(call.session.recordings.taps) == 2


def test_what_a_party_that_has_said_all_says_is_silence(bench, tmp_path):
    call = bench.place(Caller(say(0.1)))
    bench.advance(0.2)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.2)
    assert not spool(tmp_path / "a.raw").any()
    assert call.alive


def test_write_only_is_what_it_hears_and_minus_one_between(bench, party, tmp_path):
    call = bench.place(party)
    bench.record(tmp_path / "a.raw", "RECORD_WRITE_ONLY=true")
    bench.advance(0.2)
    np.testing.assert_array_equal(spool(tmp_path / "a.raw"), np.full(10 * FRAME, -1))
    bench.client.execute("playback", TONE)
    bench.advance(0.5)
    heard = call.heard[call.heard != 0]
    recorded = spool(tmp_path / "a.raw")
    np.testing.assert_array_equal(recorded[(recorded != -1) & (recorded != 0)], heard[heard != -1])


def test_louder_is_what_the_party_hears_and_recordings_begun_after_that(bench, party, tmp_path):
    call = bench.place(party)
    bench.record(tmp_path / "before.raw", "RECORD_WRITE_ONLY=true")
    bench.api(f"uuid_audio {call.uuid} start write level 2")
    bench.record(tmp_path / "after.raw", "RECORD_WRITE_ONLY=true")
    bench.client.execute("playback", "tone_stream://v=-20;%(200,0,1000)")
    bench.advance(0.5)
    loud = call.heard.max()
    bench.api(f"uuid_audio {call.uuid} stop")
    bench.client.execute("playback", "tone_stream://v=-20;%(200,0,1000)")
    bench.advance(0.5)
    before, after = spool(tmp_path / "before.raw"), spool(tmp_path / "after.raw")
    assert loud == after.max() == call.heard.max() == int(before.max() * 2.3)
    assert call.heard[-FRAME * 24 :].max() == after[-FRAME * 24 :].max() == before.max()


def test_stereo_has_what_it_says_left_and_what_it_hears_right(bench, party, tmp_path):
    call = bench.place(party)
    bench.advance(0.3)
    begin = at(call)
    bench.record(tmp_path / "a.raw", "RECORD_STEREO=true")
    bench.client.execute("playback", TONE)
    bench.advance(0.6)
    both = spool(tmp_path / "a.raw").reshape(-1, 2)
    end = begin + len(both)
    assert end == at(call) - FRAME, "one frame waits in the pre-buffer"
    np.testing.assert_array_equal(both[:, 0], party.audio[begin:end])
    heard = call.heard[begin:end]
    np.testing.assert_array_equal(both[heard != 0, 1], heard[heard != 0])
    assert set(both[:FRAME, 1]) == {-1}, "nothing was played in the first frame"


def test_a_mixed_recording_is_the_saturated_sum(bench, tmp_path):
    loud = np.full(8000, 30000, np.int16)
    call = bench.place(Caller(loud))
    begin = at(call)
    bench.record(tmp_path / "a.raw")
    bench.client.execute("playback", TONE)
    bench.advance(0.4)
    mixed = spool(tmp_path / "a.raw")
    heard = call.heard[begin : begin + len(mixed)].astype(int)
    played = np.repeat([block.any() for block in heard.reshape(-1, FRAME)], FRAME)
    np.testing.assert_array_equal(mixed[~played], 29999)
    np.testing.assert_array_equal(mixed[played], np.clip(30000 + heard[played], -32768, 32767))
    assert played.sum() == 10 * FRAME


def test_heard_is_where_it_was_played(bench, party):
    call = bench.place(party)
    bench.advance(0.5)
    start = at(call)
    bench.client.execute("playback", TONE)
    bench.advance(0.5)
    assert len(call.heard) == at(call)
    assert not call.heard[: start + FRAME].any()
    assert call.heard[start + FRAME : start + FRAME + 1600].any()
    assert not call.heard[start + FRAME + 1600 :].any()


def test_paused_a_file_does_not_grow_and_masked_it_grows_with_zeros(bench, party, tmp_path):
    call = bench.place(party)
    begin = at(call)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(1.0)
    for action in ("pause", "resume", "mask", "unmask"):
        assert bench.api(f"uuid_record {call.uuid} {action} {tmp_path}/a.raw") == "+OK Success\n"
        bench.advance(0.4)
    said = party.audio[begin:]
    np.testing.assert_array_equal(
        spool(tmp_path / "a.raw"),
        np.concatenate([said[:8000], said[11200:14400], np.zeros(3200, np.int16), said[17600:20800]]),
    )


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["pause", "resume", "mask", "unmask"]), st.integers(0, 20)), max_size=8)
)
def test_any_sequence_of_pauses_and_masks(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("spool") / "a.raw"
    core = Core(Faults())
    caller = Caller(say(4.0))
    legs = Legs(caller)
    recordings = Recordings(Channel(core, caller, "one"), FRAME)
    options = {"RECORD_READ_ONLY": "true", "RECORD_PRE_BUFFER_FRAMES": "1", "enable_file_write_buffering": "false"}
    recordings.start(str(path), 0, options)
    expected = []
    paused = masked = False
    for action, count in [("resume", 5), *steps]:
        getattr(recordings, {"resume": "pause", "unmask": "mask"}.get(action, action))(
            str(path), action in ("pause", "mask")
        )
        paused = {"pause": True, "resume": False}.get(action, paused)
        masked = {"mask": True, "unmask": False}.get(action, masked)
        for _ in range(count):
            said = legs.say(answered=True)
            recordings.said(said)
            if not paused:
                expected.append(np.zeros_like(said) if masked else said)
    recordings.stop("all")
    np.testing.assert_array_equal(spool(path), np.concatenate(expected))


def test_two_recordings_of_one_call_do_not_disturb_each_other(bench, party, tmp_path):
    call = bench.place(party)
    begin = at(call)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.2)
    bench.record(tmp_path / "b.raw", "RECORD_READ_ONLY=true")
    bench.api(f"uuid_record {call.uuid} pause {tmp_path}/a.raw")
    bench.advance(0.2)
    np.testing.assert_array_equal(spool(tmp_path / "a.raw"), party.audio[begin : begin + 1600])
    np.testing.assert_array_equal(spool(tmp_path / "b.raw"), party.audio[begin + 1600 : begin + 3200])


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("later", [0.0, 0.3, 0.6, 0.88, 0.92])
def test_a_limit_counts_whole_seconds_of_the_clock(bench, party, tmp_path, limit, later):
    bench.place(party)
    bench.client.command("event plain RECORD_START RECORD_STOP")
    bench.advance(later)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true", limit=limit)
    bench.advance(limit + 0.1)
    (start,) = bench.client.named("RECORD_START")
    (stop,) = bench.client.named("RECORD_STOP")
    assert stop["Record-Completion-Cause"] == "success-maxtime"
    into_the_second = int(start["Event-Date-Timestamp"]) % 1_000_000
    expected = limit * 8000 - into_the_second * 8 // 1000
    assert spool(tmp_path / "a.raw").size == expected
    bench.advance(1.0)
    assert spool(tmp_path / "a.raw").size == expected


def test_a_limit_that_comes_before_the_first_frame_leaves_nothing(bench, party, tmp_path):
    bench.place(party)
    bench.client.command("event plain RECORD_STOP")
    bench.advance(0.9)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true", limit=1)
    bench.advance(0.1)
    (stop,) = bench.client.named("RECORD_STOP")
    assert stop["Record-Completion-Cause"] == "empty-file"
    assert not (tmp_path / "a.raw").exists()


def test_with_the_default_pre_buffer_a_file_is_half_a_second_late(bench, party, tmp_path):
    call = bench.place(party)
    begin = at(call)
    path = tmp_path / "a.raw"
    bench.api(f"uuid_record {call.uuid} start {path} 0 {{enable_file_write_buffering=false,RECORD_READ_ONLY=true}}")
    bench.advance(0.5)
    assert spool(path).size == 0
    bench.advance(0.02)
    np.testing.assert_array_equal(spool(path), party.audio[begin : begin + 26 * FRAME])


def test_a_recording_stopped_while_it_is_empty_is_deleted(bench, party, tmp_path):
    call = bench.place(party)
    path = tmp_path / "a.raw"
    bench.api(f"uuid_record {call.uuid} start {path}")
    bench.advance(0.4)
    assert path.exists()
    assert bench.api(f"uuid_record {call.uuid} stop {path}") == "+OK Success\n"
    assert not path.exists()
    assert call.variables["RECORD_DISCARDED"] == "true"
    assert call.variables["record_completion_cause"] == "empty-file"


@pytest.mark.parametrize(("mode", "channels"), [("RECORD_READ_ONLY", 1), ("RECORD_STEREO", 2)])
def test_with_default_buffering_64_kib_a_channel_come_at_once(bench, tmp_path, mode, channels):
    call = bench.place(Caller(say(10.0)))
    path = tmp_path / "a.raw"
    bench.api(f"uuid_record {call.uuid} start {path} 0 {{RECORD_PRE_BUFFER_FRAMES=1,{mode}=true}}")
    bench.advance(4.08)
    assert path.stat().st_size == 0
    bench.advance(0.06)
    assert path.stat().st_size == 65536 * channels
    bench.api(f"uuid_record {call.uuid} stop {path}")
    assert 4.1 < path.stat().st_size / 16000 / channels < 4.16


def test_recording_an_unanswered_call_opens_early_media(bench, party, tmp_path):
    call = bench.place(party, answer=False)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    assert bench.client.named("CHANNEL_PROGRESS_MEDIA")
    bench.advance(0.2)
    np.testing.assert_array_equal(spool(tmp_path / "a.raw"), np.zeros(10 * FRAME))
    assert call.position == 0
    bench.client.execute("answer")
    bench.advance(0.1)
    assert spool(tmp_path / "a.raw").any(), "the party speaks from answer on"


@pytest.mark.parametrize(("rate", "codec"), [(8000, "PCMU"), (16000, "G722"), (48000, "opus")])
def test_a_file_has_the_rate_of_the_call(bench, tmp_path, rate, codec):
    party = Caller(say(1.0, rate), rate=rate)
    call = bench.place(party)
    begin = at(call)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.5)
    np.testing.assert_array_equal(spool(tmp_path / "a.raw"), party.audio[begin : begin + rate // 2])
    assert bench.api(f"uuid_getvar {call.uuid} read_rate") == str(rate)
    assert bench.client.named("CHANNEL_ANSWER")[0]["Channel-Read-Codec-Name"] == codec


def test_a_stereo_recording_stopped_under_a_prompt_ends_in_a_mis_sized_block(bench, party, tmp_path):
    call = bench.place(party)
    bench.record(tmp_path / "a.raw", "RECORD_STEREO=true")
    bench.client.execute("playback", "tone_stream://%(2000,0,500)")
    bench.advance(0.5)
    before = (tmp_path / "a.raw").stat().st_size
    bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw")
    assert (tmp_path / "a.raw").stat().st_size == before + 2 * 640


def test_a_recording_in_a_container_can_be_opened(bench, party, tmp_path):
    call = bench.place(party)
    begin = at(call)
    bench.client.execute("record_session", f"{{RECORD_READ_ONLY=true}}{tmp_path}/deep/er/a.wav")
    bench.advance(1.0)
    bench.client.execute("stop_record_session", "all")
    bench.advance(0.02)
    sound, rate = soundfile.read(tmp_path / "deep/er/a.wav", dtype="int16")
    assert rate == 8000
    np.testing.assert_array_equal(sound, party.audio[begin + FRAME :][: len(sound)])
    assert call.variables["record_ms"] == str(len(sound) // 8)
