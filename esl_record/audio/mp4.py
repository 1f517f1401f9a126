"""The boxes of an mp4 with one track of AAC (ISO 14496-12 and -14), as bytes.

libavformat's own muxer keeps 64 bytes of every packet in memory until the end, two megabytes an hour at 8 kHz; here it
is the packet's size alone. Its fragmented files, which need less, begin a frame early for some decoders, ffmpeg 5.1
among them.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from esl_record.audio.facts import Tags

FRAME = 1024
"""Samples in a frame of AAC."""

HEAD = struct.pack(">I4s4sI4s4s4s", 28, b"ftyp", b"mp42", 0, b"mp42", b"M4A ", b"isom")
"""What a file begins with; the audio's box follows."""

AUDIO_HEAD = 16
"""Bytes of ``audio_head``."""

_CHUNK = 64
"""Frames in a chunk: what a player reads at a time."""

_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TRACK = 1


def audio_head(size: int) -> bytes:
    """The head of the box that holds ``size`` bytes of frames."""
    return struct.pack(">I4sQ", 1, b"mdat", AUDIO_HEAD + size)


def index(
    sizes: NDArray[np.uint32], samples: int, delay: int, rate: int, channels: int, config: bytes, tags: Tags
) -> bytes:
    """The box that tells where everything is; it follows the frames, which follow ``HEAD`` and ``audio_head``.

    ``sizes`` of the frames in bytes; ``delay`` samples that the encoder put in front of the ``samples`` of the
    recording: the edit list says where these begin and end. ``config`` is the AudioSpecificConfig.
    """
    enabled = 7  # in the movie, and in its preview
    header = struct.pack(">QQIIQ8xHHHH", 0, 0, _TRACK, 0, samples, 0, 0, 0x100, 0)
    track = _box(
        b"trak",
        _full(b"tkhd", header, _UNITY, bytes(8), version=1, flags=enabled),
        _box(b"edts", _full(b"elst", struct.pack(">IQqI", 1, samples, delay, 0x10000), version=1)),
        _media(sizes, samples + delay, rate, channels, config),
    )
    movie = struct.pack(">QQIQIH10x", 0, 0, rate, samples, 0x10000, 0x100)
    following = struct.pack(">24xI", _TRACK + 1)
    return _box(b"moov", _full(b"mvhd", movie, _UNITY, following, version=1), track, *_user_data(tags))


def _media(sizes: NDArray[np.uint32], length: int, rate: int, channels: int, config: bytes) -> bytes:
    itself = _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))
    return _box(
        b"mdia",
        # The language is "und", in three times five bits.
        _full(b"mdhd", struct.pack(">QQIQHH", 0, 0, rate, length, 0x55C4, 0), version=1),
        _full(b"hdlr", struct.pack(">4x4s12x", b"soun") + b"\0"),
        _box(
            b"minf",
            _full(b"smhd", bytes(4)),
            _box(b"dinf", itself),
            _table(sizes, length, rate, channels, config),
        ),
    )


def _table(sizes: NDArray[np.uint32], length: int, rate: int, channels: int, config: bytes) -> bytes:
    frames = len(sizes)
    starts = len(HEAD) + AUDIO_HEAD + np.concatenate([[0], np.cumsum(sizes, dtype=np.uint64)])[:-1:_CHUNK]
    # The last frame is only as long as there is audio for it.
    times = [(frames - 1, FRAME), (1, length - (frames - 1) * FRAME)]
    full, rest = divmod(frames, _CHUNK)
    chunks = [(1, _CHUNK, 1)] * bool(full) + [(full + 1, rest, 1)] * bool(rest)
    return _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _entry(sizes, length, rate, channels, config)),
        _rows(b"stts", [time for time in times if frames and time[0]]),
        _rows(b"stsc", chunks),
        _full(b"stsz", struct.pack(">II", 0, frames), sizes.astype(">u4").tobytes()),
        _full(b"co64", struct.pack(">I", len(starts)), starts.astype(">u8").tobytes()),
    )


def _entry(sizes: NDArray[np.uint32], length: int, rate: int, channels: int, config: bytes) -> bytes:
    """What the frames are: MPEG-4 audio, a low complexity AAC stream, at most this many bits a second."""
    mean = round(int(sizes.sum(dtype=np.uint64)) * 8 * rate / max(length, 1))
    most = round(int(sizes.max(initial=0)) * 8 * rate / FRAME)
    specific = _descriptor(5, config)
    decoder = _descriptor(4, struct.pack(">BBBHII", 0x40, 0x15, 0, 0, most, mean) + specific)
    stream = _descriptor(3, struct.pack(">HB", 0, 0) + decoder + _descriptor(6, b"\2"))
    # A rate of 64 kHz and more does not fit here: the configuration tells.
    told = rate << 16 if rate < 1 << 16 else 0
    return _box(b"mp4a", struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, told) + _full(b"esds", stream))


def _user_data(tags: Tags) -> list[bytes]:
    items = {b"\xa9nam": tags.title, b"\xa9ART": tags.artist, b"\xa9day": tags.date, b"\xa9cmt": tags.comment}
    utf_8 = struct.pack(">II", 1, 0)
    found = [_box(name, _box(b"data", utf_8, text.encode())) for name, text in items.items() if text]
    if not found:
        return []
    handler = _full(b"hdlr", struct.pack(">4x4s4s9x", b"mdir", b"appl"))
    return [_box(b"udta", _full(b"meta", handler, _box(b"ilst", *found)))]


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, name) + body


def _full(name: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *content)


def _rows(name: bytes, rows: Sequence[Sequence[int]]) -> bytes:
    flat = [number for row in rows for number in row]
    return _full(name, struct.pack(f">{1 + len(flat)}I", len(rows), *flat))


def _descriptor(tag: int, content: bytes) -> bytes:
    return struct.pack(">BB", tag, len(content)) + content
