"""Where recordings lie, and how one gets there: complete, renamed into place, its JSON beside it.

``<data-dir>/recordings/YYYY/MM/DD/HHMMSS-<recording_id>.wav`` (``.mp3``, ``.mp4``; encrypted with ``.age`` behind it)
and ``.json``, in UTC; while it runs ``<data-dir>/spool/<recording_id>.raw``, which the switch writes, and
``<data-dir>/pending/<recording_id>.json``, what is to become of it, in a folder that only this service's user enters.
"""

import errno
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from esl_record.audio.encoder import Encoder
from esl_record.audio.facts import SPEECH, Quality, Tags
from esl_record.audio.part import NEW, Part, make_below, partial_path, partials, sync_directory, temporary_path
from esl_record.audio.spool import Spool
from esl_record.audio.spoolfile import Identity, identify
from esl_record.errors import ConfigError, SpoolError, SpoolUnfit
from esl_record.recording.draft import Draft
from esl_record.recording.params import Format
from esl_record.recording.recording import Recording
from esl_record.recording.vault import SUFFIX, Vault

log = logging.getLogger(__name__)

PENDING = "pending"
"""In the data directory: what is to become of the spools."""

UNANNOUNCED = ".*.part"
"""In there: what ``announce`` has not written to the end."""

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)

_LONGEST = 1 << 22
"""Bytes of a JSON file that are read."""

MARKER = "encrypted"
"""In the data directory, once there was a key."""

_MARK = "Recordings are encrypted: while this file is here, none is made without an encryption_key."


