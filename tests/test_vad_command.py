"""``esl-record vad``: what it prints, what it draws, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pyrage
import pytest
import soundfile
from numpy.typing import NDArray

from esl_record.cli import main
from esl_record.standin import voice

SPOKEN = np.concatenate([np.zeros(8000, np.int16), voice.say(2.0), np.zeros(32000, np.int16)])
SQUARE = np.tile(np.repeat(np.array([32767, -32768], np.int16), 20), 2000)


def written(folder: Path, samples: NDArray[np.int16], rate: int = 8000) -> Path:
    path = folder / "call.wav"
    soundfile.write(path, samples, rate)
    return path


def test_it_tells_where_a_live_recording_would_have_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vad", str(written(tmp_path, SPOKEN)), "--end-silence-timeout", "2"]) == 0
    told = capsys.readouterr().out
    assert "1 times speech" in told
    assert "finished, end_silence" in told


def test_it_tells_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SPOKEN)
    assert main(["vad", str(path), "--json", "--end-silence-timeout", "2", "--input-sensitivity", "50"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["sample_rate"], told["length"]) == (str(path), 8000, 7.0)
    assert (told["state"], told["end_reason"]) == ("finished", "end_silence")
    assert told["stopped"] == pytest.approx(5.0, abs=0.3)
    assert len(told["speech"]) == 1
    assert told["parameters"]["input_sensitivity"] == 50.0


def test_it_hears_what_is_encrypted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    plain = written(tmp_path, SPOKEN)
    path = tmp_path / "call.wav.age"
    path.write_bytes(pyrage.encrypt(plain.read_bytes(), [key.to_public()]))
    assert main(["vad", str(plain), "--json"]) == 0
    heard = json.loads(capsys.readouterr().out)
    assert main(["vad", str(path), "--json", "--encryption-key-command", f"echo {key}"]) == 0
    assert json.loads(capsys.readouterr().out) == {**heard, "file": str(path)}
    assert main(["vad", str(path)]) == 1
    assert "no encryption_key is set" in capsys.readouterr().err
    monkeypatch.setenv("ESL_RECORD_ENCRYPTION_KEY", str(other))
    assert main(["vad", str(path)]) == 1
    assert "another key" in capsys.readouterr().err


@pytest.mark.parametrize(
    "samples",
    [SPOKEN, SPOKEN[:0], SPOKEN[:160], np.zeros(16000, np.int16), SQUARE, np.full(8000, -32768, np.int16)],
    ids=["call", "empty", "20 ms", "silence", "square wave", "lowest value"],
)
@pytest.mark.parametrize("sensitivity", ["0", "44", "100"])
def test_it_draws_whatever_there_is(tmp_path: Path, samples: NDArray[np.int16], sensitivity: str) -> None:
    picture = tmp_path / "out.png"
    arguments = ["vad", str(written(tmp_path, samples)), "--plot", str(picture), "--input-sensitivity", sensitivity]
    assert main(arguments) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input-sensitivity", "101"], "input_sensitivity = '101'"),
        (["--initial-timeout", "soon"], "initial_timeout = 'soon': a number is wanted"),
        (["--plot", "/nowhere/at/all.png"], "picture /nowhere/at/all.png"),
        (["--plot", "out.doc"], "picture out.doc"),
    ],
)
def test_it_refuses_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["vad", str(written(tmp_path, SPOKEN)), *arguments]) == 1
    assert told in capsys.readouterr().err


def test_what_is_no_audio_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no audio")
    assert main(["vad", str(path)]) == 1
    assert f"{path}: cannot be read as audio" in capsys.readouterr().err
    assert main(["vad", str(tmp_path / "none.wav")]) == 1


def test_a_rate_nobody_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vad", str(written(tmp_path, SPOKEN, 4000))]) == 1
    assert "4000" in capsys.readouterr().err
