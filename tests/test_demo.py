"""The demo: the service records a call of the stand-in over the real wire, and tells what came of it."""

import logging
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from esl_record.audio.sound import SoundError
from esl_record.config import Settings
from esl_record.demo import Demo
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.recording.room import Room
from esl_record.standin import voice


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """The demo silences the service's log."""
    logger = logging.getLogger("esl_record")
    level = logger.level
    yield
    logger.setLevel(level)


def watched(data: Path, caller: Path | None = None, **settings: Any) -> tuple[int, str]:
    """The exit status, and what is printed where nothing can be redrawn."""
    out = StringIO()
    status = Demo(Settings(data_dir=data, **settings), Console(file=out, width=60), caller=caller, fast=True).run()
    return status, out.getvalue()


def fact(told: str, name: str) -> Path:
    found = re.search(rf"^  {name} +(/.*)$", told, re.MULTILINE)
    assert found, told
    return Path(found[1])


def a_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    soundfile.write(path, samples, rate, "PCM_16")
    return path


def test_it_records_the_made_up_voice_and_says_where(tmp_path: Path) -> None:
    status, told = watched(tmp_path)
    assert status == 0
    samples, rate = soundfile.read(fact(told, "audio"), dtype="int16")
    recording = Recording.model_validate_json(fact(told, "facts").read_bytes())
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert len(samples) / rate == recording.duration
    # A second before the voice, four of it, five of silence, of which the beep takes some.
    assert 8.0 < recording.duration < 10.5
    assert np.abs(samples).max() > 1000
    assert f"finished: ended by end_silence, {recording.duration:.2f} s" in told
    assert len(re.findall(r"^  speech ", told, re.MULTILINE)) == len(recording.speech) >= 1
    assert not (tmp_path / "spool").exists()


def test_it_shows_the_recording_as_it_goes(tmp_path: Path) -> None:
    _, told = watched(tmp_path)
    shown = [line for line in told.splitlines() if "dBFS" in line]
    assert all(re.match(r"(recording|finished) +\d+\.\d\d s  [█·]{30} +-?\d+\.\d dBFS", line) for line in shown)
    assert any(" speech " in line for line in shown)
    assert any(" silence" in line for line in shown)
    assert "\x1b" not in told


def test_it_records_what_a_file_says(tmp_path: Path) -> None:
    said = voice.say(2.0, 16000)
    status, told = watched(tmp_path / "data", a_wav(tmp_path / "said [1].wav", np.stack([said, said], 1), 16000))
    assert status == 0
    assert 6.0 < soundfile.info(fact(told, "audio")).duration < 9.0


def test_a_caller_who_says_nothing_is_status_1(tmp_path: Path) -> None:
    silence = a_wav(tmp_path / "silence.wav", np.zeros(16000, np.int16))
    # It needs little room, whatever a service would want.
    status, told = watched(tmp_path / "data", silence, disk_floor=10**18)
    assert status == 1
    assert "no_input: ended by initial_timeout, 4.00 s" in told
    assert soundfile.info(fact(told, "audio")).frames == 32000


def test_what_could_not_be_recorded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "refusal", "the disk is full")
    status, told = watched(tmp_path)
    assert status == 1
    assert "  error  the recording could not be begun: the disk is full\n" in told
    assert "  audio  " not in told


@pytest.mark.parametrize(
    "content", [None, b"", b"RIFF not really", b"\0" * 1000], ids=["none", "empty", "riff", "zeros"]
)
def test_a_file_that_is_no_audio_is_a_clear_error_and_nothing_starts(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "said.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SoundError, match=re.escape(f"{path}: cannot be read as audio: ")):
        watched(tmp_path / "data", path)
    assert not (tmp_path / "data").exists()


def test_it_does_not_mind_a_service_on_its_port(tmp_path: Path) -> None:
    """It listens where nobody does."""
    demo = Demo(Settings(data_dir=tmp_path, listen=("127.0.0.1", 1)), Console(file=StringIO()), caller=None, fast=True)
    assert demo.run() == 0
