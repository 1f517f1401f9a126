"""A batch of lanes gives what going through each lane frame by frame gives."""

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from esl_record.vad.lanes import Lanes

BATCHES = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=8)


@given(BATCHES)
def test_steps_go_through_every_lane_in_order(batch: list[list[bool]]) -> None:
    counts = np.array([len(lane) for lane in batch])
    lanes = Lanes(counts)
    seen: list[list[int]] = [[] for _ in batch]
    for live, at in lanes.steps():
        indices = lanes.by_step[at]
        assert len(indices) == live
        for place, index in enumerate(indices.tolist()):
            seen[lanes.order[place]].append(index)
    assert list(chain.from_iterable(seen)) == list(range(sum(counts)))
    assert [len(lane) for lane in seen] == counts.tolist()


@given(BATCHES)
def test_since_running_and_steps_of(batch: list[list[bool]]) -> None:
    lanes = Lanes(np.array([len(lane) for lane in batch]))
    since, running, steps = [], [], set()
    for lane in batch:
        latest = None
        for step, flag in enumerate(lane):
            latest = step if flag else latest
            since.append(step - latest if latest is not None else -1 - step)
            running.append(sum(lane[: step + 1]))
            steps |= {step} if flag else set()
    flags = np.array(list(chain.from_iterable(batch)))
    assert lanes.since(flags).tolist() == since
    assert lanes.running(flags).tolist() == running
    assert lanes.steps_of(flags) == steps


@given(BATCHES)
def test_values_of_places_are_spread_over_the_frames_of_their_lanes(batch: list[list[bool]]) -> None:
    lanes = Lanes(np.array([len(lane) for lane in batch]))
    spread = lanes.spread(lanes.order.astype(np.float32)).tolist()
    assert spread == [index for index, lane in enumerate(batch) for _ in lane]
    assert (lanes.first[np.argsort(lanes.order)] == np.cumsum([0] + [len(lane) for lane in batch[:-1]])).all()
    assert (lanes.last - lanes.first + 1 == lanes.counts).all()
