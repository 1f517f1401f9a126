"""The parameters of a recording, checked: what a document, a handler or a client may ask for."""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, HttpUrl, ValidationError, field_validator

from esl_record.errors import EslRecordError
from esl_record.recording.machine import Limits

M = TypeVar("M", bound=BaseModel)

DTMF_DIGITS = frozenset("0123456789ABCD*#")

_LONGEST = 1e9
"""Seconds past which a time means never; keeps sample counts within 64 bits at any rate."""

_NUMERAL = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*\Z")

_PASSWORD = re.compile(r"//[^/\s]*@")

_SECRET = re.compile("password|authorization", re.IGNORECASE)
_HIDDEN = ("password", "body")
"""Parameters whose values are not shown."""

_TOLD = 20
"""Mistakes in one step that are told of at most."""

_CODES = {"extra_forbidden": "undefined", "missing": "missing"}


class Format(StrEnum):
    WAV = "wav"
    MP3 = "mp3"
    MP4 = "mp4"


class Direction(StrEnum):
    SPEAK = "speak"
    LISTEN = "listen"
    BOTH = "both"


class ParameterError(EslRecordError):
    """A parameter is unknown, of the wrong type or out of range; the text names method, parameter, value, allowed.

    ``code`` is the end of the contract's code: ``undefined``, ``missing`` or ``invalid_value``.
    """

    def __init__(self, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.code = code


def number(value: object) -> object:
    """A number or a numeric string, as SWML allows; a bool is neither."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number is wanted")
    # Python takes 1_0 and digits of other scripts for numbers too.
    if isinstance(value, str) and not _NUMERAL.match(value):
        raise ValueError("a number is wanted")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number is wanted") from None


def _truth(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("true or false is wanted")


Seconds = Annotated[float, BeforeValidator(number), Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, BeforeValidator(number), Field(ge=0, le=100, allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_truth)]


class RecordParams(BaseModel):
    """Parameters of ``record`` with its defaults; times in seconds, 0 = off.

    ``early_media``: record a call that is not answered as it is, neither answering it nor waiting for the answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stereo: Flag = False
    format: Format = Format.WAV
    direction: Direction = Direction.SPEAK
    terminators: str = "#"
    beep: Flag = False
    input_sensitivity: Percent = 44.0
    initial_timeout: Seconds = 4.0
    end_silence_timeout: Seconds = 5.0
    max_length: Seconds = 0.0
    early_media: Flag = False
    status_url: HttpUrl | None = None
    control_id: str = Field(default_factory=lambda: str(uuid.uuid4()), min_length=1, max_length=256)

    @field_validator("terminators", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        # YAML reads an unquoted 5 as a number.
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not set(text.upper()) <= DTMF_DIGITS:
            raise ValueError("digits 0-9 A-D * # are wanted")
        return text.upper()

    @classmethod
    def of(cls, method: str, given: Mapping[str, Any]) -> Self:
        """The parameters of ``method`` as ``given``. Raises ParameterError, one clause a mistake."""
        return validated(cls, method, given)

    def limits(self, rate: int) -> Limits:
        """What ends the recording by itself, in samples at ``rate``."""

        def samples(seconds: float) -> int:
            return round(min(seconds, _LONGEST) * rate)

        return Limits(
            initial_timeout=samples(self.initial_timeout),
            end_silence=samples(self.end_silence_timeout),
            max_length=samples(self.max_length),
            terminators=frozenset(self.terminators),
        )


def validated(model: type[M], method: str, given: Mapping[str, Any]) -> M:
    """``given`` as a ``model``. Raises ParameterError that names method, parameter, value and what is allowed."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        found = list(islice(complaints(model, method, given, error), _TOLD))
        raise ParameterError("; ".join(text for _, text in found), found[0][0]) from None


def complaints(
    model: type[BaseModel],
    method: str,
    given: Mapping[str, Any],
    error: ValidationError,
    *,
    ignore: Callable[[str, object], bool] = lambda parameter, value: False,
) -> Iterator[tuple[str, str]]:
    """The end of the contract's code, and a sentence, for each mistake in ``given`` but those whose value is one to
    ``ignore``, within that parameter."""
    for mistake in error.errors(include_url=False):
        parameter = str(mistake["loc"][0]) if mistake["loc"] else ""
        if mistake["type"] in _CODES or not ignore(parameter, mistake["input"]):
            yield _CODES.get(mistake["type"], "invalid_value"), _complaint(model, method, given, mistake)


def _complaint(model: type[BaseModel], method: str, given: Mapping[str, Any], mistake: Any) -> str:
    name = ".".join(str(part) for part in mistake["loc"]) or "parameters"
    if mistake["type"] == "extra_forbidden":
        return f"{method}: unknown parameter {name[:80]!r}; known are {', '.join(model.model_fields)}"
    if mistake["type"] == "missing":
        return f"{method}: parameter {name!r} is missing"
    reason = mistake["msg"].removeprefix("Value error, ")
    value = "***" if _is_secret(name) else disclosed(given.get(name, mistake["input"]))
    return f"{method}: {name} = {value!r}: {reason}"


def disclosed(value: object) -> str:
    """The beginning of ``value`` for a message. An address may hold a password, and so may what was to be a mapping."""
    text = str(value)
    return "***" if _SECRET.search(text) else _PASSWORD.sub("//***@", text)[:80]


def _is_secret(parameter: str) -> bool:
    first, *rest = parameter.split(".")
    return first in _HIDDEN or (first == "headers" and rest[-1:] != ["name"])
