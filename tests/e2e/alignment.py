"""Where in what was said each 20 ms of a recording comes from."""

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

RATE = 8000
"""Samples a second of everything here."""

FRAME = RATE // 50

_BLOCK = 5 * FRAME
_SILENT = 100.0
_SURE = 0.7
"""Correlation above which a frame is that part of what was said; the parts of a sweep are alike to about 0.4."""

_FAR = 0.2


def spoken(seconds: float, seed: int = 1) -> NDArray[np.int16]:
    """A tone that heads for another frequency every 200 ms, so that each 20 ms of it are unlike all others.

    Its frequencies, 400 to 1500 Hz, pass through every codec, and a delay of half a sample does not hide them.
    """
    steps = int(np.ceil(seconds * 5)) + 1
    heights = np.random.default_rng(seed).uniform(400, 1500, steps)
    hertz = np.interp(np.arange(round(seconds * RATE)) / (RATE / 5), np.arange(steps), heights)
    return np.round(9000 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)).astype(np.int16)


@dataclass(frozen=True)
class Stretch:
    """A stretch of a recording. `start` and `end` are ms of the recording, `offset` is how many ms later the same is in
    what was said; None where the recording is silent (`what` is "silent") or has something else ("other")."""

    start: int
    end: int
    what: str
    offset: float | None = None

    @property
    def length(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.start}-{self.end} {self.what}" + ("" if self.offset is None else f" {self.offset:+.1f}")


