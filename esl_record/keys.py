"""Secrets this service makes for itself, kept in the data directory for nobody but its user."""

import base64
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from esl_record.audio.part import NEW, partials, temporary_path

NAMES = ("link.key", "webhook.secret", "calls.key")
"""Their files in the data directory."""

_BYTES = 32


def link_key(data_dir: Path) -> bytes:
    """Signs download links; made at the first start. Raises OSError, ValueError where the file is no key.

    Links are as good as it is: whoever guesses it opens every recording.
    """
    key = bytes.fromhex(_kept(data_dir / "link.key", secrets.token_hex(_BYTES)))
    if len(key) < _BYTES:
        raise ValueError(f"at least {2 * _BYTES} hexadecimal digits are wanted")
    return key


def webhook_secret(data_dir: Path) -> str:
    """Signs callbacks, as the Standard Webhooks specification writes secrets; made at the first start.

    Raises OSError.
    """
    return _kept(data_dir / "webhook.secret", f"whsec_{base64.b64encode(secrets.token_bytes(_BYTES)).decode()}")


def call_key(data_dir: Path) -> bytes:
    """Encrypts what is written of calls under way, digits among it; made at the first start.

    The file may have several keys, a line each: the first encrypts, all of them decrypt. Raises OSError.
    """
    return _kept(data_dir / "calls.key", Fernet.generate_key().decode()).encode()


def _kept(path: Path, new: str) -> str:
    """What ``path`` holds, ``new`` where nothing has been there."""
    if path.exists() and (kept := path.read_text().strip()):
        return kept
    for torn in partials(path):
        torn.unlink(missing_ok=True)
    partial = temporary_path(path)
    with os.fdopen(os.open(partial, os.O_WRONLY | NEW, 0o600), "w") as file:
        file.write(f"{new}\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return new
