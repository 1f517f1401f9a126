"""The vault: what it is given to keep lies on no disk as it was, and comes back as it was or not at all."""

import errno
import hashlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest
from test_storage import FULL, files, nth, open_descriptors

from esl_record.audio import part as part_module
from esl_record.audio.part import Part
from esl_record.errors import ConfigError
from esl_record.recording import identity as identity_module
from esl_record.recording.identity import scrubbed
from esl_record.recording.vault import RESERVE, Damaged, Locked, Vault

KEY, OTHER = (str(pyrage.x25519.Identity.generate()) for _ in range(2))
PLAIN = bytes(range(256)) * 1000


def decrypted(path: Path, key: str = KEY) -> bytes:
    """As somebody else's program does."""
    data: bytes = pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(key)])
    return data


def kept(vault: Vault, folder: Path, plain: bytes = PLAIN) -> Path:
    for name in ("spool", "day"):
        (folder / name).mkdir(exist_ok=True)
    part = vault.part(folder / "spool")(folder / "day" / "a.wav")
    try:
        part.write(plain)
        part.complete()
    finally:
        part.discard()
    return vault.placed(folder / "day" / "a.wav")


# ---- what is kept


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, len(PLAIN)])
def test_what_is_kept_can_be_read_here_and_by_others(tmp_path: Path, size: int) -> None:
    vault = Vault([KEY])
    path = kept(vault, tmp_path, PLAIN[:size])
    assert list(files(tmp_path)) == ["day/a.wav.age"]
    assert decrypted(path) == PLAIN[:size]
    with vault.open(path) as audio:
        assert (audio.name, audio.size, audio.read(size + 5, 0)) == (str(path), size, PLAIN[:size])
        assert audio.sha256() == hashlib.sha256(PLAIN[:size]).hexdigest()
        assert (audio.read(10, size - 1), audio.read(10, size)) == (PLAIN[size - 1 : size], b"")


def test_what_was_written_out_of_order_is_kept_as_it_came_to_be(tmp_path: Path) -> None:
    part = Vault([KEY]).part(tmp_path)(tmp_path / "a.wav")
    part.write(b"....WAVE")
    part.seek(0)
    part.write(b"RIFF")
    assert (part.tell(), part.seek(0, os.SEEK_END)) == (4, 8)
    part.complete()
    assert decrypted(tmp_path / "a.wav.age") == b"RIFFWAVE"


def test_until_it_is_complete_it_has_no_name(tmp_path: Path) -> None:
    before = open_descriptors()
    part = Vault([KEY]).part(tmp_path)(tmp_path / "day" / "a.wav")
    part.write(PLAIN)
    assert files(tmp_path) == {}
    part.discard()
    assert (list(tmp_path.iterdir()), open_descriptors()) == ([], before)


@pytest.mark.parametrize("number", [0, errno.EOPNOTSUPP, errno.EISDIR], ids=["unknown", "no", "a directory"])
def test_where_every_file_has_a_name_it_has_one_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = os.open

    def opening(path: Any, flags: int, mode: int = 0o777) -> int:
        if number and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, os.strerror(number))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", opening)
    if not number:
        monkeypatch.setattr(part_module, "_UNNAMED", 0)
    part = Vault([KEY]).part(tmp_path)(tmp_path / "a.wav")
    part.write(PLAIN)
    assert list(tmp_path.iterdir()) == []
    part.complete()
    assert decrypted(tmp_path / "a.wav.age") == PLAIN


def test_what_is_at_fault_with_a_folder_is_not_taken_for_a_lack_of_nameless_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Vault([KEY]).part(tmp_path / "gone")(tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("free", "reserve", "fits"),
    [(RESERVE + 10, RESERVE, True), (RESERVE + 9, RESERVE, False), (0, RESERVE, False), (0, 0, True)],
)
@pytest.mark.parametrize("counts", [True, False], ids=["counts", "counts none"])
def test_it_leaves_room_for_the_spools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, reserve: int, fits: bool, counts: bool
) -> None:
    found = SimpleNamespace(f_blocks=1 << 30 if counts else 0, f_bavail=free, f_frsize=1)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: found)
    part = Vault([KEY]).part(tmp_path, reserve)(tmp_path / "a.wav")
    if fits or not counts:
        part.write(b"ten bytes!")
    else:
        with pytest.raises(OSError, match="No space left") as caught:
            part.write(b"ten bytes!")
        assert (caught.value.errno, part.seek(0, os.SEEK_END)) == (errno.ENOSPC, 0)
    part.discard()


