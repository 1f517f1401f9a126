"""Files of the spool: only what the switch was asked to write is opened, whatever its user puts there."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
from hostile import HOSTILE, SECRET

from esl_record.audio import spoolfile
from esl_record.audio.spool import AHEAD, FASTEST, Spool
from esl_record.audio.spoolfile import identify, open_spool
from esl_record.audio.timeline import Segment
from esl_record.errors import SpoolError, SpoolUnfit


def descriptors() -> int:
    gevent.idle()  # gevent's os.close is done with the next turn of its loop
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "link.key"
    path.write_bytes(SECRET)
    return path


@pytest.mark.parametrize("put", HOSTILE)
def test_what_is_no_file_of_its_own_is_refused_at_once(
    tmp_path: Path, secret: Path, put: Callable[[Path, Path], None]
) -> None:
    path, before = tmp_path / "3f5b.raw", descriptors()
    put(path, secret)
    for attempt in (open_spool, identify, lambda path: Spool(path, 1).size(), lambda path: Spool(path, 1).block(0, 9)):
        with pytest.raises(SpoolUnfit, match=r"3f5b\.raw: is a"):
            attempt(path)
    assert descriptors() == before


def test_a_link_that_comes_between_check_and_use_is_not_followed(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced at each moment there is: before it is opened, and before it is looked at."""
    path = tmp_path / "3f5b.raw"
    for name in ("open", "fstat"):
        path.unlink(missing_ok=True)
        path.write_bytes(b"call")
        real = getattr(os, name)

        def replaced(*arguments: Any, real: Any = real, **named: Any) -> Any:
            path.unlink(missing_ok=True)
            path.symlink_to(secret)
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(spoolfile.os, name, replaced)
            try:
                descriptor, _ = open_spool(path)
            except SpoolUnfit:
                continue
        assert os.pread(descriptor, 100, 0) == b"call"
        os.close(descriptor)


def test_what_was_opened_is_read_whatever_has_its_name_by_now(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "3f5b.raw"
    path.write_bytes(b"\1\0\2\0")
    with Spool(path, 1) as spool:
        assert spool.read(1).tolist() == [[1]]
        with path.open("ab") as switch:
            path.unlink()
            path.symlink_to(secret)
            switch.write(b"\3\0")
        with spool.shared() as other:
            assert other.block(0, 9).ravel().tolist() == [1, 2, 3]
        assert spool.read(9).ravel().tolist() == [2, 3]


def test_a_file_that_was_closed_is_not_opened_by_its_name_as_another(tmp_path: Path) -> None:
    path, known = tmp_path / "3f5b.raw", dict[Path, spoolfile.Identity]()
    path.write_bytes(b"\1\0")
    with Spool(path, 1, known=known) as spool:
        assert spool.size() == 1
    with Spool(path, 1, known=known) as spool:
        assert spool.size() == 1
    path.rename(tmp_path / "away")
    path.write_bytes(b"\2\0")
    with Spool(path, 1, known=known) as spool, pytest.raises(SpoolUnfit, match="is another file than before"):
        spool.size()


def test_one_that_shares_its_files_outlives_it(tmp_path: Path) -> None:
    path = tmp_path / "3f5b.raw"
    path.write_bytes(b"\1\0\2\0")
    before = descriptors()
    with Spool(path, 1) as spool:
        other = spool.shared()
        assert other.block(0, 1).tolist() == [[1]]
    assert other.block(1, 1).tolist() == [[2]]
    other.close()
    assert descriptors() == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_file_that_grows_beyond_what_a_call_brings_is_refused(tmp_path: Path, number: int) -> None:
    """A terabyte of nothing costs who makes it nothing, and who reads it hours."""
    now = time.time()
    path = tmp_path / "a.raw"
    path.write_bytes(b"")
    with Spool(path, 1, pace=8000.0, began=now, clock=lambda: now) as spool:
        if number:
            spool.add(Segment(channels=1), cut=False)
            path = tmp_path / "a.1.raw"
            path.write_bytes(b"")
        spool.ahead = 30.0
        assert spool.written() == 0
        now += 10.0
        most = round((30.0 + 10.0 * FASTEST) * 8000)
        os.truncate(path, 2 * most)
        os.utime(path, (now, now))
        assert spool.written() == most
        os.truncate(path, 2 * (most + 30 * 8000 + 1))
        os.utime(path, (now, now))
        with pytest.raises(SpoolUnfit, match=r"has grown by 30 s of audio within 0 s"):
            spool.written()


def test_many_looks_let_no_more_pass_than_one(tmp_path: Path) -> None:
    now = time.time()
    path = tmp_path / "a.raw"
    path.write_bytes(b"")
    with Spool(path, 1, pace=8000.0, began=now, clock=lambda: now) as spool:
        spool.ahead = 30.0
        spool.written()
        os.truncate(path, 25 * 16000)
        assert spool.written() == 25 * 8000
        now += 0.1
        os.truncate(path, 50 * 16000)
        os.utime(path, (now, now))
        with pytest.raises(SpoolUnfit, match="has grown by 25 s"):
            spool.written()


def test_of_an_earlier_run_no_more_is_read_than_the_call_can_have_brought(tmp_path: Path) -> None:
    path, began = tmp_path / "a.raw", time.time() - 1e6
    path.write_bytes(b"")
    os.truncate(path, 1 << 40)
    os.utime(path, (began + 10, began + 10))
    with Spool(path, 1, pace=8000.0, began=began) as spool, pytest.raises(SpoolUnfit, match="within 10 s"):
        spool.settled()
    os.truncate(path, int(2 * 8000 * AHEAD))
    os.utime(path, (began + 10, began + 10))
    with Spool(path, 1, pace=8000.0, began=began) as spool:
        assert spool.settled() == int(8000 * AHEAD)


def test_a_clock_that_is_not_set_yet_spoils_no_recording(tmp_path: Path) -> None:
    path, began = tmp_path / "a.raw", time.time()
    path.write_bytes(b"")
    os.truncate(path, 2 * 8000 * 7200)
    os.utime(path, (began + 7200, began + 7200))
    with Spool(path, 1, pace=8000.0, began=began, clock=lambda: 1000.0) as spool:
        assert spool.settled() == 8000 * 7200


def test_what_is_cut_off_while_it_is_read_is_an_error_or_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(np.arange(100, dtype="<i2").tobytes())
    with Spool(path, 1) as spool:
        assert len(spool.read(50)) == 50
        os.truncate(path, 0)
        with pytest.raises(SpoolError, match="shorter than 50 samples"):
            spool.read(50)
        assert spool.size() == 0
