"""How well detectors do the task on a folder of labelled scenes: has the recording ended when it should, and only then?

    python bench/vad/accuracy.py FOLDER          or with the folder in VAD_SCENES

FOLDER has labels.jsonl, one scene a line, and 8 kHz mono audio files. Of a scene it needs: `file`, `kind` (speech or
noise), `class` (noise type), `snr` (dB or null), `dur`; and of speech `lead` (start of the first word, s), `last_end`
(end of the last), `max_gap` (longest pause). Task accuracy is the share of right outcomes, averaged over end silences
of 2 and 1 s: speech must be stopped within 0.5 s of when it should, and noise alone not be taken for a caller in 4 s.
Ordinary are scenes that are clean, at 15 dB and better, or without speech. Peers are run where they are installed:
webrtcvad-wheels, silero-vad (with onnxruntime). Their decisions need debouncing: 120 of the last 240 ms.
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from esl_record.vad import detect

RATE = 8000
END_SILENCES = (2.0, 1.0)
Scene = dict[str, Any]
Decisions = tuple[float, NDArray[np.bool_]]
"""Seconds a frame lasts, and whether each is speech, as known when it ends."""


def ours(samples: NDArray[np.int16]) -> Decisions:
    found = detect(samples, RATE)
    return found.hop, found.speech


def debounced(raw: NDArray[np.bool_], hop: float) -> Decisions:
    need, window = round(0.12 / hop), round(0.24 / hop)
    total = np.concatenate([np.zeros(window, int), np.cumsum(raw)])
    return hop, total[window:] - total[:-window] >= need


def webrtc() -> Callable[[NDArray[np.int16]], Decisions]:
    import webrtcvad

    def decide(samples: NDArray[np.int16]) -> Decisions:
        vad = webrtcvad.Vad(2)
        frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        return debounced(np.array([vad.is_speech(frame.tobytes(), RATE) for frame in frames]), 0.02)

    return decide


def silero() -> Callable[[NDArray[np.int16]], Decisions]:
    import onnxruntime

    package = importlib.util.find_spec("silero_vad")
    assert package is not None
    assert package.submodule_search_locations
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def decide(samples: NDArray[np.int16]) -> Decisions:
        chunk, context = 256, 32
        frames = -(-len(samples) // chunk)
        signal = np.zeros(context + frames * chunk, np.float32)
        signal[context : context + len(samples)] = samples / 32768
        state, raw = np.zeros((2, 1, 128), np.float32), np.zeros(frames, bool)
        for frame in range(frames):
            part = signal[None, frame * chunk : (frame + 1) * chunk + context]
            score, state = session.run(None, {"input": part, "state": state, "sr": np.array(RATE)})
            raw[frame] = score[0, 0] >= 0.5
        return debounced(raw, chunk / RATE)

    return decide


def outcome(scene: Scene, decisions: Decisions, end_silence: float) -> tuple[str, float | None]:
    """("right" or what went wrong, seconds by which the stop came late)."""
    hop, speech = decisions
    lead = 1.0 if scene["kind"] == "noise" else scene["lead"]
    heard = (np.flatnonzero(speech) + 1) * hop
    begun = len(heard) > 0 and heard[0] <= lead + 3.0 + 1e-9
    if scene["kind"] == "noise":
        return ("false input" if begun else "right"), None
    if not begun:
        return "not heard", None
    silences = np.flatnonzero(np.diff(heard) - hop >= end_silence - 1e-9)
    stop = float(heard[silences[0]] if len(silences) else heard[-1]) + end_silence
    late = stop - (scene["last_end"] + end_silence)
    if stop > scene["dur"] + 1e-9:
        return "never stopped", None
    if stop < scene["last_end"] - 0.2:
        return "premature", late
    return ("right" if abs(late) <= 0.5 + 1e-9 else "early" if late < 0 else "late"), late


def ordinary(scene: Scene) -> bool:
    return scene["kind"] == "noise" or scene["class"] == "clean" or (scene["snr"] is not None and scene["snr"] >= 15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("VAD_SCENES"))
    folder = parser.parse_args().folder
    if folder is None:
        parser.error("no folder of scenes: name it or set VAD_SCENES")
    folder = Path(folder)
    scenes: list[Scene] = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines() if line]
    audio = [soundfile.read(folder / scene["file"], dtype="int16")[0] for scene in scenes]
    detectors: dict[str, Callable[[NDArray[np.int16]], Decisions]] = {"esl_record": ours}
    for name, make, needs in (
        ("WebRTC, mode 2", webrtc, ["webrtcvad"]),
        ("Silero", silero, ["silero_vad", "onnxruntime"]),
    ):
        if all(importlib.util.find_spec(module) for module in needs):
            detectors[name] = make()
    table = Table(
        "", "task accuracy", "ordinary", "false input", "stop error, median", "95 % within", "CPU per s of audio"
    )
    rows: dict[str, dict[str, list[bool]]] = {}
    for name, decide in detectors.items():
        began = time.process_time()
        decisions = [decide(samples) for samples in track(audio, description=name, transient=True)]
        cpu = (time.process_time() - began) / sum(len(samples) / RATE for samples in audio)
        shares, easy, late = [], [], []
        taken = np.mean(
            [outcome(s, d, 1.0)[0] != "right" for s, d in zip(scenes, decisions, strict=True) if s["kind"] == "noise"]
        )
        parts = rows.setdefault(name, {})
        for end_silence in END_SILENCES:
            counted = [
                (scene, *outcome(scene, found, end_silence))
                for scene, found in zip(scenes, decisions, strict=True)
                if scene["kind"] == "noise" or scene["max_gap"] <= 0.8 * end_silence
            ]
            shares.append(np.mean([verdict == "right" for _, verdict, _ in counted]))
            easy.append(np.mean([verdict == "right" for scene, verdict, _ in counted if ordinary(scene)]))
            late += [error for _, verdict, error in counted if verdict == "right" and error is not None]
            for scene, verdict, _ in counted:
                level = (
                    "nobody speaks"
                    if scene["kind"] == "noise"
                    else f"{scene['snr']} dB"
                    if scene["class"] != "clean"
                    else "clean"
                )
                for part in (level, scene["class"]):
                    parts.setdefault(part, []).append(verdict == "right")
        table.add_row(
            name,
            f"{100 * np.mean(shares):.1f} %",
            f"{100 * np.mean(easy):.1f} %",
            f"{100 * taken:.1f} %",
            f"{np.median(late):+.2f} s",
            f"{np.percentile(np.abs(late), 95):.2f} s",
            f"{1e6 * cpu:.0f} µs",
        )
    Console().print(table)
    detail = Table("task accuracy, %", *rows)
    for part in sorted(rows["esl_record"]):
        detail.add_row(part, *(f"{100 * np.mean(found[part]):.0f}" for found in rows.values()))
    Console().print(detail)


if __name__ == "__main__":
    main()
