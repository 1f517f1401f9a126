"""The encoder: a file appears complete under its name, or there is nothing, and nothing is left open."""

import gc
import os
import wave
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
import soundfile
from disks import disk_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esl_record.audio.encoder import Encoder
from esl_record.audio.formats import FORMATS


def noise(samples: int, channels: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(samples).integers(-32768, 32768, (samples, channels)).astype(np.int16)


def frames(path: Path) -> tuple[bytes, int, int, int]:
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes()), file.getframerate(), file.getnchannels(), file.getsampwidth()


def descriptors() -> int:
    gevent.idle()  # gevent's os.close is done with the next turn of its loop
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a" / "b.wav"


@pytest.fixture(params=FORMATS)
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "a").mkdir()
    return tmp_path / "a" / f"b.{request.param}"


def here(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_holds_its_blocks_bit_for_bit(wav: Path, rate: int, channels: int) -> None:
    blocks = [noise(160, channels), noise(1, channels), noise(70_000, channels)]
    with Encoder(wav, rate, channels) as encoder:
        for block in blocks:
            encoder.write(block)
    assert frames(wav) == (b"".join(block.astype("<i2").tobytes() for block in blocks), rate, channels, 2)
    assert wav.stat().st_size == 44 + sum(block.nbytes for block in blocks)
    assert here(wav) == ["b.wav"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), max_size=8), st.sampled_from([1, 2]))
def test_blocks_of_any_size_add_up(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], channels: int) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.wav"
    with Encoder(path, 8000, channels) as encoder:
        for size in sizes:
            encoder.write(noise(size, channels))
    assert frames(path)[0] == b"".join(noise(size, channels).tobytes() for size in sizes)


def test_nothing_has_the_name_before_it_is_complete(path: Path) -> None:
    with Encoder(path, 8000, 1) as encoder:
        encoder.write(noise(100_000))
        assert not path.exists()
    assert path.exists()


def test_it_keeps_nothing_open(path: Path) -> None:
    before = descriptors()
    for _ in range(5):
        with Encoder(path, 8000, 2) as encoder:
            encoder.write(noise(160, 2))
    assert descriptors() == before


# ---- when something fails


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), gevent.GreenletExit(), SystemExit(1)], ids=repr
)
@pytest.mark.parametrize("written", [0, 160, 100_000])
def test_leaving_by_an_exception_leaves_nothing(path: Path, error: BaseException, written: int) -> None:
    before = descriptors()

    def leave() -> None:
        with Encoder(path, 8000, 1) as encoder:
            encoder.write(noise(written))
            raise error

    with pytest.raises(type(error)):
        leave()
    assert (here(path), descriptors()) == ([], before)


def test_an_encoder_that_was_left_writes_to_no_file_that_gets_its_descriptor(path: Path) -> None:
    """libsndfile writes the header when it closes, to whatever file has the number by then."""
    encoders = [Encoder(path, 8000, 1)]

    def leave() -> None:
        with encoders[0] as encoder:
            encoder.write(noise(160))
            raise KeyError("left")

    with pytest.raises(KeyError, match="left"):
        leave()
    other = path.with_name("other")
    descriptor = os.open(other, os.O_RDWR | os.O_CREAT)
    encoders.clear()
    gc.collect()
    os.close(descriptor)
    assert other.read_bytes() == b""


def encode(path: Path, blocks: int) -> None:
    with Encoder(path, 8000, 1) as encoder:
        for _ in range(blocks):
            encoder.write(noise(20))


@pytest.mark.parametrize("room", [*range(0, 50, 7), 83, 84, 85, 123, 124, 125, 243])
def test_a_full_disk_leaves_nothing_wherever_it_is_full(wav: Path, room: int) -> None:
    before = descriptors()
    with disk_of(room), pytest.raises(OSError, match=r"b\.wav"):
        encode(wav, 5)
    assert (here(wav), descriptors()) == ([], before)


@pytest.mark.parametrize("lacking", [1, 2, 30, 130, 300, 600])
def test_not_a_byte_of_any_format_may_be_missing(path: Path, lacking: int) -> None:
    encode(path, 100)
    whole = path.stat().st_size
    path.unlink()
    with disk_of(whole - lacking), pytest.raises(OSError, match="not all of it could be written: File too large"):
        encode(path, 100)
    assert here(path) == []
    with disk_of(whole):
        encode(path, 100)
    assert path.stat().st_size == whole


def test_a_disk_with_just_enough_room_holds_the_file(wav: Path) -> None:
    with disk_of(244):
        encode(wav, 5)
    assert frames(wav)[0] == noise(20).tobytes() * 5


def test_a_full_disk_leaves_the_file_of_that_name_as_it_was(path: Path) -> None:
    encode(path, 1)
    old = path.read_bytes()
    with disk_of(100), pytest.raises(OSError, match="not all of it"):
        encode(path, 5)
    assert (here(path), path.read_bytes()) == ([path.name], old)


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (os, "fsync", OSError(5, "Input/output error")),
        (Path, "replace", OSError(28, "No space left on device")),
        (soundfile.SoundFile, "write", AssertionError()),
        (soundfile.SoundFile, "write", soundfile.LibsndfileError(2)),
        (soundfile.SoundFile, "__init__", soundfile.LibsndfileError(2)),
    ],
    ids=["fsync", "rename", "short write", "write", "header"],
)
def test_a_step_that_fails_leaves_nothing(
    wav: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    before = descriptors()
    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(OSError, match=r"\w"):
        encode(wav, 2)
    monkeypatch.undo()
    assert (here(wav), descriptors()) == ([], before)


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (-8000, 1), (8000, 0), (8000, -1), (8000, 5000)])
def test_what_no_wav_can_be_is_refused_with_nothing_left(wav: Path, rate: int, channels: int) -> None:
    before = descriptors()
    with pytest.raises(OSError, match=r"b\.wav"):
        Encoder(wav, rate, channels)
    assert (here(wav), descriptors()) == ([], before)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Encoder(tmp_path / "a" / "b.wav", 8000, 1)
    assert (tmp_path / "a").read_text() == "in the way"


def test_a_directory_of_that_name_is_refused_and_stays(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        encode(path, 1)
    assert (here(path), path.is_dir()) == ([path.name], True)


def test_what_an_earlier_run_left_half_written_is_written_over(path: Path) -> None:
    encode(path, 1)
    whole = path.read_bytes()
    path.unlink()
    path.with_name(f".{path.name}.part").write_bytes(b"\xff" * 100_000)
    encode(path, 1)
    assert (here(path), path.read_bytes()) == ([path.name], whole)


@pytest.mark.parametrize(("samples", "head"), [(2**31 - 2**16, b"RIFF"), (2**31, b"RF64"), (2**40, b"RF64")])
def test_what_a_wav_cannot_hold_is_rf64(tmp_path: Path, samples: int, head: bytes) -> None:
    path = tmp_path / "long.wav"
    with Encoder(path, 8000, 1, samples) as encoder:
        encoder.write(np.arange(800, dtype=np.int16).reshape(-1, 1))
    assert path.read_bytes()[:4] == head
    read, rate = soundfile.read(path, dtype="int16")
    assert (rate, list(read)) == (8000, list(range(800)))
