"""Lays out a batch of frames of many calls so that recursions over time are plain arithmetic over calls."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


class Lanes:
    """A batch of sum(counts) frames, lane after lane, counts[i] > 0 consecutive frames in lane i.

    Lanes are reordered by how many frames they have, most first, so that those still running at a step come first.
    """

    def __init__(self, counts: Indices) -> None:
        self.order = np.argsort(-counts, kind="stable")
        """(lanes,) the lane, as counted in `counts`, that is in each place."""
        self.counts = counts[self.order]
        """(lanes,) frames of each, most first."""
        self.first = (np.cumsum(counts) - counts)[self.order]
        """(lanes,) where the frames of each begin in the batch."""
        self.last = self.first + self.counts - 1
        self._start = np.repeat(np.cumsum(counts) - counts, counts)
        self._lane = np.repeat(np.argsort(self.order), counts)

    @cached_property
    def by_step(self) -> Indices:
        """(n,) where in the batch the frames are when ordered by step, then by lane."""
        index = self.first + np.arange(self.counts.max(initial=0))[:, None]
        return index[np.arange(len(index))[:, None] < self.counts]

    def steps(self) -> Iterator[tuple[int, slice]]:
        """At step k of the recursion: how many lanes have a frame k, and where in the order `by_step` these frames are.

        What a recursion works on is best brought into that order at once: arithmetic on slices needs no copies.
        """
        live, end = len(self.counts), 0
        counts = self.counts.tolist()
        for step in range(counts[0] if counts else 0):
            while counts[live - 1] <= step:
                live -= 1
            start, end = end, end + live
            yield live, slice(start, end)

    def steps_of(self, flags: NDArray[np.bool_]) -> set[int]:
        """The steps at which a frame has its flag, (n,), set."""
        marked = np.flatnonzero(flags)
        return set((marked - self._start[marked]).tolist())

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A value for each lane, (lanes,) in the order of the lanes, as a value for each frame, (n,)."""
        return values[self._lane]

    def since(self, event: NDArray[np.bool_]) -> Indices:
        """(n,) frames since the last one at which `event`, (n,), was true, in the same lane; 0 there, negative if none.

        Where none was, the value is -1 at the lane's first frame, -2 at its second and so on.
        """
        index = np.arange(len(event))
        latest = np.maximum.accumulate(np.where(event, index, -1))
        start = self._start
        return np.where(latest >= start, index - latest, start - index - 1)

    def running(self, flags: NDArray[np.bool_]) -> Indices:
        """(n,) how many frames up to and including each, in its lane, have their flag set."""
        total = np.cumsum(flags)
        return total - (total - flags)[self._start]
