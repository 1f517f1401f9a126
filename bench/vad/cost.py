"""What hearing a call costs: CPU of the engine per second of audio and call, beside the bare FFT of the same frames.

    python bench/vad/cost.py [--rate 8000] [--calls 1 10 100 1000]

Every call speaks, hesitates and is silent in turn, each at another place; a tick hears 100 ms of all of them. The best
of five runs counts, as other work on the machine only adds. One thread.
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from esl_record.standin import voice
from esl_record.vad.engine import Engine
from esl_record.vad.features import hop_of

TICK_SECONDS = 0.1
RUNS = 5


class Loop:
    """A source in real time: a tick's worth of audio each time it is read, from the beginning again at the end."""

    def __init__(self, samples: NDArray[np.int16], at: int, step: int) -> None:
        self.samples, self.at, self.step = samples, at, step

    def read(self, limit: int) -> NDArray[np.int16]:
        if self.at + self.step > len(self.samples):
            self.at = 0
        block = self.samples[self.at : self.at + self.step]
        self.at += self.step
        return block


def best_of(work: Callable[[], object], times: int) -> float:
    """Seconds of CPU that one `work` takes."""
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times)
    return min(found)


def engine_tick(calls: int, rate: int, audio: NDArray[np.int16]) -> Callable[[], object]:
    engine = Engine()
    step = round(rate * TICK_SECONDS)
    for number in range(calls):
        source = Loop(audio, number * 7919 % (len(audio) - step), step)
        engine.join(source, rate, (0,), 44.0, lambda: None)
    for _ in range(10):
        engine.tick()
    return engine.tick


def bare_fft(calls: int, rate: int, audio: NDArray[np.int16]) -> Callable[[], object]:
    """The transforms of one tick and no more: windows of two hops, in batches that stay in the cache."""
    frames = round(calls * TICK_SECONDS / 0.02)
    windows = np.resize(audio[:, 0], (frames, 2 * hop_of(rate))).astype(np.float32)

    def work() -> None:
        for start in range(0, frames, 128):
            scipy.fft.rfft(windows[start : start + 128], axis=1)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=8000)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 10, 100, 1000])
    options = parser.parse_args()
    spoken = np.concatenate([voice.say(4.0), np.zeros(4 * 8000, np.int16)])
    hiss = np.random.default_rng(0).normal(0, 20, len(spoken))
    line = np.repeat((spoken + hiss).clip(-32768, 32767).astype(np.int16), max(1, options.rate // 8000))[:, None]
    table = Table("calls", "engine, µs per second of audio", "bare FFT, µs", "ratio")
    for calls in options.calls:
        times = max(5, 2000 // calls)
        engine, fft = (best_of(work(calls, options.rate, line), times) for work in (engine_tick, bare_fft))
        part = 1e6 / calls / TICK_SECONDS
        table.add_row(str(calls), f"{engine * part:.0f}", f"{fft * part:.0f}", f"{engine / fft:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
