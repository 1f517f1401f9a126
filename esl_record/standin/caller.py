"""Who calls: what the party says, which digits it presses, when it hangs up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Codec:
    """What SIP agrees on for a sampling rate.

    ``rate`` is the rate of the decoded samples, ``clock`` the RTP clock (the two differ for G.722, see RFC 3551).
    """

    name: str
    payload: int
    rate: int
    clock: int
    bits: int
    module: str = "CORE_PCM_MODULE"


CODECS = {
    8000: Codec("PCMU", 0, 8000, 8000, 64000),
    16000: Codec("G722", 9, 16000, 8000, 64000, "mod_spandsp"),
    48000: Codec("opus", 102, 48000, 48000, 0, "mod_opus"),
}


@dataclass(frozen=True)
class Caller:
    """The far end of a call.

    ``audio`` is one-dimensional, what the party says from answer on, at ``rate`` samples a second (8000 is PCMU, 16000
    G.722, 48000 Opus); after it the leg is silence. ``digits`` are ``(seconds after answer, digit)``. The party hangs
    up ``hangup_after`` seconds after answer, or never by itself if None; but ``gives_up_after`` seconds after answer at
    the latest, and as long after placing the call if nobody answers.

    ``holds`` are ``(from, until)`` in seconds after answer: the party holds the call by a re-INVITE and says nothing
    that is received meanwhile; ``inf`` is to its end. ``codecs`` are ``(seconds after answer, rate)``: the party
    changes to the codec of that rate by a re-INVITE. With ``channels`` 2 the call itself is stereo, as Opus can be,
    with the same on both. In its ``gaps``, ``(from, until)`` as well, the party sends no packets.
    """

    audio: NDArray[np.int16]
    rate: int = 8000
    number: str = "15551230001"
    name: str = "Ann Caller"
    destination: str = "7000"
    digits: tuple[tuple[float, str], ...] = ()
    hangup_after: float | None = None
    gives_up_after: float = 60.0
    channels: int = 1
    gaps: tuple[tuple[float, float], ...] = ()
    holds: tuple[tuple[float, float], ...] = ()
    codecs: tuple[tuple[float, int], ...] = ()

    def __post_init__(self) -> None:
        for rate in (self.rate, *(rate for _, rate in self.codecs)):
            if rate not in CODECS:
                raise ValueError(f"rate {rate}: the stand-in switch speaks {sorted(CODECS)}")
        if self.channels not in (1, 2) or (self.channels == 2 and (self.rate != 48000 or self.codecs)):
            raise ValueError(f"{self.channels} channels at {self.rate}: only Opus has two, and keeps them")
        if self.audio.ndim != 1 or self.audio.dtype != np.int16:
            raise ValueError(
                f"audio must be one-dimensional int16, is {self.audio.ndim}-dimensional {self.audio.dtype}"
            )

    @property
    def codec(self) -> Codec:
        return CODECS[self.rate]