@dataclass(frozen=True)
class Comparison:
    stretches: tuple[Stretch, ...]

    @property
    def heard(self) -> list[Stretch]:
        """What was said. By chance two frames are alike to another part, and up to 200 ms to a distant one."""
        said = [stretch for stretch in self.stretches if stretch.offset is not None and stretch.length >= 60]
        offsets = sorted(stretch.offset or 0.0 for stretch in said for _ in range(stretch.length // 20))
        usual = offsets[len(offsets) // 2] if offsets else 0.0
        return [one for one in said if one.length >= 200 or abs((one.offset or 0.0) - usual) < 1000]

    @property
    def missing(self) -> float:
        """Milliseconds of what was said that are cut out between two stretches: the recording is shorter."""
        return sum(max(0.0, jump) for jump in self.jumps)

    @property
    def extra(self) -> float:
        """Milliseconds too many between two stretches."""
        return sum(max(0.0, -jump) for jump in self.jumps)

    @property
    def jumps(self) -> list[float]:
        offsets = [stretch.offset for stretch in self.heard if stretch.offset is not None]
        return [after - before for before, after in itertools.pairwise(offsets)]

    @property
    def said(self) -> int:
        """Milliseconds of the recording that were said, each at its speed."""
        return sum(stretch.length for stretch in self.heard)

    @property
    def silent(self) -> int:
        return sum(stretch.length for stretch in self.stretches if stretch.what == "silent")

    @property
    def other(self) -> int:
        """Milliseconds that are neither silence nor what was said: another speed, noise, somebody else."""
        return sum(stretch.length for stretch in self.stretches if stretch.what == "other")

    def silences(self, least: int = 200) -> list[tuple[int, int]]:
        """The silences of `least` ms or more, in ms of the recording; a frame of a codec's decay does not part one."""
        found: list[tuple[int, int]] = []
        for stretch in self.stretches:
            if stretch.what != "silent":
                continue
            if found and stretch.start - found[-1][1] <= 40:
                found[-1] = (found[-1][0], stretch.end)
            else:
                found.append((stretch.start, stretch.end))
        return [(start, end) for start, end in found if end - start >= least]

    def __str__(self) -> str:
        return (
            f"missing {self.missing:.0f}, extra {self.extra:.0f}, other {self.other} ms: "
            f"{', '.join(map(str, self.stretches))}"
        )


def at_rate(samples: NDArray[np.int16], rate: int) -> NDArray[np.float64]:
    """One channel at `RATE`."""
    divisor = int(np.gcd(rate, RATE))
    return np.asarray(resample_poly(samples.astype(float), RATE // divisor, rate // divisor), float)


def compare(said: NDArray[np.int16], recorded: NDArray[np.int16], rate: int = RATE) -> Comparison:
    """Find each 20 ms of `recorded`, one channel at `rate`, in `said`, one at `RATE`."""
    heard = at_rate(recorded, rate)
    source = said.astype(float)
    frames = heard[: len(heard) // FRAME * FRAME].reshape(-1, FRAME)
    silent = np.sqrt(np.mean(frames**2, axis=1)) < _SILENT
    shifts = _shifts(source, heard)
    found: list[int | None] = []
    likely = shifts[0] if shifts else 0
    for at, frame in enumerate(frames):
        shift = None if silent[at] else _shift(source, frame, at * FRAME, shifts, likely)
        likely = likely if shift is None else shift
        found.append(shift)
    stretches: list[Stretch] = []
    for at, shift in enumerate(found):
        what = "silent" if silent[at] else "other" if shift is None else "said"
        last = stretches[-1] if stretches else None
        offset = None if shift is None else shift * 1000 / RATE
        # A resampled frame may fit one sample further just as well.
        if last and last.what == what and (offset is None or abs(offset - (last.offset or 0.0)) < 1.0):
            stretches[-1] = Stretch(last.start, last.end + 20, what, last.offset)
        else:
            stretches.append(Stretch(at * 20, at * 20 + 20, what, offset))
    return Comparison(tuple(stretches))


def _shifts(source: NDArray[np.float64], heard: NDArray[np.float64]) -> list[int]:
    """The shifts, in samples, at which some 100 ms of `heard` are in `source`."""
    length = 1 << (len(source) + _BLOCK).bit_length()
    spectrum = np.fft.rfft(source, length)
    energies = np.concatenate([[0.0], np.cumsum(source * source)])
    norm = np.sqrt(np.maximum(energies[_BLOCK:] - energies[:-_BLOCK], 1.0))
    shifts: Counter[int] = Counter()
    for at in range(0, len(heard) - _BLOCK + 1, _BLOCK // 2):
        block = heard[at : at + _BLOCK]
        size = float(np.linalg.norm(block))
        if size < _SILENT * np.sqrt(_BLOCK):
            continue
        cross = np.fft.irfft(spectrum * np.conj(np.fft.rfft(block, length)), length)[: len(norm)] / norm / size
        best = int(cross.argmax())
        if cross[best] > _SURE:
            shifts[best - at] += 1
    # Twice, as one of them may be chance; the most frequent one first.
    return [one for one, _ in shifts.most_common() if sum(shifts[one + near] for near in (-1, 0, 1)) > 1]


def _shift(
    source: NDArray[np.float64], frame: NDArray[np.float64], at: int, shifts: list[int], likely: int
) -> int | None:
    """Which of `shifts` fits best; `likely`, unless another is better by far. A tone is like itself a period later."""
    best, most = None, _SURE
    for shift in shifts:
        alike = _alike(source, frame, at + shift)
        if alike > most:
            best, most = shift, alike
    usual = _alike(source, frame, at + likely)
    return likely if usual > _SURE and usual > most - _FAR else best


def _alike(source: NDArray[np.float64], frame: NDArray[np.float64], start: int) -> float:
    if start < 0 or start + FRAME > len(source):
        return 0.0
    part = source[start : start + FRAME]
    return float(frame @ part) / max(float(np.linalg.norm(frame) * np.linalg.norm(part)), 1.0)


def tone(samples: NDArray[np.int16], hertz: float, rate: int = RATE) -> NDArray[np.int64]:
    """The 100 ms stretches in which a frequency is heard."""
    heard = at_rate(samples, rate)
    size = RATE // 10
    wave = np.exp(-2j * np.pi * hertz * np.arange(size) / RATE)
    blocks = heard[: len(heard) // size * size].reshape(-1, size)
    return np.flatnonzero(np.abs(blocks @ wave) / size > 1000)
