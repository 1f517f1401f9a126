"""The spool: read behind the switch, in whole samples, whatever has been written of it so far."""

import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.audio.spool import SKEW, Spool
from esl_record.audio.timeline import Segment, Span, Timeline
from esl_record.errors import SpoolError


def written(path: Path, *values: int, torn: bytes = b"") -> Path:
    path.write_bytes(np.array(values, "<i2").tobytes() + torn)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "3f5b.raw"


def test_samples_are_signed_and_little_endian(path: Path) -> None:
    path.write_bytes(b"\x00\x80\xff\x7f\xff\xff\x01\x00")
    with Spool(path, 1) as spool:
        block = spool.read(10)
    assert block.dtype == np.int16
    assert block.tolist() == [[-32768], [32767], [-1], [1]]


def test_channels_are_columns(path: Path) -> None:
    with Spool(written(path, 1, -1, 2, -2, 3, -3), 2) as spool:
        assert spool.size() == 3
        assert spool.read(10).tolist() == [[1, -1], [2, -2], [3, -3]]


def test_each_read_goes_on_where_the_last_ended(path: Path) -> None:
    with Spool(written(path, 1, 2, 3, 4, 5), 1) as spool:
        reads = [spool.read(2).ravel().tolist() for _ in range(4)]
        assert (reads, spool.position) == ([[1, 2], [3, 4], [5], []], 5)


def test_a_block_is_read_from_anywhere_and_moves_nothing(path: Path) -> None:
    with Spool(written(path, 1, 2, 3, 4, 5), 1) as spool:
        spool.read(4)
        assert spool.block(1, 2).ravel().tolist() == [2, 3]
        assert spool.block(5, 2).shape == (0, 1)
        assert spool.position == 4


def test_what_the_switch_writes_meanwhile_is_seen(path: Path) -> None:
    with Spool(written(path, 1), 1) as spool:
        first = spool.read(10).ravel().tolist()
        with path.open("ab") as switch:
            switch.write(b"\x02\x00")
        assert (first, spool.size(), spool.read(10).ravel().tolist()) == ([1], 2, [2])


@pytest.mark.parametrize(("channels", "torn"), [(1, 1), (2, 1), (2, 2), (2, 3)])
def test_half_a_sample_at_the_end_waits_for_its_other_half(path: Path, channels: int, torn: int) -> None:
    whole = np.arange(1, 3 * channels + 1).astype("<i2")
    data = whole.tobytes()
    cut = len(data) - 2 * channels + torn
    path.write_bytes(data[:cut])
    with Spool(path, channels) as spool:
        assert spool.size() == 2
        assert len(spool.read(10)) == 2
        assert len(spool.read(10)) == 0
        with path.open("ab") as switch:
            switch.write(data[cut:])
        assert spool.read(10).tolist() == [whole[-channels:].tolist()]


@given(
    data=st.binary(max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    channels=st.sampled_from([1, 2]),
    limit=st.integers(1, 50),
)
def test_reads_in_any_rhythm_give_every_whole_sample_once(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int], channels: int, limit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rhythm.raw"
    path.write_bytes(b"")
    heard = b""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    with Spool(path, channels) as spool:
        for start, end in pairwise(edges):
            with path.open("ab") as switch:
                switch.write(data[start:end])
            heard += spool.read(limit).tobytes()
        while len(block := spool.read(limit)):
            heard += block.tobytes()
    assert heard == data[: len(data) - len(data) % (2 * channels)]


def test_an_empty_spool_is_no_error(path: Path) -> None:
    path.write_bytes(b"")
    with Spool(path, 2) as spool:
        assert (spool.size(), spool.read(10).shape) == (0, (0, 2))


def test_a_spool_that_is_not_there_is_named(path: Path) -> None:
    spool = Spool(path, 1)
    for attempt in (spool.size, lambda: spool.read(1), lambda: spool.block(0, 1)):
        with pytest.raises(SpoolError, match=r"3f5b\.raw: No such file"):
            attempt()


def test_a_spool_that_appears_later_is_read_then(path: Path) -> None:
    with Spool(path, 1) as spool:
        with pytest.raises(SpoolError):
            spool.size()
        written(path, 7)
        assert spool.read(1).tolist() == [[7]]


@pytest.mark.parametrize("left", [0, 1, 6, 7])
def test_a_spool_cut_off_behind_the_reader_is_told_of(path: Path, left: int) -> None:
    with Spool(written(path, 1, 2, 3, 4), 1) as spool:
        spool.read(4)
        os.truncate(path, left)
        with pytest.raises(SpoolError, match="shorter than 4 samples"):
            spool.read(1)


def test_a_spool_cut_off_before_the_reader_gives_what_is_left(path: Path) -> None:
    with Spool(written(path, 1, 2, 3, 4), 1) as spool:
        spool.read(1)
        os.truncate(path, 5)
        assert spool.read(10).ravel().tolist() == [2]


def test_a_spool_renamed_away_is_read_on(path: Path) -> None:
    with Spool(written(path, 1, 2), 1) as spool:
        spool.read(1)
        path.unlink()
        assert spool.read(1).tolist() == [[2]]


def test_a_directory_is_no_spool(tmp_path: Path) -> None:
    with Spool(tmp_path, 1) as spool, pytest.raises(SpoolError, match="directory"):
        spool.read(1)


def test_an_error_of_the_disk_is_the_spools(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with Spool(written(path, 1), 1) as spool:
        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.read(1)
        monkeypatch.undo()
        assert spool.position == 0


def test_closing_gives_the_descriptor_back_and_may_be_done_twice(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Spool(written(path, 1), 1) as spool:
        spool.size()
        assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    spool.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def paths_of(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}.raw") if number else path


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from(["hold", "segment"]), st.integers(0, 50), st.integers(0, 40)), min_size=1, max_size=6
    ),
    step=st.integers(1, 30),
)
def test_segments_and_gaps_are_read_as_one_recording(pieces: list[tuple[str, int, int]], step: int) -> None:
    """``pieces``: how the gap before it came about, samples written, length of that gap."""
    now = [1000.0]

    def write(path: Path, value: int, size: int) -> None:
        with path.open("ab") as switch:
            switch.write(np.full(size, value, "<i2").tobytes())
        now[0] += size
        if size:
            os.utime(path, (now[0], now[0]))

    expected, number = [np.full(1, 9, "<i2")], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.raw"
        with Spool(path, 1, pace=1, clock=lambda: now[0]) as spool:
            write(path, 9, 1)
            for value, (why, size, gap) in enumerate(pieces, 1):
                if why == "hold":
                    if spool.in_gap:
                        continue
                    spool.open_gap(passes=True)
                else:
                    spool.add(Segment())
                    number += 1
                    paths_of(path, number).touch()
                now[0] += gap
                assert spool.size() == sum(map(len, expected)) + gap
                write(paths_of(path, number), value, size)
                expected += [np.zeros(gap, "<i2"), np.full(size, value, "<i2")]
                assert spool.size() == sum(map(len, expected))
            noted = Timeline(spool.timeline.segments, spool.timeline.spans)
            size = spool.size()
        with Spool(path, 1, noted, pace=1, clock=lambda: now[0]) as again:
            read = []
            while len(block := again.read(step)):
                read.append(block[:, 0])
            assert again.size() == size
    assert np.array_equal(np.concatenate(read), np.concatenate(expected))


