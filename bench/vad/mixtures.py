"""Makes telephone scenes with labels of the clips that corpus.py collected: what the detector learns from.

A scene is a caller who speaks after a while, with pauses, and then is silent for seconds, or nobody at all; over a
noise; through a telephone channel. Everything is drawn from the generator it is given: one seed, one scene.
"""

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, resample_poly, sosfilt

RATE = 8000
HOP = 160
Signal = NDArray[np.float64]


class Clips:
    """Clips by group, as stored by corpus.py."""

    def __init__(self, path: Path) -> None:
        data = np.load(path)
        self.pcm, self.start, self.length, self.group = (data[name] for name in ("pcm", "start", "length", "group"))
        self.names = [str(name) for name in data["groups"]]
        self.of = [np.flatnonzero(self.group == number) for number in range(len(self.names))]

    def clip(self, index: int, longest: float = 1e9) -> Signal:
        size = min(int(self.length[index]), round(longest * RATE))
        return self.pcm[self.start[index] : self.start[index] + size].astype(float) / 32768


def levels(signal: Signal, width: int = 240, hop: int = 80) -> Signal:
    """dBFS every 10 ms, over the 30 ms around it."""
    total = np.concatenate([[0.0], np.cumsum(signal**2)])
    middle = np.arange(len(signal) // hop) * hop + hop // 2
    first, last = np.maximum(0, middle - width // 2), np.minimum(len(signal), middle + width // 2)
    return 10 * np.log10((total[last] - total[first]) / np.maximum(1, last - first) + 1e-10)


def stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def spoken(signal: Signal) -> NDArray[np.bool_]:
    """Where a clean clip is speech, every 10 ms: within 30 dB of its loud parts, gaps of 150 ms filled."""
    level = levels(signal)
    if not len(level):
        return np.zeros(0, bool)
    loud = np.percentile(level, 95)
    mask = level > max(loud - 30, min(np.percentile(level, 5) + 8, loud - 15))
    for first, last in stretches(~mask):
        if first and last < len(mask) and last - first < 15:
            mask[first:last] = True
    for first, last in stretches(mask):
        if last - first < 5:
            mask[first:last] = False
    return mask


def speeded(signal: Signal, rng: Generator) -> Signal:
    """Faster and higher or slower and lower: another voice."""
    up, down = [(1, 1), (8, 9), (9, 8), (11, 12), (12, 11), (6, 7), (7, 6)][rng.integers(7)]
    return signal if up == down else resample_poly(signal, up, down)


# ------------------------------------------------------------------ the caller
def caller(
    rng: Generator, voices: Clips, weights: Signal, length: int, at_once: bool
) -> tuple[Signal, NDArray[np.bool_]]:
    """(signal, mask every 10 ms) of one caller: utterances of one voice with pauses, then nothing."""
    group = rng.choice(len(voices.names), p=weights)
    members = voices.of[group]
    out, mask = np.zeros(length), np.zeros(length // 80, bool)
    at = 0 if rng.random() < 0.07 else round(rng.uniform(0.1, 4.5) * RATE)
    if at_once:
        at = max(0, round(rng.uniform(-0.2, 0.4) * RATE))
    end = min(at + round(rng.choice([0.6, 1.5, 3.0, 5.0, 7.0]) * RATE), length - 4 * RATE)
    place = int(rng.integers(len(members)))
    speed = int(rng.integers(2**31))
    first = True
    while at < end or first:
        index = members[place % len(members)] if rng.random() < 0.7 else rng.choice(members)
        place += 1
        clip = speeded(voices.clip(index, 6.0), np.random.default_rng(speed))
        where = spoken(clip)
        if where.sum() < 10:
            if not first or place > 40:
                break
            continue
        active = stretches(where)
        begin, stop = max(0, active[0][0] - 3), min(len(where), active[-1][1] + 8)
        clip, where = clip[begin * 80 : stop * 80].copy(), where[begin:stop]
        clip *= 10 ** (rng.normal(0, 1.5) / 20) / np.sqrt(np.mean(clip[np.repeat(where, 80)[: len(clip)]] ** 2) + 1e-12)
        fade = min(160, len(clip) // 2)
        clip[-fade:] *= np.linspace(1, 0, fade)
        at -= at % 80
        if at + len(clip) > length - 2 * RATE:
            if not first:
                break
            keep = (length - 3 * RATE - at) // 80 * 80
            clip, where = clip[:keep], where[: keep // 80]
        out[at : at + len(clip)] += clip
        mask[at // 80 : at // 80 + len(where)] |= where
        at += len(clip) + round(rng.choice([rng.uniform(0.05, 0.5), rng.uniform(0.3, 1.0)]) * RATE)
        first = False
    return out, mask


def reverberant(signal: Signal, rng: Generator, longest: float = 0.5) -> Signal:
    """In a room: exponentially decaying noise as its response."""
    time = rng.uniform(0.08, longest)
    size = round(time * RATE)
    response = rng.standard_normal(size) * 10 ** (-3 * np.arange(size) / size)
    response *= 10 ** (-rng.uniform(6, 20) / 20) / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    fft = 1 << (len(signal) + size).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, fft) * np.fft.rfft(response, fft))[: len(signal)]


# ------------------------------------------------------------------ noises made
def white(n: int, rng: Generator) -> Signal:
    return rng.standard_normal(n)


def coloured(n: int, rng: Generator, slope: float) -> Signal:
    """Power falls with frequency ** slope: 1 pink, 2 brown, -1 blue."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.arange(len(spectrum)) / n * RATE, 30.0)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), n)


def shaped(n: int, rng: Generator) -> Signal:
    """A random spectrum: noise through resonances."""
    out = coloured(n, rng, rng.uniform(-0.5, 2))
    for _ in range(rng.integers(1, 4)):
        radius, angle = rng.uniform(0.7, 0.985), np.pi * rng.uniform(0.02, 0.9)
        out = 0.4 * out / out.std() + (lambda x: x / x.std())(
            lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], rng.standard_normal(n))
        )
    return out


def wander(n: int, rng: Generator, period: float, depth: float) -> Signal:
    """A gain that wanders by `depth` dB about every `period` s."""
    points = rng.standard_normal(int(n / RATE / period) + 3) * depth / 2
    return 10 ** (np.interp(np.arange(n) / RATE / period, np.arange(len(points)), points) / 20)


def hum(n: int, rng: Generator) -> Signal:
    base = rng.choice([50.0, 60.0, 100.0, rng.uniform(80, 500)]) * (1 + rng.normal(0, 0.002))
    time = np.arange(n) / RATE
    out = np.zeros(n)
    for k in range(1, 25):
        if base * k < 3900:
            out += (
                np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.3))
                * rng.uniform(0, 1)
                / k ** rng.uniform(0.3, 1.5)
            )
    return out / (out.std() + 1e-9) + rng.choice([0.0, 0.05, 0.3]) * coloured(n, rng, 1) / 0.05


def engine(n: int, rng: Generator) -> Signal:
    """Turning parts: harmonics of a wandering speed, roughened, over noise."""
    speed = rng.uniform(15, 120) * wander(n, rng, rng.uniform(0.5, 3), rng.uniform(0, 2))
    phase = 2 * np.pi * np.cumsum(speed) / RATE
    out = np.zeros(n)
    for k in range(1, 30):
        out += np.sin(k * phase + rng.uniform(0, 6.3)) * rng.uniform(0, 1) / k**0.7
    rough = coloured(n, rng, rng.uniform(0.5, 2))
    return out / out.std() + rng.uniform(0.2, 3) * rough / rough.std() * wander(n, rng, 0.3, 3)


def impulses(n: int, rng: Generator, rate: float, decay: float, low: float, high: float) -> Signal:
    """Clicks: `rate` a second, ringing between `low` and `high` Hz for about `decay` s."""
    out = np.zeros(n + 2 * RATE)
    for _ in range(max(1, rng.poisson(rate * n / RATE))):
        at = int(rng.integers(n))
        size = max(8, int(RATE * decay * rng.uniform(0.4, 2)))
        ring = np.exp(-5 * np.arange(size) / size) * (
            rng.standard_normal(size) * rng.uniform(0, 1)
            + np.sin(2 * np.pi * rng.uniform(low, high) * np.arange(size) / RATE)
        )
        out[at : at + size] += ring * rng.lognormal(0, 0.7)
    return out[:n]


def clicks(n: int, rng: Generator) -> Signal:
    return impulses(n, rng, rng.uniform(0.5, 12), rng.choice([0.002, 0.01, 0.04]), 300, 3500) + 1e-4 * white(n, rng)


def rain(n: int, rng: Generator) -> Signal:
    drops = impulses(n, rng, rng.uniform(60, 300), 0.004, 500, 3800)
    return drops / drops.std() * wander(n, rng, 0.5, 3) + rng.uniform(0.2, 2) * white(n, rng)


def wind(n: int, rng: Generator) -> Signal:
    return coloured(n, rng, rng.uniform(1.2, 2.5)) * wander(n, rng, rng.uniform(0.2, 1.5), rng.uniform(5, 14))


def waves(n: int, rng: Generator) -> Signal:
    """Swells of noise: waves, wipers, saws, breath, sweeping."""
    time = np.arange(n) / RATE
    rate = rng.uniform(0.15, 2.0) * wander(n, rng, 2.0, 1.5)
    swell = np.maximum(0, np.sin(2 * np.pi * np.cumsum(rate) / RATE + rng.uniform(0, 6.3))) ** rng.uniform(0.5, 6)
    del time
    return (swell + rng.choice([0.0, 0.03, 0.2])) * shaped(n, rng)


def breath(n: int, rng: Generator) -> Signal:
    """Breaths of 0.4 to 1.5 s into a microphone, soft edged, shaped by a mouth."""
    out = np.zeros(n)
    at = int(rng.uniform(0, 1.5) * RATE)
    while at < n:
        size = int(rng.uniform(0.3, 1.5) * RATE)
        low = rng.uniform(200, 900)
        sos = butter(2, [low, rng.uniform(low + 400, 3600)], "band", fs=RATE, output="sos")
        puff = sosfilt(sos, coloured(size, rng, rng.uniform(0, 1.2))) * np.hanning(size) ** rng.uniform(0.5, 1.5)
        stop = min(n, at + size)
        out[at:stop] += (puff / (puff.std() + 1e-9) * rng.lognormal(0, 0.3))[: stop - at]
        at += size + int(rng.uniform(0.1, 2.0) * RATE)
    return out + 0.003 * white(n, rng)


def tones(n: int, rng: Generator) -> Signal:
    """Ringing, busy, dial tones, digits, sirens, klaxons, beeps, bells."""
    time = np.arange(n) / RATE
    kind = rng.integers(5)
    if kind == 0:
        out = sum(
            np.sin(2 * np.pi * f * time) for f in rng.choice([350, 400, 425, 440, 450, 480, 620], 2, replace=False)
        )
        on, period = [(1, 4), (0.5, 1), (0.25, 0.5), (2, 6), (1, 1), (0.4, 3)][rng.integers(6)]
        return out * ((time + rng.uniform(0, period)) % period < on)
    if kind == 1:
        out = np.zeros(n)
        for at in np.arange(rng.uniform(0, 1), n / RATE - 0.3, rng.uniform(0.15, 0.6)):
            part = slice(int(at * RATE), int(at * RATE) + int(0.09 * RATE))
            low, high = rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477, 1633])
            out[part] = np.sin(2 * np.pi * low * time[part]) + np.sin(2 * np.pi * high * time[part])
        return out
    if kind == 2:
        sweep = rng.uniform(500, 900) * 2 ** (rng.uniform(0.2, 0.9) * np.sin(2 * np.pi * rng.uniform(0.1, 4) * time))
        phase = 2 * np.pi * np.cumsum(sweep) / RATE
        return sum(np.sin(k * phase) / k for k in range(1, rng.integers(2, 6)))
    if kind == 3:
        base = rng.uniform(200, 600)
        out = sum(np.sin(2 * np.pi * base * k * time) * rng.uniform(0.2, 1) for k in range(1, 7) if base * k < 3800)
        gate = np.interp(time, np.sort(rng.uniform(0, n / RATE, 10)), rng.integers(0, 2, 10).astype(float)) > 0.5
        return out * lfilter([0.02], [1, -0.98], gate.astype(float))
    return impulses(n, rng, rng.uniform(0.3, 3), rng.uniform(0.1, 0.8), 400, 2800)


def animal(n: int, rng: Generator) -> Signal:
    """Calls: rough or pure glides in groups, as of birds, sheep, dogs and gulls."""
    out = 1e-3 * white(n, rng)
    base, rough = rng.choice([rng.uniform(150, 500), rng.uniform(500, 3000)]), rng.uniform(0, 1)
    size, tremor = rng.uniform(0.05, 0.9), rng.uniform(5, 40)
    formant, width = rng.uniform(600, 2500), rng.uniform(150, 1000)
    at = rng.uniform(0, 2)
    while at < n / RATE - 0.1:
        count = int(RATE * size * rng.uniform(0.6, 1.4))
        time = np.arange(count) / RATE
        glide = (
            base
            * rng.uniform(0.85, 1.2)
            * 2 ** (rng.uniform(-0.6, 0.3) * time / time[-1])
            * (1 + 0.08 * np.sin(2 * np.pi * tremor * time))
        )
        phase = 2 * np.pi * np.cumsum(glide * (1 + 0.3 * rough * rng.standard_normal(count))) / RATE
        call = sum(
            np.sin(k * phase) / (1 + ((k * base - formant) / width) ** 2) for k in range(1, 12) if k * base < 3900
        )
        call = (call + rough * rng.standard_normal(count) * 0.5) * np.hanning(count) ** 0.5 * rng.lognormal(0, 0.3)
        call *= 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * tremor * time)
        start = int(at * RATE)
        stop = min(n, start + count)
        out[start:stop] += call[: stop - start]
        at += size + (rng.uniform(0.03, 0.3) if rng.random() < 0.6 else rng.uniform(0.5, 3))
    return out


# ------------------------------------------------------------------ noises of clips
def babble(n: int, rng: Generator, voices: Clips) -> Signal:
    """Several people talk in the background, in a room."""
    out = np.zeros(n)
    for _ in range(rng.choice([3, 4, 5, 6, 8, 12])):
        members = voices.of[rng.integers(len(voices.names))]
        at = -int(rng.uniform(0, 3) * RATE)
        gain = rng.lognormal(0, 0.35)
        while at < n:
            clip = speeded(voices.clip(rng.choice(members), 6.0), rng)
            clip = clip / (np.sqrt(np.mean(clip**2)) + 1e-6) * gain
            first, last = max(0, at), min(n, at + len(clip))
            if last > first:
                out[first:last] += clip[first - at : last - at]
            at += len(clip) + int(rng.uniform(0, 0.4) * RATE)
    return reverberant(out, rng, 0.8) if rng.random() < 0.7 else out


def music(n: int, rng: Generator, sounds: Clips) -> Signal:
    """A long recording from some place on: music or the sound of a place."""
    groups = [g for g, name in enumerate(sounds.names) if name.endswith(":long")]
    index = rng.choice(sounds.of[rng.choice(groups)])
    size = int(sounds.length[index])
    at = int(sounds.start[index]) + int(rng.integers(max(1, size - n)))
    out = sounds.pcm[at : min(at + n, int(sounds.start[index]) + size)].astype(float)
    return np.resize(out, n) + 1e-3 * white(n, rng)


def effects(n: int, rng: Generator, sounds: Clips) -> Signal:
    """Short sounds: one again and again, or many, sparse or dense."""
    groups = [g for g, name in enumerate(sounds.names) if name.endswith(":effect")]
    pool = rng.choice(np.concatenate([sounds.of[g] for g in groups]), rng.choice([1, 1, 2, 5]))
    pause = rng.choice([0.0, 0.1, 0.5, 2.0])
    out = np.zeros(n)
    at = int(rng.uniform(0, 1) * RATE) if pause else 0
    while at < n:
        clip = sounds.clip(rng.choice(pool), 4.0)
        clip = clip / (np.sqrt(np.mean(clip**2)) + 1e-6) * rng.lognormal(0, 0.3)
        stop = min(n, at + len(clip))
        out[at:stop] += clip[: stop - at]
        at += max(400, int(len(clip) * rng.uniform(0.5, 1)) + int(rng.exponential(pause + 1e-9) * RATE))
    return out + 1e-3 * white(n, rng)


def comfort(n: int, rng: Generator) -> Signal:
    """Comfort noise: its level jumps. In dBFS already."""
    out = shaped(n, rng) if rng.random() < 0.5 else white(n, rng)
    out /= out.std()
    at = 0
    while at < n:
        stop = at + int(rng.uniform(0.2, 2.5) * RATE)
        level = rng.uniform(-72, -42)
        out[at:stop] *= 10 ** (level / 20) * (0.0 if rng.random() < 0.12 else 1.0)
        at = stop
    return out


def noise(n: int, rng: Generator, voices: Clips, sounds: Clips) -> Signal:
    """Some noise of RMS 1."""
    kinds = [
        (0.6, lambda: white(n, rng)),
        (1.0, lambda: coloured(n, rng, rng.uniform(-1, 2.5))),
        (1.0, lambda: shaped(n, rng) * wander(n, rng, rng.uniform(0.1, 2), rng.uniform(0, 6))),
        (1.0, lambda: hum(n, rng)),
        (1.2, lambda: engine(n, rng)),
        (1.0, lambda: clicks(n, rng)),
        (0.5, lambda: impulses(n, rng, rng.uniform(20, 400), 0.001, 500, 3900) + 1e-4 * white(n, rng)),
        (0.6, lambda: rain(n, rng)),
        (1.0, lambda: wind(n, rng)),
        (1.0, lambda: waves(n, rng)),
        (1.3, lambda: breath(n, rng)),
        (0.8, lambda: tones(n, rng)),
        (1.3, lambda: animal(n, rng)),
        (2.2, lambda: babble(n, rng, voices)),
        (2.2, lambda: music(n, rng, sounds)),
        (2.2, lambda: effects(n, rng, sounds)),
    ]
    chances = np.array([weight for weight, _ in kinds])
    out = kinds[rng.choice(len(kinds), p=chances / chances.sum())][1]()
    if rng.random() < 0.25:  # two at once
        other = kinds[rng.choice(len(kinds), p=chances / chances.sum())][1]()
        out = out / (out.std() + 1e-9) + rng.uniform(0.1, 1) * other / (other.std() + 1e-9)
    if rng.random() < 0.2:
        out = reverberant(out, rng)
    return out / (np.sqrt(np.mean(out**2)) + 1e-9)


# ------------------------------------------------------------------ the line
def ulaw(pcm: NDArray[np.int16], law: str) -> NDArray[np.int16]:
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, RATE, format="WAV", subtype=law)
    buffer.seek(0)
    out: NDArray[np.int16] = soundfile.read(buffer, dtype="int16")[0][: len(pcm)]
    return np.pad(out, (0, len(pcm) - len(out)))


def line(signal: Signal, rng: Generator) -> NDArray[np.int16]:
    """Through a telephone channel: filter, codec, lost packets, offset, clipping."""
    if rng.random() < 0.55:
        low, high = rng.uniform(200, 350), rng.uniform(3200, 3600)
        signal = sosfilt(butter(int(rng.integers(2, 5)), [low, high], "band", fs=RATE, output="sos"), signal)
    if rng.random() < 0.04:
        signal = signal * 10 ** (rng.uniform(6, 20) / 20)
    if rng.random() < 0.04:
        signal = signal + rng.uniform(-0.05, 0.05)
    pcm = np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)
    codec = rng.choice(["none", "ULAW", "ALAW", "GSM610"], p=[0.3, 0.32, 0.13, 0.25])
    if codec != "none":
        pcm = ulaw(pcm, str(codec))
    if rng.random() < 0.22:
        share, shift = rng.uniform(0.005, 0.06), int(rng.integers(HOP)) if rng.random() < 0.3 else 0
        lost = rng.random(len(pcm) // HOP + 1) < share
        pcm = np.where(np.repeat(lost, HOP)[shift : shift + len(pcm)], 0, pcm).astype(np.int16)
    return pcm


def scene(
    rng: Generator, voices: Clips, sounds: Clips, weights: Signal, at_once: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """(samples, whether each 20 ms hop is speech); a caller may be one who speaks `at_once`."""
    n = int(rng.uniform(12, 15) * 50) * HOP
    alone = rng.random() < 0.27 and not at_once
    level = rng.uniform(-45, -12) if rng.random() < 0.7 else rng.uniform(-36, -20)
    if alone:
        speech, mask = np.zeros(n), np.zeros(n // 80, bool)
        loudness = rng.uniform(-66, -26)
    else:
        speech, mask = caller(rng, voices, weights, n, at_once)
        if rng.random() < 0.3:
            speech = lfilter([1.0, rng.uniform(-0.7, 0.5)], [1.0], speech)
        active = np.repeat(mask, 80)
        speech *= 10 ** (level / 20) / (np.sqrt(np.mean(speech[active] ** 2)) + 1e-9) if active.any() else 0.0
        if rng.random() < 0.15:
            speech = reverberant(speech, rng)
        loudness = level - rng.choice(
            [25, 20, 15, 12, 10, 7, 5, 3, 0, -3], p=[0.1, 0.1, 0.13, 0.12, 0.13, 0.12, 0.12, 0.09, 0.07, 0.02]
        )
    kind = rng.random()
    if kind < 0.12:  # a clean line
        background = white(n, rng) * 10 ** (rng.uniform(-85, -60) / 20) if rng.random() < 0.7 else np.zeros(n)
    elif kind < 0.2:
        background = comfort(n, rng)
        if not alone:  # it never hides a caller
            background *= min(1.0, 10 ** ((level - 12 + 42) / 20))
    else:
        background = noise(n, rng, voices, sounds) * 10 ** (loudness / 20)
        if rng.random() < 0.1:
            background[int(rng.uniform(0.2, 0.8) * n) :] *= 10 ** (rng.uniform(6, 15) / 20)
        elif rng.random() < 0.06:
            background[: int(rng.uniform(0.2, 0.7) * n)] *= 10 ** (rng.uniform(-20, 0) / 20)
        background += white(n, rng) * 10 ** (rng.uniform(-95, -65) / 20)
    samples = line(speech + background, rng)
    return samples, mask.reshape(-1, 2).mean(axis=1) >= 0.5


def weights_of(voices: Clips, leave_out: tuple[str, ...] = ()) -> Signal:
    """How often each group speaks: recorded voices over synthetic ones, larger groups over smaller."""
    out = []
    for name, members in zip(voices.names, voices.of, strict=True):
        minutes = voices.length[members].sum() / RATE / 60
        made = name.startswith(("espeak", "flite", "festival"))
        many = name.startswith(("beneath", "flight", "drascula"))
        out.append(
            0.0
            if name.startswith(leave_out) and leave_out
            else 8.0
            if many
            else 0.12
            if name.startswith("espeak")
            else 0.4
            if made
            else min(1.5, 0.3 + minutes / 4)
        )
    weights = np.array(out)
    return weights / weights.sum()
