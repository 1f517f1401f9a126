"""Open files: a call needs several, and a machine's limit is often low."""

import resource

from esl_record.errors import ConfigError

_A_CALL = 5
_ELSE = 2048
"""Listener, connections of unknown calls and of refused ones, database, documents, callbacks and downloads."""


def provide(capacity: int) -> None:
    """Raises the soft limit as far as ``capacity`` calls need. Raises ConfigError where the hard limit forbids it."""
    wanted = capacity * _A_CALL + _ELSE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"setting capacity = {capacity}: needs {wanted} open files and the limit is {hard}: "
            "raise it (ulimit -n, LimitNOFILE) or lower capacity"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