def test_a_gap_of_which_nobody_knows_the_end_has_no_length_before_it(path: Path) -> None:
    now = [1000.0]
    with Spool(written(path, 1, 2), 1, pace=10, clock=lambda: now[0]) as spool:
        os.utime(path, (1000.0, 1000.0))
        spool.open_gap(passes=False)
        now[0] = 1005.0
        assert spool.size() == 2
        written(path, 1, 2, 3)
        os.utime(path, (1004.0, 1004.0))
        assert spool.size() == 2 + 40
        assert spool.read(100).ravel().tolist() == [1, 2, *[0] * 39, 3]


@pytest.mark.parametrize("forged", [1.0, 1e10])
def test_a_forged_time_of_a_file_does_not_become_hours_of_silence(path: Path, forged: float) -> None:
    """The switch's user owns the file, and so may set its time."""
    now = [1000.0]
    with Spool(written(path, 1, 2), 1, pace=10, clock=lambda: now[0]) as spool:
        spool.size()
        now[0] = 1001.0
        os.utime(written(path, 1, 2, 3), (forged, forged))
        spool.size()
        now[0] = 1002.0
        spool.open_gap(passes=True)
        now[0] = 1010.0
        passed = 10 * (10.0 + SKEW)
        assert spool.size() <= 3 + passed
        os.utime(written(path, 1, 2, 3, 4), (forged, forged))
        assert spool.size() <= 4 + passed + 10 * SKEW


def test_the_gap_before_a_new_segment_begins_with_the_last_write(path: Path) -> None:
    """Around a change of codec a tap writes nothing for a while before the switch tells of the change."""
    now = [1000.0]
    with Spool(written(path, 1, 2), 1, pace=10, clock=lambda: now[0]) as spool:
        os.utime(path, (1000.0, 1000.0))
        now[0] = 1000.5
        spool.cut()
        assert spool.size() == 2 + 5
        spool.add(Segment())
        os.utime(written(paths_of(path, 1), 3), (1001.0, 1001.0))
        assert spool.size() == 2 + 9 + 1
        assert spool.read(100).ravel().tolist() == [1, 2, *[0] * 9, 3]


def test_the_gap_before_a_new_segment_leaves_out_a_pause_before_it(path: Path) -> None:
    now = [1000.0]
    with Spool(written(path, 1, 2), 1, pace=10, clock=lambda: now[0]) as spool:
        os.utime(path, (1000.0, 1000.0))
        now[0] = 1060.5
        spool.add(Segment(), 1060.0)
        assert spool.size() == 2 + 5


@pytest.mark.parametrize(
    ("spans", "wrong"),
    [([Span(start=3)], "order"), ([Span(), Span(start=3), Span(start=1)], "order"), ([Span(segment=1)], "segment")],
)
def test_a_timeline_that_cannot_be_is_refused(spans: list[Span], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Timeline([Segment()], spans)
