"""A file under a temporary name, until it is complete. Nothing that is there already is ever written to."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that make a file, and open none that is there."""

_UNNAMED = getattr(os, "O_TMPFILE", 0)
"""For a file that never has a name, where there is such a thing."""

_RANDOM = 8
"""Bytes of a temporary name."""


class Part:
    """What is to become the file ``path``, in a folder that is there. Unbuffered, so that what cannot be written fails
    at once.

    Everything raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = partial_path(path)
        self._descriptor = self._opened()

    def write(self, data: bytes) -> int:
        """Writes all of ``data``."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def complete(self) -> None:
        """Gives the file its name, once it is on the disk whole."""
        os.fsync(self._descriptor)
        self._close()
        self._partial.replace(self._path)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Leaves nothing behind, unless it has its name already."""
        self._close()
        # What cannot be removed the next try removes.
        with suppress(OSError):
            self._partial.unlink()

    def _opened(self) -> int:
        try:
            return os.open(self._partial, os.O_WRONLY | NEW, 0o640)
        except FileExistsError:
            # Of an earlier run.
            self._partial.unlink()
            return os.open(self._partial, os.O_WRONLY | NEW, 0o640)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Return where the audio of ``path`` is written until it is complete. Only this service can write its folder."""
    return path.with_name(f".{path.name}.part")


def temporary_path(path: Path) -> Path:
    """Return a new random name beside ``path``, under which to write it until it is complete."""
    return path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM)}.part")


def completed_path(temporary: Path) -> Path | None:
    """Return what a file with a name of ``temporary_path`` was to become, None for any other."""
    found = re.fullmatch(rf"\.(.+)\.[0-9a-f]{{{2 * _RANDOM}}}\.part", temporary.name)
    return temporary.with_name(found[1]) if found else None


def is_partial(part: Path, path: Path) -> bool:
    """Whether ``part`` may be an incomplete ``path``."""
    name = rf"\.{re.escape(path.name)}\.(?:[0-9a-f]{{{2 * _RANDOM}}}\.)?part"
    return part.parent == path.parent and re.fullmatch(name, part.name) is not None


def partials(path: Path) -> Iterator[Path]:
    """Iterate over what was written of ``path`` and never completed. It costs a look at all of the folder."""
    if path.parent.is_dir():
        yield from (part for part in list(path.parent.iterdir()) if is_partial(part, path))


def open_unnamed(folder: Path) -> int:
    """Open a new file in ``folder`` of which nothing stays once it is closed. Raises OSError."""
    try:
        if _UNNAMED:
            return os.open(folder, os.O_RDWR | _UNNAMED | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        # The latter is what kernels say that do not know of it.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    passing = folder / f".{secrets.token_hex(_RANDOM)}.part"
    descriptor = os.open(passing, os.O_RDWR | NEW, 0o600)
    try:
        passing.unlink()
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def make_below(root: Path, folder: Path) -> None:
    """Makes ``folder``, but not ``root`` that it is below: without that, its disk is not there. Raises OSError."""
    for name in folder.relative_to(root).parts:
        root /= name
        root.mkdir(mode=0o750, exist_ok=True)


def sync_directory(directory: Path) -> None:
    """Makes a rename in ``directory`` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