class Storage:
    """The recordings and the spool under one data directory."""

    def __init__(
        self,
        data_dir: Path,
        spool_dir: Path | None = None,
        quality: Quality = SPEECH,
        vault: Vault | None = None,
    ) -> None:
        self.recordings = data_dir / "recordings"
        self.pending = data_dir / PENDING
        self.spool_dir = spool_dir or data_dir / "spool"
        self._known: dict[Path, Identity] = {}
        """What the files of the spool are that were opened, until they are removed."""
        self._marker = data_dir / MARKER
        self.vault = vault or Vault()
        self._quality = quality

    def prepare(self) -> None:
        """Make the directories, each with the mode it must have. Raises OSError."""
        self.prepare_recordings()
        _make(self.pending, 0o700)
        self.prepare_spool()

    def prepare_recordings(self) -> None:
        _make(self.recordings.parent, 0o750)
        _make(self.recordings, 0o750)

    def prepare_spool(self) -> None:
        # The switch writes here as a user of the same group; what it makes must be that group's to be read.
        _make(self.spool_dir, 0o2770)

    def keep_to_key(self) -> None:
        """Notes that there is a key. Raises ConfigError where one was noted and there is none, OSError."""
        if self.vault.encrypts:
            write_whole(self._marker, _MARK)
        elif self._marker.exists():
            raise ConfigError(
                f"setting encryption_key: {self._marker} says that recordings are encrypted: set the key, or remove "
                "that file to record unencrypted from now on"
            )

    @staticmethod
    def new_id() -> str:
        return str(uuid.uuid4())

    def spool_path(self, recording_id: str) -> Path:
        """What the switch is to write; absolute, since the switch runs elsewhere."""
        return (self.spool_dir / f"{recording_id}.raw").absolute()

    def document_path(self, recording: Recording) -> Path:
        """The JSON file of a recording; its audio has the same name with the suffix of its format."""
        began = datetime.fromtimestamp(recording.start_time, UTC)
        return (self.recordings / f"{began:%Y/%m/%d/%H%M%S}-{recording.recording_id}.json").absolute()

    def audio_path(self, recording: Recording) -> Path:
        """The audio, where there is any, or where it will be."""
        return recording.audio(self.document_path(recording)) or self.vault.placed(self._plain_path(recording))

    def _plain_path(self, recording: Recording) -> Path:
        return self.document_path(recording).with_suffix(f".{recording.format}")

    def encoded_paths(self, recording: Recording) -> tuple[Path, Path]:
        """Where its audio is written without a key and with one: an earlier run may have had other settings."""
        plain = self._plain_path(recording)
        return plain, plain.with_name(plain.name + SUFFIX)

    def announced_path(self, recording: Recording) -> Path:
        """The JSON file of a spool, there until the recording is complete and reported."""
        return (self.pending / f"{recording.recording_id}.json").absolute()

    def announce(self, recording: Recording) -> None:
        """Write down what a later start must know to complete the recording without its call. Raises OSError."""
        # An address in it may hold a password.
        write_whole(self.announced_path(recording), recording.model_dump_json(indent=2), mode=0o600)

    def announced(self, path: Path) -> Recording:
        """Return the recording that was announced at ``path``.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what ``announce`` wrote: by its content, its name or its owner.
        """
        recording = Recording.model_validate_json(_read_own(path))
        if not _ID.match(path.stem) or recording.recording_id != path.stem:
            raise ValueError(f"{path.name} is no file of recording {recording.recording_id}")
        return recording

    def begin(self, recording: Recording, samples: int = 0, spool: Spool | None = None) -> Draft:
        """Begin the audio file, in which there will be ``samples`` at most, as far as is known; see ``complete``.

        Raises OSError.
        """
        return self._begun(recording, samples, self.vault.part(self.spool_dir), spool)

    def _begun(
        self, recording: Recording, samples: int, part: Callable[[Path], Part], spool: Spool | None = None
    ) -> Draft:
        self._make_day(recording)
        encoder = Encoder(
            self._plain_path(recording),
            recording.sample_rate,
            recording.channels,
            samples,
            tags=_tags(recording),
            quality=self._quality,
            part=part,
        )
        return Draft(self.spool(recording) if spool is None else spool.shared(), encoder)

    def spool(self, recording: Recording) -> Spool:
        """Return what the switch writes of a recording, as far as its timeline has been noted."""
        return Spool(
            self.spool_path(recording.recording_id),
            recording.channels,
            recording.timeline(),
            pace=recording.sample_rate,
            began=recording.start_time,
            known=self._known,
        )

    def complete(self, recording: Recording, samples: int, spool: Spool | None = None) -> Recording:
        """Make the audio file from the first ``samples`` of the spool, then the JSON, as ``conclude`` does.

        ``spool`` is the recording's where that is open; nothing of it is opened by its name then. It stays, for the
        caller to drop once the recording is known of. Raises OSError or SpoolError.
        """
        try:
            draft = self.begin(recording, samples, spool)
            draft.complete(samples)
        except OSError as error:
            if not (self.vault.encrypts and _is_full(error)):
                raise
            log.info("recording %s: encoded beside the recordings: %s", recording.recording_id, error)
            draft = self._begun(recording, samples, self.vault.part(self.recordings, reserve=0), spool)
            draft.complete(samples)
        return self.conclude(recording, draft.position)

    def conclude(self, recording: Recording, samples: int) -> Recording:
        """Writes the JSON of a recording whose audio file of so many ``samples`` is in place; of none there is none.

        Gives the recording with duration, size, sha256 and file filled in. Raises OSError.
        """
        if samples:
            target = self.vault.placed(self._plain_path(recording))
            # What is encrypted is so read back as a whole, while the spool is there.
            with self.vault.open(target) as audio:
                told = {"size": audio.size, "sha256": audio.sha256(), "file": target.name}
            # Of a run with other settings that did not get as far as the JSON.
            self._remove_encoded(recording, but=target)
            recording = recording.model_copy(update={"duration": samples / recording.sample_rate, **told})
        # They are of no use without the spool.
        recording = recording.model_copy(update={"segments": [], "spans": []})
        self.file(recording)
        return recording

    def discard(self, recording: Recording) -> None:
        """Removes what an earlier run may have encoded of a recording whose audio is lost."""
        for path in self.encoded_paths(recording):
            partial_path(path).unlink(missing_ok=True)

    def sweep(self, recording: Recording) -> None:
        """Remove what an earlier run has half written of the JSON of a recording that is complete."""
        for part in partials(self.document_path(recording)):
            part.unlink(missing_ok=True)

    def _remove_encoded(self, recording: Recording, but: Path | None = None) -> None:
        for path in self.encoded_paths(recording):
            if path != but:
                path.unlink(missing_ok=True)
        self.discard(recording)

    def _make_day(self, recording: Recording) -> None:
        make_below(self.recordings.absolute(), self.document_path(recording).parent)

    def file(self, recording: Recording) -> None:
        """Writes the recording's JSON into place. Raises OSError."""
        self._make_day(recording)
        write_whole(self.document_path(recording), recording.told().model_dump_json(indent=2))

    def as_filed(self, recording: Recording) -> Recording:
        """``recording`` as its JSON has it, if it is complete already."""
        try:
            return Recording.model_validate_json(self.document_path(recording).read_bytes())
        except (OSError, ValueError):
            return recording

    def filed(self) -> Iterator[tuple[Path, Recording]]:
        """Every recording whose JSON is in place, with its path, oldest first. A file that is none is told of and
        passed over."""
        for path in sorted(self.recordings.glob("*/*/*/*.json")):
            try:
                yield path, Recording.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                log.warning("%s is no recording's file: %s", path, str(error).splitlines()[0])

    def delete(self, recording: Recording) -> None:
        """Deletes the audio, the JSON and the spool, whichever are there."""
        document = self.document_path(recording)
        audio = recording.audio(document)
        if audio is not None:
            audio.unlink(missing_ok=True)
        self._remove_encoded(recording)
        document.unlink(missing_ok=True)
        self.drop_spool(recording)

    def usage(self) -> tuple[int, int]:
        """Bytes in the spool, and bytes free where the recordings lie."""
        spooled = 0
        if not self.spool_dir.is_dir():
            return 0, shutil.disk_usage(self.recordings).free
        for entry in os.scandir(self.spool_dir):
            with suppress(FileNotFoundError):
                spooled += entry.stat(follow_symlinks=False).st_size
        return spooled, shutil.disk_usage(self.recordings).free

    def drop_spool(self, recording: Recording, paths: Iterable[Path] | None = None) -> None:
        """Remove a spool whose audio is safe elsewhere, or that was never written; ``paths`` are its files if others
        than ``recording`` says. What has taken the place of one of them stays."""
        for path in self.spool(recording).all_paths if paths is None else paths:
            self._drop(path)
        self.forget(recording)

    def forget(self, recording: Recording) -> None:
        """Remove what was announced, and leave the spool where it is."""
        self.announced_path(recording).unlink(missing_ok=True)

    def _drop(self, path: Path) -> None:
        expected = self._known.pop(path, None)
        try:
            identify(path, expected)
        except SpoolUnfit as error:
            log.warning("%s: it stays", error)
        except SpoolError:
            pass  # it was never written, or is gone
        else:
            path.unlink(missing_ok=True)

    def takes(self, recording: Recording, samples: int) -> int:
        """The bytes that so many ``samples`` may take as audio file and JSON; of mp3 and mp4 that is mostly less."""
        raw = 2 * recording.channels * samples
        chosen: float = getattr(self._quality, f"{recording.format}_bit_rate", 0.0)
        share = 1.0 if recording.format is Format.WAV else max(0.25, 1000 * chosen / (16 * recording.sample_rate))
        return round(raw * share) + (1 << 20)


