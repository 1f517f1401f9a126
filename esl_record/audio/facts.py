"""What an audio file is told besides its samples: what it is called, and how much of a sample it is to keep."""

import unicodedata
from dataclasses import dataclass, fields

_LONGEST = 200
"""Characters of a tag; whoever calls chooses what some of them say."""


@dataclass(frozen=True, slots=True)
class Tags:
    """What players show of a file. ``date`` is a time as ISO 8601 has it; empty ones are left out."""

    title: str = ""
    artist: str = ""
    date: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, _clean(getattr(self, one.name)))


@dataclass(frozen=True, slots=True)
class Quality:
    """How a file is encoded. Bit rates are in kbit/s for each channel, 0 = what suits speech at the file's rate.

    ``wav_samples`` is pcm_16, ulaw or alaw.
    """

    wav_samples: str = "pcm_16"
    mp3_bit_rate: float = 0.0
    mp4_bit_rate: float = 0.0


def _clean(text: str) -> str:
    """``text`` without what ends a string or moves a cursor, and with nothing that is no Unicode."""
    return "".join(each for each in text[:_LONGEST] if unicodedata.category(each)[0] != "C")


SPEECH = Quality()
UNTAGGED = Tags()
