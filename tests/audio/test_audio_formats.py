"""What each format keeps of the audio: every sample's place, the channels apart, the tags; heard by other decoders."""

from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from decoding import by_ffmpeg, by_libsndfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esl_record.audio import formats
from esl_record.audio.encoder import Encoder
from esl_record.audio.facts import Quality, Tags
from esl_record.audio.formats import FORMATS
from esl_record.recording.params import Format
from esl_record.standin import voice

Samples = NDArray[np.int16]

LENGTHS = [1, 2, 3, 48, 575, 576, 577, 1023, 1024, 1025, 1151, 1152, 1153, 2048, 7999, 8000, 12345, 65536]


def said(samples: int, rate: int, channels: int) -> Samples:
    """A voice, in stereo another one on the right."""
    return np.stack([side[:samples] for side in voices(rate, 20 if samples > 9 * rate else 9)[:channels]], axis=1)


@cache
def voices(rate: int, seconds: int) -> tuple[Samples, Samples]:
    low, high = (voice.say(seconds, rate, pitch=pitch, seed=pitch) for pitch in (110, 230))
    return low, high


def written(path: Path, audio: Samples, rate: int, **options: Any) -> Path:
    with Encoder(path, rate, audio.shape[1], **options) as encoder:
        encoder.write(audio)
    return path


DECODERS = [("wav", by_libsndfile), ("wav", by_ffmpeg), ("mp3", by_libsndfile), ("mp3", by_ffmpeg), ("mp4", by_ffmpeg)]