def write_whole(path: Path, text: str, *, mode: int = 0o640, synced: bool = True) -> None:
    """Write ``text`` to ``path``, in a folder that is there, so that at any instant the old file or the new is there
    whole; without ``synced``, as long as the machine lives. Raises OSError."""
    partial = temporary_path(path)
    descriptor = os.open(partial, os.O_WRONLY | NEW, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text + "\n")
            if synced:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if synced:
        sync_directory(path.parent)


def _make(folder: Path, mode: int) -> None:
    """Make ``folder``, if it is not there, with ``mode`` whatever the umask."""
    if not folder.is_dir():
        folder.mkdir(mode=mode & 0o700, parents=True)
        folder.chmod(mode)


def _read_own(path: Path) -> bytes:
    """Return what is in ``path``, if the owner of its folder has written it. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise ValueError("it is no regular file with one name")
        if found.st_uid not in (0, os.geteuid(), path.parent.stat().st_uid):
            raise ValueError(f"it is a file of user {found.st_uid}")
        if found.st_size > _LONGEST:
            raise ValueError(f"it has {found.st_size} bytes")
        return file.read()


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk that is full is behind ``error``."""
    while error is not None and getattr(error, "errno", None) != errno.ENOSPC:
        error = error.__cause__
    return error is not None


def _tags(recording: Recording) -> Tags:
    caller = f"{recording.caller_name} {recording.caller_number}".strip()
    began = datetime.fromtimestamp(recording.start_time, UTC)
    return Tags(
        title=f"Call {recording.call_id}",
        artist=caller,
        date=f"{began:%Y-%m-%dT%H:%M:%SZ}",
        comment=f"Recording {recording.recording_id}",
    )
