"""The command line: reads the arguments and calls what they ask for."""

import argparse
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from esl_record import __version__, config, logs
from esl_record.config import Settings
from esl_record.errors import ConfigError, DocumentError, EslRecordError
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from esl_record.status.ledger import Ledger
    from esl_record.status.outbox import Callback

_ENDLESS = 10_000

_UMASK = 0o027
"""What is made is for this user, and for its group to read; folders and keys have modes of their own."""

_SERVE = tuple(Settings.model_fields)
_SWITCH = ("event_socket", "event_socket_password")
_PLACES = ("data_dir", "spool_dir")
_KEYS = ("encryption_key", "encryption_key_command")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 0 done, 1 failed, 2 wrongly asked."""
    os.umask(_UMASK)
    parser = _parser()
    options = parser.parse_args(arguments)
    logs.to_stderr(logging.DEBUG if options.verbose else logging.INFO)
    flags = {name: getattr(options, name, None) for name in Settings.model_fields}
    try:
        settings = config.load(flags, options.config)
        command: Callable[[argparse.Namespace, Settings], int] = options.command
        return command(options, settings)
    except EslRecordError as error:
        print(logs.one_line(f"esl-record: {error}"), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="esl-record", description="Records calls of a FreeSWITCH as SWML's record method does."
    )
    parser.add_argument("--version", action="version", version=f"esl-record {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _command(commands, "serve", _serve, _SERVE, "take calls from FreeSWITCH's `socket` application")

    demo = _command(commands, "demo", _demo, ("data_dir",), "record one call of a stand-in switch and show it")
    demo.add_argument("--caller", type=Path, metavar="FILE", help="what the caller says; without it a made-up voice")
    demo.add_argument("--fast", action="store_true", help="faster than real time")

    dial = _command(commands, "dial", _dial, _SWITCH, "place a test call through FreeSWITCH's event socket")
    dial.add_argument("extension", help="the extension to call, such as 7000")
    dial.add_argument("--audio", type=Path, metavar="FILE", help="what the caller says; a file FreeSWITCH can read")
    dial.add_argument("--wait", type=float, default=1.0, metavar="S", help="seconds from answer to audio (1.0)")
    dial.add_argument("--digits", default="", metavar="DIGITS", help="DTMF digits to send")
    dial.add_argument("--after", type=float, default=5.0, metavar="S", help="seconds from answer to the digits (5.0)")
    dial.add_argument("--timeout", type=float, default=120.0, metavar="S", help="hang up after this long (120)")
    dial.add_argument(
        "--dial-string",
        default="sofia/internal/{extension}@127.0.0.1:5080",
        metavar="STRING",
        help="how the extension is reached (%(default)s)",
    )

    recordings = _command(
        commands, "recordings", _recordings, (*_PLACES, "database"), "list the recordings, or show one"
    )
    recordings.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    recordings.add_argument("recording_id", nargs="?", help="for show: a recording's id, or how it begins")
    recordings.add_argument("--json", action="store_true", help="as JSON")

    prune = _command(
        commands,
        "prune",
        _prune,
        (*_PLACES, "database", "keep_age", "keep_size", "keep_untold"),
        "delete the recordings that have been kept long enough, as a running service does by itself",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say which")

    recover = _command(
        commands,
        "recover",
        _recover,
        (*_PLACES, "database", "node_id", "public_url", "stall_timeout", *_KEYS),
        "complete what a killed service left, without starting one",
    )
    recover.add_argument("--rebuild", action="store_true", help="make the catalog anew from the recordings directory")

    check = _command(commands, "check", _check, (), "check SWML documents without a call")
    check.add_argument("files", nargs="+", type=Path, metavar="DOCUMENT", help="a file, YAML or JSON")

    callbacks = _command(
        commands,
        "callbacks",
        _callbacks,
        (*_PLACES, "database", "node_id"),
        "list status callbacks, show one, send again",
    )
    callbacks.add_argument("action", nargs="?", choices=("list", "show", "resend"), default="list")
    callbacks.add_argument(
        "callback_id", nargs="?", help="for show and resend: a callback's id, or how it begins; resend without it: all"
    )
    callbacks.add_argument("--status", choices=("pending", "delivered", "dead"), help="only those (resend: dead)")
    callbacks.add_argument("--recording", metavar="ID", help="only those of this recording")
    callbacks.add_argument("--limit", type=int, default=100, metavar="N", help="list: the newest (100)")
    callbacks.add_argument("--json", action="store_true", help="as JSON")

    hear = _command(commands, "vad", _vad, _KEYS, "what would a live call have done with this audio")
    hear.add_argument("file", type=Path, metavar="FILE", help="an audio file; its channels are mixed to one")
    hear.add_argument("--plot", type=Path, metavar="PNG", help="draw waveform, spectrogram, score and decision")
    hear.add_argument("--json", action="store_true", help="as JSON")
    for name in ("input_sensitivity", "initial_timeout", "end_silence_timeout", "max_length"):
        default = RecordParams.model_fields[name].default
        hear.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"as for `record` ({default:g})")

    _command(commands, "doctor", _doctor, _SERVE, "check this machine and the switch, and say how to mend")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace, Settings], int],
    settings: Sequence[str],
    help: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(command=run)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    for setting in settings:
        text = (Settings.model_fields[setting].description or "").replace("%", "%%")
        parser.add_argument(f"--{setting.replace('_', '-')}", metavar="VALUE", help=text)
    return parser


def _serve(_: argparse.Namespace, settings: Settings) -> int:
    from esl_record.service import Service

    Service(settings).run()
    return 0


def _demo(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record.demo import Demo

    return Demo(settings, Console(), caller=options.caller, fast=options.fast).run()


def _dial(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record.dial import TestCall, dial

    call = TestCall(
        extension=options.extension,
        dial_string=options.dial_string,
        audio=options.audio,
        wait=options.wait,
        digits=options.digits,
        after=options.after,
        timeout=options.timeout,
    )
    return dial(call, settings, Console())


def _doctor(_: argparse.Namespace, settings: Settings) -> int:
    from esl_record.doctor import examine

    return examine(settings, Console())


def _vad(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record.recording.replay import replay

    names = ("input_sensitivity", "initial_timeout", "end_silence_timeout", "max_length")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    params = RecordParams.of("vad", given)
    samples, rate = _sound(options.file, settings)
    try:
        result = replay(samples, rate, params)
    except ValueError as error:
        raise EslRecordError(f"{options.file}: {error}") from error
    end = result.end
    if options.plot:
        from esl_record.picture import draw

        title = f"{options.file.name}: {end.state.value}, {end.reason.value} at {result.stopped:.2f} s"
        draw(samples, result, params.input_sensitivity, title, options.plot)
    if options.json:
        told = {
            "file": str(options.file),
            "sample_rate": rate,
            "length": result.length,
            "state": end.state.value,
            "end_reason": end.reason.value,
            "stopped": result.stopped,
            "speech": result.speech,
            "parameters": {name: getattr(params, name) for name in names},
        }
        print(json.dumps(told, indent=2))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    console.print(escape(f"{options.file}: {result.length:.2f} s at {rate} Hz, {len(result.speech)} times speech"))
    for start, stop in result.speech:
        console.print(f"  speech {start:7.2f} s to {stop:7.2f} s")
    console.print(
        f"a live recording would have ended after {result.stopped:.2f} s: {end.state.value}, {end.reason.value}"
    )
    return 0


def _sound(path: Path, settings: Settings) -> "tuple[NDArray[np.int16], int]":
    """The samples of ``path`` and their rate, also where it is encrypted."""
    from esl_record.audio import sound
    from esl_record.recording.vault import SUFFIX, Vault

    if path.suffix != SUFFIX:
        return sound.read(path)
    vault = Vault.of(settings.encryption_key, settings.encryption_key_command)
    try:
        with vault.open(path) as audio:
            return sound.read(path, io.BytesIO(audio.read(audio.size, 0)))
    except OSError as error:
        raise EslRecordError(str(error)) from error


def _check(options: argparse.Namespace, _: Settings) -> int:
    from esl_record import yamltree
    from esl_record.swml.check import mistakes
    from esl_record.swml.document import parse

    wrong = 0
    for path in options.files:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise EslRecordError(f"{path}: {error}") from error
        try:
            found = [
                f"{path}:{yamltree.line_of(text, mistake.step.place) or '?'}: {mistake.code}: {mistake}"
                for mistake in mistakes(parse(text, str(path)))
            ]
        except DocumentError as error:
            found = [f"{error.code}: {error}"]
        wrong += bool(found)
        for line in found or [f"{path}: good"]:
            print(logs.one_line(line))
    return 1 if wrong else 0


def _recordings(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record import tables

    with _kept(settings) as (storage, ledger):
        if options.action == "show":
            found = ledger.catalog.find(_wanted(options.recording_id)) if ledger else None
            if found is None:
                raise EslRecordError(f"no one recording begins with {options.recording_id!r}")
            print(json.dumps(_described(found, storage), indent=2))
            return 0
        entries = ledger.catalog.all() if ledger else []
    if options.json:
        print(json.dumps([_described(recording, storage) for recording in entries], indent=2))
    else:
        _console().print(tables.recordings(entries) if entries else f"no recordings in {storage.recordings}")
    return 0


def _recover(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record.recover import recover

    return recover(settings, _console(), rebuild=options.rebuild)


def _prune(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record.recording.retention import expired

    if not (settings.keep_age or settings.keep_size):
        raise ConfigError("prune: how many to keep? Give --keep-age, --keep-size or both")
    count = size = 0
    with _kept(settings) as (storage, ledger):
        age, size_kept, untold = settings.keep_age, settings.keep_size, not settings.keep_untold
        due = expired(ledger, time.time(), age=age, size=size_kept, untold=untold) if ledger else ()
        for recording, why in due:
            if not options.dry_run and ledger:
                ledger.delete(recording, why)
            print(logs.one_line(f"{storage.document_path(recording)}: {recording.size} bytes, {why}"))
            count += 1
            size += recording.size
    print(f"{count} recordings, {size} bytes {'would be ' if options.dry_run else ''}deleted")
    return 0


def _callbacks(options: argparse.Namespace, settings: Settings) -> int:
    from esl_record import tables
    from esl_record.status.outbox import Status

    status = Status(options.status) if options.status else None
    with _kept(settings) as (_, ledger):
        found = ledger.outbox.find(options.callback_id) if ledger and options.callback_id else None
        if found is None and (options.callback_id or options.action == "show"):
            raise EslRecordError(f"no one callback begins with {_wanted(options.callback_id)!r}")
        if found is not None:
            entries = [found]
        elif options.action == "resend":
            wanted = status or Status.DEAD
            entries = ledger.outbox.listed(status=wanted, recording_id=options.recording) if ledger else []
        else:
            chosen = {"status": status, "recording_id": options.recording, "limit": options.limit}
            entries = ledger.outbox.listed(**chosen) if ledger else []
        if options.action == "resend":
            if ledger is None or not entries:
                raise EslRecordError("no callback to send again")
            ledger.outbox.resend(entries, time.time())
            print(f"{len(entries)} to be sent again; a running service does so within seconds")
            return 0
    if options.json or options.action == "show":
        told = [_told(callback) for callback in entries]
        print(json.dumps(told if options.action == "list" else told[0], indent=2))
    else:
        _console().print(tables.callbacks(entries) if entries else "no callbacks")
    return 0


def _console() -> Console:
    """Where nobody sees where lines end, none is cut."""
    return Console() if sys.stdout.isatty() else Console(width=_ENDLESS)


@contextmanager
def _kept(settings: Settings) -> "Iterator[tuple[Storage, Ledger | None]]":
    """Where recordings lie, and what is known of them; None where no service has ever run."""
    from esl_record.service import CATALOG, open_ledger

    storage = Storage(settings.data_dir, settings.spool_dir)
    if not (settings.database or storage.recordings.is_dir()):
        yield storage, None
        return
    if not settings.database and not (settings.data_dir / CATALOG).exists():
        # Looking makes nothing: not even a catalog, which would be this user's and not the service's.
        settings = settings.model_copy(update={"database": "sqlite://"})
    with closing(open_ledger(settings, storage)) as ledger:
        yield storage, ledger


def _wanted(beginning: str | None) -> str:
    if not beginning:
        raise ConfigError("show: which one? Give its id, or how it begins")
    return beginning


def _described(recording: Recording, storage: Storage) -> dict[str, object]:
    audio = recording.audio(storage.document_path(recording))
    return {**recording.model_dump(mode="json"), "path": str(audio) if audio else ""}


def _told(callback: "Callback") -> dict[str, object]:
    from esl_record.status.receiver import shown

    return {**asdict(callback), "url": shown(callback.url)}
