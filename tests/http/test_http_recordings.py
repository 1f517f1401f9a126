"""The list of recordings, its pages, one of them, and its end."""

import math
import re
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from http_fakes import CALL, PROJECT, START, UNKNOWN, Site, codes, target
from hypothesis import given
from hypothesis import strategies as st

from esl_record.http.recordings import TOKEN, PageQuery, place_of, token_of
from esl_record.recording.machine import State
from esl_record.recording.params import Direction
from esl_record.recording.recording import Recording

PATH = "/api/relay/rest/recordings"


def walked(site: Site, size: int) -> list[list[str]]:
    """The ids on each page, by the links from one to the next."""
    pages, link = [], f"{PATH}?page_size={size}"
    while link:
        path, _, query = link.partition("?")
        page = site.get(path, query_string=query).json
        pages.append([one["id"] for one in page["data"]])
        link = page["links"].get("next", "")
    return pages


def newest_first(*kept: Recording) -> list[str]:
    order = sorted(kept, key=lambda one: (one.start_time, one.recording_id), reverse=True)
    return [one.recording_id for one in order]


# ---- one


def test_a_recording_is_told_as_signalwire_does(site: Site) -> None:
    recording = site.keep(audio=b"x" * 1000, stereo=True)
    answer = site.get(f"{PATH}/{recording.recording_id}")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json == {
        "id": recording.recording_id,
        "project_id": PROJECT,
        "created_at": "2024-01-02T03:04:05.250000Z",
        "updated_at": "2024-01-02T03:20:45.250000Z",
        "duration_in_seconds": 2,
        "error_code": None,
        "price": 0.0,
        "price_unit": "USD",
        "status": "completed",
        "url": site.links.download(recording.recording_id, "wav"),
        "stereo": True,
        "byte_size": 1000,
        "track": "inbound",
        "relay_sip_leg_id": CALL,
    }


def test_its_link_serves_it(site: Site) -> None:
    recording = site.keep(audio=b"audio")
    path, query = target(site.get(f"{PATH}/{recording.recording_id}").json["url"])
    answer = site.get(path, query_string=query, headers={"Authorization": None})
    assert answer.content == b"audio"


@pytest.mark.parametrize(
    ("state", "audio", "status", "error", "linked"),
    [
        (State.RECORDING, None, "recording", None, False),
        (State.PAUSED, None, "paused", None, False),
        (State.FINISHED, b"x", "completed", None, True),
        (State.NO_INPUT, None, "no_input", None, False),
        (State.NO_INPUT, b"x", "no_input", None, True),
        (State.ERROR, None, "error", "recording_error", False),
        (State.ERROR, b"x", "error", "recording_error", True),
    ],
)
def test_its_state(site: Site, state: State, audio: bytes | None, status: str, error: str | None, linked: bool) -> None:
    told = site.get(f"{PATH}/{site.keep(state=state, audio=audio).recording_id}").json
    assert (told["status"], told["error_code"], bool(told["url"])) == (status, error, linked)


@pytest.mark.parametrize(
    ("direction", "track"), [(Direction.SPEAK, "inbound"), (Direction.LISTEN, "outbound"), (Direction.BOTH, "both")]
)
def test_its_track(site: Site, direction: Direction, track: str) -> None:
    assert site.get(f"{PATH}/{site.keep(direction=direction).recording_id}").json["track"] == track


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("other", [UNKNOWN, "..", "%00", "1", "x" * 3000])
def test_an_unknown_one(site: Site, method: str, other: str) -> None:
    answer = site.ask(method, f"{PATH}/{other}")
    assert (answer.status_code, codes(answer)) == (404, [("recording_not_found", "id")])


# ---- its end


def test_a_deleted_one_is_gone(site: Site) -> None:
    recording, other = site.keep(1), site.keep(2)
    answer = site.ask("DELETE", f"{PATH}/{recording.recording_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert site.get(f"{PATH}/{recording.recording_id}").status_code == 404
    assert site.get(f"/api/v1/recordings/{recording.recording_id}/download").status_code == 404
    assert site.ask("DELETE", f"{PATH}/{recording.recording_id}").status_code == 404
    assert [one for _, one in site.storage.filed()] == [other]


@pytest.mark.parametrize("state", [State.RECORDING, State.PAUSED])
def test_a_live_one_is_not_deleted(site: Site, state: State) -> None:
    recording = site.keep(state=state)
    answer = site.ask("DELETE", f"{PATH}/{recording.recording_id}")
    assert (answer.status_code, codes(answer)) == (409, [("recording_in_progress", "id")])
    assert site.get(f"{PATH}/{recording.recording_id}").status_code == 200


def test_a_disk_that_does_not_let_go_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = site.keep()

    def stuck(recording: Recording) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(site.storage, "delete", stuck)
    answer = site.ask("DELETE", f"{PATH}/{recording.recording_id}")
    assert (answer.status_code, codes(answer)) == (503, [("storage_unavailable", "id")])
    assert site.get(f"{PATH}/{recording.recording_id}").status_code == 200


# ---- pages


def test_without_any_there_is_one_empty_page(site: Site) -> None:
    first = f"{PATH}?page_number=0&page_size=50"
    assert site.get(PATH).json == {"links": {"self": first, "first": first}, "data": []}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 1000])
