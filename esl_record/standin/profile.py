"""A caller profile: the block of headers that says who calls whom, and when what happened to the call."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from esl_record.standin.headers import Header

_TIMES = (
    "Channel-Created",
    "Channel-Answered",
    "Channel-Progress",
    "Channel-Progress-Media",
    "Channel-Hangup",
    "Channel-Transfer",
    "Channel-Resurrect",
    "Channel-Bridged",
)


@dataclass
class Profile:
    """One leg's caller profile. ``times`` holds microseconds since the epoch, 0 or absent for what has not happened.

    ``profiled`` is when the call was sent elsewhere, which gave it this profile instead of its first, or 0; ``sent_to``
    is where. ``held_us`` is how long the holds that are over took.
    """

    direction: str
    number: str
    name: str
    destination: str
    uuid: str
    channel_name: str
    created: int
    index: str | None = None
    callee: str | None = None
    dialplan: str = "XML"
    context: str = "default"
    rdnis: str = ""
    transfer_source: str = ""
    sent_to: str = ""
    profiled: int = 0
    held_us: int = 0
    times: dict[str, int] = field(default_factory=dict)

    def headers(self, prefix: str) -> list[Header]:
        """The block, every name with ``prefix-`` in front."""
        found = [
            ("Direction", self.direction),
            ("Logical-Direction", "inbound"),
            ("Username", self.number),
            ("Dialplan", self.dialplan),
            ("Caller-ID-Name", self.name),
            ("Caller-ID-Number", self.number),
            ("Orig-Caller-ID-Name", self.name),
            ("Orig-Caller-ID-Number", self.number),
        ]
        if self.callee is not None:
            found += [("Callee-ID-Name", self.callee), ("Callee-ID-Number", self.callee)]
        found += [
            ("Network-Addr", "127.0.0.1"),
            ("ANI", self.number),
            ("Destination-Number", self.destination),
            ("Unique-ID", self.uuid),
            ("Source", "mod_sofia"),
            ("Transfer-Source", self.transfer_source),
            ("Context", self.context),
            ("RDNIS", self.rdnis),
            ("Channel-Name", self.channel_name),
        ]
        if self.index is not None:
            found.append(("Profile-Index", self.index))
        found.append(("Profile-Created-Time", str(self.profiled or self.created)))
        found += [(f"{name}-Time", str(self.time(name.removeprefix("Channel-")))) for name in _TIMES]
        found += [
            ("Channel-Last-Hold", str(self.time("Last-Hold"))),
            ("Channel-Hold-Accum", str(self.held_us)),
            ("Screen-Bit", "true"),
            ("Privacy-Hide-Name", "false"),
            ("Privacy-Hide-Number", "false"),
        ]
        return [(f"{prefix}-{name}", value) for name, value in found if value]

    def send_on(self, destination: str, dialplan: str, context: str, now: int) -> None:
        """The call goes on to another destination; ``now`` in microseconds since the epoch."""
        self.destination, self.rdnis = destination, self.destination
        self.sent_to = destination
        self.dialplan, self.context = dialplan, context
        self.profiled = now
        self.index = str(int(self.index or "0") + 1)
        seconds = now // 1_000_000
        self.transfer_source = f"{seconds}:{uuid.uuid4()}:bl_xfer:{destination}/{context}/{dialplan}"

    def arrive(self) -> None:
        """An inline destination is no number: the one before it stays the call's."""
        if self.dialplan == "inline":
            self.destination, self.rdnis = self.rdnis, ""

    def time(self, what: str) -> int:
        """When ``Created``, ``Answered``, ``Progress-Media``, ``Bridged``, ``Last-Hold`` or ``Hangup`` was, or 0."""
        return self.created if what == "Created" else self.times.get(what, 0)

    def field(self, name: str) -> str | None:
        """The profile's fields as variables name them, such as ``caller_id_name``."""
        return {
            "caller_id_name": self.name,
            "caller_id_number": self.number,
            "orig_caller_id_name": self.name,
            "orig_caller_id_number": self.number,
            "ani": self.number,
            "username": self.number,
            "destination_number": self.destination,
            "dialplan": self.dialplan,
            "context": self.context,
            "rdnis": self.rdnis or None,
            "network_addr": "127.0.0.1",
            "source": "mod_sofia",
            "uuid": self.uuid,
            "chan_name": self.channel_name,
        }.get(name.lower())
