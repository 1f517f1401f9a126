"""Collects the voices and noises the detector is trained on, from Debian packages alone, as 8 kHz mono.

    python bench/vad/corpus.py FOLDER [--download]

Needs Debian 12 with `ffmpeg flite espeak-ng festival` and the festvox packages of SYNTHESIS installed, and numpy, scipy
and soundfile. With --download the packages are fetched with apt-get and unpacked below FOLDER/packages, not installed.
Writes FOLDER/speech.npz and FOLDER/noise.npz: `pcm` (int16, all clips one after the other), `start`, `length`,
`group` (index into `groups`) and FOLDER/packages.txt with the versions used.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

RATE = 8000
Clip = tuple[str, NDArray[np.int16]]

# Package: (where the clips are, which part of the path below names the speaker). Licences: GPL-2+ (KDE, Tux Paint,
# Hedgewars, Asterisk prompts, gcin, Warzone), LGPL-2.1 (codec2), the games' own free licences (ScummVM games).
RECORDED = {
    "asterisk-prompt-es-co": "usr/share/asterisk/sounds/es",
    "asterisk-prompt-fr-armelle": "usr/share/asterisk/sounds/fr",
    "codec2-examples": "usr/share/codec2",
    "gcin-voice": "usr/share/gcin-voice/ogg",
    "hedgewars-data": "usr/share/games/hedgewars/Data/Sounds/voices",
    "klettres-data": "usr/share/klettres",
    "ktuberling-data": "usr/share/ktuberling/sounds",
    "tuxpaint-stamps-default": "usr/share/tuxpaint/stamps",
    "unknown-horizons": "usr/share/unknown-horizons/content/audio/voice",
}
KTUBERLING = {"da", "es", "fi", "ga", "it", "nds", "nl", "pt", "ro", "sr", "sv"}
KLETTRES = {"ar", "cs", "da", "en_GB", "es", "he", "hu", "id", "it", "ml", "nb", "nds", "nl", "pt_BR", "tn"}
STAMPS = {"bg", "be", "es", "fr", "ro", "da", "lt", "nl"}
CODEC2 = {"big_dog", "cq_ref", "cross", "f2400", "forig", "hts1a", "hts2a", "kristoff", "m2400", "mmt1", "morig", "hts"}
ARCHIVED = (
    "warzone2100-data",
    ("audio/tutorial", "audio/extra", "audio/memressp", "audio/vtoltalk", "audio/countdown"),
)
TALKIES = ("beneath-a-steel-sky", "flight-of-the-amazon-queen", "drascula")

NOISE = {
    "boswars-data": "effect",
    "colobot-common-sounds": "effect",
    "endless-sky-data": "effect",
    "frozen-bubble-data": "effect",
    "marsshooter-data": "effect",
    "openclonk-data": "effect",
    "pingus-data": "effect",
    "scorched3d-data": "effect",
    "sound-icons": "effect",
    "tuxmath-data": "effect",
    "tuxpaint-data": "effect",
    "tuxtype-data": "effect",
    "unknown-horizons": "effect",
    "wesnoth-1.16-data": "effect",
    "wesnoth-1.16-music": "effect",
    "hyperrogue-music": "effect",
    "hedgewars-data": "effect",
    "warzone2100-data": "effect",
    "xmoto-data": "effect",
    "torcs-data": "effect",
    "minetest-data": "effect",
    "trigger-rally-data": "effect",
    "lincity-ng-data": "effect",
    "extremetuxracer-data": "effect",
}
PACKAGES = sorted({*RECORDED, *NOISE, *TALKIES, ARCHIVED[0]})
NOT_NOISE = (
    "voice",
    "/speech",
    "announcer",
    "tutorial",
    "stamps",
    "units/",
    "memressp",
    "vtoltalk",
    "countdown",
    "taunt",
)
LONG = 12.0  # s: what lasts longer is music or ambience, what does not is an effect

FESTIVAL = (
    "kal_diphone ked_diphone cmu_us_slt_arctic_hts lp_diphone pc_diphone suo_fi_lj_diphone "
    "hy_fi_mv_diphone czech_dita czech_machac czech_krb czech_ph hindi_NSK_diphone marathi_NSK_diphone "
    "telugu_NSK_diphone upc_ca_ona_hts"
)
ESPEAK = (
    "en-gb en-us en-gb-scotland de fr-fr es es-419 it pt pt-br nl sv da nb fi pl cs hu ro tr hr sk lt lv "
    "et is ga cy eo sw zu id ms vi hi bn ta te ja ko cmn ar fa ka hy az kk"
)
VARIANTS = "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 klatt klatt2 klatt3 croak whisper"
WORDS = (
    "hello good morning my name is please call me back tomorrow about the order number seven four two "
    "nine I would like to speak with someone in your office it is urgent thank you very much yes no maybe "
    "later we have not received our invoice the address has changed can you send a letter by the end of "
    "next week goodbye one three five six eight zero my telephone does not work since yesterday evening "
    "what time do you open on Saturday"
)


def decode(data: bytes | Path, rate: int | None = None) -> NDArray[np.int16]:
    """Mono 8 kHz of an audio file's bytes or path; raw `rate` Hz 8-bit unsigned if a rate is given."""
    if rate:
        assert isinstance(data, bytes)
        wave, source = (np.frombuffer(data, np.uint8).astype(float) - 128) / 128, rate
    else:
        file = io.BytesIO(data) if isinstance(data, bytes) else str(data)
        wave, source = soundfile.read(file, always_2d=True)
        wave = wave[: 180 * source].mean(axis=1)
    divisor = np.gcd(source, RATE)
    if source != RATE:
        wave = resample_poly(wave, RATE // divisor, source // divisor)
    peak = np.abs(wave).max(initial=1e-9)
    return np.round(wave / max(1.0, peak) * 32767).astype(np.int16)


def recorded(root: Path) -> Iterator[tuple[str, Path]]:
    """(speaker, file) of recorded speech that is one clip a file."""
    for package, below in RECORDED.items():
        folder = root / package / below
        for path in sorted(folder.rglob("*")):
            if path.suffix not in {".ogg", ".wav", ".gsm", ".raw", ".mp3", ".flac"}:
                continue
            parts = path.relative_to(folder).parts
            if package == "ktuberling-data":
                keep, speaker = parts[0] in KTUBERLING, parts[0]
            elif package == "klettres-data":
                keep, speaker = parts[0] in KLETTRES, parts[0]
            elif package == "hedgewars-data":
                keep, speaker = parts[0] != "Robot", parts[0]
            elif package == "tuxpaint-stamps-default":
                speaker = path.stem.rsplit("_", 1)[-1]
                keep = "_desc_" in path.stem and speaker in STAMPS
            elif package == "codec2-examples":
                keep, speaker = path.stem in CODEC2 and path.suffix == ".raw", path.stem
            elif package == "unknown-horizons":
                keep, speaker = True, parts[0]
            else:
                keep, speaker = "silence" not in parts, ""
            if keep:
                yield f"{package}:{speaker}", path


def unpacked(data: bytes) -> bytes:
    """What Rob Northen's ProPack, method 1, has packed: Huffman-coded runs of literals and copies."""
    out = bytearray()
    at, buffer, count = 18, int.from_bytes(data[18:20], "little"), 16

    def take(bits: int) -> int:
        nonlocal at, buffer, count
        value = buffer & ((1 << bits) - 1)
        buffer >>= bits
        count -= bits
        if count < 16:
            at += 2
            buffer |= int.from_bytes(data[at : at + 2], "little") << count
            count += 16
        return value

    def table() -> list[tuple[int, int, int]]:
        lengths = [take(4) for _ in range(take(5))]
        leaves, code = [], 0
        for length in range(1, max(lengths, default=0) + 1):
            for value, its in enumerate(lengths):
                if its == length:
                    leaves.append((length, int(f"{code:0{length}b}"[::-1], 2), value))
                    code += 1
            code <<= 1
        return leaves

    def decoded(leaves: list[tuple[int, int, int]]) -> int:
        for length, code, value in leaves:
            if buffer & ((1 << length) - 1) == code:
                take(length)
                return value if value < 2 else 1 << (value - 1) | take(value - 1)
        raise ValueError("no such code")

    take(2)
    for _ in range(data[17]):
        literal, distance, repeat = table(), table(), table()
        for left in range(take(16), 0, -1):
            if run := decoded(literal):
                out += data[at : at + run]
                at += run
                count -= 16
                buffer = buffer & ((1 << count) - 1) | int.from_bytes(data[at : at + 2], "little") << count
                count += 16
            if left > 1:
                start = len(out) - decoded(distance) - 1
                for k in range(decoded(repeat) + 2):
                    out.append(out[start + k])
    return bytes(out)


def steel_sky(folder: Path) -> Iterator[bytes]:
    """Lines of dialogue, packed 8-bit unsigned at 11,025 Hz, of Beneath a Steel Sky's archive."""
    index, data = (next(folder.rglob(f"sky.{suffix}")).read_bytes() for suffix in ("dnr", "dsk"))
    for at in range(4, len(index) - 7, 8):
        number = int.from_bytes(index[at : at + 2], "little")
        start = int.from_bytes(index[at + 2 : at + 5], "little")
        size = int.from_bytes(index[at + 5 : at + 8], "little") & 0x3FFFFF
        start = (start & 0x7FFFFF) << 4 if start >> 23 & 1 else start & 0x7FFFFF
        if 50000 <= number < 55100 and data[start + 22 : start + 26] == b"RNC\1":
            yield data[start + 22 : start + size]


def amazon_queen(folder: Path) -> Iterator[bytes]:
    """Lines of dialogue, MP3, of Flight of the Amazon Queen's archive."""
    data = next(folder.rglob("queen.1c")).read_bytes()
    at = 15
    while data[at : at + 12].rstrip(b"\0").replace(b".", b"").isalnum():
        start, size = (int.from_bytes(data[at + 13 + part : at + 17 + part], "big") for part in (0, 4))
        if data[at : at + 12].rstrip(b"\0").endswith(b".SB"):
            yield data[start : start + size]
        at += 21


def _load(job: tuple[str, Path | bytes, int | None]) -> Clip | None:
    group, source, rate = job
    try:
        if isinstance(source, Path) and source.suffix in {".gsm", ".raw"}:
            form = ["-f", "s16le", "-ar", "8000", "-ac", "1"]
            command = [
                "ffmpeg",
                "-v",
                "error",
                *(form if source.suffix == ".raw" else []),
                "-i",
                str(source),
                *form,
                "-",
            ]
            return group, np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.int16)
        if isinstance(source, bytes) and source[:4] == b"RNC\1":
            source = unpacked(source)
        return group, decode(source, rate)
    except Exception as error:
        print(group, source if isinstance(source, Path) else "", error, file=sys.stderr)
        return None