def test_the_pages_hold_each_once_the_newest_first(site: Site, size: int) -> None:
    # Some begin at the same instant.
    kept = [site.keep(number, start=START + number // 2) for number in range(7)]
    pages = walked(site, size)
    assert [one for page in pages for one in page] == newest_first(*kept)
    assert all(len(page) == size for page in pages[:-1])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_way_back_leads_over_the_same_pages(site: Site, size: int) -> None:
    for number in range(4 * size):
        site.keep(number, start=START + number // 3)
    there = walked(site, size)
    link, back = site.get(PATH, query_string=f"page_size={size}&page_number=3").json["links"].get("prev"), []
    while link:
        page = site.get(PATH, query_string=urlsplit(link).query).json
        back.append([one["id"] for one in page["data"]])
        link = page["links"].get("prev")
    assert back == there[:3][::-1]


def test_what_comes_and_goes_meanwhile_moves_no_page(site: Site) -> None:
    kept = [site.keep(number, start=START + number) for number in range(6)]
    first = site.get(PATH, query_string="page_size=2").json
    site.keep(10, start=START + 10)
    site.ledger.delete(kept[4], "by hand")
    second = site.get(PATH, query_string=urlsplit(first["links"]["next"]).query).json
    shown = [one["id"] for page in (first, second) for one in page["data"]]
    assert shown == newest_first(*kept[2:])


def test_a_page_may_be_asked_for_by_its_number(site: Site) -> None:
    kept = newest_first(*(site.keep(number, start=START + number) for number in range(5)))
    for number, expected in enumerate([kept[:2], kept[2:4], kept[4:], [], []]):
        page = site.get(PATH, query_string=f"page_size=2&page_number={number}").json
        assert [one["id"] for one in page["data"]] == expected
        assert page["links"]["self"] == f"{PATH}?page_number={number}&page_size=2"
        assert ("next" in page["links"]) is (number < 2)


def test_a_link_names_its_page(site: Site) -> None:
    for number in range(3):
        site.keep(number, start=START + number)
    links = site.get(PATH, query_string="page_size=1").json["links"]
    query = parse_qs(urlsplit(links["next"]).query)
    assert (query["page_number"], query["page_size"], set(query)) == (
        ["1"],
        ["1"],
        {"page_number", "page_size", "page_token"},
    )
    assert site.get(PATH, query_string=urlsplit(links["next"]).query).json["links"]["self"] == links["next"]


@pytest.mark.parametrize(
    ("query", "attribute"),
    [
        ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"),
        ("page_size=-1", "page_size"),
        ("page_size=1.0", "page_size"),
        ("page_size=%D9%A1", "page_size"),
        ("page_size=1_0", "page_size"),
        ("page_size=%201", "page_size"),
        ("page_size=", "page_size"),
        ("page_size=1&page_size=2", "page_size"),
        ("page_size=" + "9" * 5000, "page_size"),
        ("page_number=-1", "page_number"),
        ("page_number=x", "page_number"),
        ("page_number=201", "page_number"),
        ("page_token=x", "page_token"),
        ("page_token=", "page_token"),
        ("page_token=%00", "page_token"),
        ("page_token=" + "W" * 257, "page_token"),
        ("page_token=W10", "page_token"),
        ("page_token=W05hTiwieCJd", "page_token"),
        (f"page_token=1.5_{UNKNOWN}%0a", "page_token"),
        (f"page_token=nan_{UNKNOWN}", "page_token"),
        (f"page_token=%D9%A1.5_{UNKNOWN}", "page_token"),
        ("colour=red", "colour"),
    ],
)
def test_a_page_that_makes_no_sense(site: Site, query: str, attribute: str) -> None:
    answer = site.get(PATH, query_string=query)
    assert answer.status_code == 422
    assert [name for _, name in codes(answer)] == [attribute]


@given(st.floats(1.0, 1e11), st.uuids())
def test_a_token_is_a_place(start: float, recording_id: UUID) -> None:
    token = token_of((start, str(recording_id)))
    assert re.fullmatch(TOKEN, token)
    assert place_of(token) == (start, str(recording_id))


@given(token=st.from_regex(TOKEN, fullmatch=True))
def test_what_looks_like_a_token_is_one(token: str) -> None:
    place = place_of(token.strip())
    assert math.isfinite(place[0])
    assert PageQuery.model_validate({"page_token": token.strip()}).page_token == token.strip()
