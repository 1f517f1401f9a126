"""The recurrent net that tells speech from noise, stepped in NumPy with all calls as rows.

One dense layer sees each frame, a gated recurrent unit (Cho et al. 2014) remembers what came before, and one weight a
cell says how likely the frame is speech. What it was trained on and how well it did is in weights.md beside it.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_record.vad.lanes import Lanes

Floats = NDArray[np.float32]


class Weights(NamedTuple):
    """Of the net; `inputs` of a frame, `layer` and `cells` wide. Gates are reset, update and candidate, in this order.

    The arguments of reset and update gate are halved: a logistic function is a hyperbolic tangent of half its argument,
    which NumPy has vectorized.
    """

    dense: Floats
    """(inputs, layer)."""
    dense_bias: Floats
    """(layer,)."""
    gates: Floats
    """(3, layer, cells) from the dense layer."""
    gates_bias: Floats
    """(3, 1, cells)."""
    recurrent: Floats
    """(3, cells, cells) from the cells a frame before."""
    candidate_bias: Floats
    """(cells,) within the reset gate."""
    out: Floats
    """(cells,)."""
    out_bias: Floats
    """(1,)."""


@cache
def weights() -> Weights:
    """Those the package comes with."""
    with resources.files(__package__).joinpath("weights.npz").open("rb") as file, np.load(file) as stored:
        return Weights(*(np.ascontiguousarray(stored[name], np.float32) for name in Weights._fields))


CELLS = len(weights().out)
"""Columns of state the net needs for a call; all zeros where one begins."""


def log_odds(state: Floats, lanes: Lanes, inputs: Floats) -> Floats:
    """(n,) log odds of speech of each frame, whose `inputs` are (n, inputs).

    `state`, (lanes, cells) in the order of `lanes`, is updated.
    """
    net = weights()
    layer = inputs[lanes.by_step] @ net.dense
    layer += net.dense_bias
    np.maximum(layer, 0, out=layer)
    given = layer @ net.gates
    given += net.gates_bias
    after = np.empty((len(inputs), CELLS), np.float32)
    cells = np.ascontiguousarray(state)
    half = np.float32(0.5)
    for live, at in lanes.steps():
        cell = cells[:live]
        kept = cell @ net.recurrent
        gate, candidate = kept[:2], kept[2]
        gate += given[:2, at]
        np.tanh(gate, out=gate)
        gate *= half
        gate += half
        candidate += net.candidate_bias
        candidate *= gate[0]
        candidate += given[2, at]
        np.tanh(candidate, out=candidate)
        cell -= candidate
        cell *= gate[1]
        cell += candidate
        after[at] = cell
    state[:] = cells
    odds = np.empty(len(inputs), np.float32)
    odds[lanes.by_step] = after @ net.out + net.out_bias
    return odds
