"""The checkpoints of live calls: an encrypted file each, from a call's first recording until it has ended."""

import logging
import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from esl_record.cipher import Cipher
from esl_record.hub import off_hub
from esl_record.recording.storage import write_whole
from esl_record.swml.bookmark import Bookmark

log = logging.getLogger(__name__)

KEPT = 7 * 86400.0
"""Seconds after which the bookmark of a call that has not come back is taken away."""

MOST = 16 << 20
"""Bytes written for one call: a document that comes to a new step all the time must not wear out the disk."""

SUFFIX = ".checkpoint"

_CALL_ID = re.compile(r"[\w-]{1,64}\Z", re.ASCII)


class Bookmarks:
    """Keeps them in ``folder``, encrypted with ``cipher``: what callers pressed is among the variables of a call."""

    def __init__(self, folder: Path, cipher: Cipher) -> None:
        self._folder = folder
        self._cipher = cipher
        self._written: dict[str, int] = {}
        """Bytes by call, of this run."""
        self._ended: set[str] = set()

    def find(self) -> None:
        """Take on what an earlier run left, but for calls that will not come back any more.

        The unencrypted checkpoints of an earlier version are removed.
        """
        oldest, clear = time.time() - KEPT, 0
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if ".json" in path.suffixes:
                    path.unlink()
                    clear += 1
                elif path.suffix == ".part" or (path.suffix == SUFFIX and path.stat().st_mtime < oldest):
                    path.unlink()
                elif path.suffix == SUFFIX:
                    self._written[path.stem] = 0
        if clear:
            log.warning("%s: removed %d unencrypted checkpoints of an earlier version", self._folder, clear)

    def waiting(self) -> set[str]:
        """The calls of an earlier run that have neither come back nor are known to have ended."""
        return {call_id for call_id, written in self._written.items() if not written} - self._ended

    def ended(self, call_ids: set[str]) -> None:
        """Waits no longer for these calls; should one come from another switch, its bookmark is still there."""
        self._ended |= call_ids

    def put(self, call_id: str, bookmark: Bookmark) -> bool:
        """Whether the call can be gone on with from there. If not it goes on all the same: only a restart it would not
        outlive."""
        spent = self._written.get(call_id, 0)
        if not _CALL_ID.match(call_id) or spent > MOST:
            return False
        try:
            text = self._cipher.encrypt(bookmark.model_copy(update={"at": time.time()}).model_dump_json())
            self._written[call_id] = spent + len(text)
            off_hub(partial(_write, self._path(call_id), text))
        except (OSError, ValueError) as error:
            log.warning("call %s: its place in its document is not written down: %s", call_id, error)
            # One that is passed would be gone back to.
            self._remove(call_id)
            return False
        if self._written.get(call_id, 0) > MOST:
            log.warning("call %s: its place in its document is written down no more: too many steps", call_id)
            self._remove(call_id)
            return False
        return True

    def get(self, call_id: str) -> Bookmark | None:
        if call_id not in self._written:
            return None
        try:
            token = off_hub(self._path(call_id).read_bytes).decode()
            return Bookmark.model_validate_json(self._cipher.decrypt(token.strip()))
        except (OSError, ValueError) as error:
            log.error("call %s: its place in its document is lost: %s", call_id, _reason(error))
            return None

    def drop(self, call_id: str) -> None:
        """To be called when the call has ended."""
        if self._written.pop(call_id, None) is not None:
            self._remove(call_id)

    def _remove(self, call_id: str) -> None:
        with suppress(OSError):
            self._path(call_id).unlink(missing_ok=True)

    def _path(self, call_id: str) -> Path:
        return self._folder / f"{call_id}{SUFFIX}"


def _reason(error: Exception) -> str:
    # pydantic quotes the value it refuses, which may be what a caller pressed.
    return "its content is not a checkpoint's" if isinstance(error, ValidationError) else str(error).splitlines()[0]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # It is for a process that dies; a machine that does takes its calls with it.
    write_whole(path, text, mode=0o600, synced=False)
