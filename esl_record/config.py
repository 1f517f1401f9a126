"""Settings: flags, then ``ESL_RECORD_*`` environment variables, then a file, then the defaults."""

import base64
import os
import re
import socket
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from esl_record import yamltree
from esl_record.audio.facts import Quality
from esl_record.errors import ConfigError
from esl_record.recording.identity import given, identity, scrubbed
from esl_record.recording.machine import PauseBehavior
from esl_record.recording.params import DTMF_DIGITS
from esl_record.recording.pause_digits import LONGEST, PauseDigits
from esl_record.status.receiver import Receiver

PREFIX = "ESL_RECORD_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"

SECRET_BYTES = 24
"""Of a webhook secret, at least; what the Standard Webhooks specification recommends."""

_KEPT_SECRET = {"event_socket_password", "api_token", "webhook_secrets", "signing_key", "database"}
_KEPT_SECRET |= {"encryption_key", "encryption_key_command", "socket_secrets"}


def parse_address(value: object) -> object:
    """``host:port`` as a pair; an IPv6 host in brackets."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or "/" in host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("host:port is wanted, such as 127.0.0.1:8084")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _items(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _off(value: object) -> object:
    # YAML reads an unquoted `off` as false.
    return "off" if value is False else value


def _pairs(value: object) -> object:
    """``name=value, ...`` as a mapping."""
    if not isinstance(value, str):
        return value
    pairs = [item.partition("=") for item in value.split(",") if item.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError("name=value is wanted, several separated by commas")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _voices(value: dict[str, str]) -> dict[str, str]:
    if not all(re.fullmatch(r"[\w.-]+\|[\w.-]+", voice, re.ASCII) for voice in value.values()):
        raise ValueError("engine|voice is wanted for each name, such as en-GB=flite|awb")
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        raise ValueError("addresses or networks are wanted, such as 127.0.0.0/8") from None


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or "@" in value:
        raise ValueError("scheme, host and port of web servers are wanted, such as https://pbx.example.com:8443")
    Receiver.of(value)  # raises for a port that is none
    return value.rstrip("/")


def _folder(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("absolute paths are wanted, such as /var/lib/sounds")
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)):
        raise ValueError("a URL without query is wanted, such as https://pbx.example.com")
    return value.rstrip("/")


def _dial_string(place: str, example: str) -> AfterValidator:
    """The dial string of one leg, nothing or with one ``place`` in it; with brackets, commas or bars it would change
    that of all."""
    rest = "[A-Za-z0-9_.:;=/@+*#%&?!-]*"
    shape = re.compile(rf"(?!.*:_:)[A-Za-z0-9_.-]+/{rest}{re.escape(place)}{rest}\Z", re.ASCII)

    def checked(value: str) -> str:
        if value and not shape.match(value):
            raise ValueError(f"one endpoint with one {place} is wanted, without variables or blanks, such as {example}")
        return value

    return AfterValidator(checked)


def webhook_secret(value: str) -> str:
    """``value``, if it is one. Raises ValueError."""
    key = value.removeprefix("whsec_")
    try:
        if key != value and len(base64.b64decode(key, validate=True)) >= SECRET_BYTES:
            return value
    except ValueError:
        pass
    raise ValueError(f"whsec_ and at least {SECRET_BYTES} bytes as base64 are wanted")


def _socket_secret(value: str) -> str:
    # Nothing that the switch takes for its own in a dialplan or in vars.xml.
    if not re.fullmatch(r"[A-Za-z0-9_+/=.~-]{16,128}", value):
        raise ValueError("16 to 128 letters, digits and _ + / = . ~ - are wanted, such as `openssl rand -hex 16` gives")
    return value


def _dtmf(value: str) -> str:
    if len(value) > LONGEST or not set(value.upper()) <= DTMF_DIGITS:
        raise ValueError(f"up to {LONGEST} digits 0-9 A-D * # are allowed, such as *5 (in YAML with quotes)")
    return value.upper()


def check_spool(folder: Path) -> None:
    """Raises ConfigError if the switch cannot be given ``folder``: it splits what uuid_record is given at spaces, and
    takes commas, quotes and braces for its own."""
    if set(str(folder.absolute())) & set(" ,{}'\""):
        raise ConfigError(
            f"setting spool_dir = {str(folder.absolute())!r}: must hold no space, comma, quote or brace: the switch is "
            "given this path"
        )


Address = Annotated[tuple[str, Annotated[int, Field(ge=0, le=65535)]], NoDecode, BeforeValidator(parse_address)]
Networks = Annotated[list[Annotated[str, AfterValidator(_network)]], NoDecode, BeforeValidator(_items)]
Secrets = Annotated[list[Annotated[str, AfterValidator(webhook_secret)]], NoDecode, BeforeValidator(_items)]
_KEY = (AfterValidator(given), Field(repr=False, validate_default=False))
EncryptionKeys = Annotated[list[Annotated[str, AfterValidator(identity)]], NoDecode, BeforeValidator(_items), *_KEY]
SocketSecrets = Annotated[list[Annotated[str, AfterValidator(_socket_secret)]], NoDecode, BeforeValidator(_items)]
Sequence = Annotated[str, AfterValidator(_dtmf)]
KeyCommand = Annotated[str, *_KEY]
Lasting = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What can be set; times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(Path("data"), description="where recordings lie, and the spool beside them")
    spool_dir: Path | None = Field(
        None, description="what FreeSWITCH writes while a call is recorded; without it <data-dir>/spool"
    )
    listen: Address = Field(("127.0.0.1", 8084), description="host:port the dialplan's `socket` action connects to")
    documents: Path | None = Field(None, description="folder of SWML documents; those built in are found without it")
    document_timeout: Positive = Field(5.0, description="how long a server may take to give a document")
    document_fallback: bool = Field(False, description="where it fails, run the document it gave last; true or false")
    envs: Annotated[dict[str, Any], NoDecode, BeforeValidator(_pairs)] = Field(
        {}, description="what documents find in the scope `envs`: name=value, separated by commas, or a mapping"
    )
    envs_origins: Annotated[list[Annotated[str, AfterValidator(_origin)]], NoDecode, BeforeValidator(_items)] = Field(
        [],
        description="web servers whose documents have `envs`, such as https://pbx.example.com, separated by commas",
    )
    play_folders: Annotated[list[Annotated[Path, AfterValidator(_folder)]], NoDecode, BeforeValidator(_items)] = Field(
        [],
        description="folders from which documents may play files, separated by commas; without any, all files to "
        "documents of this machine and none to those of web servers",
    )
    dial_number: Annotated[str, _dial_string("{number}", "sofia/gateway/carrier/{number}")] = Field(
        "",
        description="dial string by which `connect` calls a number, such as sofia/gateway/carrier/{number}; "
        "without it no number is called",
    )
    dial_sip: Annotated[str, _dial_string("{address}", "sofia/internal/{address}")] = Field(
        "sofia/internal/{address}",
        description="dial string by which `connect` calls user@host of a SIP address; empty, none is called",
    )
    voices: Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs), AfterValidator(_voices)] = Field(
        {},
        description="the switch's voices by `say_voice`, `say_language` or `say_gender`: name=engine|voice, "
        "separated by commas, or a mapping",
    )
    handlers: Path | None = Field(None, description="folder of Python handlers, for `socket host:port/python/module`")
    peers: Networks = Field(
        ["127.0.0.0/8", "::1/128"], description="networks a switch may connect from, separated by commas"
    )
    capacity: int = Field(2000, ge=1, description="calls at once; one over it goes on in its dialplan")
    peer_capacity: int = Field(0, ge=0, description="calls at once from one address; 0 = as many as capacity")
    socket_secrets: SocketSecrets = Field(
        [],
        description="secrets, separated by commas, one of which the dialplan must set as esl_record_secret before the "
        "`socket` action; without any none is needed",
    )
    command_timeout: Positive = Field(5.0, description="how long the switch may take to answer a command")
    inband_dtmf: Annotated[Literal["off", "start_dtmf", "spandsp"], BeforeValidator(_off)] = Field(
        "off",
        description="also detect digits as tones in the audio: start_dtmf (mod_dptools), spandsp (mod_spandsp) or off",
    )
    stall_timeout: Positive = Field(
        10.0,
        description="how long a live call may bring no audio before its recording ends in error",
    )
    drain_timeout: Lasting = Field(30.0, description="how long live calls get to end by themselves after SIGTERM")
    tick: float = Field(0.1, ge=0.001, le=1.0, description="how often new audio is looked at")
    pause_digits: Sequence = Field(
        "", description="digits that pause every recording of their call, such as *5; without it none do"
    )
    resume_digits: Sequence = Field("", description="digits that resume them, such as *6; without it none do")
    pause_behavior: PauseBehavior = Field(
        PauseBehavior.SILENCE,
        description="what a recording has where pause_digits paused it: silence, or nothing (skip)",
    )
    pause_limit: Lasting = Field(
        0.0, description="how long a recording may be paused before it resumes by itself; 0 = as long as it takes"
    )
    wav_samples: Literal["pcm_16", "ulaw", "alaw"] = Field(
        "pcm_16", description="a wav's samples: pcm_16, or ulaw or alaw in half the bytes"
    )
    mp3_bit_rate: Lasting = Field(
        0.0,
        le=320,
        description="kbit/s for each channel of an mp3, on average; 0 = what a voice needs, some 32 at 8 kHz",
    )
    mp4_bit_rate: Lasting = Field(
        0.0, le=320, description="kbit/s for each channel of an mp4; 0 = 24 at 8 kHz, 48 at 16 kHz, 64 above"
    )
    encryption_key: EncryptionKeys = Field(
        [],
        description="AGE-SECRET-KEY-1... that recordings are encrypted to; further ones, separated by commas, only "
        "open what was encrypted to them",
    )
    encryption_key_command: KeyCommand = Field("", description="command that writes it, instead; run without a shell")
    http: Address = Field(("127.0.0.1", 8088), description="host:port for downloads and the REST API")
    public_url: Annotated[str, AfterValidator(_base_url)] = Field(
        "", description="how others reach that, such as https://pbx.example.com; without it http://<http>"
    )
    link_lifetime: Positive = Field(7 * 86400.0, description="how long a download link is valid")
    project_id: str = Field("", description="user of the REST API; without it and token the API is on loopback only")
    api_token: str = Field("", description="password of the REST API")
    space_id: str = Field("", description="what callbacks give as space_id")
    node_id: str = Field(
        default_factory=socket.gethostname, description="what callbacks give as node_id; without it the host's name"
    )
    database: str = Field("", description="SQLAlchemy URL of the catalog; without it <data-dir>/catalog.sqlite")
    webhook_secrets: Secrets = Field(
        [], description="whsec_... that sign callbacks, separated by commas; without one <data-dir>/webhook.secret"
    )
    signing_key: str = Field("", description="key of X-SignalWire-Signature; without it the first webhook secret")
    callback_networks: Networks = Field(
        [],
        description="networks callbacks, documents and requests may go to besides the public internet, such as "
        "10.0.0.0/8",
    )
    callback_retry: Positive = Field(
        5.0, description="s until a failed callback's second attempt; every further wait is twice as long, up to 4 h"
    )
    callbacks_kept: Positive = Field(30 * 86400.0, description="how long delivered callbacks stay to be looked at")
    disk_floor: int = Field(
        500_000_000,
        ge=0,
        description="bytes that must be free where recordings and spool lie for a new recording to be begun; 0 = any",
    )
    keep_age: Lasting = Field(0.0, description="how long recordings are kept; 0 = for ever")
    keep_size: int = Field(
        0, ge=0, description="bytes of recordings that are kept, the newest; one without audio counts as 4096; 0 = all"
    )
    keep_untold: bool = Field(
        True, description="keep recordings with undelivered callbacks whatever their age; true or false"
    )
    event_socket: Address = Field(
        ("127.0.0.1", 8021), description="FreeSWITCH's own event socket; also for dial and doctor"
    )
    event_socket_password: str = Field("ClueCon", description="its password")

    @property
    def quality(self) -> Quality:
        """How recordings are encoded."""
        return Quality(self.wav_samples, self.mp3_bit_rate, self.mp4_bit_rate)

    @property
    def pause_sequences(self) -> PauseDigits:
        """Which digits pause and resume recordings. Raises ValueError where they are ambiguous."""
        return PauseDigits(self.pause_digits, self.resume_digits, self.pause_behavior)

    @model_validator(mode="after")
    def _unambiguous_digits(self) -> Self:
        self.pause_sequences  # noqa: B018  # it raises
        return self

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if bool(self.project_id) != bool(self.api_token):
            raise ValueError("project_id and api_token are wanted both, or neither")
        if self.encryption_key and self.encryption_key_command:
            raise ValueError("encryption_key or encryption_key_command is wanted, not both")
        if self.database and (self.keep_age or self.keep_size):
            raise ValueError("keep_age and keep_size are for a catalog of one's own: others may have rows in database")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings


def load(flags: Mapping[str, Any], file: Path | None = None) -> Settings:
    """The settings of ``flags`` (None = not given), the environment and ``file`` or the one ``ESL_RECORD_CONFIG``
    names. Raises ConfigError that names setting, value, where it was set, and what is allowed.
    """
    try:
        return _loaded(flags, file)
    except ConfigError as error:
        raise ConfigError(scrubbed(str(error))) from None


def _loaded(flags: Mapping[str, Any], file: Path | None) -> Settings:
    if file is None and os.environ.get(CONFIG_VARIABLE):
        file = Path(os.environ[CONFIG_VARIABLE])
    filed = _read(file) if file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    environment = {name for name in Settings.model_fields if f"{PREFIX}{name}".upper() in os.environ}
    beneath = {name: value for name, value in filed.items() if name not in environment and name not in given}
    try:
        return Settings(**beneath, **given)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_complaint(mistake, given, environment, file) for mistake in error.errors(include_url=False))
        ) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = yamltree.read(file.read_bytes().decode()) or {}
    except OSError as error:
        raise ConfigError(f"settings file {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"settings file {file}: is no UTF-8 text") from None
    except yamltree.TreeError as error:
        raise ConfigError(f"settings file {file}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"settings file {file}: lines of `setting: value` are wanted")
    for name in tree:
        # pydantic would take Capacity for capacity, and let it win over environment and flag.
        if name not in Settings.model_fields:
            known = ", ".join(Settings.model_fields)
            raise ConfigError(f"setting {str(name)[:80]} (settings file {file}): unknown; known are {known}")
    return tree


def _complaint(mistake: Any, given: Mapping[str, Any], environment: set[str], file: Path | None) -> str:
    if not mistake["loc"]:
        return f"settings: {mistake['msg'].removeprefix('Value error, ')}"
    name = str(mistake["loc"][0])
    if name in given:
        source = f"flag --{name.replace('_', '-')}"
    elif name in environment:
        source = f"environment variable {PREFIX}{name.upper()}"
    else:
        source = f"settings file {file}"
    reason = mistake["msg"].removeprefix("Value error, ")
    shown = "***" if name in _KEPT_SECRET else repr(str(mistake["input"])[:80])
    return f"setting {name} = {shown} ({source}): {reason}"