def test_no_file_gives_away_what_another_holds(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    one, two = (kept(Vault([KEY]), folder).read_bytes() for folder in (first, second))
    assert one[-1000:] != two[-1000:]
    assert PLAIN[:32] not in one


def test_without_a_key_a_file_is_what_it_is(tmp_path: Path) -> None:
    vault = Vault()
    path = kept(vault, tmp_path)
    assert files(tmp_path) == {"day/a.wav": PLAIN}
    with vault.open(path) as audio:
        assert (audio.size, audio.read(5, 3)) == (len(PLAIN), PLAIN[3:8])
        assert audio.sha256() == hashlib.sha256(PLAIN).hexdigest()
    with Vault([KEY]).open(path) as audio:
        assert audio.read(len(PLAIN), 0) == PLAIN


@pytest.mark.parametrize("name", ["a.wav", "a.wav.age"])
def test_what_is_no_file_is_not_there(tmp_path: Path, name: str) -> None:
    before = open_descriptors()
    (tmp_path / name).symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError):
            Vault([KEY]).open(path)
    assert open_descriptors() == before


def test_a_further_key_reads_what_was_encrypted_to_it(tmp_path: Path) -> None:
    path = kept(Vault([OTHER]), tmp_path)
    with Vault([KEY, OTHER]).open(path) as audio:
        assert audio.read(len(PLAIN), 0) == PLAIN
    assert decrypted(kept(Vault([KEY, OTHER]), tmp_path)) == PLAIN


@pytest.mark.parametrize(
    ("keys", "why"), [([], "no encryption_key is set"), ([OTHER], "another key")], ids=["none", "another"]
)
def test_without_its_key_it_stays_shut(tmp_path: Path, keys: list[str], why: str) -> None:
    path = kept(Vault([KEY]), tmp_path)
    before = open_descriptors()
    with pytest.raises(Locked, match=f"a.wav.age: it is encrypted.*{why}"):
        Vault(keys).open(path)
    assert open_descriptors() == before


@pytest.mark.parametrize("size", [0, 100, 400, 65000, 200_000])
def test_what_was_cut_off_is_not_opened(tmp_path: Path, size: int) -> None:
    vault = Vault([KEY])
    path = kept(vault, tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    before = open_descriptors()
    with pytest.raises(Damaged, match=r"a\.wav\.age: "):
        vault.open(path)
    assert open_descriptors() == before


def test_what_was_changed_in_the_middle_is_read_up_to_there(tmp_path: Path) -> None:
    vault = Vault([KEY])
    path = kept(vault, tmp_path)
    data = bytearray(path.read_bytes())
    data[-100_000] ^= 1
    path.write_bytes(data)
    with vault.open(path) as audio:
        assert audio.read(65536, 0) == PLAIN[:65536]
        with pytest.raises(Damaged, match="from byte 131072 on"):
            audio.read(200_000, 0)


# ---- what fails


FAULTS = [
    pytest.param(os, "write", 2, FULL, id="first block"),
    pytest.param(os, "write", 6, FULL, id="last block"),
    pytest.param(os, "read", 2, OSError(errno.EIO, "Input/output error"), id="reading"),
    pytest.param(os, "lseek", 1, OSError(errno.EIO, "Input/output error"), id="going back"),
    pytest.param(os, "fsync", 1, FULL, id="fsync"),
    pytest.param(os, "fsync", 2, FULL, id="fsync of its directory"),
    pytest.param(Path, "replace", 1, FULL, id="rename"),
    pytest.param(os, "open", 1, FULL, id="beginning"),
    pytest.param(os, "open", 2, FULL, id="the encrypted file"),
    pytest.param(Path, "unlink", 1, FULL, id="taking its name away"),
    pytest.param(pyrage, "encrypt_io", 1, pyrage.EncryptError("it is late"), id="the library"),
]


@pytest.mark.parametrize(("owner", "name", "number", "error"), FAULTS)
def test_what_fails_leaves_nothing_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, error: Exception
) -> None:
    before, vault = open_descriptors(), Vault([KEY])
    (tmp_path / "spool").mkdir()
    with monkeypatch.context() as patch:
        # Not every system can do without a name, and there is more that may fail.
        patch.setattr(part_module, "_UNNAMED", 0)
        patch.setattr(owner, name, nth(number, getattr(owner, name), error))
        with pytest.raises(OSError, match=getattr(error, "strerror", None) or str(error)):
            kept(vault, tmp_path)
    assert [path for path in files(tmp_path).values() if PLAIN[:64] in path] == []
    assert [path for path in files(tmp_path) if path.endswith(".part") and "day" in path] == []
    assert open_descriptors() == before
    assert decrypted(kept(vault, tmp_path)) == PLAIN


