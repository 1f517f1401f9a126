"""A file under a temporary name, until it is complete."""

import os
from contextlib import suppress
from pathlib import Path


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
        # What cannot be removed is written over by the next try.
        with suppress(OSError):
            self._partial.unlink()

    def _opened(self) -> int:
        return os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def partial_path(path: Path) -> Path:
    """Where ``path`` is written until it is complete."""
    return path.with_name(f".{path.name}.part")


def make_below(root: Path, folder: Path) -> None:
    """Makes ``folder``, but not ``root`` that it is below: without that, its disk is not there. Raises OSError."""
    for name in folder.relative_to(root).parts:
        root /= name
        root.mkdir(exist_ok=True)


def sync_directory(directory: Path) -> None:
    """Makes a rename in ``directory`` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
