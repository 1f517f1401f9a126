"""A picture of what the detector made of a call, and of where the recording would have ended."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_record.errors import EslRecordError
from esl_record.recording.replay import Replay
from esl_record.vad.detector import threshold

_LONGEST = 4000
"""Points a waveform is drawn with; more would not be seen."""


def draw(samples: NDArray[np.int16], replay: Replay, sensitivity: float, title: str, target: Path) -> None:
    """Writes the picture to ``target``, a PNG or whatever its suffix names. Raises EslRecordError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EslRecordError("pictures need matplotlib: python3 -m pip install 'esl-record[plot]'") from error
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    wave, spectrum, score = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.4, 1])
    figure.suptitle(title)

    step = max(1, len(samples) // _LONGEST)
    whole = samples[: len(samples) // step * step].reshape(-1, step).astype(np.float32) / 32768
    times = np.arange(len(whole)) * step / replay.rate
    wave.fill_between(times, whole.min(1, initial=0.0), whole.max(1, initial=0.0), color="0.35", linewidth=0)
    wave.set_ylabel("waveform")

    if len(samples) >= 256:
        # Less than the last bit of noise: digital silence has no logarithm.
        dither = np.random.default_rng(0).uniform(-0.5, 0.5, len(samples)).astype(np.float32)
        spectrum.specgram(samples + dither, NFFT=256, Fs=replay.rate, noverlap=128, cmap="magma")
        spectrum.set_ylim(0, min(4000, replay.rate / 2))
    spectrum.set_ylabel("Hz")

    frames = (np.arange(len(replay.detection.scores)) + 1) * replay.detection.hop
    score.plot(frames, replay.detection.scores, color="tab:blue", linewidth=0.9)
    # The threshold is in log odds, infinite where nothing is heard; the score is a probability.
    score.axhline(1 / (1 + np.exp(-threshold(sensitivity))), color="tab:orange", linewidth=0.9)
    score.set_ylim(-0.02, 1.05)
    score.fill_between(
        frames,
        0,
        1,
        where=replay.detection.speech,
        transform=score.get_xaxis_transform(),
        color="tab:green",
        alpha=0.15,
    )
    score.set_ylabel("score, threshold; green: speech")
    score.set_xlabel("s")
    for axes in (wave, score):
        for start, end in replay.speech:
            axes.axvspan(start, end, ymin=0.96, color="tab:green")
    for axes in (wave, spectrum, score):
        axes.axvline(replay.stopped, color="tab:red", linestyle="--")
    wave.text(replay.stopped, wave.get_ylim()[1], f" {replay.end.reason.value}", color="tab:red", va="bottom")
    score.set_xlim(0, max(replay.length, replay.stopped, replay.detection.hop))
    try:
        figure.savefig(target, dpi=110)
    except (OSError, ValueError) as error:
        raise EslRecordError(f"picture {target}: {error}") from error
