"""Where recordings lie, and how one gets there: complete, renamed into place, its JSON beside it.

``<data-dir>/recordings/YYYY/MM/DD/HHMMSS-<recording_id>.wav`` (``.mp3``, ``.mp4``; encrypted with ``.age`` behind it)
and ``.json``, in UTC; while it runs
``<data-dir>/spool/<recording_id>.raw``, which the switch writes, and ``.json``, what is to become of it.
"""

import errno
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from esl_record.audio.encoder import Encoder
from esl_record.audio.facts import SPEECH, Quality, Tags
from esl_record.audio.part import Part, make_below, partial_path, sync_directory
from esl_record.audio.spool import Spool
from esl_record.audio.timeline import Timeline
from esl_record.errors import ConfigError
from esl_record.recording.draft import Draft
from esl_record.recording.params import Format
from esl_record.recording.recording import Recording
from esl_record.recording.vault import SUFFIX, Vault

log = logging.getLogger(__name__)

UNANNOUNCED = ".*.json.part"
"""In the spool directory: what ``announce`` has not written to the end."""


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
        self.spool_dir = spool_dir or data_dir / "spool"
        self._marker = data_dir / MARKER
        self.vault = vault or Vault()
        self._quality = quality

    def prepare(self) -> None:
        """Makes the directories, for nobody but this user and its group. Raises OSError."""
        self.prepare_recordings()
        self.prepare_spool()

    def prepare_recordings(self) -> None:
        self.recordings.mkdir(mode=0o750, parents=True, exist_ok=True)

    def prepare_spool(self) -> None:
        if not self.spool_dir.exists():
            self.spool_dir.mkdir(parents=True)
            # The switch writes here as a user of the same group; what it makes must be that group's to be read.
            self.spool_dir.chmod(0o2770)

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
        """The JSON file beside the spool, there until the recording is complete and told of."""
        return self.spool_path(recording.recording_id).with_suffix(".json")

    def announce(self, recording: Recording) -> None:
        """Puts beside the spool what a later start must know to complete the recording without its call."""
        # An address in it may hold a password.
        write_whole(self.announced_path(recording), recording.model_dump_json(indent=2), mode=0o600)

    def begin(self, recording: Recording, samples: int = 0, timeline: Timeline | None = None) -> Draft:
        """Begins the audio file, in which there will be ``samples`` at most, as far as is known. Raises OSError."""
        return self._begun(recording, samples, self.vault.part(self.spool_dir), timeline)

    def _begun(
        self, recording: Recording, samples: int, part: Callable[[Path], Part], timeline: Timeline | None = None
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
        return Draft(self.spool(recording, timeline), encoder)

    def spool(self, recording: Recording, timeline: Timeline | None = None) -> Spool:
        """Return what the switch writes of a recording, as its ``timeline`` has it, or what was noted of that."""
        path = self.spool_path(recording.recording_id)
        return Spool(path, recording.channels, timeline or recording.timeline(), pace=recording.sample_rate)

    def complete(self, recording: Recording, samples: int) -> Recording:
        """Makes the audio file from the first ``samples`` of the spool, then the JSON, as ``conclude`` does. Raises
        OSError or SpoolError. The spool stays, for the caller to drop once the recording is known of."""
        try:
            draft = self.begin(recording, samples)
            draft.complete(samples)
        except OSError as error:
            if not (self.vault.encrypts and _is_full(error)):
                raise
            log.info("recording %s: encoded beside the recordings: %s", recording.recording_id, error)
            draft = self._begun(recording, samples, self.vault.part(self.recordings, reserve=0))
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
                spooled += entry.stat().st_size
        return spooled, shutil.disk_usage(self.recordings).free

    def drop_spool(self, recording: Recording, paths: Iterable[Path] | None = None) -> None:
        """Removes a spool whose audio is safe elsewhere, or that was never written; ``paths`` are its files if others
        than ``recording`` says."""
        for path in self.spool(recording).all_paths if paths is None else paths:
            path.unlink(missing_ok=True)
        self.announced_path(recording).unlink(missing_ok=True)

    def takes(self, recording: Recording, samples: int) -> int:
        """The bytes that so many ``samples`` may take as audio file and JSON; of mp3 and mp4 that is mostly less."""
        raw = 2 * recording.channels * samples
        chosen: float = getattr(self._quality, f"{recording.format}_bit_rate", 0.0)
        share = 1.0 if recording.format is Format.WAV else max(0.25, 1000 * chosen / (16 * recording.sample_rate))
        return round(raw * share) + (1 << 20)


def write_whole(path: Path, text: str, *, mode: int = 0o640, synced: bool = True) -> None:
    """Writes ``text`` to ``path``, in a folder that is there, so that at any instant the old file or the new is there
    whole; without ``synced``, as long as the machine lives. Raises OSError."""
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
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
