"""What a live call would have done with audio there already is: the detector and the state machine, without a call."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_record import vad
from esl_record.recording.machine import Audio, End, HangUp, Machine
from esl_record.recording.params import RecordParams
from esl_record.recording.speech import Speech


@dataclass(frozen=True)
class Replay:
    """``end`` is where and why the recording would have ended; the end of the audio counts as the hang-up.

    ``speech``: spans in seconds. ``detection``: the detector's score and decision frame by frame.
    """

    rate: int
    length: float
    detection: vad.Detection
    speech: list[tuple[float, float]]
    end: End

    @property
    def stopped(self) -> float:
        """Seconds after which the recording would have ended."""
        return self.end.at / self.rate


def replay(samples: NDArray[np.int16], rate: int, params: RecordParams) -> Replay:
    """Runs ``samples``, mono at ``rate``, through what decides a live recording. ValueError for a rate it has not."""
    detection = vad.detect(samples, rate, params.input_sensitivity)
    hop = round(detection.hop * rate)
    decided = np.concatenate([[False], detection.speech])
    frames = np.flatnonzero(decided[1:] != decided[:-1])
    changes = [(int(frame) * hop, bool(detection.speech[frame])) for frame in frames]
    speech = Speech(rate)
    machine = Machine(params.limits(rate))
    for (at, _), event in zip(changes, speech.changes(changes), strict=True):
        machine, _ = machine.step(event)
        machine, _ = machine.step(Audio(at))
    machine, _ = machine.step(Audio(len(detection.speech) * hop))
    machine, _ = machine.step(HangUp(len(samples)))
    assert machine.end is not None
    return Replay(rate, len(samples) / rate, detection, speech.seconds(machine.end.at), machine.end)
