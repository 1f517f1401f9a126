"""One process at a time for a data directory."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esl_record.errors import ConfigError

NAME = ".lock"


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Holds ``data_dir``, which must exist, to the end of the block. Raises ConfigError where another process does."""
    try:
        with (data_dir / NAME).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise ConfigError(f"setting data_dir = {data_dir}: another esl-record uses it; each needs its own") from None