def _synthesise(job: tuple[str, str, int]) -> Clip | None:
    kind, voice, seed = job
    rng = np.random.default_rng(seed)
    text = " ".join(rng.choice(WORDS.split(), rng.integers(2, 14)))
    out = Path(tempfile.gettempdir()) / f"synthesis-{kind}-{voice.replace('+', '-')}-{seed}.wav"
    if kind == "flite":
        command = [
            "flite",
            "-voice",
            voice,
            "--setf",
            f"duration_stretch={rng.uniform(0.8, 1.3):.2f}",
            "-t",
            text,
            "-o",
            str(out),
        ]
    elif kind == "espeak":
        command = [
            "espeak-ng",
            "-v",
            voice,
            "-s",
            str(rng.integers(120, 220)),
            "-p",
            str(rng.integers(20, 80)),
            "-w",
            str(out),
            text,
        ]
    else:
        command = ["text2wave", "-eval", f"(voice_{voice})", "-o", str(out)]
    try:
        subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=60)
        return f"{kind}:{voice}", decode(out)
    except Exception as error:
        print(kind, voice, error, file=sys.stderr)
        return None
    finally:
        out.unlink(missing_ok=True)


def speech(root: Path, pool: Pool) -> Iterator[Clip]:
    jobs: list[tuple[str, Path | bytes, int | None]] = [(group, path, None) for group, path in recorded(root)]
    jobs += [(TALKIES[0], data, 11025) for data in list(steel_sky(root / TALKIES[0]))[::2]]
    jobs += [(TALKIES[1], data, None) for data in list(amazon_queen(root / TALKIES[1]))[::2]]
    jobs += [(TALKIES[2], path.read_bytes(), 11025) for path in sorted((root / TALKIES[2]).rglob("*.ALS"))]
    package, folders = ARCHIVED
    archive = zipfile.ZipFile(next((root / package).rglob("base.wz")))
    names = sorted(name for name in archive.namelist() if name.startswith(folders) and name.endswith(".ogg"))
    jobs += [(f"{package}:{name.split('/')[1]}", archive.read(name), None) for name in names]
    yield from (clip for clip in pool.imap(_load, jobs, 32) if clip)
    variants = VARIANTS.split()
    made = [("flite", voice, seed) for voice in ("kal", "awb", "kal16", "rms", "slt") for seed in range(40)]
    made += [
        ("espeak", f"{voice}+{variants[(i + k) % len(variants)]}", 100 * i + k)
        for i, voice in enumerate(ESPEAK.split())
        for k in range(8)
    ]
    made += [("festival", voice, seed) for voice in FESTIVAL.split() for seed in range(14)]
    yield from (clip for clip in pool.imap(_synthesise, made, 8) if clip)


