"""The age format (https://age-encryption.org/v1), as far as it takes to read a file from any place in it.

A head tells the file's key to whoever has one of the keys it is encrypted to (X25519). The payload is chunks of 64 KiB,
each sealed for itself with its number (ChaCha20-Poly1305), the last one marked as such: none can be changed, moved or
left out without that being noticed.
"""

import base64
import hmac
import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEAD = 1 << 14
"""Bytes a head may have; with one key it has some 300."""

CHUNK = 1 << 16
"""Bytes in a chunk, but the last, before it is sealed."""

_SEALED = CHUNK + 16
_NONCE = 16
_VERSION = b"age-encryption.org/v1"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_STANZA = re.compile(rb"^-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})$", re.MULTILINE)


class Altered(ValueError):
    """A file that is not as it was written; the text says where."""


class Foreign(ValueError):
    """A file that is encrypted to none of the keys."""


def key_of(identity: str) -> X25519PrivateKey:
    """The key that ``identity`` writes in Bech32: AGE-SECRET-KEY-1, 52 digits of 5 bits, and a checksum, which whoever
    gives it has checked."""
    number = 0
    for digit in identity.lower().rpartition("1")[2][:52]:
        number = number << 5 | _BECH32.index(digit)
    return X25519PrivateKey.from_private_bytes((number >> 4).to_bytes(32, "big"))


class Payload:
    """What is in a file of ``size`` bytes that begins with ``head``: ``HEAD`` bytes, or all there are.

    ``self.size`` is how much that is, and no more than a claim until ``last`` has been read. Raises Altered, Foreign.
    """

    def __init__(self, head: bytes, size: int, keys: Sequence[X25519PrivateKey]) -> None:
        footer = head.find(b"\n--- ")
        end = head.find(b"\n", footer + 1)
        if not head.startswith(_VERSION + b"\n") or footer < 0 or end < 0:
            raise Altered("it has no head of an age file")
        signed, mac = head[: footer + 4], head[footer + 5 : end]
        key = _file_key(signed, keys)
        expected = hmac.digest(_derived(key, None, b"header"), signed, "sha256")
        if not hmac.compare_digest(base64.b64encode(expected).rstrip(b"="), mac):
            raise Altered("its head is not as it was written")
        self._start = end + 1 + _NONCE
        self._chunks = -(-(size - self._start) // _SEALED)
        self._end = size
        self.size = size - self._start - self._chunks * (_SEALED - CHUNK)
        if self._chunks < 1 or self.size <= (self._chunks - 1) * CHUNK:
            raise Altered("it has been cut off")
        self._cipher = ChaCha20Poly1305(_derived(key, head[end + 1 : self._start], b"payload"))

    @property
    def last(self) -> tuple[int, int]:
        """The last chunk: where what is in it begins and ends."""
        return (self._chunks - 1) * CHUNK, self.size

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in the file the chunks begin and end that hold bytes ``start`` to ``end``, at least one."""
        first, behind = start // CHUNK, -(-end // CHUNK)
        return self._start + first * _SEALED, min(self._start + behind * _SEALED, self._end)

    def opened(self, start: int, end: int, sealed: bytes) -> bytes:
        """Bytes ``start`` to ``end`` of what is at their place in the file. Raises Altered."""
        first, behind = start // CHUNK, -(-end // CHUNK)
        chunks = [
            self._opened(number, sealed[(number - first) * _SEALED : (number - first + 1) * _SEALED])
            for number in range(first, behind)
        ]
        return b"".join(chunks)[start - first * CHUNK : end - first * CHUNK]

    def _opened(self, number: int, chunk: bytes) -> bytes:
        is_last = number == self._chunks - 1
        try:
            return self._cipher.decrypt(number.to_bytes(11, "big") + bytes([is_last]), chunk, None)
        except InvalidTag:
            raise Altered(f"from byte {number * CHUNK} on it is not as it was written") from None


def _file_key(signed: bytes, keys: Sequence[X25519PrivateKey]) -> bytes:
    for found in _STANZA.finditer(signed):
        share, body = (base64.b64decode(text + b"=") for text in found.groups())
        for key in keys:
            try:
                secret = key.exchange(X25519PublicKey.from_public_bytes(share))
                salt = share + key.public_key().public_bytes_raw()
                wrapping = _derived(secret, salt, _VERSION + b"/X25519")
                return ChaCha20Poly1305(wrapping).decrypt(bytes(12), body, None)
            except (InvalidTag, ValueError):
                continue
    raise Foreign("it is encrypted to another key")


def _derived(secret: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)
