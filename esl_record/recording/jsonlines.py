"""A file of JSON lines that is only ever added to."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds ``entry`` as one line, on the disk when this returns; makes the file with the first. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.write(descriptor, f"{json.dumps(entry)}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
