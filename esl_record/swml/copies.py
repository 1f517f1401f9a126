"""The document each server gave last, for the time when it fails; in memory, and in files that outlive a restart."""

import hashlib
import json
import logging
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from esl_record.cipher import Cipher
from esl_record.hub import off_hub

log = logging.getLogger(__name__)

MOST, LARGEST = 256, 16 << 20
"""Documents kept, and bytes of their texts: the ones given last."""

WRITTEN = 10.0
"""Seconds within which the file of a document is not written again."""


@dataclass(frozen=True, slots=True)
class Copy:
    """``given`` and ``written``: unix seconds, when a server gave it and when its file was written last."""

    text: str
    given: float
    written: float = 0.0


class Copies:
    """Keeps documents in ``folder``, encrypted with ``cipher``: a server may repeat in one what a caller pressed.

    A file that is damaged is passed over; those of an earlier version, which are not encrypted, are removed.
    """

    def __init__(self, folder: Path, cipher: Cipher, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._cipher = cipher
        self._clock = clock
        self._kept: OrderedDict[str, Copy] = OrderedDict()
        self._size = 0
        for path in folder.glob("*.json"):
            path.unlink(missing_ok=True)

    def keep(self, url: str, text: str) -> None:
        """Notes that ``url`` gave ``text`` just now."""
        name, now = _name(url), self._clock()
        before = self._kept.get(name)
        if before is not None and abs(now - before.written) < WRITTEN:
            self._remember(name, Copy(text, now, before.written))
            return
        self._remember(name, Copy(text, now, now))
        try:
            off_hub(partial(_write, self._folder, name, self._cipher.encrypt(_json(Copy(text, now)))))
        except OSError as error:
            log.warning("%s: no copy of a document is kept there: %s", self._folder, error)

    def find(self, url: str) -> Copy | None:
        """What ``url`` gave last."""
        name = _name(url)
        copy = self._kept.get(name) or off_hub(partial(_read, self._folder / name, self._cipher))
        if copy is not None:
            self._remember(name, copy)
        return copy

    def _remember(self, name: str, copy: Copy) -> None:
        self._forget(name)
        self._kept[name] = copy
        self._size += len(copy.text)
        while len(self._kept) > MOST or self._size > LARGEST:
            self._forget(next(iter(self._kept)))

    def _forget(self, name: str) -> None:
        if name in self._kept:
            self._size -= len(self._kept.pop(name).text)


def _name(url: str) -> str:
    # An address is no file name, and may hold a password.
    return f"{hashlib.sha256(url.encode(errors='replace')).hexdigest()}.copy"


def _json(copy: Copy) -> str:
    return json.dumps({"given": copy.given, "text": copy.text})


def _read(path: Path, cipher: Cipher) -> Copy | None:
    try:
        kept = json.loads(cipher.decrypt(path.read_text()))
        return Copy(str(kept["text"]), float(kept["given"]))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _write(folder: Path, name: str, token: str) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    part = folder / f"{uuid.uuid4()}.part"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(token)
        part.replace(folder / name)
    finally:
        part.unlink(missing_ok=True)
    _prune(folder)


def _prune(folder: Path) -> None:
    """Removes the files written first while there are too many or too much, and what a kill has left half written."""
    found = []
    for entry in os.scandir(folder):
        try:
            found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        except FileNotFoundError:
            pass  # another call's document was written just now
    count = size = 0
    for _, bytes_, path in sorted(found, reverse=True):
        count, size = count + 1, size + bytes_
        if count > MOST or size > LARGEST:
            Path(path).unlink(missing_ok=True)
