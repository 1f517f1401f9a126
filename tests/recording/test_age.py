"""Reading age files from any place in them: the same bytes as the format's own library, or none at all."""

import random

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_record.recording.age import CHUNK, HEAD, Altered, Foreign, Payload, key_of

IDENTITY, OTHER = (pyrage.x25519.Identity.generate() for _ in range(2))
KEY, OTHERS = key_of(str(IDENTITY)), key_of(str(OTHER))
SIZES = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK + 7]
LARGEST = random.Random(1).randbytes(max(SIZES))
PLAIN = {size: LARGEST[:size] for size in SIZES}
SEALED = {size: pyrage.encrypt(plain, [IDENTITY.to_public()]) for size, plain in PLAIN.items()}
THREE = SEALED[2 * CHUNK + 1]
PAYLOAD = len(THREE) - (2 * CHUNK + 1) - 3 * 16
"""Where its chunks begin."""


def read(file: bytes, start: int = 0, end: int | None = None) -> bytes:
    payload = Payload(file[:HEAD], len(file), [OTHERS, KEY])
    start, end = min(start, payload.size - 1), payload.size if end is None else min(end, payload.size)
    for one in (payload.last, (start, end)):
        place, behind = payload.place(*one)
        found = payload.opened(*one, file[place:behind])
    return found


@pytest.mark.parametrize("size", SIZES)
def test_what_the_library_has_written_is_read(size: int) -> None:
    assert read(SEALED[size]) == PLAIN[size]


@settings(deadline=None)
@given(size=st.sampled_from(SIZES), first=st.integers(0, 4 * CHUNK), length=st.integers(1, 2 * CHUNK))
def test_any_part_is_that_part_and_reads_only_its_chunks(size: int, first: int, length: int) -> None:
    start = min(first, size - 1)
    end = min(start + length, size)
    assert read(SEALED[size], start, end) == PLAIN[size][start:end]
    place, behind = Payload(SEALED[size][:HEAD], len(SEALED[size]), [KEY]).place(start, end)
    assert behind - place <= end - start + 2 * CHUNK + 4 * 16


@settings(deadline=None, max_examples=300)
@given(place=st.one_of(st.integers(0, PAYLOAD), st.integers(0, len(THREE) - 1)), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(place: int, bit: int) -> None:
    changed = bytearray(THREE)
    changed[place] ^= 1 << bit
    with pytest.raises((Altered, Foreign)):
        read(bytes(changed))


@settings(deadline=None)
@given(length=st.one_of(st.integers(0, PAYLOAD + 40), st.integers(0, len(THREE) - 1)))
def test_nothing_can_be_cut_off(length: int) -> None:
    with pytest.raises(Altered):
        read(THREE[:length])


@pytest.mark.parametrize("chunks", [(0, 1), (0, 2), (1, 2), (1, 0, 2), (0, 0, 2), (0, 1, 2, 2), (2,), ()])
def test_no_chunk_can_be_left_out_moved_or_repeated(chunks: tuple[int, ...]) -> None:
    sealed = CHUNK + 16
    cut = [THREE[PAYLOAD + number * sealed : PAYLOAD + (number + 1) * sealed] for number in range(3)]
    with pytest.raises(Altered):
        read(THREE[:PAYLOAD] + b"".join(cut[number] for number in chunks))


def test_what_follows_is_noticed() -> None:
    with pytest.raises(Altered):
        read(THREE + b"\0")


def test_one_for_several_keys_is_for_each() -> None:
    assert read(pyrage.encrypt(b"both", [OTHER.to_public(), IDENTITY.to_public()])) == b"both"


def test_one_for_another_key_is_foreign() -> None:
    file = pyrage.encrypt(b"x", [OTHER.to_public()])
    with pytest.raises(Foreign, match="another key"):
        Payload(file[:HEAD], len(file), [KEY])
    with pytest.raises(Foreign):
        Payload(file[:HEAD], len(file), [])


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"RIFF" + bytes(500),
        b"age-encryption.org/v2" + THREE[21:],
        b"age-encryption.org/v1\n--- \n",
        pyrage.encrypt(b"x", [IDENTITY.to_public()], armored=True),
        pyrage.passphrase.encrypt(b"x", "secret"),
        b"age-encryption.org/v1\n-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n--- \nmore",
    ],
    ids=["empty", "wav", "version", "no key", "armored", "passphrase", "low order"],
)
def test_what_is_no_such_file_is_refused(file: bytes) -> None:
    with pytest.raises((Altered, Foreign)):
        read(file)


@settings(deadline=None)
@given(head=st.binary(max_size=400))
def test_whatever_it_is_given_it_refuses(head: bytes) -> None:
    with pytest.raises((Altered, Foreign)):
        read(b"age-encryption.org/v1\n" + head)
