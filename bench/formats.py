"""What each format costs while calls are recorded, and how soon a recording is complete once its call has ended.

    python bench/formats.py [--calls 200] [--seconds 20] [--formats wav mp3 mp4] [--stereo]
    python bench/formats.py --hours 3

The first runs the service as a process of its own, with calls of the stand-in switch in real time, and presses `#` in
one after the other: a time is from there to the hang-up, so with all that is told to the switch meanwhile. The second
encodes long recordings in this process, as fast as it can: memory, and what remains to be done at the end.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import gevent
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from serving import Serving, serving

from esl_record.audio.formats import FORMATS
from esl_record.recording.encoding import STEP, Encoding
from esl_record.recording.params import Format, RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

SETTLING = 4.0
"""Seconds the calls get to be answered and begin."""

ENDS = 30
"""Calls that are ended one after the other."""

DOCUMENT = """
version: 1.0.0
sections:
  main:
    - answer
    - record: {{format: {format}, stereo: {stereo}, terminators: "#", initial_timeout: 0, end_silence_timeout: 0}}
    - hangup
"""


def live(format: str, stereo: bool, calls: int, seconds: float) -> tuple[float, float, list[float], list[int]]:
    """CPU of a core a call, MiB of memory, seconds of each end, and looks at the hub: all, and those late by 50 ms."""
    said = np.concatenate([np.zeros(8000, np.int16), voice.say(seconds + 60)])
    with tempfile.TemporaryDirectory() as documents:
        (Path(documents) / "bench.yaml").write_text(DOCUMENT.format(format=format, stereo=str(stereo).lower()))
        with serving(f"--documents={documents}") as service:
            switch = Switch()
            placed = []
            for _ in range(calls + ENDS):
                placed.append(switch.call(service.address, "bench", Caller(said, gives_up_after=seconds + 120)))
                gevent.sleep(0.01)
            gevent.sleep(SETTLING)
            before, earlier, began = service.cpu(), stalls(service), time.monotonic()
            gevent.sleep(seconds)
            cpu = (service.cpu() - before) / (time.monotonic() - began) / len(placed)
            ends = []
            for call in track(placed[:ENDS], description=format, transient=True):
                pressed = time.monotonic()
                call.press("#")
                call.wait(30)
                ends.append(time.monotonic() - pressed)
                gevent.sleep(0.2)
            late = [now - then for now, then in zip(stalls(service), earlier, strict=True)]
            memory = service.memory()
            switch.close()
    return cpu, memory, ends, late


def stalls(service: Serving) -> list[int]:
    """Looks at the hub so far: all, and those late by 50 ms."""
    counts = {}
    for line in service.metrics().splitlines():
        if line.startswith("esl_record_hub_stall_seconds_bucket"):
            name, _, count = line.rpartition(" ")
            counts[name.split('"')[1]] = int(float(count))
    return [counts["+Inf"], counts["+Inf"] - counts["0.05"]]


def long(format: str, stereo: bool, hours: float, rate: int) -> tuple[float, float, float]:
    """Times real time it is encoded, MiB that memory grows after the first minute, seconds that remain at the end."""
    minute = voice.say(60.0, rate)
    block = np.stack([minute, np.roll(minute, rate)], 1).tobytes() if stereo else minute.tobytes()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        storage = Storage(Path(folder))
        storage.prepare()
        params = RecordParams(format=Format(format), stereo=stereo)
        recording = Recording.begun(storage.new_id(), Party(call_id="bench"), params, time.time())
        recording = recording.model_copy(update={"sample_rate": rate})
        path = storage.spool_path(recording.recording_id)
        grown = 0
        encoding = Encoding(storage, recording, lambda: grown)
        began, first = 0.0, 0
        with path.open("ab", buffering=0) as spool:
            for at in track(range(round(hours * 60)), description=f"{format} {rate} Hz", transient=True):
                spool.write(block)
                for _ in range(round(60 / STEP)):
                    grown += round(STEP * rate)
                    encoding.advance()
                if not at:
                    began, first = time.monotonic(), resident()
        speed, most = (hours - 1 / 60) * 3600 / (time.monotonic() - began), resident()
        with path.open("ab") as spool:
            spool.write(block[: 2 * rate * recording.channels * 2])
        # As after minutes in which the switch wrote no more than a call says.
        os.sync()
        ended = time.monotonic()
        encoding.finish(recording, grown + 2 * rate)
        return speed, most - first, time.monotonic() - ended


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--stereo", action="store_true")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--hours", type=float, help="of a long recording, in place of calls")
    parser.add_argument("--rate", type=int, default=8000, help="of the long recording")
    options = parser.parse_args()
    if options.hours:
        table = Table("format", "times real time", "memory grows by, MiB", "s from end to complete")
        for format in options.formats:
            table.add_row(
                format, *(f"{told:.2f}" for told in long(format, options.stereo, options.hours, options.rate))
            )
    else:
        table = Table("format", "% of a core a call", "MiB", "end: median ms", "slowest", "hub looks", "late by 50 ms")
        for format in options.formats:
            cpu, size, ends, late = live(format, options.stereo, options.calls, options.seconds)
            middle, worst = 1000 * np.median(ends), 1000 * max(ends)
            table.add_row(format, f"{100 * cpu:.2f}", f"{size:.0f}", f"{middle:.0f}", f"{worst:.0f}", *map(str, late))
    Console().print(table)


if __name__ == "__main__":
    main()
