"""One recording as the engine hears it: what is read of its source, what of that is heard, and what came of it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from esl_record.vad.features import hop_of

Samples = NDArray[np.int16]


class Source(Protocol):
    """Audio that grows."""

    def read(self, limit: int) -> Samples:
        """The sample frames that appeared since the last read, at most `limit`: shape (n, channels), n may be 0.

        Must not yield to another greenlet. Any Exception ends the track it is read for, and no other.
        """


class Track:
    """A source and what has been decided of it. All times are samples per channel since the source began."""

    def __init__(
        self,
        source: Source,
        rate: int,
        legs: Sequence[int],
        rows: Sequence[int],
        wake: Callable[[], None],
        catch_up: Callable[["Track", int], None],
    ) -> None:
        self.source = source
        self.hop = hop_of(rate)
        self.legs = list(legs)
        self.rows = list(rows)
        self.wake = wake
        self._catch_up = catch_up
        self._nothing: Samples = np.zeros((self.hop, len(self.legs)), np.int16)
        self._tail = self._nothing  # the hop before the next frame, and what there is of that frame
        self._skip = 0  # samples up to the next frame, after a mask
        self._held = False
        self._edges: deque[int] = deque()  # where masking begins or ends next
        self.changes: list[tuple[int, bool]] = []
        """Changes not yet taken: (start of the first speech frame, True), (end of the last one, False)."""
        self.position = 0
        """Samples read from the source."""
        self.speaking = False
        """Whether any leg was speaking in the last frame decided."""
        self.past = False
        """Its source has what was said before: `catch_up` alone reads it, no tick does."""
        self.deadline: int | None = None
        """At the first tick where `decided` has reached it, `wake` is called and this is cleared."""
        self.error: Exception | None = None
        """Why the source could not be read; `wake` was called, and it is not read again."""
        self.level = -100.0
        """RMS of the latest frame, of the loudest leg, dBFS."""
        self.score = 0.0
        """The detector's score of the latest frame, of the highest leg."""

    @property
    def decided(self) -> int:
        """Samples up to which the decision is final: all whole frames that were read. There is no look-ahead."""
        return self.position - self.position % self.hop

    def take_changes(self) -> list[tuple[int, bool]]:
        """The changes since they were last taken, oldest first."""
        taken, self.changes = self.changes, []
        return taken

    def catch_up(self, upto: int) -> None:
        """Reads and decides this track alone, now, as far as the source goes and at most up to sample `upto`.

        The results are those the ticks would have given. `wake` is not called for changes, which the caller can take
        at once, nor before the next tick for deadlines; it is if the source fails.
        """
        self._catch_up(self, upto)

    def hold(self, sample: int) -> None:
        """From `sample` on the source carries silence put there by the switch: frames it touches are not heard.

        While held, `position` and `decided` advance and `speaking` stays as it was. What was read already has been
        heard.
        """
        if not self._will_hold():
            self._edges.append(sample)

    def release(self, sample: int) -> None:
        """From `sample` on the source carries the caller's audio again."""
        if self._will_hold():
            self._edges.append(max(sample, self._edges[-1]) if self._edges else sample)

    def _will_hold(self) -> bool:
        return self._held ^ (len(self._edges) % 2 == 1)

    def read(self, limit: int) -> tuple[Samples, int, bool]:
        """Reads at most `limit` samples.

        Returns what can be decided now, shape (hop + frames * hop, legs) with a hop of history first, the number of
        frames, and whether the source may hold more. Raises what the source raises.
        """
        while self._edges and self.position >= self._edges[0]:
            self._edges.popleft()
            self._held = not self._held
            self._tail, self._skip = self._nothing, -self.position % self.hop
        if self._edges:
            limit = min(limit, self._edges[0] - self.position)
        new = self.source.read(limit)
        size = len(new)
        if self._held:
            self.position += size
            return self._tail, 0, size == limit
        if self._skip:
            new, self._skip = new[self._skip :], max(0, self._skip - size)
        block = np.concatenate((self._tail, new if self.legs == [0] and new.shape[1] == 1 else new[:, self.legs]))
        self.position += size
        frames = len(block) // self.hop - 1
        self._tail = block[frames * self.hop :].copy()
        return block[: (frames + 1) * self.hop], frames, size == limit

    def decide(self, first: int, speech: NDArray[np.bool_]) -> None:
        """Takes over the decisions of consecutive frames, shape (n,), the first of which begins at sample `first`."""
        before = np.concatenate([[self.speaking], speech[:-1]])
        for frame in np.flatnonzero(speech != before):
            self.changes.append((first + int(frame) * self.hop, bool(speech[frame])))
        self.speaking = bool(speech[-1])

    def due(self) -> bool:
        """Whether the deadline has passed; clears it then."""
        if self.deadline is None or self.decided < self.deadline:
            return False
        self.deadline = None
        return True
