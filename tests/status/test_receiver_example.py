"""The receiver of docs/callbacks.md takes what this service sends, once, and nothing else."""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.status import signature

URL = "https://app.example.com/status"
NOW = 1_700_000_000
NEW, OLD, OTHER = (f"whsec_{base64.b64encode(letter * 32).decode()}" for letter in (b"n", b"o", b"x"))
BODY = json.dumps({"event_type": "calling.call.record", "params": {"state": "finished", "caller": "Jürgen"}}).encode()

Verified = Callable[..., str]


def example() -> Verified:
    text = (Path(__file__).parents[2] / "docs" / "callbacks.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)
    verified: Verified = names["verified"]
    return verified


VERIFIED = example()


def sent(body: bytes = BODY, secrets: Sequence[str] = (NEW, OLD), at: int = NOW, id_: str = "msg_1") -> dict[str, str]:
    """The headers as a receiver sees them."""
    made = signature.headers(id_, at, body, secrets, URL, "key")
    return {name.lower(): value for name, value in made.items()}


def refused(headers: Mapping[str, str], body: bytes = BODY, secrets: Sequence[str] = (NEW,), now: float = NOW) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        VERIFIED(headers, body, secrets, now)
    return str(caught.value)


def test_a_callback_is_taken() -> None:
    assert VERIFIED(sent(), BODY, [NEW], NOW) == "msg_1"


def test_while_two_secrets_sign_a_receiver_may_know_either_or_both() -> None:
    for known in ([NEW], [OLD], [OLD, NEW], [OTHER, OLD]):
        assert VERIFIED(sent(), BODY, known, NOW) == "msg_1"
    for only in (NEW, OLD):
        assert VERIFIED(sent(secrets=[only]), BODY, [NEW, OLD], NOW) == "msg_1"
    assert refused(sent(), secrets=[OTHER]) == "wrong signature"


def test_when_the_old_secret_is_gone_it_is_worth_nothing() -> None:
    assert refused(sent(secrets=[OLD]), secrets=[NEW]) == "wrong signature"
    assert refused(sent(secrets=[NEW]), secrets=[OLD]) == "wrong signature"


@pytest.mark.parametrize("late", [-301, -300, 0, 300, 301, 86400])
def test_a_replay_is_refused_after_the_window(late: int) -> None:
    if abs(late) <= 300:
        assert VERIFIED(sent(), BODY, [NEW], NOW + late) == "msg_1"
    else:
        assert "replay" in refused(sent(), now=NOW + late)


def test_no_time_and_no_id_but_its_own_is_taken() -> None:
    replayed = sent(at=NOW - 3600)
    assert refused(replayed | {"webhook-timestamp": str(NOW)}) == "wrong signature"
    assert refused(sent() | {"webhook-id": "msg_2"}) == "wrong signature"
    # Where one ends and the other begins cannot be shifted: a time has no point.
    shifted = sent(id_="msg_1.5") | {"webhook-id": "msg_1", "webhook-timestamp": f"5.{NOW}"}
    assert refused(shifted) == "no time"


@pytest.mark.parametrize("time", ["", "0x6553f100", "-1", "1e9", "nan", "٣", "9" * 5000, f"{NOW} "])
def test_what_is_no_time_is_refused(time: str) -> None:
    assert refused(sent() | {"webhook-timestamp": time})


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_it_is_the_very_bytes_that_are_signed(body: bytes, other: bytes) -> None:
    headers = sent(body)
    assert VERIFIED(headers, body, [NEW], NOW) == "msg_1"
    if other != body:
        assert refused(headers, other) == "wrong signature"


def test_the_same_json_in_other_bytes_is_refused() -> None:
    for same in (json.dumps(json.loads(BODY), indent=1).encode(), BODY + b"\n", json.dumps(json.loads(BODY), ensure_ascii=False).encode()):  # fmt: skip # noqa: E501
        assert json.loads(same) == json.loads(BODY)
        assert refused(sent(), same) == "wrong signature"


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_a_signature_that_is_none_is_refused(given_: str) -> None:
    assert refused(sent() | {"webhook-signature": given_})
    assert refused({}) == "no time"
