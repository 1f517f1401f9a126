"""What ordinary calls do to a tap: holds, changes of the codec, stereo calls, and variables that a dialplan sets.

The numbers are those of a real switch, 1.11.3-dev.
"""

from pathlib import Path

import numpy as np
import pytest
from standin_client import Bench

from esl_record.standin.caller import Caller
from esl_record.standin.voice import say

FRAME = 160
SIDE = "RECORD_READ_ONLY=true"


def spool(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), "<i2")


def tone(seconds: float, rate: int = 8000, pitch: float = 400.0) -> np.ndarray:
    return np.round(8000 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.int16)


def pitch(sound: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * rate / len(sound))


def grown(bench: Bench, path: Path, seconds: float) -> int:
    """Bytes a file grows by in that time."""
    before = path.stat().st_size
    bench.advance(seconds)
    return path.stat().st_size - before


@pytest.mark.parametrize("mode", [SIDE, "RECORD_STEREO=true", "RECORD_WRITE_ONLY=true"])
def test_a_tap_writes_nothing_while_the_call_is_held(bench, tmp_path, mode):
    bench.place(Caller(say(8.0), holds=((1.0, 3.0),)))
    bench.client.command("event plain CHANNEL_HOLD CHANNEL_UNHOLD")
    bench.advance(0.9)
    bench.record(tmp_path / "a.raw", mode)
    bench.advance(0.2)
    assert bench.client.named("CHANNEL_HOLD")[0]["Channel-Call-State"] == "HELD"
    assert grown(bench, tmp_path / "a.raw", 1.8) == 0
    assert not bench.client.named("CHANNEL_UNHOLD")
    bench.advance(0.2)
    assert bench.client.named("CHANNEL_UNHOLD")[0]["Channel-Call-State"] == "UNHELD"
    assert grown(bench, tmp_path / "a.raw", 1.0) == 16000 * (2 if "STEREO" in mode else 1)


def test_what_is_said_during_a_hold_is_lost_and_the_rest_is_in_its_place(bench, tmp_path):
    party = Caller(say(8.0), holds=((1.0, 3.0),))
    call = bench.place(party)
    begin = round(call.position * 8000)
    bench.record(tmp_path / "a.raw", SIDE)
    bench.advance(5.0)
    end = round(call.position * 8000)
    np.testing.assert_array_equal(
        spool(tmp_path / "a.raw"), np.concatenate([party.audio[begin:8000], party.audio[24000:end]])
    )
    assert call.channel.profile.held_us == 2_000_000


def test_a_call_can_be_held_to_its_end(bench, tmp_path):
    call = bench.place(Caller(say(1.0), holds=((0.5, float("inf")),), hangup_after=2.0))
    bench.record(tmp_path / "a.raw", SIDE)
    bench.advance(2.5)
    assert not call.alive
    assert call.variables["hold_accum_seconds"] == "0"
    assert 0.4 < len(spool(tmp_path / "a.raw")) / 8000 < 0.6