def noises(root: Path, pool: Pool) -> Iterator[Clip]:
    jobs: list[tuple[str, Path | bytes, int | None]] = []
    for package in NOISE:
        for path in sorted((root / package).rglob("*")):
            name = str(path.relative_to(root))
            if path.suffix in {".ogg", ".wav", ".mp3", ".flac"} and not any(word in name for word in NOT_NOISE):
                jobs.append((package, path, None))
    archive = zipfile.ZipFile(next((root / "warzone2100-data").rglob("base.wz")))
    for name in sorted(archive.namelist()):
        if name.startswith("audio/sfx") and name.endswith(".ogg"):
            jobs.append(("warzone2100-data", archive.read(name), None))
    for clip in pool.imap(_load, jobs, 8):
        if clip:
            group, pcm = clip
            yield f"{group}:{'long' if len(pcm) > LONG * RATE else 'effect'}", pcm[: 120 * RATE]


def store(clips: Iterator[Clip], path: Path) -> None:
    names: list[str] = []
    parts, groups = [], []
    for group, pcm in clips:
        if len(pcm) < 0.15 * RATE or np.abs(pcm.astype(int)).max() < 300:
            continue
        if group not in names:
            names.append(group)
        groups.append(names.index(group))
        parts.append(pcm)
    length = np.array([len(part) for part in parts])
    np.savez(
        path, pcm=np.concatenate(parts), start=np.cumsum(length) - length, length=length, group=groups, groups=names
    )
    for number, name in enumerate(names):
        which = np.array(groups) == number
        print(f"{path.stem} {name}: {which.sum()} clips, {length[which].sum() / RATE / 60:.1f} min")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--download", action="store_true")
    options = parser.parse_args()
    root = options.folder / "packages"
    if options.download:
        root.mkdir(parents=True, exist_ok=True)
        for package in PACKAGES:
            subprocess.run(["apt-get", "download", package], cwd=root, check=True)
            subprocess.run(["dpkg", "-x", str(next(root.glob(f"{package}_*.deb"))), str(root / package)], check=True)
    shown = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *PACKAGES], capture_output=True, text=True, check=True
    )
    lines = [line.split(": ")[1] for line in shown.stdout.splitlines() if line.startswith(("Package: ", "Version: "))]
    (options.folder / "packages.txt").write_text(
        "".join(f"{a} {b}\n" for a, b in zip(lines[::2], lines[1::2], strict=True))
    )
    with Pool(2) as pool:
        store(speech(root, pool), options.folder / "speech.npz")
        store(noises(root, pool), options.folder / "noise.npz")


if __name__ == "__main__":
    main()
