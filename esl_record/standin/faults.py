"""What can be wrong with a switch, for tests of those who must live with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Faults a stand-in switch has from the start; each is off by default.

    ``refuse_record``: the ``-ERR`` text that ``uuid_record start`` answers. ``never_grow_tap``: spool files are created
    and stay empty. ``deaf``: accepts commands and never answers. ``garbage``: bytes sent instead of the reply to
    ``connect``. ``truncate_after``: end of file after that many bytes of a connection. ``wrong_content_length``: the
    first event announces ten bytes fewer than it has, so that the rest is read as the next frame's headers.
    """

    refuse_record: str | None = None
    never_grow_tap: bool = False
    deaf: bool = False
    garbage: bytes | None = None
    truncate_after: int | None = None
    wrong_content_length: bool = False
