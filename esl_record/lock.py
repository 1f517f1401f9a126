"""One process at a time for a data directory, or a spool."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esl_record.errors import ConfigError

NAME = ".lock"


@contextmanager
def held(folder: Path, setting: str = "data_dir") -> Iterator[None]:
    """Holds ``folder``, which must exist, to the end of the block. Raises ConfigError where another process does; the
    text names ``setting``."""
    try:
        with (folder / NAME).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise ConfigError(f"setting {setting} = {folder}: another esl-record uses it; each needs its own") from None
