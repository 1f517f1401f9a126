"""Recovery without a service: what a killed one left is completed, and the catalog made anew from what is on disk."""

import time
from contextlib import closing, suppress

from rich.console import Console
from rich.progress import Progress

from esl_record import keys, permissions
from esl_record.config import Settings
from esl_record.database import Database
from esl_record.errors import ConfigError, DatabaseError
from esl_record.http.links import Links
from esl_record.lock import held
from esl_record.recording.quarantine import FOLDER, Quarantine, Torn, clear, torn, unreadable
from esl_record.recording.recovery import Recovery
from esl_record.recording.storage import Storage
from esl_record.recording.vault import Vault
from esl_record.service import CATALOG, open_ledger
from esl_record.status.ledger import Ledger

_PAUSE = 0.2


def recover(settings: Settings, console: Console, *, rebuild: bool) -> int:
    """Gives the exit status: 1 where something is left. Raises ConfigError while a service runs, DatabaseError."""
    vault = Vault.of(settings.encryption_key, settings.encryption_key_command)
    storage = Storage(settings.data_dir, settings.spool_dir, settings.quality, vault)
    if not storage.recordings.is_dir():
        raise ConfigError(f"setting data_dir = {settings.data_dir}: no recordings are there")
    storage.prepare()
    permissions.check(settings, storage)
    quarantine = Quarantine(settings.data_dir / FOLDER)
    if settings.database and rebuild:
        raise ConfigError("setting database: others may have rows there: only <data-dir>/catalog.sqlite is made anew")
    with held(settings.data_dir), held(storage.spool_dir, "spool_dir", shared=True):
        storage.keep_to_key()
        put_away = clear(quarantine, lambda: torn(storage))
        if rebuild:
            put_away += clear(quarantine, lambda: unreadable(storage))
            put_away += _clear_broken(settings, quarantine)
        # In an event that has a link its sender puts a fresh one.
        links = Links(settings.public_url, keys.link_key(settings.data_dir), settings.link_lifetime)
        with closing(open_ledger(settings, storage, links.download)) as ledger:
            left = _complete(settings, storage, ledger, console)
            if rebuild:
                _rebuild(storage, ledger, console)
    if put_away:
        console.print(f"{put_away} files could not be used: see {quarantine.folder}")
    return 1 if left else 0


def _clear_broken(settings: Settings, quarantine: Quarantine) -> int:
    """Puts a catalog away that is no database any more; callbacks that were still to be sent are lost with it."""
    path = settings.data_dir / CATALOG
    if settings.database or not path.exists():
        return 0
    try:
        with closing(Database.in_file(path)) as database:
            database.open()
    except DatabaseError as error:
        reason = f"it is no database: {error}"
        files = [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]
        return clear(quarantine, lambda: [Torn(file, reason) for file in files if file.exists()])
    return 0


def _complete(settings: Settings, storage: Storage, ledger: Ledger, console: Console) -> int:
    """Completes all spools that no longer grow; says how many are left."""
    recovery = Recovery(storage, ledger.tell_begun, ledger.tell, quiet=settings.stall_timeout)
    recovery.find()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("completing", total=len(recovery.left))
        deadline = time.monotonic() + settings.stall_timeout + 1.0
        while recovery.left:
            for recording in recovery.run():
                console.print(f"{storage.document_path(recording)}: {recording.duration:.2f} s")
                progress.advance(task)
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
    for path in recovery.left:
        console.print(f"{path}: not completed; the log says why, or its call still lives")
    return len(recovery.left)


def _rebuild(storage: Storage, ledger: Ledger, console: Console) -> None:
    with Progress(console=console, transient=True) as progress:
        filed = progress.track(storage.filed(), description="reading recordings")
        # What has a spool yet is not complete.
        known = (one for _, one in filed if not storage.announced_path(one).exists())
        there, gone = ledger.rebuild(known)
    console.print(f"the catalog has {there} recordings; {gone} rows without a recording were removed")
    with suppress(DatabaseError):
        console.print(f"{ledger.outbox.depth().pending} callbacks wait to be sent")
