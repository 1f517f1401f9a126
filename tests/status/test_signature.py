"""Signatures: what the published vector and SignalWire's own validator say."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signalwire.core.security import webhook_validator

from esl_record.status.signature import headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another key of twenty-four").decode()
URL = "https://example.com/status?a=b"


def test_the_vector_of_standard_webhooks() -> None:
    signed = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [SECRET], URL, "k")
    assert signed["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert signed["webhook-timestamp"] == "1614265330"
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_secret_signs_so_that_they_can_be_changed() -> None:
    both = headers("msg_1", 1, b"{}", [OTHER, SECRET], URL, "k")["webhook-signature"].split(" ")
    each = [headers("msg_1", 1, b"{}", [secret], URL, "k")["webhook-signature"] for secret in (OTHER, SECRET)]
    assert both == each


@given(
    st.text(min_size=1).map(lambda text: text.encode(errors="ignore").decode() or "k"),
    st.text(st.characters(codec="utf-8")),
)
def test_signalwires_validator_takes_them(key: str, body: str) -> None:
    signed = headers("msg_1", 1, body.encode(), [SECRET], URL, key)
    sha1, sha256 = signed["X-SignalWire-Signature"], signed["X-SignalWire-Sha256-Signature"]
    assert sha1 == hmac.new(key.encode(), URL.encode() + body.encode(), hashlib.sha1).hexdigest()
    assert webhook_validator.validate_webhook_signature(key, sha1, URL, body)
    assert webhook_validator.validate_webhook_signature_sha256(key, sha256, URL, body)
    assert not webhook_validator.validate_webhook_signature(key, sha1, URL, body + "x")
    assert not webhook_validator.validate_webhook_signature("x" + key, sha1, URL, body)


def test_a_secret_that_is_no_base64() -> None:
    with pytest.raises(ValueError, match=r"base64|padding"):
        headers("msg_1", 1, b"{}", ["whsec_%%%"], URL, "k")