@pytest.mark.parametrize(
    ("before", "after", "second"), [(16000, 8000, 8000), (8000, 16000, 32000), (48000, 8000, 2666), (8000, 8000, 16000)]
)
def test_a_running_tap_is_not_told_of_a_new_codec_and_one_started_later_is_right(
    bench, tmp_path, before, after, second
):
    call = bench.place(Caller(tone(8.0, before), rate=before, codecs=((1.0, after),)))
    bench.client.command("event plain CODEC")
    bench.record(tmp_path / "a.raw", SIDE, "record_sample_rate=8000")
    bench.advance(0.5)
    assert grown(bench, tmp_path / "a.raw", 0.4) == 6400
    bench.advance(0.2)
    assert [said["Channel-Read-Codec-Rate"] for said in bench.client.named("CODEC")] == [str(after)]
    assert bench.api(f"uuid_getvar {call.uuid} read_rate") == str(before)
    assert bench.api(f"uuid_getvar {call.uuid} write_rate") == str(after)
    assert f"Channel-Read-Codec-Rate: {after}\n" in bench.api(f"uuid_dump {call.uuid}")
    assert grown(bench, tmp_path / "a.raw", 1.0) == pytest.approx(second, abs=100)
    assert pitch(spool(tmp_path / "a.raw")[-min(second // 2, 4000) :], 8000) == pytest.approx(
        400 * after / before if before < after else 400 * before / after if before > after else 400, rel=1
    )
    bench.record(tmp_path / "b.raw", SIDE, "record_sample_rate=8000")
    bench.advance(1.0)
    assert len(spool(tmp_path / "b.raw")) == 8000
    assert pitch(spool(tmp_path / "b.raw"), 8000) == pytest.approx(400, abs=5)


def test_the_party_hears_on_after_a_change_of_the_codec(bench):
    call = bench.place(Caller(say(4.0, 16000), rate=16000, codecs=((1.0, 8000),)))
    bench.client.execute("playback", "tone_stream://%(400,0,500)")
    bench.advance(2.0)
    bench.client.execute("playback", "tone_stream://%(400,0,500)")
    bench.advance(1.0)
    heard = call.heard
    assert len(heard) == round(call.position * 16000)
    assert pitch(heard[-16000:], 16000) == pytest.approx(500, abs=5)


@pytest.mark.parametrize("mode", [SIDE, "RECORD_STEREO=true", "RECORD_STEREO=false", "RECORD_WRITE_ONLY=true"])
@pytest.mark.parametrize(("rate", "size"), [(0, 96000), (8000, 16000)])
def test_every_tap_of_a_stereo_call_has_two_channels(bench, tmp_path, mode, rate, size):
    call = bench.place(Caller(tone(4.0, 48000), rate=48000, channels=2))
    assert bench.api(f"uuid_getvar {call.uuid} rtp_use_codec_channels") == "2"
    bench.record(tmp_path / "a.raw", mode, f"record_sample_rate={rate}")
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 0.5) == size
    both = spool(tmp_path / "a.raw").reshape(-1, 2)
    np.testing.assert_array_equal(both[:, 0], both[:, 1])


@pytest.mark.parametrize(
    ("rate", "to", "size"),
    [
        (8000, 8000, 16000),
        (16000, 8000, 16000),
        (48000, 8000, 16000),
        (8000, 16000, 32000),
        (8000, 12345, 16000),
        (16000, 0, 32000),
    ],
)
def test_a_file_has_the_rate_that_was_asked_for(bench, tmp_path, rate, to, size):
    call = bench.place(Caller(tone(4.0, rate), rate=rate))
    bench.record(tmp_path / "a.raw", SIDE, f"record_sample_rate={to}")
    bench.advance(0.2)
    assert grown(bench, tmp_path / "a.raw", 1.0) == size
    sound = spool(tmp_path / "a.raw")[-size // 2 :]
    assert pitch(sound, size // 2) == pytest.approx(400, abs=2)
    assert np.abs(sound).max() == pytest.approx(8000, rel=0.02)
    bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw")
    assert call.variables["record_ms"] == "1200"


@pytest.mark.parametrize(
    ("variables", "braces", "size"),
    [
        ("RECORD_STEREO=true", "", 32000),
        ("RECORD_STEREO=true", "RECORD_STEREO=false", 16000),
        ("RECORD_STEREO=true", "RECORD_STEREO=", 32000),
        ("RECORD_STEREO_SWAP=true", "", 32000),
        ("record_sample_rate=16000", "", 32000),
        ("record_sample_rate=16000", "record_sample_rate=0", 16000),
        ("RECORD_BRIDGE_REQ=true", "", 0),
        ("RECORD_BRIDGE_REQ=true", "RECORD_BRIDGE_REQ=false", 16000),
    ],
)
def test_what_the_braces_do_not_name_is_the_channel_variable_of_that_name(bench, tmp_path, variables, braces, size):
    bench.place(Caller(say(4.0)))
    bench.client.execute("set", variables)
    bench.advance(0.1)
    bench.record(tmp_path / "a.raw", braces)
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 1.0) == size


def test_buffering_and_pre_buffer_can_be_channel_variables(bench, tmp_path):
    call = bench.place(Caller(say(4.0)))
    bench.client.execute("multiset", "enable_file_write_buffering=false RECORD_PRE_BUFFER_FRAMES=50")
    bench.advance(0.1)
    bench.api(f"uuid_record {call.uuid} start {tmp_path}/a.raw 0 {{{SIDE}}}")
    bench.advance(1.0)
    assert spool(tmp_path / "a.raw").size == 0
    bench.advance(0.1)
    assert spool(tmp_path / "a.raw").size == 55 * FRAME


@pytest.mark.parametrize(
    ("variable", "braces", "waits"),
    [
        ("RECORD_ANSWER_REQ", "", True),
        ("RECORD_ANSWER_REQ", "RECORD_ANSWER_REQ=false", False),
        ("media_bug_answer_req", "media_bug_answer_req=false", True),
    ],
)
def test_a_tap_can_wait_for_the_answer(bench, tmp_path, variable, braces, waits):
    bench.place(Caller(say(4.0)), answer=False)
    bench.client.execute("set", f"{variable}=true")
    bench.advance(0.1)
    assert bench.record(tmp_path / "a.raw", SIDE, braces) == "+OK Success\n"
    assert bench.client.named("CHANNEL_PROGRESS_MEDIA"), "it is opened to early media all the same"
    bench.advance(0.1)
    assert (grown(bench, tmp_path / "a.raw", 0.5) == 0) == waits
    bench.client.execute("answer")
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 0.5) == 8000


def test_a_tap_can_wait_for_a_bridge(bench, tmp_path):
    bench.place(Caller(say(4.0)))
    bench.client.execute("set", "RECORD_BRIDGE_REQ=true")
    bench.advance(0.1)
    bench.record(tmp_path / "a.raw", SIDE)
    assert grown(bench, tmp_path / "a.raw", 0.5) == 0
    bench.client.execute("bridge", "user/9196")
    bench.advance(0.2)
    assert grown(bench, tmp_path / "a.raw", 0.5) == 8000


@pytest.mark.parametrize(("braces", "remains"), [("", False), ("RECORD_MIN_SEC=0", True)])
def test_a_short_file_is_deleted_if_a_variable_says_so(bench, tmp_path, braces, remains):
    call = bench.place(Caller(say(4.0)))
    bench.client.execute("set", "RECORD_MIN_SEC=2")
    bench.advance(0.1)
    bench.record(tmp_path / "a.raw", SIDE, braces)
    bench.advance(1.5)
    bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw")
    assert (tmp_path / "a.raw").exists() == remains
    assert call.variables["record_completion_cause"] == ("success-maxtime" if remains else "input-too-short")


def test_a_second_start_can_be_a_stop(bench, tmp_path):
    call = bench.place(Caller(say(4.0)))
    bench.client.execute("set", "RECORD_TOGGLE_ON_REPEAT=true")
    bench.advance(0.1)
    bench.record(tmp_path / "a.raw", SIDE)
    bench.advance(0.5)
    assert bench.record(tmp_path / "a.raw", SIDE) == "+OK Success\n"
    assert grown(bench, tmp_path / "a.raw", 0.5) == 0
    assert bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw").startswith("-ERR")


def test_what_is_not_simulated_is_refused_and_says_so(bench, tmp_path):
    bench.place(Caller(say(4.0)))
    bench.client.execute("set", "RECORD_FINAL_TIMEOUT_MS=1000")
    bench.advance(0.1)
    assert "RECORD_FINAL_TIMEOUT_MS=1000" in bench.record(tmp_path / "a.raw", SIDE)
    assert bench.record(tmp_path / "a.raw", SIDE, "RECORD_FINAL_TIMEOUT_MS=0") == "+OK Success\n"


def test_after_speech_that_ends_inside_a_frame_each_frame_played_gets_one_out(bench, tmp_path):
    call = bench.place(Caller(say(20.0)))
    stereo, said = tmp_path / "a.raw", tmp_path / "b.raw"
    bench.record(stereo, "RECORD_STEREO=true")
    bench.record(said, SIDE)
    bench.client.execute("speak", "flite|kal|Hello")
    bench.advance(1.0)
    assert grown(bench, stereo, 1.0) == 0
    assert grown(bench, said, 1.0) == 16000
    before = stereo.stat().st_size
    bench.client.execute("playback", "silence_stream://40")
    bench.advance(1.0)
    assert stereo.stat().st_size - before == 2 * 4 * FRAME
    before = stereo.stat().st_size
    bench.api(f"uuid_record {call.uuid} stop {stereo}")
    assert stereo.stat().st_size == before, "what was said meanwhile is lost"
    bench.record(tmp_path / "c.raw", "RECORD_STEREO=true")
    bench.advance(0.1)
    assert grown(bench, tmp_path / "c.raw", 0.5) == 16000


def test_speech_played_as_a_file_ends_on_a_frame(bench, tmp_path):
    bench.place(Caller(say(20.0)))
    bench.record(tmp_path / "a.raw", "RECORD_STEREO=true")
    bench.client.execute("playback", "tts://flite|kal|Hello")
    bench.advance(1.0)
    assert grown(bench, tmp_path / "a.raw", 1.0) == 32000


def test_where_no_packets_come_a_tap_has_minus_one(bench, tmp_path):
    party = Caller(say(4.0), gaps=((1.0, 2.0),))
    call = bench.place(party)
    begin = round(call.position * 8000)
    bench.record(tmp_path / "a.raw", SIDE)
    bench.advance(2.5)
    sound = spool(tmp_path / "a.raw")
    end = begin + len(sound)
    np.testing.assert_array_equal(
        sound, np.concatenate([party.audio[begin:8000], np.full(8000, -1), party.audio[16000:end]])
    )


def far_end(bench: Bench) -> str:
    return bench.client.named("CHANNEL_BRIDGE")[0]["Bridge-B-Unique-ID"]


def test_a_far_end_that_holds_is_seen_in_its_dump_alone_and_the_tap_goes_on(bench, tmp_path):
    bench.place(Caller(say(8.0)))
    bench.client.command("event plain CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_CALLSTATE")
    bench.record(tmp_path / "a.raw", "RECORD_STEREO=true")
    bench.client.execute("bridge", "user/holds-1000-3000")
    bench.advance(0.9)
    other = far_end(bench)
    assert bench.api(f"uuid_exists {other}") == "true"
    assert "Channel-Call-State: ACTIVE\n" in bench.api(f"uuid_dump {other}")
    before = len(bench.client.events)
    bench.advance(0.5)
    assert grown(bench, tmp_path / "a.raw", 1.0) == 32000
    assert "Channel-Call-State: HELD\n" in bench.api(f"uuid_dump {other}")
    assert "Channel-Call-State: ACTIVE\n" in bench.api(f"uuid_dump {bench.call.uuid}")
    told = bench.client.events[before:]
    assert [(said.kind, said["Application-Data"]) for said in told] == [
        ("CHANNEL_EXECUTE", "local_stream://moh"),
        ("CHANNEL_EXECUTE_COMPLETE", "local_stream://moh"),
    ]
    bench.advance(1.0)
    assert "Channel-Call-State: ACTIVE\n" in bench.api(f"uuid_dump {other}")
    assert bench.call.channel.bridged


def test_a_call_and_its_far_end_can_be_held_by_the_switch(bench, tmp_path):
    call = bench.place(Caller(say(8.0)))
    bench.client.command("event plain CHANNEL_HOLD CHANNEL_UNHOLD")
    bench.client.execute("bridge", "user/1000")
    bench.record(tmp_path / "a.raw", SIDE)
    bench.advance(0.5)
    assert bench.api(f"uuid_hold {call.uuid}") == "+OK Success\n"
    assert bench.api(f"uuid_hold {call.uuid}") == "-ERR Operation failed\n"
    assert grown(bench, tmp_path / "a.raw", 0.5) == 0
    assert bench.api(f"uuid_hold off {call.uuid}") == "+OK Success\n"
    assert bench.api(f"uuid_hold toggle {far_end(bench)}") == "+OK Success\n"
    assert grown(bench, tmp_path / "a.raw", 0.5) == 8000
    assert [said.kind for said in bench.client.events if said.kind.endswith("HOLD")] == [
        "CHANNEL_HOLD",
        "CHANNEL_UNHOLD",
    ]


def test_a_tap_goes_on_through_a_transfer_and_the_connection_still_has_the_call(bench, tmp_path):
    bench.switch.extensions["5556"] = [("answer", ""), ("playback", "tone_stream://L=100;%(1000,0,700)")]
    call = bench.place(Caller(say(8.0)))
    bench.record(tmp_path / "a.raw", "RECORD_STEREO=true")
    bench.advance(0.5)
    assert bench.switch.api(f"uuid_transfer {call.uuid} 5556") == "+OK\n"
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 1.0) == 32000
    assert pitch(spool(tmp_path / "a.raw")[1::2][-4000:], 8000) == pytest.approx(700, abs=5)
    assert not bench.client.ended
    assert bench.api(f"uuid_exists {call.uuid}") == "true"
    assert "variable_current_application: playback\n" in bench.api(f"uuid_dump {call.uuid}")
    assert bench.api(f"uuid_record {call.uuid} pause {tmp_path}/a.raw") == "+OK Success\n"
    assert grown(bench, tmp_path / "a.raw", 0.5) == 0
    assert bench.api(f"uuid_record {call.uuid} resume {tmp_path}/a.raw") == "+OK Success\n"
    bench.client.command("exit")
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 1.0) == 32000
    assert call.alive


def test_a_transfer_to_an_extension_that_does_not_exist_ends_the_call(bench):
    call = bench.place(Caller(say(1.0)))
    bench.switch.api(f"uuid_transfer {call.uuid} 9999")
    bench.advance(0.2)
    assert call.hangup_cause == "NO_ROUTE_DESTINATION"


def test_a_dialplan_sets_variables_before_its_socket(bench, tmp_path):
    bench.place(Caller(say(4.0)), before=[("set", "RECORD_STEREO=true"), ("set", "record_sample_rate=16000")])
    bench.record(tmp_path / "a.raw")
    bench.advance(0.1)
    assert grown(bench, tmp_path / "a.raw", 0.5) == 32000
