"""Links: what one was made for it opens, for as long as it is good, and nothing else."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.http.links import SKEW, Links

ID = "00000001-0000-4000-8000-000000000000"
OTHER = "00000002-0000-4000-8000-000000000000"


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.5

    def __call__(self) -> float:
        return self.now


def made(links: Links, recording_id: str = ID) -> tuple[str, str]:
    query = parse_qs(urlsplit(links.download(recording_id, "wav")).query)
    return query["expires"][0], query["signature"][0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> Links:
    return Links("https://pbx.example.com/", b"key", 60.0, clock)


def test_a_link_has_the_documented_form(links: Links) -> None:
    expires, signature = made(links)
    assert links.download(ID, "wav") == (
        f"https://pbx.example.com/api/v1/recordings/{ID}/download?expires={expires}&signature={signature}"
    )
    assert expires == "1700000060"
    assert len(signature) == 64 + len(".wav")
    assert signature.endswith(".wav")


def test_it_is_good_until_it_expires(links: Links, clock: Clock) -> None:
    link = made(links)
    assert links.valid(ID, *link)
    clock.now += 59.0
    assert links.valid(ID, *link)
    clock.now += 1.0
    assert not links.valid(ID, *link)


def test_it_is_good_for_its_recording_alone(links: Links) -> None:
    assert not links.valid(OTHER, *made(links))


def test_it_is_no_longer_good_under_another_key(links: Links, clock: Clock) -> None:
    assert not Links("https://pbx.example.com", b"other", 60.0, clock).valid(ID, *made(links))


def test_a_later_end_needs_another_signature(links: Links) -> None:
    expires, signature = made(links)
    assert not links.valid(ID, str(int(expires) + 1), signature)


def test_what_is_id_and_what_is_time_cannot_be_shifted(links: Links) -> None:
    expires, signature = made(links, f"{ID}1")
    assert not links.valid(ID, f"1{expires}", signature)


def test_every_digit_of_the_signature_counts(links: Links) -> None:
    expires, signature = made(links)
    for at, digit in enumerate(signature):
        other = "0" if digit != "0" else "1"
        assert not links.valid(ID, expires, signature[:at] + other + signature[at + 1 :])
    assert not links.valid(ID, expires, signature.upper())
    assert not links.valid(ID, expires, signature[:-1])


def test_an_end_beyond_all_measure_is_an_end_all_the_same(clock: Clock) -> None:
    links = Links("https://pbx.example.com", b"key", 1e300, clock)
    assert links.valid(ID, *made(links))


def test_the_base_may_become_known_later(links: Links) -> None:
    links.base_url = "http://127.0.0.1:8088"
    assert links.download(ID, "wav").startswith(f"http://127.0.0.1:8088/api/v1/recordings/{ID}/download?")


HOSTILE = st.text(st.characters(exclude_categories=())) | st.sampled_from(["", "\ud800", "٣", "-1", "1e9", "9" * 5000])


@given(HOSTILE, HOSTILE, HOSTILE)
def test_what_is_hostile_is_refused_without_an_error(recording_id: str, expires: str, signature: str) -> None:
    assert Links("", b"key", 60.0).valid(recording_id, expires, signature) is False


@given(HOSTILE)
def test_a_right_signature_of_a_wrong_time_is_refused_without_an_error(expires: str) -> None:
    links = Links("", b"key", 60.0)
    if not (expires.isascii() and expires.isdigit()):
        assert links.valid(ID, expires, links._signature(ID, expires, "wav")) is False


def test_with_the_key_itself_no_link_is_good_for_longer_than_the_lifetime(links: Links, clock: Clock) -> None:
    forged = made(Links("", b"key", 1e300, clock))
    assert forged[0] == "99999999999"
    assert not links.valid(ID, *forged)
    assert not links.valid(ID, *made(Links("", b"key", 60.0 + SKEW + 2, clock)))


def test_a_clock_that_was_set_back_a_little_spoils_no_link(links: Links, clock: Clock) -> None:
    link = made(links)
    clock.now -= SKEW
    assert links.valid(ID, *link)
