"""What live recordings cost the service: CPU and memory, with calls of the stand-in switch in real time.

python bench/live.py [--calls 100 300] [--seconds 15]
"""

import argparse

import gevent
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from serving import serving

from esl_record.standin import voice
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

SETTLING = 3.0
"""Seconds the calls get to be answered and begin."""


def measure(calls: int, seconds: float) -> tuple[float, float]:
    """CPU of one core (share) and MiB of memory while ``calls`` are recorded."""
    said = np.concatenate([np.zeros(8000, np.int16), voice.say(seconds + 3 * SETTLING)])
    with serving() as service, Progress(transient=True) as progress:
        switch = Switch()
        for _ in range(calls):
            switch.call(service.address, "echo", Caller(audio=said, gives_up_after=seconds + 4 * SETTLING))
        gevent.sleep(SETTLING)
        before = service.cpu()
        task = progress.add_task(f"{calls} calls", total=seconds)
        for _ in range(10):
            gevent.sleep(seconds / 10)
            progress.advance(task, seconds / 10)
        used, memory = (service.cpu() - before) / seconds, service.memory()
        switch.close()
    return used, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 100, 300])
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    table = Table("stereo recordings at once", "% of a core", "% of a core a call", "MiB")
    for calls in options.calls:
        share, memory = measure(calls, options.seconds)
        table.add_row(str(calls), f"{100 * share:.1f}", f"{100 * share / calls:.3f}", f"{memory:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
