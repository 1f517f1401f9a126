"""The net is the one its weights say, whatever is stepped beside it."""

from importlib import resources

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esl_record.vad import head
from esl_record.vad.features import INPUTS
from esl_record.vad.lanes import Lanes


def plain(inputs: np.ndarray) -> np.ndarray:
    """One call, frame by frame, as the definition of the gated recurrent unit has it."""
    net = head.weights()
    cell = np.zeros(head.CELLS)
    odds = []
    for told in inputs:
        layer = np.maximum(told @ net.dense + net.dense_bias, 0)
        reset, update = (
            0.5 + 0.5 * np.tanh(layer @ net.gates[gate] + net.gates_bias[gate, 0] + cell @ net.recurrent[gate])
            for gate in (0, 1)
        )
        within = cell @ net.recurrent[2] + net.candidate_bias
        candidate = np.tanh(layer @ net.gates[2] + net.gates_bias[2, 0] + reset * within)
        cell = (1 - update) * candidate + update * cell
        odds.append(cell @ net.out + net.out_bias[0])
    return np.array(odds)


def told(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-20, 20, (frames, INPUTS)).astype(np.float32)


def test_the_weights_fit_the_inputs_and_are_small() -> None:
    assert len(head.weights().dense) == INPUTS
    assert len(resources.files("esl_record.vad").joinpath("weights.npz").read_bytes()) < 200_000


@given(counts=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_every_lane_has_the_odds_it_has_alone(counts: list[tuple[int, int]]) -> None:
    calls = [told(sum(parts), seed) for seed, parts in enumerate(counts)]
    state = np.zeros((len(calls), head.CELLS), np.float32)
    found: list[list[float]] = [[] for _ in calls]
    for turn in (0, 1):
        sizes = np.array([parts[turn] for parts in counts])
        parts = [call[-size:] if turn else call[:size] for call, size in zip(calls, sizes, strict=True)]
        lanes = Lanes(sizes)
        ordered = state[lanes.order]
        odds = head.log_odds(ordered, lanes, np.concatenate(parts))
        state[lanes.order] = ordered
        for call, part in enumerate(np.split(odds, np.cumsum(sizes)[:-1])):
            found[call] += part.tolist()
    for call, odds in zip(calls, found, strict=True):
        np.testing.assert_allclose(odds, plain(call), rtol=1e-3, atol=1e-3)


def test_extremes_leave_the_net_in_its_senses() -> None:
    state = np.zeros((1, head.CELLS), np.float32)
    for level in (1e4, -1e4, 0.0):
        odds = head.log_odds(state, Lanes(np.array([50])), np.full((50, INPUTS), level, np.float32))
        assert np.isfinite(odds).all()
        assert np.abs(state).max() <= 1
