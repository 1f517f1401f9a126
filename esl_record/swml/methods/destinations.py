"""What ``connect`` is given: destinations, and what holds for all of them."""

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, field_validator, model_validator

from esl_record.recording.params import Flag, number
from esl_record.swml.dialing import MOST_LEGS, SPECIAL, Origin, Target, is_plain
from esl_record.swml.methods.calls import Whole
from esl_record.swml.methods.flow import Result
from esl_record.swml.methods.parameters import Parameters
from esl_record.swml.sounds import playable

LONGEST = 80
"""Bytes of a user's name, and of a password."""

MOST_RINGS = 32
"""Sounds of a ringback."""

MOST_HEADERS = 64

TIMEOUT = 60.0
MAX_DURATION = 14_400.0
"""Seconds, as in SWML."""

_HEADER = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z", re.ASCII)

_SWITCHES_HEADERS = frozenset(
    (
        *("accept", "allow", "authorization", "call-id", "contact", "content-encoding", "content-length"),
        *("content-type", "cseq", "from", "max-forwards", "min-se", "proxy-authorization", "proxy-require"),
        *("record-route", "replaces", "require", "route", "session-expires", "supported", "to", "via"),
    )
)
"""Headers of an INVITE that the switch itself writes; a second one would break it."""


class Encryption(StrEnum):
    MANDATORY = "mandatory"
    OPTIONAL = "optional"
    FORBIDDEN = "forbidden"


class CallState(StrEnum):
    CREATED = "created"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"


def _dialled(text: str) -> str:
    Target.of(text)
    return text


def _caller(text: str) -> str:
    # A variable without a value leaves the caller's own.
    if text:
        Origin.of(text)
    return text


def _plain(text: str) -> str:
    text = text.strip()
    if text and not is_plain(text):
        raise ValueError(f"printable text is wanted, without {SPECIAL}")
    return text


def _username(text: str) -> str:
    # The switch has room for so much of both together.
    if ":" in text or len(text.encode()) > LONGEST:
        raise ValueError(f"a user's name is wanted, up to {LONGEST} bytes, without :")
    return _plain(text)


def _password(value: object) -> object:
    # What a message would show must not be one: its text is looked at where no message shows it.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _header(name: str) -> str:
    if not _HEADER.match(name) or name.lower() in _SWITCHES_HEADERS:
        raise ValueError("the name of a header is wanted that the switch does not write itself, such as X-Account")
    return name


def _codecs(text: str) -> str:
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,40}", name, re.ASCII) for name in names):
        raise ValueError("names of codecs are wanted, separated by commas")
    return ",".join(names)


def _unconfirmed(value: object) -> object:
    raise ValueError("this service runs no confirmation, and does not connect without one that is asked for")


def _ringing(url: str) -> str:
    application, argument = playable(url)
    if application != "playback" or not argument:
        raise ValueError("speech and nothing at all are no ringback")
    # What the switch would take for quotes, and for where one file ends and the next begins.
    if set(argument) & set("'\\!") or argument != argument.strip():
        raise ValueError("a ringback without ' and \\ and ! is wanted, and without a blank at its end")
    return argument


def _unheard(value: object) -> object:
    raise ValueError("the switch plays a ringback as it is, again and again until there is an answer, and tells nobody")


Dialled = Annotated[str, AfterValidator(_dialled)]
Caller = Annotated[str, AfterValidator(_caller)]
Ringing = Annotated[str, AfterValidator(_ringing)]
Unheard = Annotated[Any, BeforeValidator(_unheard)]


class Header(Parameters):
    """One header of the INVITE; without a value it is not sent."""

    name: Annotated[str, AfterValidator(_header)]
    value: Annotated[str, AfterValidator(_plain), Field(max_length=1024)]


class Device(Parameters):
    """What a destination may say for itself, and ``connect`` for all; times in seconds, 0 = the default, and of
    ``max_duration`` no end. All but ``from_``, ``timeout``, ``max_duration`` and the call states is of SIP alone.
    """

    from_: Caller = Field(default="", alias="from")
    from_name: str = ""
    headers: Annotated[list[Header], Field(max_length=MOST_HEADERS)] = Field(default_factory=list)
    codecs: Annotated[str, AfterValidator(_codecs)] = ""
    webrtc_media: Flag = False
    session_timeout: Annotated[float, BeforeValidator(number), Field(ge=1, multiple_of=1, allow_inf_nan=False)] = 0.0
    username: Annotated[str, AfterValidator(_username)] = ""
    password: Annotated[str, BeforeValidator(_password)] = ""
    timeout: Whole = 0.0
    max_duration: Whole = MAX_DURATION
    encryption: Encryption | None = None
    call_state_url: HttpUrl | None = None
    call_state_events: list[CallState] = Field(default_factory=lambda: [CallState.ENDED])
    confirm: Annotated[Any, BeforeValidator(_unconfirmed)] = None
    confirm_timeout: Whole = 0.0
    """Without a confirmation it means nothing."""

    @property
    def ringing(self) -> float:
        """Seconds it may ring."""
        return self.timeout or TIMEOUT


class Destination(Device):
    """One to be called: a phone number or a SIP address."""

    to: Dialled


class Ringback(Parameters):
    """What the caller hears until there is an answer: ``url``, or ``urls`` in turn, again and again. What ``play``
    may be told besides has no meaning for it, or none the switch could give it."""

    url: Ringing = ""
    urls: Annotated[list[Ringing], Field(max_length=MOST_RINGS)] = Field(default_factory=list)
    auto_answer: Flag = True
    say_voice: str | None = None
    say_language: str | None = None
    say_gender: str | None = None
    volume: Unheard = None
    loop: Unheard = None
    status_url: Unheard = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.url) == bool(self.urls):
            raise ValueError("one of url and urls is wanted")
        return self

    @property
    def heard(self) -> str:
        """As the switch has it. A tone or a silence by itself it could not begin again, and would dial no further."""
        return f"file_string://{'!'.join(self.sounds)}"

    @property
    def sounds(self) -> list[str]:
        """Each as the switch has it."""
        return self.urls or [self.url]


Destinations = Annotated[list[Destination], Field(min_length=1, max_length=MOST_LEGS)]


class ConnectParams(Device):
    """``to``, or ``serial``, one after the other, ``parallel``, all at once, or ``serial_parallel``, groups of those.

    ``answer_on_bridge``: the caller is answered only when the other is. ``transfer_after_bridge``: a document's URL,
    or one written as JSON. Without a ``ringback`` the caller hears what those who are called send before they answer.
    """

    to: Dialled = ""
    serial: Destinations = Field(default_factory=list)
    parallel: Destinations = Field(default_factory=list)
    serial_parallel: Annotated[list[Destinations], Field(min_length=1, max_length=MOST_LEGS)] = Field(
        default_factory=list
    )
    answer_on_bridge: Flag = False
    ringback: Ringback | None = None
    result: Result | None = None
    status_url: HttpUrl | None = None
    transfer_after_bridge: str | None = None

    @field_validator("ringback", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return {"urls": value} if isinstance(value, list) else value

    def groups(self) -> list[list[Destination]]:
        """Who is called together, group after group, each with what it does not say for itself."""
        if self.to:
            found = [[Destination(to=self.to)]]
        elif self.parallel:
            found = [self.parallel]
        else:
            found = self.serial_parallel or [[destination] for destination in self.serial]
        return [[self._whole(destination) for destination in group] for group in found]

    def _whole(self, destination: Destination) -> Destination:
        unsaid = Device.model_fields.keys() - destination.model_fields_set
        return destination.model_copy(update={name: getattr(self, name) for name in unsaid})
