"""Dial strings: what the switch's ``bridge`` is told to call, so made that nothing in a document can change its shape.

The switch cuts a dial string with several parsers in turn, each with escapes and quotes of its own (its source:
``switch_ivr_originate``, ``switch_event_create_brackets``, ``switch_separate_string``), and no escape outlives all of
them. So nothing is escaped here: what means anything to any of them is not let in. The variables of a leg name their
own delimiter, which leaves them commas.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from esl_record.recording.params import ParameterError

MOST_LEGS = 128
"""Of one kind, serial or parallel: where the switch's own arrays end."""

LONGEST_NAME = 80
"""Characters of a caller's name that are told."""

SPECIAL = "~ | ' \\ [ ] { } $ ^"
"""What no variable of a leg may have in it, besides ``:_:`` and what cannot be printed."""

_DELIMITER = "~"
_SPECIAL = re.compile(r"[~|'\\\[\]{}$^]|:_:")
_VARIABLE = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z", re.ASCII)
_ENDPOINT = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.:;=/@+*#%&?!\[\]-]+\Z", re.ASCII)

_NUMBER = re.compile(r"\+?[0-9*#]{1,32}\Z", re.ASCII)
_CALLER = re.compile(r"[A-Za-z0-9_.+*#-]{1,64}\Z", re.ASCII)
_ADDRESS = re.compile(
    r"""(?P<scheme>sips?): (?P<user>[A-Za-z0-9_.+*#-]{1,64})
    @ (?P<host>[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])? | \[[0-9A-Fa-f:.]{2,45}\]) (?P<port>:[0-9]{1,5})?
    (?P<params>(?:;[A-Za-z0-9_.-]{1,64}(?:=[A-Za-z0-9_.+-]{1,128})?){0,16})\Z""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_SWITCHES_OWN = re.compile(r";(?:fs_|received|maddr)", re.IGNORECASE)
"""Parameters by which the switch, or SIP itself, sends a call to another address than the one that is named."""

# In a name the switch decodes percent signs and cuts at / : @; it writes what is left between quotes.
_UNTOLD = re.compile(r"[~|\\\[\]{}$^\"%/:@<>]")


@dataclass(frozen=True, slots=True)
class Target:
    """Who is called: ``text`` as it was written, ``dialled`` what goes into a dial string's template."""

    text: str
    dialled: str
    is_sip: bool

    @classmethod
    def of(cls, text: str) -> "Target":
        """Raises ValueError, which says what is wanted."""
        if text.lower().startswith("queue:"):
            raise ValueError("queues are no destination of this service")
        if text.lower().startswith("stream:"):
            raise ValueError("WebSocket streams are no destination of this service")
        if text.startswith("/"):
            raise ValueError("Resource Addresses are SignalWire's own; a phone number or a SIP address is wanted")
        if _NUMBER.match(text):
            return cls(text, text, False)
        found = _ADDRESS.match(text)
        if not found or int((found["port"] or ":5060")[1:]) not in range(1, 65536):
            raise ValueError("a phone number such as +15551234567 or an address sip:user@host[:port] is wanted")
        if _SWITCHES_OWN.search(found["params"]):
            raise ValueError("its parameters must not send the call elsewhere")
        params = found["params"].split(";")[1:]
        if found["scheme"].lower() == "sips":
            params = [param for param in params if param.lower() != "transport=tls"]
            # Where it finds another one, or takes part of a name for it, the switch calls unencrypted.
            if any("port=" in param.lower() for param in params):
                raise ValueError("sips: goes by transport=tls alone")
            params.append("transport=tls")
        address = ";".join([f"{found['user']}@{found['host']}{found['port'] or ''}", *params])
        return cls(text, address, True)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who calls: a number or user, and the domain of a SIP address."""

    user: str
    domain: str = ""

    @classmethod
    def of(cls, text: str) -> "Origin":
        """Raises ValueError, which says what is wanted."""
        found = _ADDRESS.match(text)
        if found:
            return cls(found["user"], found["host"])
        if not _CALLER.match(text):
            raise ValueError("a phone number, a user's name or an address sip:user@host is wanted")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg to be dialled, such as ``sofia/internal/ann@example.com``."""

    endpoint: str
    variables: Mapping[str, str]


def display_name(text: str) -> str:
    """``text`` as far as it can be shown to whoever is called; what cannot becomes a space."""
    told = "".join(char if char.isprintable() else " " for char in text.replace("'", "\u2019"))
    return " ".join(_UNTOLD.sub(" ", told).split())[:LONGEST_NAME].strip()


def is_plain(text: str) -> bool:
    """Whether ``text`` can be a variable's value, and comes out of the dial string as it went in."""
    return bool(text) and text == text.strip() and text.isprintable() and not _SPECIAL.search(text)


def filled(template: str, target: Target) -> str:
    """The endpoint that dials ``target``: ``template`` with it in place of ``{number}`` or ``{address}``."""
    return template.replace("{address}" if target.is_sip else "{number}", target.dialled)


def dial_string(groups: Sequence[Sequence[Leg]], variables: Mapping[str, str]) -> str:
    """Rings the legs of a group together, group after group until one is answered; ``variables`` are those of every
    leg, and of the dialling itself. Raises ParameterError for anything that would not arrive as it is."""
    if not groups or not all(groups) or sum(len(group) for group in groups) > MOST_LEGS:
        raise ParameterError(f"connect: 1 to {MOST_LEGS} destinations are wanted")
    rung = "|".join(",".join(_leg(leg) for leg in group) for group in groups)
    return f"{{^^{_DELIMITER}{_assigned(variables)}}}{rung}" if variables else rung


def _leg(leg: Leg) -> str:
    if not _ENDPOINT.match(leg.endpoint) or ":_:" in leg.endpoint:
        raise ParameterError(f"connect: {leg.endpoint[:80]!r} is no endpoint of the switch")
    return f"[^^{_DELIMITER}{_assigned(leg.variables)}]{leg.endpoint}" if leg.variables else leg.endpoint


def _assigned(variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        if not _VARIABLE.match(name) or not is_plain(value):
            raise ParameterError(f"connect: {name[:80]} must be printable, without {SPECIAL}")
    return _DELIMITER.join(f"{name}={value}" for name, value in variables.items())
