"""The bookmarks of live calls: a file each, from a call's first recording until it has ended."""

import logging
import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from esl_record.hub import off_hub
from esl_record.recording.storage import write_whole
from esl_record.swml.bookmark import Bookmark

log = logging.getLogger(__name__)

KEPT = 7 * 86400.0
"""Seconds after which the bookmark of a call that has not come back is taken away."""

MOST = 16 << 20
"""Bytes written for one call: a document that comes to a new step all the time must not wear out the disk."""

_CALL_ID = re.compile(r"[\w-]{1,64}\Z", re.ASCII)


class Bookmarks:
    """Keeps them in ``folder``, for nobody but this user: there are the variables of calls in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, int] = {}
        """Bytes by call, of this run."""
        self._ended: set[str] = set()

    def find(self) -> None:
        """Takes on what an earlier run left, but for calls that will not come back any more."""
        oldest = time.time() - KEPT
        for path in self._folder.glob("*.json*"):
            with suppress(OSError):
                if path.suffix != ".json" or path.stat().st_mtime < oldest:
                    path.unlink()
                else:
                    self._written[path.stem] = 0

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
            text = bookmark.model_copy(update={"at": time.time()}).model_dump_json()
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
            return Bookmark.model_validate_json(off_hub(self._path(call_id).read_bytes))
        except (OSError, ValueError) as error:
            log.error("call %s: its place in its document is lost: %s", call_id, str(error).splitlines()[0])
            return None

    def drop(self, call_id: str) -> None:
        """To be called when the call has ended."""
        if self._written.pop(call_id, None) is not None:
            self._remove(call_id)

    def _remove(self, call_id: str) -> None:
        with suppress(OSError):
            self._path(call_id).unlink(missing_ok=True)

    def _path(self, call_id: str) -> Path:
        return self._folder / f"{call_id}.json"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    # It is for a process that dies; a machine that does takes its calls with it.
    write_whole(path, text, mode=0o600, synced=False)
