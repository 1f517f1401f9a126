"""Checks what a recording call needs, here and in the switch, and says how to mend what is not there."""

import os
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import soundfile
from gevent import socket
from rich.console import Console
from rich.markup import escape

from esl_record.audio.spoolfile import open_spool
from esl_record.config import Settings, check_spool
from esl_record.errors import CommandRefused, ConfigError, EslRecordError, SpoolError
from esl_record.esl.inbound import Inbound
from esl_record.esl.link import WITHOUT
from esl_record.handlers.loader import found_in, mistake
from esl_record.permissions import lax
from esl_record.recording.room import shortage
from esl_record.recording.storage import Storage
from esl_record.recording.vault import Vault

PACKAGES = ("gevent", "greenswitch", "numpy", "scipy", "soundfile", "av", "pydantic")

NEEDED = {
    "mod_event_socket": "the `socket` application",
    "mod_commands": "uuid_record",
    "mod_dptools": "answer, playback",
    "mod_sndfile": "raw spool files",
    "mod_tone_stream": "the beep",
}
WANTED = {
    "mod_flite": "`play: say:`",
    "mod_httapi": "`play` of http addresses, `record_url` among them",
    "mod_shout": "`play` of an mp3",
    "mod_spandsp": "G.722 calls",
    "mod_opus": "Opus calls",
}


@dataclass(frozen=True)
class Finding:
    """``good`` is None for what is only worth knowing."""

    subject: str
    good: bool | None
    told: str
    mend: str = ""


def examine(settings: Settings, console: Console) -> int:
    """Prints every finding as it comes; 0 if nothing must be mended, 1 otherwise."""
    bad = 0
    for finding in _findings(settings):
        bad += finding.good is False
        mark = {True: "[green]ok [/]", False: "[red]BAD[/]", None: "[yellow]-- [/]"}[finding.good]
        console.print(f"{mark} {escape(f'{finding.subject}: {finding.told}')}", highlight=False, soft_wrap=True)
        if finding.mend:
            console.print(f"      {escape(finding.mend)}", highlight=False, soft_wrap=True)
    console.print(f"{bad} to mend" if bad else "nothing to mend", highlight=False)
    return 1 if bad else 0


def _findings(settings: Settings) -> Iterator[Finding]:
    yield from _packages()
    storage = Storage(settings.data_dir, settings.spool_dir)
    yield _writable("data directory", storage.recordings, storage.prepare_recordings, "data_dir")
    yield _writable("spool folder", storage.spool_dir, storage.prepare_spool, "spool_dir")
    yield from _permissions(settings, storage)
    for folder in (storage.recordings, storage.spool_dir):
        yield from _room(folder.absolute(), settings.disk_floor)
    yield from _handlers(settings.handlers)
    yield from _key(settings)
    yield _service(settings)
    try:
        with Inbound(settings.event_socket, settings.event_socket_password) as switch:
            yield Finding("event socket", True, f"FreeSWITCH {_version(switch)}")
            yield from _modules(switch)
            yield _spool(switch, storage.spool_dir)
    except EslRecordError as error:
        mend = "set event_socket and event_socket_password as event_socket.conf.xml has them"
        yield Finding("event socket", False, f"{error}: {WITHOUT}", mend)


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(f"Python package {name}", True, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(f"Python package {name}", False, "not installed", "python3 -m pip install esl-record")
    wav = "WAV" in soundfile.available_formats()
    yield Finding("libsndfile", wav, soundfile.__libsndfile_version__, "" if wav else "reinstall soundfile")


def _writable(subject: str, folder: Path, prepare: Callable[[], None], setting: str) -> Finding:
    probe = folder / f".doctor-{uuid.uuid4()}"
    try:
        if setting == "spool_dir":
            check_spool(folder)
        prepare()
        probe.touch()
        probe.unlink()
    except ConfigError as error:
        return Finding(subject, False, str(error), f"set {setting}")
    except OSError as error:
        return Finding(subject, False, f"{folder}: {error.strerror}", f"give this user the right, or set {setting}")
    return Finding(subject, True, f"{folder.absolute()}: this user can write there")


def _permissions(settings: Settings, storage: Storage) -> Iterator[Finding]:
    found = list(lax(settings, storage))
    for one in found:
        yield Finding("permissions", False, f"{one.setting}: {one.path} {one.why}", one.mend)
    if not found:
        yield Finding("permissions", True, "nobody else can write data, keys, documents and handlers")


def _room(folder: Path, floor: int) -> Iterator[Finding]:
    try:
        found = os.statvfs(folder)
    except OSError:
        return  # told of already, as a folder that cannot be written
    if short := shortage(folder, found, floor):
        yield Finding("room", False, short, "make room there, or set disk_floor lower (0 = off)")
    else:
        free = found.f_bavail * found.f_frsize
        yield Finding("room", True, f"{folder} has {free} bytes free; disk_floor = {floor}")


def _handlers(folder: Path | None) -> Iterator[Finding]:
    if folder is None:
        return
    if not folder.is_dir():
        yield Finding("handlers", False, f"{folder}: is no directory", "set handlers")
        return
    for name, path in found_in(folder).items():
        wrong = mistake(path)
        yield Finding(f"handler {name}", not wrong, wrong or f"{path.absolute()}: it compiles")


def _key(settings: Settings) -> Iterator[Finding]:
    if not (settings.encryption_key or settings.encryption_key_command):
        return
    try:
        Vault.of(settings.encryption_key, settings.encryption_key_command)
    except ConfigError as error:
        yield Finding("encryption", False, str(error), "settings encryption_key and encryption_key_command")
    else:
        yield Finding("encryption", True, "recordings can be encrypted")


def _service(settings: Settings) -> Finding:
    host, port = settings.listen
    try:
        socket.create_connection(settings.listen, 2.0).close()
    except OSError as error:
        return Finding("service", None, f"nobody listens at {host}:{port} ({error})", "start `esl-record serve`")
    return Finding("service", True, f"listens at {host}:{port}")


def _version(switch: Inbound) -> str:
    return switch.api("version").split("\n")[0].removeprefix("FreeSWITCH Version ").strip()


def _modules(switch: Inbound) -> Iterator[Finding]:
    for name, purpose in {**NEEDED, **WANTED}.items():
        there = switch.api(f"module_exists {name}").strip() == "true"
        good = there or (False if name in NEEDED else None)
        mend = "" if there else f"fs_cli -x 'load {name}', and name it in modules.conf.xml"
        yield Finding(name, good, f"loaded: {purpose}" if there else f"missing: {purpose}", mend)


def _spool(switch: Inbound, folder: Path) -> Finding:
    """Lets the switch make a file in the spool folder and looks whether it can be read here."""
    subject = "spool folder, switch's side"
    probe = folder.absolute() / f".doctor-{uuid.uuid4()}"
    with suppress(CommandRefused):  # `-ERR no reply` is what a command without output answers
        switch.api(f"system touch {shlex.quote(str(probe))}")
    who = f"the user FreeSWITCH runs as and uid {os.getuid()}"
    if not probe.exists():
        return Finding(subject, False, f"FreeSWITCH cannot write to {folder.absolute()}", f"give {who} a group with it")
    try:
        os.close(open_spool(probe)[0])
        probe.unlink()
    except (OSError, SpoolError) as error:
        return Finding(subject, False, f"what FreeSWITCH writes: {error}", f"give {who} one group, umask 0027")
    return Finding(subject, True, "FreeSWITCH can write there, and what it writes can be read here")
