"""Copies of documents: they outlive a restart, are bounded, and are never half of one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from esl_record.cipher import Cipher
from esl_record.swml import copies as module
from esl_record.swml.copies import LARGEST, MOST, WRITTEN, Copies, Copy

URL = "https://user:secret@example.com/swml"


class Clock:
    def __init__(self) -> None:
        self.now = 1.7e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begun(tmp_path: Path, clock: Clock) -> Callable[[], Copies]:
    """Copies as a service begun anew has them."""
    cipher = Cipher.with_new_key()
    return lambda: Copies(tmp_path / "copies", cipher, clock)


Begun = Callable[[], Copies]


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "copies").iterdir())


def text(copy: Copy | None) -> str | None:
    return copy.text if copy else None


def test_what_was_kept_is_found_with_its_time(begun: Begun, clock: Clock) -> None:
    copies = begun()
    copies.keep(URL, "a: ä€\n")
    given, clock.now = clock.now, clock.now + 60
    for found in (copies.find(URL), begun().find(URL)):
        assert found is not None
        assert (found.text, found.given) == ("a: ä€\n", given)
    assert copies.find(URL + "/other") is None
    assert begun().find(URL + "/other") is None


def test_the_last_one_counts(begun: Begun, clock: Clock) -> None:
    copies = begun()
    for number in range(3):
        copies.keep(URL, f"n: {number}")
        clock.now += WRITTEN
    assert text(copies.find(URL)) == text(begun().find(URL)) == "n: 2"


def test_it_is_not_written_for_each_call(begun: Begun, clock: Clock, tmp_path: Path) -> None:
    copies = begun()
    copies.keep(URL, "n: 0")
    clock.now += WRITTEN / 2
    copies.keep(URL, "n: 1")
    assert (text(copies.find(URL)), text(begun().find(URL))) == ("n: 1", "n: 0")
    clock.now += WRITTEN / 2
    copies.keep(URL, "n: 2")
    assert (text(copies.find(URL)), text(begun().find(URL))) == ("n: 2", "n: 2")


def test_nobody_else_can_read_it_and_no_name_tells_a_password(begun: Begun, tmp_path: Path) -> None:
    begun().keep(URL, "a: 1")
    (file,) = files(tmp_path)
    assert file.parent.stat().st_mode & 0o077 == 0
    assert file.stat().st_mode & 0o077 == 0
    assert "secret" not in file.name
    assert b"secret" not in file.read_bytes()


@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_a_torn_file_is_none(begun: Begun, tmp_path: Path, left: int) -> None:
    begun().keep(URL, "version: 1.0.0\nsections: {main: [answer]}")
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:left])
    assert begun().find(URL) is None


@pytest.mark.parametrize("content", [b"\0" * 100, b"[]", b"{}", b'{"given": "soon", "text": ""}', b"\xff", b"7"])
def test_what_is_no_copy_is_none(begun: Begun, tmp_path: Path, content: bytes) -> None:
    begun().keep(URL, "a: 1")
    (file,) = files(tmp_path)
    file.write_bytes(content)
    assert begun().find(URL) is None


def test_only_so_many_are_kept(begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST >= 100
    monkeypatch.setattr(module, "MOST", 5)
    copies = begun()
    (tmp_path / "copies").mkdir()
    left_by_a_kill = tmp_path / "copies" / "0.part"
    left_by_a_kill.touch()
    os.utime(left_by_a_kill, (0, 0))
    for number in range(8):
        copies.keep(f"{URL}/{number}", f"n: {number}")
        for age, file in enumerate(sorted(files(tmp_path), key=lambda file: file.stat().st_mtime)):
            os.utime(file, (1000 * number + age, 1000 * number + age))
    assert len(files(tmp_path)) == 5
    for found in (copies.find, begun().find):
        assert [number for number in range(8) if found(f"{URL}/{number}")] == [3, 4, 5, 6, 7]


def test_only_so_many_bytes_are_kept(begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LARGEST >= 1 << 20
    monkeypatch.setattr(module, "LARGEST", 5000)
    copies = begun()
    for number in range(8):
        copies.keep(f"{URL}/{number}", "x" * 1000)
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 5000
    assert sum(copies.find(f"{URL}/{number}") is not None for number in range(8)) <= 5


def test_a_folder_that_cannot_be_written_is_told_and_memory_serves(
    begun: Begun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copies").touch()
    copies = begun()
    copies.keep(URL, "a: 1")
    assert text(copies.find(URL)) == "a: 1"
    (record,) = caplog.records
    assert str(tmp_path / "copies") in record.message
