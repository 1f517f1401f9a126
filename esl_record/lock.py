"""One process at a time for a data directory, or a spool."""

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from esl_record.errors import ConfigError

log = logging.getLogger(__name__)

NAME = ".lock"

_TRIES = 10


@contextmanager
def held(folder: Path, setting: str = "data_dir", *, shared: bool = False) -> Iterator[None]:
    """Hold ``folder``, which must exist, to the end of the block.

    In a ``shared`` folder others can write: what is no lock file of this user is moved out of the way there. The file
    is for this user alone, so that nobody else can hold it.

    Raises:
        ConfigError: another process holds it; the text names ``setting``.
        OSError: the file cannot be made.
    """
    path = folder / NAME
    descriptor = _opened(path)
    for _ in range(_TRIES if shared else 0):
        if descriptor is not None:
            break
        aside = path.with_name(f"{NAME}.{secrets.token_hex(8)}")
        log.warning("%s is not this service's: it is %s from now on", path, aside.name)
        with suppress(FileNotFoundError):
            path.rename(aside)
        descriptor = _opened(path)
    if descriptor is None:
        raise ConfigError(f"setting {setting} = {folder}: {path} is not a file of this user alone: remove it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"setting {setting} = {folder}: another esl-record uses it; each needs its own") from None
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    """The lock file, made where there is none; None where something else is in its place. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        if os.path.lexists(path):
            return None
        raise
    found = os.fstat(descriptor)
    owners = {os.geteuid(), path.parent.stat().st_uid if os.geteuid() == 0 else os.geteuid()}
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in owners:
        os.close(descriptor)
        return None
    if found.st_uid == os.geteuid():
        os.fchmod(descriptor, 0o600)
    return descriptor