def likeness(heard: NDArray[np.float64], audio: Samples) -> tuple[float, int]:
    """The correlation of one channel with what was encoded, of 1, and how many samples later it is the best."""
    a, b = heard, audio / 32768
    size = 1 << (2 * len(a)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    lag = int(cross.argmax())
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(cross.max() / norm), lag if lag < size // 2 else lag - size


# ---- the samples


@pytest.mark.parametrize(
    ("suffix", "decode", "samples"),
    [
        (suffix, decode, samples)
        for suffix, decode in DECODERS
        for samples in LENGTHS
        # ffmpeg cuts off no more than a frame of the padding that an mp3 tells of.
        if samples >= 48 or (suffix, decode) != ("mp3", by_ffmpeg)
    ],
)
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_decoded_is_as_long_as_what_was_encoded(
    tmp_path: Path, suffix: str, decode: Any, rate: int, channels: int, samples: int
) -> None:
    path = written(tmp_path / f"a.{suffix}", said(samples, rate, channels), rate)
    audio, told = decode(path)
    assert (audio.shape, told) == ((samples, channels), rate)


@pytest.mark.parametrize(("suffix", "decode"), DECODERS)
@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_each_channel_is_what_was_said_on_it_at_its_place(
    tmp_path: Path, suffix: str, decode: Any, rate: int, channels: int
) -> None:
    spoken = said(2 * rate + 123, rate, channels)
    audio, told = decode(written(tmp_path / f"a.{suffix}", spoken, rate))
    assert (len(audio), told) == (len(spoken), rate)
    for channel in range(channels):
        like, lag = likeness(audio[:, channel], spoken[:, channel])
        assert (like > 0.95, lag) == (True, 0), like
        other, _ = likeness(audio[:, channel], spoken[:, 1 - channel] if channels == 2 else spoken[::-1, 0])
        assert other < 0.5


@pytest.mark.parametrize("suffix", ["mp3", "mp4"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_silent_channel_stays_silent(tmp_path: Path, suffix: str, side: int) -> None:
    spoken = said(16000, 8000, 2)
    spoken[:, side] = 0
    audio, _ = by_ffmpeg(written(tmp_path / f"a.{suffix}", spoken, 8000))
    assert np.abs(audio[:, side]).max() < 0.002
    assert np.abs(audio[:, 1 - side]).max() > 0.1


@pytest.mark.parametrize("suffix", ["mp3", "mp4"])
def test_the_loudest_there_is_does_not_come_out_at_the_other_rail(tmp_path: Path, suffix: str) -> None:
    loud = np.where(np.arange(16000) % 40 < 20, 32767, -32768).astype(np.int16)[:, None]
    audio, _ = by_ffmpeg(written(tmp_path / f"a.{suffix}", loud, 8000))
    like, lag = likeness(audio[:, 0], loud[:, 0])
    assert (like > 0.95, lag) == (True, 0)


@settings(deadline=None, max_examples=60)
@given(
    suffix=st.sampled_from(list(FORMATS)),
    channels=st.sampled_from([1, 2]),
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8),
)
def test_it_does_not_matter_in_what_blocks_it_comes(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, channels: int, sizes: list[int]
) -> None:
    audio = said(sum(sizes) + 1, 8000, channels)
    folder = tmp_path_factory.getbasetemp()
    whole = written(folder / f"whole.{suffix}", audio, 8000)
    with Encoder(folder / f"blocks.{suffix}", 8000, channels) as encoder:
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            encoder.write(audio[end - size : end])
        encoder.write(audio[-1:])
    assert (folder / f"blocks.{suffix}").read_bytes() == whole.read_bytes()


# ---- what is told of it

_TOLD = ("title", "artist", "date", "comment")
TAGS = Tags("Call 3f5b", "Ann \u00e9\u65e5\u672c\U0001f600 +15550100", "2024-01-02T03:04:05Z", "Recording 8d1c")


def told(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key: container.metadata[key] for key in _TOLD if key in container.metadata}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_says_whose_call_it_is(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a.{suffix}", said(8000, 8000, 1), 8000, tags=TAGS)
    found = told(path)
    assert (found["title"], found["artist"], found["comment"]) == (TAGS.title, TAGS.artist, TAGS.comment)
    assert found["date"].startswith("2024-01-02")
    assert len(by_ffmpeg(path)[0]) == 8000


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_not_known_is_not_said(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path / f"a.{suffix}", said(8000, 8000, 1), 8000)
    assert told(path) == {}
    assert told(written(path, said(8000, 8000, 1), 8000, tags=Tags(title="x"))) == {"title": "x"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Ann\r\nContent-Type: x\0", "AnnContent-Type: x"),
        ("\u202eevil\u2066", "evil"),
        ("\ud800Ann\ud800", "Ann"),
        ("Xing\x00Info LAME ID3\x04 TAG moov", "XingInfo LAME ID3 TAG moov"),
        ("x" * 100_000, "x" * 200),
    ],
)
def test_no_caller_can_break_a_file_by_his_name(tmp_path: Path, suffix: str, name: str, kept: str) -> None:
    path = written(tmp_path / f"a.{suffix}", said(5000, 8000, 2), 8000, tags=Tags(artist=name))
    assert told(path) == {"artist": kept}
    assert by_ffmpeg(path)[0].shape == (5000, 2)


# ---- how it is encoded


def kilobits(path: Path, seconds: float) -> float:
    return path.stat().st_size * 8 / seconds / 1000


@pytest.mark.parametrize(
    ("suffix", "rate", "quality", "least", "most"),
    [
        ("wav", 8000, Quality(), 128, 129),
        ("wav", 8000, Quality(wav_samples="ulaw"), 64, 65),
        ("wav", 8000, Quality(wav_samples="alaw"), 64, 65),
        ("mp3", 8000, Quality(), 15, 45),
        ("mp3", 8000, Quality(mp3_bit_rate=16), 12, 22),
        ("mp3", 8000, Quality(mp3_bit_rate=1), 7, 11),
        ("mp3", 8000, Quality(mp3_bit_rate=320), 50, 66),
        ("mp3", 16000, Quality(mp3_bit_rate=48), 38, 60),
        ("mp3", 48000, Quality(mp3_bit_rate=64), 55, 80),
        ("mp4", 8000, Quality(), 20, 30),
        ("mp4", 8000, Quality(mp4_bit_rate=12), 8, 16),
        ("mp4", 16000, Quality(), 35, 60),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_is_as_large_as_its_bit_rate_says(
    tmp_path: Path, suffix: str, rate: int, quality: Quality, least: float, most: float, channels: int
) -> None:
    spoken = said(20 * rate, rate, channels)
    path = written(tmp_path / f"a.{suffix}", spoken, rate, quality=quality)
    limited = suffix == "mp3" and quality.mp3_bit_rate in (1, 320)  # at what there is for all channels
    assert least <= kilobits(path, 20) / (1 if limited else channels) <= most
    assert by_ffmpeg(path)[0].shape == spoken.shape


def test_mu_law_of_a_mu_law_call_is_what_the_call_brought(tmp_path: Path) -> None:
    rough = written(tmp_path / "a.wav", said(8000, 8000, 1), 8000, quality=Quality(wav_samples="ulaw"))
    brought, _ = soundfile.read(rough, dtype="int16", always_2d=True)
    again = written(tmp_path / "b.wav", brought, 8000, quality=Quality(wav_samples="ulaw"))
    assert np.array_equal(soundfile.read(again, dtype="int16", always_2d=True)[0], brought)


# ---- the table


def test_each_format_that_can_be_asked_for_is_in_the_table() -> None:
    assert set(FORMATS) == {format.value for format in Format}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000])
def test_each_holds_the_rates_of_calls(suffix: str, rate: int) -> None:
    formats.check(suffix, rate)


@pytest.mark.parametrize("suffix", ["mp3", "mp4"])
@pytest.mark.parametrize("rate", [0, 7000, 8001, 192_000])
def test_a_rate_a_format_cannot_hold_is_told_with_those_it_can(tmp_path: Path, suffix: str, rate: int) -> None:
    with pytest.raises(ValueError, match=f"{suffix} cannot hold {rate} Hz; what it can is 8000, 11025"):
        formats.check(suffix, rate)
    with pytest.raises(OSError, match=rf"a\.{suffix}"):
        written(tmp_path / f"a.{suffix}", np.ones((100, 1), np.int16), rate)
    assert list(tmp_path.iterdir()) == []


def test_a_wav_is_not_written_past_what_its_sizes_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_LARGEST_WAV", 3200)
    written(tmp_path / "most.wav", np.ones((800, 2), np.int16), 8000)
    with pytest.raises(OSError, match=r"a\.wav: .*800 samples at most"):
        written(tmp_path / "a.wav", np.ones((801, 2), np.int16), 8000)
    told = written(tmp_path / "b.wav", np.ones((801, 2), np.int16), 8000, samples=801)
    assert (told.read_bytes()[:4], len(by_libsndfile(told)[0])) == (b"RF64", 801)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.wav", "most.wav"]