def test_a_part_that_is_complete_leaves_the_earlier_until_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kept(Vault([KEY]), tmp_path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Part, "complete", nth(1, Part.complete, FULL))
        with pytest.raises(OSError, match="No space"):
            kept(Vault([KEY]), tmp_path, b"new")
    assert decrypted(path) == b"old"


# ---- the key


@pytest.mark.parametrize(
    "command",
    [
        f"echo {KEY}",
        f"sh -c 'echo \"  {KEY}  \"; echo'",
        f"printf '# created: today\\n# public key: age1...\\n{KEY}\\n'",
        f"printf '{KEY}\\r\\n{OTHER}\\n'",
    ],
    ids=["echo", "blanks", "comments", "two"],
)
def test_a_command_may_tell_it(tmp_path: Path, command: str) -> None:
    assert decrypted(kept(Vault.of([], command), tmp_path)) == PLAIN


def test_no_shell_has_a_part_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is wanted"):
        Vault.of([], f"echo $HOME ; touch {tmp_path / 'here'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/at/all secret", "/nowhere/at/all: No such file or directory"),
        ("/tmp secret", "/tmp: Permission denied"),
        ("sh -c 'echo oh no >&2; exit 3' secret", "sh ended with status 3: oh no"),
        (f"sh -c 'printf \"\\033]0;%s\\007\" {KEY} >&2; exit 1'", r"status 1: \?\]0;AGE-SECRET-KEY-1\.\.\."),
        (f"sh -c 'echo no {KEY.lower()} >&2; exit 1'", r"status 1: no AGE-SECRET-KEY-1\.\.\."),
        (KEY, r"AGE-SECRET-KEY-1\.\.\. No such file"),
        ("false secret", "false ended with status 1: without a word"),
        ("sh -c : secret", "sh wrote no key; age-keygen makes one"),
        ("printf '# secret'", "printf wrote no key"),
        ("echo secret", "AGE-SECRET-KEY-1... is wanted"),
        ("echo age1secret", "AGE-SECRET-KEY-1... is wanted"),
        ("head -c 10000 /dev/urandom", "is wanted|wrote no key"),
        ("'secret", "No closing quotation"),
        ("  ", "a program is wanted"),
        ("a\0b", "null"),
    ],
)
def test_a_command_that_tells_none_is_named_with_the_reason_and_nothing_secret(command: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        Vault.of([], command)
    assert "setting encryption_key" in str(caught.value)
    assert "secret" not in str(caught.value).replace("/run/secrets/", "")
    assert KEY[20:].lower() not in str(caught.value).lower()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing of that kind", "nothing of that kind"),
        (f"a {KEY}, b {KEY.title()}: c", "a AGE-SECRET-KEY-1... b AGE-SECRET-KEY-1... c"),
        ("AGE-SECRET-KEY-1... is wanted", "AGE-SECRET-KEY-1... is wanted"),
        ("\033[2J\r\n\x9b\x7f\u00e9", "?[2J????\u00e9"),
    ],
)
def test_neither_a_key_nor_what_a_terminal_acts_on_is_shown(text: str, shown: str) -> None:
    assert scrubbed(text) == shown


@pytest.mark.parametrize("command", ["sleep 60", "sh -c 'sleep 60; echo'"])
def test_a_command_that_does_not_end_is_not_waited_for(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "PATIENCE", 0.2)
    with pytest.raises(ConfigError, match=r"has not ended within 0\.2 s"):
        Vault.of([], command)


@pytest.mark.parametrize(
    "wrong",
    [KEY[:-1], KEY[:-1] + ("Q" if KEY[-1] != "Q" else "P"), "age1" + "q" * 58, "\u00e9"],
    ids=["short", "checksum", "public", "text"],
)
def test_a_mistyped_key_is_not_shown(wrong: str) -> None:
    for keys in [wrong], [KEY, wrong]:
        with pytest.raises(ConfigError, match=r"AGE-SECRET-KEY-1\.\.\. is wanted: .*age-keygen makes one") as caught:
            Vault(keys)
        assert wrong not in str(caught.value)


def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    monkeypatch.delitem(sys.modules, "esl_record.recording.age", raising=False)
    monkeypatch.delattr("esl_record.recording.age", raising=False)
    Vault()
    with pytest.raises(ConfigError, match=r"pyrage.* is missing: .*esl-record\[encryption\]"):
        Vault([KEY])
