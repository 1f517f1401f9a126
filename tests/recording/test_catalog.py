"""The catalog: a row a recording, as it was last told of."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from test_storage import START, begun

from esl_record.database import Database
from esl_record.recording.catalog import Catalog, Entry, Totals, recordings
from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording

DAY = 86400


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.in_file(tmp_path / "catalog.sqlite")
    database.open()
    yield database
    database.close()


def put(database: Database, *recordings: Recording, at: float = START) -> Catalog:
    for recording in recordings:
        database.run(lambda connection, recording=recording: Catalog.put(connection, recording, at))  # type: ignore[misc]
    return Catalog(database)


def ended(recording: Recording, size: int = 100) -> Recording:
    return recording.model_copy(update={"state": State.FINISHED, "end_reason": EndReason.STOP, "size": size})


def test_a_recording_is_there_as_it_was_put_and_when(database: Database) -> None:
    recording = begun(stereo=True)
    catalog = put(database, recording, at=START + 5)
    assert catalog.get(recording.recording_id) == Entry(recording, START + 5)
    assert catalog.get("another") is None


def test_putting_it_again_replaces_it_and_tells_what_state_it_had(database: Database) -> None:
    states = []
    for recording in (begun(), begun(), ended(begun())):
        states.append(database.run(lambda connection, one=recording: Catalog.put(connection, one, START)))  # type: ignore[misc]
    assert states == [None, State.RECORDING, State.RECORDING]
    assert Catalog(database).all() == [ended(begun())]


def test_all_come_oldest_first_and_pages_newest_first(database: Database) -> None:
    starts = [START + 400 * DAY, START, START - 3 * DAY, START + 1, START + 40 * DAY]
    catalog = put(database, *(begun(number=n, start=start) for n, start in enumerate(starts)))
    assert [recording.start_time for recording in catalog.all()] == sorted(starts)
    assert [entry.recording.start_time for entry in catalog.page(3)] == sorted(starts, reverse=True)[:3]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_page_by_page_each_comes_once_though_new_ones_come(database: Database, size: int) -> None:
    first = [begun(number=n, start=START + n // 3) for n in range(7)]
    catalog, seen, before = put(database, *first), [], None
    while page := catalog.page(size, before=before):
        seen += [entry.recording for entry in page]
        before = page[-1].recording.start_time, page[-1].recording.recording_id
        put(database, begun(number=100 + len(seen), start=START + DAY))
    assert seen == sorted(first, key=lambda one: (one.start_time, one.recording_id), reverse=True)


def test_the_page_before_one_is_those_right_ahead_of_it(database: Database) -> None:
    ones = [begun(number=n, start=START + n // 2) for n in range(6)]
    catalog = put(database, *ones)
    place = ones[1].start_time, ones[1].recording_id
    assert [entry.recording for entry in catalog.page(3, after=place)] == ones[4:1:-1]
    assert catalog.page(3, after=(ones[5].start_time, ones[5].recording_id)) == []


def test_rows_that_are_no_recording_are_left_out_of_what_is_listed(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ones = [begun(number=n, start=START + n) for n in range(6)]
    catalog = put(database, *ones)
    damaged = [one.recording_id for one in (ones[1], ones[4], ones[5])]
    change = update(recordings).where(recordings.c.recording_id.in_(damaged)).values(facts='{"file": "../x"}')
    database.run(lambda connection: connection.execute(change))
    assert catalog.all() == [ones[0], ones[2], ones[3]]
    assert [entry.recording for entry in catalog.page(2)] == [ones[3], ones[2]]
    place = ones[0].start_time, ones[0].recording_id
    assert [entry.recording for entry in catalog.page(2, after=place)] == [ones[3], ones[2]]
    assert f"recording {damaged[0]}: its row in the catalog cannot be read" in caplog.messages


def test_a_password_is_not_kept_in_it(database: Database, tmp_path: Path) -> None:
    recording = begun()
    parameters = {**recording.parameters, "status_url": "https://ann:secret@example.com/"}
    catalog = put(database, recording.model_copy(update={"parameters": parameters}))
    entry = catalog.get(recording.recording_id)
    assert entry is not None
    assert "secret" not in entry.recording.model_dump_json()


def test_a_removed_one_is_gone(database: Database) -> None:
    catalog = put(database, begun(number=1), begun(number=2))
    assert catalog.remove(begun(number=1).recording_id)
    assert not catalog.remove(begun(number=1).recording_id)
    assert catalog.all() == [begun(number=2)]


def test_the_totals_are_counts_by_state_and_the_bytes_of_all(database: Database) -> None:
    catalog = put(database, begun(number=1), ended(begun(number=2), 5), ended(begun(number=3), 7))
    assert catalog.totals() == Totals({State.RECORDING: 1, State.FINISHED: 2}, 12)


def test_an_empty_one_has_nothing(database: Database) -> None:
    catalog = Catalog(database)
    assert (catalog.all(), catalog.page(5), catalog.totals()) == ([], [], Totals({}, 0))


def test_what_lies_on_disk_can_be_taken_in(database: Database) -> None:
    found = [ended(begun(number=n)) for n in range(3)]
    catalog = Catalog(database)
    assert catalog.index(iter(found), START) == 3
    assert catalog.all() == found


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
def test_a_recording_is_found_by_an_id_that_begins_only_one(database: Database, asked: str, number: int | None) -> None:
    catalog = put(database, *(begun(number=n) for n in (1, 12, 23)))
    found = catalog.find(asked)
    assert found == (begun(number=number) if number else None)


def test_no_id_at_all_finds_not_even_the_only_one(database: Database) -> None:
    assert put(database, begun()).find("") is None
