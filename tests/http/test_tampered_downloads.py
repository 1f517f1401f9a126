"""Downloads of encrypted recordings whose file was changed: no byte that is not the recording's is ever sent."""

from pathlib import Path
from random import Random

import pyrage
import pytest
from http_fakes import MakeSite, Site, basic, open_files, sites
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esl_record.recording.age import CHUNK
from esl_record.recording.vault import Damaged, Vault

KEY = pyrage.x25519.Identity.generate()
AUDIO = Random(1).randbytes(5 * CHUNK + 1000)
SEALED = pyrage.encrypt(AUDIO, [KEY.to_public()])
OTHER = pyrage.encrypt(AUDIO[::-1], [KEY.to_public()])
"""Another recording of the same size, encrypted to the same key."""

_SEALED_CHUNK = CHUNK + 16
HEAD = len(SEALED) - len(AUDIO) - 6 * 16


def chunks(file: bytes) -> list[bytes]:
    return [file[at : at + _SEALED_CHUNK] for at in range(HEAD, len(file), _SEALED_CHUNK)]


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """The file after one to three changes; some of them undo each other."""
    head, body = SEALED[:HEAD], chunks(SEALED)
    file = SEALED
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["flip", "cut", "move", "double", "drop", "foreign", "grow", "head", "zeros"]))
        one, other = draw(st.integers(0, len(body) - 1)), draw(st.integers(0, len(body) - 1))
        if kind == "flip":
            at = draw(st.integers(0, len(body[one]) - 1))
            body[one] = body[one][:at] + bytes([body[one][at] ^ (1 << draw(st.integers(0, 7)))]) + body[one][at + 1 :]
        elif kind == "move":
            body[one], body[other] = body[other], body[one]
        elif kind == "double":
            body[one] = body[other]
        elif kind == "drop" and len(body) > 1:
            del body[one]
        elif kind == "foreign":
            body[one] = chunks(OTHER)[one]
        elif kind == "head":
            head = OTHER[:HEAD]
        elif kind == "zeros":
            body[one] = bytes(len(body[one]))
        file = head + b"".join(body)
        if kind == "cut":
            return file[: draw(st.integers(0, len(file) - 1))]
        if kind == "grow":
            return file + draw(st.binary(min_size=1, max_size=2 * _SEALED_CHUNK))
    return file


SPANS = st.one_of(
    st.none(),
    st.tuples(st.integers(0, len(AUDIO) - 1), st.integers(0, len(AUDIO))).map(lambda pair: (pair[0], sum(pair))),
)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> object:
    with sites(tmp_path_factory.mktemp("tampered")) as make:
        yield _encrypted(make)


def _encrypted(make: MakeSite) -> tuple[Site, str, Path]:
    site = make()
    recording = site.keep(audio=AUDIO)
    path = site.storage.audio_path(recording)
    sealed = path.with_name(f"{path.name}.age")
    path.rename(sealed)
    site.ledger.tell(recording.model_copy(update={"file": sealed.name}))
    site.storage.vault = Vault([str(KEY)])
    return site, f"/api/v1/recordings/{recording.recording_id}/download", sealed


def delivered(site: Site, path: str, span: tuple[int, int] | None) -> tuple[int, bytes, bool]:
    """Status, the bytes that came, and whether that was all the answer had promised."""
    headers = [("Range", f"bytes={span[0]}-{span[1]}")] if span else []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "x", "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": None, "wsgi.errors": None,
        "HTTP_HOST": "127.0.0.1", "HTTP_AUTHORIZATION": basic()["Authorization"],
        **{f"HTTP_{name.upper()}": value for name, value in headers},
    }  # fmt: skip
    told: list[str] = []
    answer = site.app(environ, lambda status, *_: told.append(status))
    came, whole = b"", True
    try:
        for piece in answer:
            came += piece
    except ConnectionAbortedError:
        whole = False
    finally:
        if close := getattr(answer, "close", None):
            close()
    return int(told[0].split()[0]), came, whole


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=tampered(), span=SPANS)
def test_of_a_changed_file_nothing_is_sent_that_is_not_the_recordings(
    encrypted: tuple[Site, str, Path], file: bytes, span: tuple[int, int] | None
) -> None:
    site, path, sealed = encrypted
    sealed.write_bytes(file)
    status, came, whole = delivered(site, path, span)
    start, end = (span[0], min(span[1] + 1, len(AUDIO))) if span else (0, len(AUDIO))
    if status >= 400:
        assert (status, AUDIO[:16] in came) == (500, False)
    else:
        assert came == AUDIO[start : start + len(came)]
        assert whole is (len(came) == end - start)
    if file == SEALED:
        assert (status, whole) == (206 if span else 200, True)
    elif span is None:
        assert status == 500 or not whole
    assert open_files(site.storage.recordings) == []


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=tampered(), read=st.integers(0, 4))
def test_nor_of_one_that_is_changed_while_it_is_sent(encrypted: tuple[Site, str, Path], file: bytes, read: int) -> None:
    site, _, sealed = encrypted
    sealed.write_bytes(SEALED)
    with site.storage.vault.open(sealed) as audio:
        for number in range(6):
            if number == read:
                # In place: the descriptor stays the same.
                with sealed.open("r+b") as changed:
                    changed.write(file)
                    changed.truncate()
            try:
                block = audio.read(CHUNK, number * CHUNK)
            except Damaged:
                break
            assert block == AUDIO[number * CHUNK : (number + 1) * CHUNK]


def test_a_whole_file_of_the_same_key_and_size_is_told_from_the_recording_by_its_checksum(
    encrypted: tuple[Site, str, Path],
) -> None:
    """The format does not say who has encrypted a file: what is known of the recording does."""
    site, _, sealed = encrypted
    sealed.write_bytes(OTHER)
    recording = site.ledger.catalog.all()[0]
    with site.storage.vault.open(sealed) as audio:
        assert audio.size == recording.size
        assert audio.sha256() != recording.sha256
