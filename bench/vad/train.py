"""Trains the detector's net on made scenes and exports its weights into the package.

    python bench/vad/corpus.py DATA --download          voices and noises, from Debian packages
    python bench/vad/train.py DATA prepare              scenes of them, as inputs of the net: some minutes on two cores
    python bench/vad/train.py DATA fit [--scenes FOLDER] esl_record/vad/weights.npz

Needs torch (2.13) and soundfile beside the package. With --scenes, a folder of labelled scenes as accuracy.py takes it,
the task accuracy is shown after each epoch; nothing is trained on them. Same seeds, same scenes; torch's arithmetic
differs a little from one machine to another.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import json
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import mixtures
import numpy as np
import soundfile
import torch
from accuracy import END_SILENCES, outcome
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch.nn import functional

from esl_record.vad import noise
from esl_record.vad.features import INPUTS, analyse, inputs
from esl_record.vad.lanes import Lanes

SEEDS = [*range(10_000, 14_000), *range(20_000, 24_500), *range(30_000, 34_000)]
AT_ONCE = range(40_000, 43_000)  # more of those who speak from the first sample on: there is no floor yet to tell by
LAYER, CELLS = 32, 48
LENGTH, BATCH, EPOCHS, RATE, SEED = 600, 64, 9, 6e-3, 1
LAG = 2  # frames by which a decision may come late
WINDOW = 12  # frames: what the task asks of a stretch of this length is one decision
NOISE = 1.5  # how much worse noise taken for speech is than the reverse


def told(pcm: NDArray[np.int16]) -> NDArray[np.float16]:
    """(frames, INPUTS) what the net is told of a call."""
    frames = len(pcm) // 160
    windows = sliding_window_view(np.concatenate([np.zeros(160, np.int16), pcm[: frames * 160]]), 320)[::160]
    features = analyse(windows)
    state = np.zeros((1, noise.COLUMNS), np.float32)
    noise.begin(state)
    above = noise.above_floor(state, Lanes(np.array([frames])), features.bands, ~features.blank)
    return inputs(features, above).astype(np.float16)


@cache
def clips(folder: Path) -> tuple[mixtures.Clips, mixtures.Clips, NDArray[np.float64]]:
    voices, sounds = (mixtures.Clips(folder / f"{name}.npz") for name in ("speech", "noise"))
    return voices, sounds, mixtures.weights_of(voices)


def scene(job: tuple[Path, int]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    folder, seed = job
    pcm, speech = mixtures.scene(np.random.default_rng(seed), *clips(folder), seed in AT_ONCE)
    return told(pcm), speech


def prepare(folder: Path) -> None:
    with Pool(2) as pool:
        made = pool.map(scene, [(folder, seed) for seed in [*SEEDS, *AT_ONCE]], 8)
    counts = [len(speech) for _, speech in made]
    np.savez(folder / "scenes.npz", inputs=np.concatenate([part for part, _ in made]),
             speech=np.concatenate([speech for _, speech in made]), counts=counts)  # fmt: skip


class Net(torch.nn.Module):
    """As head.py has it, with its inputs brought to mean 0 and deviation 1 first."""

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        super().__init__()
        self.mean, self.deviation = torch.tensor(mean), torch.tensor(deviation)
        self.dense = torch.nn.Linear(INPUTS, LAYER)
        self.gru = torch.nn.GRU(LAYER, CELLS, batch_first=True)
        self.out = torch.nn.Linear(CELLS, 1)
        torch.nn.init.constant_(self.out.bias, -1.0)

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        layer = torch.relu(self.dense((told - self.mean) / self.deviation))
        odds: torch.Tensor = self.out(self.gru(layer)[0])[..., 0]
        return odds


def loss_of(odds: torch.Tensor, speech: torch.Tensor) -> torch.Tensor:
    """Cross entropy of frames, and of the highest odds in each window: what one wrong frame does to a silence is as bad
    as many, and one right frame in a word is enough. Onsets and the moments after an end count little or nothing."""
    length = speech.shape[1]
    late = functional.pad(speech, (LAG, 0))[:, :length]
    recent = functional.max_pool1d(functional.pad(speech, (LAG + 3, 0))[:, None], LAG + 4, 1)[:, 0, :length]
    new = 1 - functional.pad(speech, (7, 0))[:, :length]
    weight = torch.ones_like(speech)
    weight[(late > 0) & (new > 0)] = 0.2
    weight[(late == 0) & (recent > 0)] = 0.3
    weight = torch.where(late > 0, weight, weight * NOISE)
    frames = (functional.binary_cross_entropy_with_logits(odds, late, reduction="none") * weight).mean()
    highest = functional.max_pool1d(odds[:, None], WINDOW, 1)[:, 0]
    spoken = (functional.avg_pool1d(late[:, None], WINDOW, 1)[:, 0] > 0.6).float()
    silent = functional.max_pool1d(torch.maximum(late, recent)[:, None], WINDOW, 1)[:, 0] == 0
    counts = silent.float() * NOISE + spoken
    windows = (functional.binary_cross_entropy_with_logits(highest, spoken, reduction="none") * counts).mean()
    return frames + windows


def task_accuracy(net: Net, folder: Path) -> float:
    scenes = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines() if line]
    right = {end_silence: [] for end_silence in END_SILENCES}
    with torch.no_grad():
        for labels in scenes:
            odds = net(
                torch.tensor(told(soundfile.read(folder / labels["file"], dtype="int16")[0]).astype(np.float32))[None]
            )
            for end_silence, found in right.items():
                if labels["kind"] == "noise" or labels["max_gap"] <= 0.8 * end_silence:
                    found.append(outcome(labels, (0.02, odds[0].numpy() > 0), end_silence)[0] == "right")
    return float(np.mean([np.mean(found) for found in right.values()]))


def fit(folder: Path, target: Path, scenes: Path | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    stored = np.load(folder / "scenes.npz")
    edges = np.cumsum(stored["counts"])[:-1]
    data, speech = np.split(stored["inputs"], edges), np.split(stored["speech"], edges)
    sample = np.concatenate(data[::8]).astype(np.float32)
    net = Net(sample.mean(axis=0), sample.std(axis=0) + 1e-3)
    rng = np.random.default_rng(SEED)
    batches = len(data) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * batches, pct_start=0.1)
    for epoch in range(EPOCHS):
        order, total = rng.permutation(len(data)), 0.0
        for batch in range(batches):
            picked = order[batch * BATCH : (batch + 1) * BATCH]
            starts = [0 if rng.random() < 0.7 else int(rng.integers(len(data[k]) - LENGTH + 1)) for k in picked]
            parts = [slice(min(start, len(data[k]) - LENGTH), None) for start, k in zip(starts, picked, strict=True)]
            given = np.stack([data[k][part][:LENGTH] for k, part in zip(picked, parts, strict=True)])
            truth = np.stack([speech[k][part][:LENGTH] for k, part in zip(picked, parts, strict=True)])
            loss = loss_of(net(torch.tensor(given.astype(np.float32))), torch.tensor(truth).float())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        shown = f", task accuracy {100 * task_accuracy(net, scenes):.1f} %" if scenes else ""
        print(f"epoch {epoch}: loss {total / batches:.4f}{shown}", flush=True)
    export(net, target)


def export(net: Net, target: Path) -> None:
    """As head.Weights has them: the inputs' mean and deviation within the dense layer, the gates' arguments halved."""
    found = {name: value.numpy().astype(float) for name, value in net.state_dict().items()}
    mean, deviation = net.mean.numpy().astype(float), net.deviation.numpy().astype(float)
    dense = found["dense.weight"] / deviation
    half = np.repeat([0.5, 0.5, 1.0], CELLS)
    bias = found["gru.bias_ih_l0"] + np.where(half < 1, found["gru.bias_hh_l0"], 0.0)
    arrays = {
        "dense": dense.T,
        "dense_bias": found["dense.bias"] - dense @ mean,
        "gates": (found["gru.weight_ih_l0"] * half[:, None]).reshape(3, CELLS, LAYER).transpose(0, 2, 1),
        "gates_bias": (bias * half).reshape(3, 1, CELLS),
        "recurrent": (found["gru.weight_hh_l0"] * half[:, None]).reshape(3, CELLS, CELLS).transpose(0, 2, 1),
        "candidate_bias": found["gru.bias_hh_l0"][2 * CELLS :],
        "out": found["out.weight"][0],
        "out_bias": found["out.bias"],
    }
    np.savez(target, **{name: np.asarray(value, np.float32) for name, value in arrays.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("step", choices=["prepare", "fit"])
    parser.add_argument("target", type=Path, nargs="?", default=Path("esl_record/vad/weights.npz"))
    parser.add_argument("--scenes", type=Path)
    options = parser.parse_args()
    if options.step == "prepare":
        prepare(options.data)
    else:
        fit(options.data, options.target, options.scenes)


if __name__ == "__main__":
    main()
