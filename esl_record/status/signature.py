"""How a receiver can tell who calls: the headers of Standard Webhooks and SignalWire's. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md;
SignalWire's as ``signalwire.core.security.webhook_validator`` of its SDK checks them.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence


def headers(
    callback_id: str, timestamp: int, body: bytes, secrets: Sequence[str], url: str, signing_key: str
) -> dict[str, str]:
    """The headers for one attempt at the unix time ``timestamp`` to post ``body`` to ``url``.

    Each of ``secrets``, ``whsec_`` and base64, signs: a receiver may know the old one or the new one. ``signing_key``
    is for SignalWire's, which sign ``url`` and ``body`` alone. Raises ValueError for a secret that is no base64.
    """
    content = b"%b.%d.%b" % (callback_id.encode(), timestamp, body)
    addressed = url.encode() + body
    return {
        "webhook-id": callback_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_standard(secret, content)}" for secret in secrets),
        "X-SignalWire-Signature": hmac.new(signing_key.encode(), addressed, hashlib.sha1).hexdigest(),
        "X-SignalWire-Sha256-Signature": hmac.new(signing_key.encode(), addressed, hashlib.sha256).hexdigest(),
    }


def _standard(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()
