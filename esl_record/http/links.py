"""Links a recording can be downloaded by: signed, and good for a while."""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from urllib.parse import quote

_DOMAIN = b"esl-record download v1"
"""Keeps these signatures apart from whatever else is signed with the same key."""

_LATEST = 99_999_999_999
_EXPIRES = re.compile(r"[0-9]{1,11}")

SKEW = 60.0
"""Seconds a clock may have been set back since a link was made."""


class Links:
    """Makes and checks links. ``base_url`` is how others reach this service, ``lifetime`` in seconds."""

    def __init__(self, base_url: str, key: bytes, lifetime: float, clock: Callable[[], float] = time.time) -> None:
        self.base_url = base_url
        self._key = key
        self._lifetime = lifetime
        self._clock = clock

    def download(self, recording_id: str, suffix: str) -> str:
        """A link to the recording's audio, a file of format ``suffix``, that expires ``lifetime`` from now.

        It ends like a file name: by that FreeSWITCH's mod_httapi knows what to play it with.
        """
        expires = str(int(min(self._clock() + self._lifetime, _LATEST)))
        query = f"expires={expires}&signature={self._signature(recording_id, expires, suffix)}"
        return f"{self.base_url.rstrip('/')}/api/v1/recordings/{quote(recording_id, safe='')}/download?{query}"

    def valid(self, recording_id: str, expires: str, signature: str) -> bool:
        """Whether ``download`` made this link with the same key, and it has not expired.

        None is good for longer than ``lifetime`` from now, whatever it says.
        """
        wanted = self._signature(recording_id, expires, signature.rpartition(".")[2])
        good = hmac.compare_digest(_bytes(wanted), _bytes(signature))
        left = int(expires) - self._clock() if _EXPIRES.fullmatch(expires) else 0.0
        return good and 0 < left <= self._lifetime + SKEW

    def _signature(self, recording_id: str, expires: str, suffix: str) -> str:
        fields = (_DOMAIN, _bytes(recording_id), _bytes(expires), _bytes(suffix))
        # Each with its length: no two ids and times give the same text.
        message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        return f"{hmac.new(self._key, message, hashlib.sha256).hexdigest()}.{suffix}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
