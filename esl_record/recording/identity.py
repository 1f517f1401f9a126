"""The keys of the age format: how one looks, who tells it, and that none is shown."""

import os
import re
import shlex
import signal
import subprocess
from typing import TypeVar

from esl_record.errors import ConfigError

T = TypeVar("T")

HOW = "age-keygen makes one, and so does python3 -c 'import pyrage; print(pyrage.x25519.Identity.generate())'"

PATIENCE = 30.0
"""Seconds a command has to tell the key."""


def identity(value: str) -> str:
    """``value``, if it looks like a key; its checksum is looked at where it is used. Raises ValueError."""
    if not re.fullmatch("AGE-SECRET-KEY-1[AC-HJ-NP-Z02-9]{58}", value):
        raise ValueError(f"AGE-SECRET-KEY-1... is wanted; {HOW}")
    return value


def given(value: T) -> T:
    """``value`` of a setting, if there is anything in it: a variable that turned out empty must not have everything
    recorded unencrypted. Raises ValueError."""
    if not (value.strip() if isinstance(value, str) else value):
        raise ValueError(f"it is empty: without it nothing is encrypted; else a key is wanted: {HOW}")
    return value


def scrubbed(text: str) -> str:
    """``text`` for a log or a terminal: without keys, and without what a terminal would act on."""
    text = re.sub(r"AGE-SECRET-KEY-1\S*", "AGE-SECRET-KEY-1...", text, flags=re.IGNORECASE)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", text)


def told_by(command: str) -> list[str]:
    """The keys that ``command`` writes, a line each, as in a file of age-keygen's. Raises ConfigError; the text has
    neither its arguments nor what it wrote, but for complaints."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise _refusal(str(error)) from None
    if not arguments:
        raise _refusal("a program is wanted, such as cat /run/secrets/esl-record.key")
    program = arguments[0]
    try:
        status, told, complaints = _run(arguments)
    except subprocess.TimeoutExpired:
        raise _refusal(f"{program} has not ended within {PATIENCE:g} s") from None
    except (OSError, ValueError) as error:
        raise _refusal(f"{program}: {getattr(error, 'strerror', None) or error}") from None
    if status:
        why = (complaints.strip().splitlines() or ["without a word"])[-1][:200]
        raise _refusal(f"{program} ended with status {status}: {why}")
    lines = [line.strip() for line in told.splitlines()]
    if not (keys := [line for line in lines if line and not line.startswith("#")]):
        raise _refusal(f"{program} wrote no key; {HOW}")
    return keys


def _refusal(why: str) -> ConfigError:
    return ConfigError(scrubbed(f"setting encryption_key_command: {why}"))


def _run(arguments: list[str]) -> tuple[int, str, str]:
    """Its exit status, and what it has written to stdout and stderr. Raises OSError, ValueError, TimeoutExpired."""
    with subprocess.Popen(  # noqa: S603  # the operator's own setting, without a shell
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            told, complaints = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            # With all it has begun: who holds the pipes open is waited for.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, told, complaints
