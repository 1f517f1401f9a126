"""Audio files read whole: mixed to one channel, resampled without changing what is heard."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from esl_record.audio.sound import SoundError, read, resampled


def tone(hertz: float, rate: int, seconds: float = 0.5, level: float = 10_000) -> NDArray[np.int16]:
    return np.round(level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def loudest(samples: NDArray[np.int16], rate: int) -> float:
    """The frequency that stands out."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * rate / len(samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff"])
def test_one_channel_comes_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(440, 16000), 16000, subtype="PCM_16")
    samples, rate = read(path)
    assert samples.dtype == np.int16
    assert (samples.tolist(), rate) == (tone(440, 16000).tolist(), 16000)


def test_channels_are_mixed_to_their_mean(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    left, right = [1000, -32768, 32767, 0], [3000, -32768, 32767, -500]
    soundfile.write(path, np.array([left, right], np.int16).T, 8000)
    assert read(path)[0].tolist() == [2000, -32768, 32767, -250]


def test_a_file_without_audio_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0, np.int16), 8000)
    samples, rate = read(path)
    assert (len(samples), rate) == (0, 8000)
    assert len(resampled(samples, rate, 16000)) == 0


@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.txt", "a"])
@pytest.mark.parametrize("content", [None, b"", b"no audio at all", b"RIFF\x24\0\0\0WAVE", b"\0" * 1000], ids=repr)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SoundError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as audio: ")


def test_a_directory_is_no_sound(tmp_path: Path) -> None:
    with pytest.raises(SoundError, match="cannot be read as audio"):
        read(tmp_path)


@pytest.mark.parametrize("wanted", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_tone_keeps_its_pitch_length_and_level(rate: int, wanted: int) -> None:
    heard = resampled(tone(1000, rate), rate, wanted)
    assert heard.dtype == np.int16
    assert len(heard) == pytest.approx(0.5 * wanted, abs=1)
    assert loudest(heard, wanted) == pytest.approx(1000, abs=2)
    middle = heard[len(heard) // 4 : -len(heard) // 4]
    assert np.abs(middle).max() == pytest.approx(10_000, rel=0.03)


def test_the_same_rate_changes_nothing() -> None:
    assert np.array_equal(resampled(tone(440, 8000), 8000, 8000), tone(440, 8000))


@given(st.integers(0, 2**32 - 1), st.sampled_from([(8000, 16000), (48000, 8000), (44100, 8000)]))
def test_the_loudest_sound_does_not_wrap_around(seed: int, rates: tuple[int, int]) -> None:
    """A square wave overshoots where it is resampled: it must stop at the rail, not come out at the other."""
    signs = np.random.default_rng(seed).integers(0, 2, 40)
    square = np.repeat(np.where(signs, 32767, -32768), 200).astype(np.int16)
    heard = resampled(square, *rates)
    plateaus = np.repeat(signs, round(200 * rates[1] / rates[0]))
    if len(plateaus) == len(heard):
        centres = np.arange(40) * (len(heard) // 40) + len(heard) // 80
        assert np.array_equal(heard[centres] > 0, signs == 1)
    assert np.abs(heard.astype(np.int32)).max() >= 30_000
