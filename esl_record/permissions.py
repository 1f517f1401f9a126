"""Who but this service can write what it trusts: its data, its keys, and the documents and handlers it runs."""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from esl_record.config import Settings
from esl_record.errors import ConfigError
from esl_record.handlers.loader import SUFFIX as HANDLER
from esl_record.keys import NAMES as KEYS
from esl_record.recording.storage import Storage
from esl_record.swml.library import SUFFIXES as DOCUMENTS


@dataclass(frozen=True)
class Lax:
    """A file or folder of ``setting`` that others can write, or a key they can read, and the command that ends that."""

    setting: str
    path: Path
    why: str
    mend: str

    def __str__(self) -> str:
        return f"setting {self.setting}: {self.path} {self.why}: {self.mend}"


def check(settings: Settings, storage: Storage) -> None:
    """Raise ConfigError, with the commands that mend it, where others can write what the service trusts."""
    if found := list(lax(settings, storage)):
        raise ConfigError("; ".join(map(str, found)))


def lax(settings: Settings, storage: Storage) -> list[Lax]:
    """Return what is there of data directory, keys, spool folder, documents and handlers, and is not safe.

    The switch's user is whoever else can write the spool folder. In data and keys no group is trusted that has anybody
    else in it; documents and handlers may be written by any group but that of the spool.
    """
    found = {one.path: one for one in reversed(list(_lax(settings, storage)))}
    return [found[path] for path in sorted(found)]


def _lax(settings: Settings, storage: Storage) -> Iterator[Lax]:
    data, spool = settings.data_dir, _status(storage.spool_dir)
    judge = _Judge(spool, _status(data))
    yield from judge.place("data_dir", data)
    for folder in (storage.pending, storage.recordings, *_days(storage)):
        yield from judge.own("data_dir", folder)
    for name in KEYS:
        yield from judge.key(data / name)
    yield from judge.place("spool_dir", storage.spool_dir, itself=False)
    if spool and spool.st_mode & stat.S_IWOTH:
        path = shlex.quote(str(storage.spool_dir))
        why = f"can be written by everybody (mode {_mode(spool)})"
        yield Lax("spool_dir", storage.spool_dir, why, f"chgrp GROUP {path} && chmod 2770 {path}, GROUP the switch's")
    if settings.documents is not None:
        yield from judge.program("documents", settings.documents, DOCUMENTS)
    if settings.handlers is not None:
        yield from judge.program("handlers", settings.handlers, (HANDLER,))


def _days(storage: Storage) -> Iterator[Path]:
    yield from storage.recordings.glob("*/")
    yield from storage.recordings.glob("*/*/")
    yield from storage.recordings.glob("*/*/*/")


def _tree(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for folder, _, files in os.walk(root):
        yield Path(folder)
        yield from (Path(folder, name) for name in files if name.endswith(suffixes))


class _Judge:
    """Judges by whose ``spool`` and ``data`` are, the two folders, and which group's; None where there is none."""

    def __init__(self, spool: os.stat_result | None, data: os.stat_result | None) -> None:
        self._spool = spool
        self._trusted = {0, os.geteuid()} | ({data.st_uid} if data else set())

    def place(self, setting: str, folder: Path, *, itself: bool = True) -> Iterator[Lax]:
        """Whether the switch's user, or anybody, can replace ``folder`` or, with ``itself``, write there."""
        if itself:
            yield from self.own(setting, folder)
        yield from self.above(setting, folder, owners=self._others)

    def own(self, setting: str, path: Path) -> Iterator[Lax]:
        """What none but this user is to write."""
        if found := _writable(path):
            yield from _writers(setting, path, found, group=self._others_in(found.st_gid) != set())

    def key(self, path: Path) -> Iterator[Lax]:
        if (found := _status(path)) is None:
            return
        group = found.st_mode & stat.S_IRWXG and self._others_in(found.st_gid) != set()
        if found.st_mode & stat.S_IRWXO or group:
            why = f"is a key that others can read or write (mode {_mode(found)})"
            yield Lax("data_dir", path, why, f"chmod 600 {shlex.quote(str(path))}, or remove it for a new one")

    def program(self, setting: str, root: Path, suffixes: tuple[str, ...]) -> Iterator[Lax]:
        """Whether the switch's user, or anybody, can write what the service runs from ``root``."""
        if root.is_dir():
            yield from self.above(setting, root)
            for path in _tree(root, suffixes):
                yield from self.code(setting, path)

    def code(self, setting: str, path: Path) -> Iterator[Lax]:
        """What whoever maintains this machine may write, and the switch's user may not."""
        if found := _writable(path):
            switch = self._spool is not None and found.st_gid == self._spool.st_gid and bool(self._others)
            yield from _writers(setting, path, found, group=switch)

    def above(self, setting: str, folder: Path, owners: frozenset[int] = frozenset()) -> Iterator[Lax]:
        """The folders on the way to ``folder`` in which it could be replaced; ``owners`` are not to own one."""
        given = Path(os.path.abspath(folder))  # noqa: PTH100  # a link on the way is on the way, too
        for parent in sorted({*given.parents, *folder.resolve().parents}):
            found = _writable(parent)
            if found is None:
                continue
            if found.st_uid in owners:
                why = f"belongs to {_user(found.st_uid)}, as whom the switch may run"
                yield Lax(setting, parent, why, f"chown root {shlex.quote(str(parent))}, or set {setting}")
            # In a folder with the sticky bit nobody can rename what is another's.
            elif not found.st_mode & stat.S_ISVTX:
                yield from self.code(setting, parent)

    @cached_property
    def _others(self) -> frozenset[int]:
        """The users besides this one who can write in the spool folder."""
        if self._spool is None:
            return frozenset()
        return frozenset({self._spool.st_uid, *(self._others_in(self._spool.st_gid) or ())} - self._trusted)

    def _others_in(self, gid: int) -> set[int] | None:
        """The users in a group whom this one need not trust; None where that is not known."""
        try:
            members = grp.getgrgid(gid).gr_mem
        except KeyError:
            return None
        found = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid or entry.pw_name in members}
        return found - self._trusted


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _writable(path: Path) -> os.stat_result | None:
    """What ``path`` is, None where it is not there or on a file system that nobody can write."""
    try:
        return None if os.statvfs(path).f_flag & os.ST_RDONLY else path.stat()
    except OSError:
        return None


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _writers(setting: str, path: Path, found: os.stat_result, *, group: bool) -> Iterator[Lax]:
    """What is wrong with ``path``; ``group``: its group is not to write it."""
    group = group and bool(found.st_mode & stat.S_IWGRP)
    everybody = bool(found.st_mode & stat.S_IWOTH)
    if not (group or everybody):
        return
    who = "everybody" if everybody else f"group {_group(found.st_gid)}, in which there are others"
    classes = "g" * group + "o" * everybody
    why = f"can be written by {who} (mode {_mode(found)})"
    yield Lax(setting, path, why, f"chmod {classes}-w {shlex.quote(str(path))}")


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
