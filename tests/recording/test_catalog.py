"""The catalog: what the recordings directory holds, whatever else lies in it."""

import logging
from pathlib import Path

import pytest
from test_storage import START, begun, files

from esl_record.recording.catalog import Catalog
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

DAY = 86400


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path / "data")
    storage.prepare()
    return storage


def filed(storage: Storage, *recordings: Recording) -> Catalog:
    for recording in recordings:
        storage.file(recording)
    return Catalog(storage.recordings)


def test_recordings_come_oldest_first(storage: Storage) -> None:
    starts = [START + 400 * DAY, START, START - 3 * DAY, START + 1, START + 40 * DAY]
    catalog = filed(storage, *(begun(number=n, start=start) for n, start in enumerate(starts)))
    assert [recording.start_time for _, recording in catalog] == sorted(starts)


def test_each_comes_with_its_file_and_as_it_was_filed(storage: Storage) -> None:
    recording = begun(stereo=True)
    ((path, found),) = filed(storage, recording)
    assert found == recording
    assert path == storage.document_path(recording)


def test_an_empty_or_missing_directory_holds_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert list(Catalog(tmp_path / "empty")) == []
    assert list(Catalog(tmp_path / "missing")) == []


def test_it_sees_what_came_since_it_was_made(storage: Storage) -> None:
    catalog = filed(storage, begun(number=1))
    before = len(list(catalog))
    storage.file(begun(number=2))
    assert (before, len(list(catalog))) == (1, 2)


JUNK = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"\xff\xfe",
    b"\x00" * 4096,
    b'{"recording_id": 5}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", JUNK, ids=lambda content: repr(content)[:20])
def test_a_file_that_is_none_is_told_of_once_and_passed_over(
    storage: Storage, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    first, last = begun(number=1), begun(number=2, start=START + DAY)
    catalog = filed(storage, first, last)
    junk = storage.document_path(first).with_name("120000-junk.json")
    junk.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert [recording for _, recording in catalog] == [first, last]
    (record,) = caplog.records
    assert str(junk) in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_recordings_file_cut_anywhere_is_passed_over(storage: Storage) -> None:
    catalog = filed(storage, begun(number=1), begun(number=2))
    path = storage.document_path(begun(number=2))
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert [recording for _, recording in catalog] == [begun(number=1)]


def test_a_directory_and_a_dangling_link_of_that_name_are_passed_over(storage: Storage) -> None:
    catalog = filed(storage, begun())
    day = storage.document_path(begun()).parent
    (day / "dir.json").mkdir()
    (day / "link.json").symlink_to("nowhere")
    assert [recording for _, recording in catalog] == [begun()]


def test_only_files_of_a_day_are_looked_at(storage: Storage) -> None:
    catalog = filed(storage, begun())
    text = begun(number=2).model_dump_json()
    day = storage.document_path(begun()).parent
    for place in (storage.recordings / "a.json", day.parent / "a.json", day / "a.wav", day / ".a.json.part"):
        place.write_text(text)
    assert [recording for _, recording in catalog] == [begun()]


def test_reading_changes_nothing(storage: Storage, tmp_path: Path) -> None:
    catalog = filed(storage, begun(number=1), begun(number=2))
    before = files(tmp_path)
    assert len(list(catalog)) == 2
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ("00000001-0000-4000-8000-000000000000", 1),
        ("00000001", 1),
        ("00000012", 12),
        ("0000002", 23),
        ("0000001", 12),
        ("000000", None),
        ("0", None),
        ("", None),
        ("9", None),
        ("00000001-0000-4000-8000-000000000000x", None),
        ("*", None),
        ("../", None),
        ("[0-9]", None),
    ],
)
def test_a_recording_is_found_by_an_id_that_begins_only_one(storage: Storage, asked: str, number: int | None) -> None:
    catalog = filed(storage, *(begun(number=n) for n in (1, 12, 23)))
    found = catalog.find(asked)
    assert (found[1] if found else None) == (begun(number=number) if number else None)


def test_no_id_at_all_finds_not_even_the_only_one(storage: Storage) -> None:
    assert filed(storage, begun()).find("") is None
