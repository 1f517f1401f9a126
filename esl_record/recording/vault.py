"""Audio encrypted at rest, and read as if it were not: every file one of the age format (https://age-encryption.org/v1),
which ``age --decrypt`` reads too."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from esl_record.audio.part import Part, open_unnamed
from esl_record.errors import ConfigError, EslRecordError
from esl_record.recording.identity import HOW, told_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

SUFFIX = ".age"
"""Behind the name a file would have otherwise."""

RESERVE = 1 << 24
"""Bytes that what is still to be encrypted leaves free beside the spools: it can be done anew, and they cannot."""

_BLOCK = 1 << 18


class Locked(EslRecordError, OSError):
    """An encrypted file whose key is not here; the text says which."""


class Damaged(EslRecordError, OSError):
    """An encrypted file that is not as it was written; the text says which and where."""


class AudioFile:
    """A file of audio; a context manager. Everything raises OSError."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._file = path.open("rb", buffering=0)
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise FileNotFoundError(f"{path}: is no file")
        self.size = status.st_size
        """In bytes, of the audio."""
        self.changed = status.st_mtime

    def read(self, count: int, at: int) -> bytes:
        """Up to ``count`` bytes from byte ``at`` on; none behind the end."""
        return os.pread(self._file.fileno(), count, at)

    def sha256(self) -> str:
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SealedFile(AudioFile):
    """The same of an encrypted file. It costs the chunks that are read, and the last, which says how long it is."""

    def __init__(self, path: Path, keys: "Sequence[X25519PrivateKey]") -> None:
        super().__init__(path)
        from esl_record.recording import age

        try:
            self._payload = age.Payload(super().read(age.HEAD, 0), self.size, keys)
            self._opened(*self._payload.last)
            self.size = self._payload.size
        except age.Foreign as error:
            self.close()
            raise Locked(f"{path}: {error}: set it as a further encryption_key") from None
        except ValueError as error:
            self.close()
            raise Damaged(f"{path}: {error}") from None
        except BaseException:
            self.close()
            raise

    def read(self, count: int, at: int) -> bytes:
        end = min(at + count, self.size)
        try:
            return self._opened(at, end) if at < end else b""
        except ValueError as error:
            raise Damaged(str(error)) from None

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for at in range(0, self.size, _BLOCK):
            digest.update(self.read(_BLOCK, at))
        return digest.hexdigest()

    def _opened(self, start: int, end: int) -> bytes:
        place, behind = self._payload.place(start, end)
        return self._payload.opened(start, end, super().read(behind - place, place))


class SealedPart(Part):
    """What is to become the encrypted file of ``path``. Until it is complete it has no name, in ``folder``: whatever
    happens, nothing of it stays. With fewer than ``reserve`` bytes free there, nothing can be written."""

    def __init__(self, path: Path, folder: Path, reserve: int, seal: Callable[[int, Part], None]) -> None:
        self._folder = folder
        self._reserve = reserve
        self._seal = seal
        super().__init__(path.with_name(path.name + SUFFIX))

    def write(self, data: bytes) -> int:
        found = os.fstatvfs(self._descriptor)
        # A file system that tells of no blocks counts none.
        if self._reserve and found.f_blocks and found.f_bavail * found.f_frsize < self._reserve + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)

    def complete(self) -> None:
        target = Part(self._path)
        try:
            self._seal(self._descriptor, target)
            target.complete()
        except BaseException:
            target.discard()
            raise
        self._close()

    def discard(self) -> None:
        self._close()

    def _opened(self) -> int:
        return open_unnamed(self._folder)


class Vault:
    """The keys ``identities``, written as age does: new files are encrypted to the first, read with any of them.
    Without one nothing is encrypted. Raises ConfigError where one is no key, or a package is missing."""

    def __init__(self, identities: Sequence[str] = ()) -> None:
        self._keys: Sequence[X25519PrivateKey] = ()
        self._recipient: Any = None
        if not identities:
            return
        try:
            import pyrage

            from esl_record.recording import age
        except ImportError as error:
            raise ConfigError(
                f"setting encryption_key: {error.name} is missing: python3 -m pip install 'esl-record[encryption]'"
            ) from error
        try:
            recipients = [pyrage.x25519.Identity.from_str(one).to_public() for one in identities]
        except pyrage.IdentityError as error:
            raise ConfigError(f"setting encryption_key: AGE-SECRET-KEY-1... is wanted: {error}; {HOW}") from None
        self._recipient = recipients[0]
        self._keys = [age.key_of(one) for one in identities]

    @classmethod
    def of(cls, identities: Sequence[str], command: str) -> "Vault":
        """With what the settings ``encryption_key`` and ``encryption_key_command`` say."""
        return cls(told_by(command) if command else identities)

    def placed(self, path: Path) -> Path:
        """Where what would be the file ``path`` lies."""
        return path.with_name(path.name + SUFFIX) if self._keys else path

    @property
    def encrypts(self) -> bool:
        return bool(self._keys)

    def part(self, folder: Path, reserve: int = RESERVE) -> Callable[[Path], Part]:
        """What makes the beginning of a file; no more than ``folder`` ever holds its audio unencrypted, and no more
        of it than leaves ``reserve`` bytes there."""
        return (lambda path: SealedPart(path, folder, reserve, self._seal)) if self._keys else Part

    def open(self, path: Path) -> AudioFile:
        """The audio at ``path``, encrypted or not. Raises Locked, Damaged, OSError."""
        if path.suffix != SUFFIX:
            return AudioFile(path)
        if not self._keys:
            raise Locked(f"{path}: it is encrypted, and no encryption_key is set")
        return SealedFile(path, self._keys)

    def _seal(self, descriptor: int, target: Part) -> None:
        """Writes to ``target`` what is in ``descriptor``, encrypted. Raises OSError."""
        import pyrage

        failures: list[OSError] = []

        def kept(work: Callable[..., Any]) -> Callable[..., Any]:
            def working(*arguments: Any) -> Any:
                try:
                    return work(*arguments)
                except OSError as error:
                    failures.append(error)
                    raise

            return working

        os.lseek(descriptor, 0, os.SEEK_SET)
        source = SimpleNamespace(read=kept(lambda count: os.read(descriptor, count)))
        sink = SimpleNamespace(write=kept(target.write), flush=lambda: None)
        try:
            pyrage.encrypt_io(source, sink, [self._recipient])
        except pyrage.EncryptError as error:
            # It tells no more than the text of what failed.
            raise failures[0] if failures else OSError(f"it cannot be encrypted: {error}") from error
