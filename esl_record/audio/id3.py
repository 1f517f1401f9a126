"""The tags of an mp3: ID3v2.4, in front of the audio. LAME's own take Latin-1 and the year alone."""

from esl_record.audio.facts import Tags

_UTF_8 = b"\x03"


def tag(tags: Tags) -> bytes:
    """The tag as it stands at the start of a file; empty where ``tags`` are."""
    texts = {b"TIT2": tags.title, b"TPE1": tags.artist, b"TDRC": tags.date}
    frames = [_frame(name, text.encode()) for name, text in texts.items() if text]
    if tags.comment:
        frames.append(_frame(b"COMM", b"eng\0" + tags.comment.encode()))
    body = b"".join(frames)
    return b"ID3\4\0\0" + _size(len(body)) + body if body else b""


def _frame(name: bytes, content: bytes) -> bytes:
    return name + _size(len(content) + 1) + b"\0\0" + _UTF_8 + content


def _size(size: int) -> bytes:
    """Seven bits a byte, so that no decoder takes it for audio."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
