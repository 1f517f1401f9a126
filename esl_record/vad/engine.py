"""Hears all live recordings at once: reads what their sources have grown by and decides who is speaking.

One tick reads every source, computes the features of all new frames in batches and runs the detector over all of
them; what Python does per recording and tick is reading and slicing. Nothing here blocks or yields, as long as no
source does.
"""

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from esl_record.vad.detector import Detector
from esl_record.vad.features import Features, analyse, hop_of, joined
from esl_record.vad.track import Samples, Source, Track

__all__ = ["Engine", "Source", "Track"]

log = logging.getLogger(__name__)

ROUND_FRAMES = 25
"""Frames read of each source in one round of a tick; bounds what a backlog takes of memory."""

TICK_FRAMES = 20_000
"""Once a tick has decided this many frames it leaves the rest of a backlog to the next: bounds how long it lasts."""


class Engine:
    """The tracks of all live recordings and the detector they share. Not for use from several threads."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._tracks: dict[Track, None] = {}

    def __len__(self) -> int:
        return len(self._tracks)

    def join(
        self, source: Source, rate: int, legs: Sequence[int], sensitivity: float, wake: Callable[[], None]
    ) -> Track:
        """Begins to hear a source, in constant time.

        `rate` in Hz, 8 to 192 kHz; `legs` are the indices of the channels heard: speech on any of them counts;
        `sensitivity` 0 to 100. `wake` must not block; it is called from `tick` when something changed, failed or fell
        due. Raises ValueError.
        """
        hop_of(rate)
        if not legs or min(legs) < 0:
            raise ValueError(f"legs {list(legs)}: name at least one channel, counted from 0")
        rows: list[int] = []
        for _ in legs:
            rows.append(self._detector.take(sensitivity))
        track = Track(source, rate, legs, rows, wake, self._catch_up)
        self._tracks[track] = None
        return track

    def leave(self, track: Track) -> None:
        """Stops to hear a track, in constant time. Leaving twice does nothing."""
        if track in self._tracks:
            del self._tracks[track]
            for row in track.rows:
                self._detector.drop(row)

    def tick(self) -> None:
        """Reads all sources, decides all new frames, then wakes each track that changed, failed or fell due."""
        tracks = [track for track in self._tracks if track.error is None and not track.past]
        stirred: dict[Track, None] = {}
        unread, frames = tracks, 0
        while unread and frames < TICK_FRAMES:
            unread, read = self._round(unread, ROUND_FRAMES, stirred)
            frames += read
        for track in tracks:
            if track.due():
                stirred[track] = None
        for track in stirred:
            self._wake(track)

    def _wake(self, track: Track) -> None:
        if track in self._tracks:  # one that was woken before may have made it leave
            try:
                track.wake()
            except Exception:
                log.exception("waking a recording failed")

    def _catch_up(self, track: Track, upto: int) -> None:
        more = track in self._tracks and track.error is None
        while more and track.position < upto:
            unread, _ = self._round([track], ROUND_FRAMES, {}, upto)
            more = bool(unread)
            if track.error is not None:
                self._wake(track)

    def _round(
        self, tracks: Iterable[Track], limit: int, stirred: dict[Track, None], upto: int | None = None
    ) -> tuple[list[Track], int]:
        """Reads at most `limit` frames of each track (and none from sample `upto` on) and decides them.

        Adds the tracks that changed or failed to `stirred`; returns those with more to read, and the frames decided.
        """
        unread: list[Track] = []
        heard: dict[int, list[tuple[Track, Samples, int]]] = {}  # by hop: what one FFT can take
        for track in tracks:
            size = limit * track.hop
            try:
                block, frames, more = track.read(size if upto is None else min(size, upto - track.position))
            except Exception as error:
                track.error = error
                stirred[track] = None
                continue
            if more:
                unread.append(track)
            if frames:
                heard.setdefault(track.hop, []).append((track, block, frames))
        if not heard:
            return unread, 0
        features = joined([_features(batch, hop) for hop, batch in heard.items()])
        flat = [entry for batch in heard.values() for entry in batch]
        rows = np.array([row for track, _, _ in flat for row in track.rows])
        counts = np.array([frames for track, _, frames in flat for _ in track.rows])
        scores, speech = self._detector.run(rows, counts, features)
        self._settle(flat, counts, features, scores, speech, stirred)
        return unread, len(scores)

    def _settle(
        self,
        heard: list[tuple[Track, Samples, int]],
        counts: NDArray[np.intp],
        features: Features,
        scores: NDArray[np.float32],
        speech: NDArray[np.bool_],
        stirred: dict[Track, None],
    ) -> None:
        """Hands each track what was decided of it. Speech on any leg is speech."""
        ends = np.cumsum(counts)
        totals = np.add.reduceat(speech, ends - counts, dtype=np.intp).tolist()
        levels = features.level[ends - 1].tolist()
        latest = scores[ends - 1].tolist()
        stops = ends.tolist()
        row = 0
        for track, _, frames in heard:
            legs = len(track.rows)
            track.level = max(levels[row : row + legs])
            track.score = max(latest[row : row + legs])
            total = sum(totals[row : row + legs])
            row += legs
            if total != (legs * frames if track.speaking else 0):
                stop = stops[row - 1]
                heard_on_any = speech[stop - legs * frames : stop].reshape(legs, frames).any(axis=0)
                track.decide(track.decided - frames * track.hop, np.asarray(heard_on_any))
                stirred[track] = None


def _features(batch: list[tuple[Track, Samples, int]], hop: int) -> Features:
    """Features of a batch's frames: track by track, leg by leg, frame by frame."""
    signal = np.concatenate([block.T.reshape(-1) for _, block, _ in batch])
    windows = sliding_window_view(signal, 2 * hop)[::hop]
    if len(batch) == 1 and len(batch[0][0].rows) == 1:
        return analyse(windows)
    frames = np.array([count for track, _, count in batch for _ in track.rows])
    # Between two legs lies one window that is half of each.
    return analyse(np.delete(windows, (np.cumsum(frames + 1) - 1)[:-1], axis=0))
