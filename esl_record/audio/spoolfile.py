"""The one way to open a file that the switch writes: its folder is shared with the switch's user, who may be hostile.

Whoever can write a folder can put anything under any name there: a link to a key of this service, a file with a
second name elsewhere, a FIFO that blocks whoever opens it.
"""

import errno
import os
import stat
from pathlib import Path

from esl_record.errors import SpoolError, SpoolUnfit

Identity = tuple[int, int]
"""Device and inode of a file: what it is, whatever its name."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_spool(path: Path, expected: Identity | None = None) -> tuple[int, Identity]:
    """Open a file of the switch for reading, and return its descriptor and what it is.

    Raises:
        SpoolUnfit: it is no regular file with one name, or not the one that was ``expected``.
        SpoolError: it cannot be opened, or is not there.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            identify(path)
        raise SpoolError(f"spool {path}: {error.strerror}") from error
    try:
        return descriptor, _checked(path, os.fstat(descriptor), expected)
    except BaseException:
        os.close(descriptor)
        raise


def identify(path: Path, expected: Identity | None = None) -> Identity:
    """Return what stands under a name in the spool without opening it. Raises as ``open_spool``."""
    try:
        found = os.lstat(path)
    except OSError as error:
        raise SpoolError(f"spool {path}: {error.strerror}") from error
    return _checked(path, found, expected)


def _checked(path: Path, found: os.stat_result, expected: Identity | None) -> Identity:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise SpoolUnfit(f"spool {path}: is {kind}, no regular file")
    if found.st_nlink > 1:
        raise SpoolUnfit(f"spool {path}: is a file with {found.st_nlink} names")
    identity = found.st_dev, found.st_ino
    if expected not in (None, identity):
        raise SpoolUnfit(f"spool {path}: is another file than before")
    return identity
