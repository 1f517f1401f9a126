"""The audio of a recording, whole or in part, read block by block beside the hub."""

import errno
import logging
import re
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

import falcon

from esl_record.audio.formats import FORMATS
from esl_record.http import byterange
from esl_record.http.problem import Problem, unknown_recording
from esl_record.hub import off_hub
from esl_record.recording.catalog import Catalog, Entry
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage
from esl_record.recording.vault import SUFFIX, AudioFile, Damaged, Locked

log = logging.getLogger(__name__)

BLOCK = 256 * 1024
"""Bytes read at a time."""

_PIECE = 64 * 1024
"""Bytes sent at a time: what a client must take within the server's patience."""

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def entry_of(catalog: Catalog, recording_id: str) -> Entry:
    """What the catalog has under an id somebody gave. Raises Problem 404."""
    try:
        entry = catalog.get(recording_id) if _ID.fullmatch(recording_id) else None
    except ValueError:  # a row that is no recording: somebody else has written it
        log.error("http: recording %s: its row in the catalog cannot be read", recording_id)
        raise unknown_recording() from None
    if entry is None:
        raise unknown_recording()
    return entry


class Downloads:
    """``/api/v1/recordings/{id}/download``."""

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self._catalog = catalog
        self._storage = storage

    def on_get(self, req: falcon.Request, resp: falcon.Response, recording_id: str) -> None:
        recording = entry_of(self._catalog, recording_id).recording
        file = self._opened(self._path(recording))
        try:
            if file.size != recording.size:
                raise _damaged(f"{file.name}: it has {file.size} bytes of audio, not {recording.size}")
            span = _describe(req, resp, recording, file.size, file.changed)
        except BaseException:
            file.close()
            raise
        if span is None or req.method == "HEAD":
            file.close()
        else:
            resp.stream = Blocks(file, *span)

    on_head = on_get

    def _path(self, recording: Recording) -> Path:
        if not recording.state.final:
            raise Problem(HTTPStatus.NOT_FOUND, "recording_not_ready", "the recording is not complete yet", "id")
        try:
            path = recording.audio(self._storage.document_path(recording))
        except ValueError:  # the catalog names one that is not beside its JSON
            raise _gone() from None
        if path is None:
            raise Problem(HTTPStatus.NOT_FOUND, "recording_without_audio", "nothing was recorded", "id")
        return path

    def _opened(self, path: Path) -> AudioFile:
        try:
            return off_hub(lambda: self._storage.vault.open(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _gone() from None
        except Locked as error:
            log.error("http: %s", error)
            message = "the recording is encrypted, and its key is not here"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "recording_locked", message, "id") from None
        except Damaged as error:
            raise _damaged(str(error)) from None
        except ValueError:  # no name of a file
            raise _gone() from None
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                raise _gone() from None
            log.error("http: %s cannot be opened: %s", path, error.strerror)
            message = "the recording's file cannot be read now"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "storage_unavailable", message, "id") from None


def _gone() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "file_not_found", "the recording's file is gone", "id")


def _damaged(why: str) -> Problem:
    log.error("http: %s", why)
    message = "the recording's file is not as it was written"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "recording_damaged", message, "id")


class Blocks:
    """Bytes ``start`` to ``end`` of ``file``, in pieces. ``close`` it, at the end or before."""

    def __init__(self, file: AudioFile, start: int, end: int) -> None:
        self._file = file
        self._at = start
        self._end = end
        self._block = memoryview(b"")

    def __iter__(self) -> "Blocks":
        return self

    def __next__(self) -> bytes:
        if not self._block:
            if self._at >= self._end:
                raise StopIteration
            self._block = memoryview(self._read())
            self._at += len(self._block)
        piece, self._block = self._block[:_PIECE], self._block[_PIECE:]
        return bytes(piece)

    def close(self) -> None:
        self._file.close()

    def _read(self) -> bytes:
        at = self._at
        # To the next whole block, which is whole chunks of an encrypted file.
        count = min(BLOCK - at % BLOCK, self._end - at)
        try:
            block = off_hub(lambda: self._file.read(count, at))
        except OSError as error:
            raise self._broken(error.strerror or str(error)) from error
        if not block:
            raise self._broken("it has become shorter")
        return block

    def _broken(self, why: str) -> ConnectionAbortedError:
        """The length is told already: only an end of the connection says that this is not all."""
        log.error("http: %s cannot be sent whole: %s", self._file.name, why)
        return ConnectionAbortedError("the file cannot be read")


def _describe(
    req: falcon.Request, resp: falcon.Response, recording: Recording, size: int, changed: float
) -> tuple[int, int] | None:
    """Sets status and headers; gives which bytes are to follow, None for none. Raises Problem 412 or 416."""
    tag = f'"{recording.sha256}"' if recording.sha256 else ""
    if tag:
        resp.set_header("ETag", tag)
    resp.set_header("Last-Modified", formatdate(int(changed), usegmt=True))
    # Whoever keeps a copy must ask before using it: a recording is deleted, and a link expires. mod_httapi keeps none.
    resp.set_header("Cache-Control", "private, no-cache")
    resp.set_header("Accept-Ranges", "bytes")
    resp.set_header("X-Content-Type-Options", "nosniff")
    if byterange.changed_since(req.get_header("If-Match"), req.get_header("If-Unmodified-Since"), tag, changed):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "file_changed", "the file is not the one that is asked for")
    if byterange.unchanged(req.get_header("If-None-Match"), req.get_header("If-Modified-Since"), tag, changed):
        resp.status = 304
        return None
    span = None
    if req.method == "GET" and byterange.holds(req.get_header("If-Range"), tag, changed):
        try:
            span = byterange.part(req.get_header("Range"), size)
        except byterange.Unsatisfiable:
            raise Problem(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                f"the file has {size} bytes",
                headers={"Content-Range": f"bytes */{size}"},
            ) from None
    start, end = span or (0, size)
    if span:
        resp.status = 206
        resp.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
    resp.content_type = FORMATS[recording.format].media_type
    resp.content_length = end - start
    name = re.sub(r"[^A-Za-z0-9._-]", "_", recording.file.removesuffix(SUFFIX))
    resp.set_header("Content-Disposition", f'inline; filename="{name}"')
    return start, end
