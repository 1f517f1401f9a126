"""play: sounds, one after the other."""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlsplit

import gevent
from gevent import socket
from pydantic import BeforeValidator, Field, HttpUrl, model_validator

from esl_record.egress import AddressPolicy
from esl_record.errors import CallGone
from esl_record.recording.params import Flag, ParameterError, number
from esl_record.swml import voice
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method, Parameters
from esl_record.swml.sounds import Playable, playable, shown

log = logging.getLogger(__name__)

LEVELS = {-4: -14.0, -3: -8.0, -2: -4.4, -1: -1.9, 0: 0.0, 1: 2.3, 2: 7.2, 3: 10.4, 4: 12.7}
"""Decibels of the steps by which the switch makes louder and softer; it has no others."""

MOST_SOUNDS = 256
"""Sounds of one step."""

SILENT = "say:"
"""The URL of those who give several others."""

_LOOK_UP = 2.0
"""Seconds the address of a sound's server may take to be found."""

_UNPLAYABLE = ("FILE NOT FOUND", "PLAYBACK ERROR")

_VOICE = ("say_voice", "say_language", "say_gender")

Decibels = Annotated[float, BeforeValidator(number), Field(ge=-40, le=40, allow_inf_nan=False)]


class SoundParams(Parameters):
    """How sounds are played. ``volume``: dB, of which the nearest of ``LEVELS`` is taken. ``say_voice``,
    ``say_language`` and ``say_gender`` stand before the document's variables of these names; the first that an
    installation has a voice for counts."""

    volume: Decibels = 0.0
    say_voice: str | None = None
    say_language: str | None = None
    say_gender: str | None = None
    status_url: HttpUrl | None = None


class PlayParams(SoundParams):
    """``url``, or several as ``urls``. ``auto_answer``: an unanswered call is answered first, else early media."""

    auto_answer: Flag = True
    url: Playable
    urls: Annotated[list[Playable], Field(max_length=MOST_SOUNDS)] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _one_of_both(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        if "urls" not in given:
            return given
        if "url" in given:
            raise ValueError("one of url and urls is wanted")
        return {**given, "url": SILENT}

    @property
    def sounds(self) -> list[str]:
        return [self.url] if self.url != SILENT else self.urls


def teller(call: Call, given: SoundParams, event_type: str) -> Callable[[str, dict[str, object]], None]:
    """What tells of the states of one step, and with which parameters, where ``given`` names who wants to know."""
    control_id, url = str(uuid.uuid4()), str(given.status_url) if given.status_url else None
    return lambda state, params: call.tell(url, event_type, control_id, state, params)


def play(call: Call, given: SoundParams, urls: Sequence[str]) -> bool:
    """Plays ``urls`` in turn, whatever digits are pressed; whether the switch could play them all.

    It does not tell of speech it has no voice for. Raises CallGone, CommandTimeout, CommandRefused.
    """
    session = call.session
    session.ignore_digits()
    level = min(LEVELS, key=lambda step: abs(LEVELS[step] - given.volume))
    if level:
        session.audio_level(level)
    try:
        played = [_played(call, given, url) for url in urls]
    finally:
        if level and session.live:
            session.audio_level(0)
    return all(played)


def check_playable(call: Call, sound: str) -> None:
    """Raise ParameterError if the document that is being run must not play ``sound``, which is as the switch has it."""
    delimiter = call.session.data.get("variable_playback_delimiter", "")[:1]
    if delimiter and delimiter in sound:
        raise ParameterError(f"{shown(sound)!r}: {delimiter!r} parts sounds here: it is the call's playback_delimiter")
    call.site.play_folders.check(sound, fetched=call.origin is not None)
    if call.origin is not None and sound.startswith(("http://", "https://")):
        _check_host(call.site.addresses, sound)


def _check_host(addresses: AddressPolicy, sound: str) -> None:
    """Raise ParameterError where the server of a sound, which the switch fetches itself, has an address that is not
    permitted. What the name stands for when the switch asks, and where it is redirected to, is not known here."""
    host = urlsplit(sound).hostname or ""
    found: list[Any] = []
    with suppress(OSError), gevent.Timeout(_LOOK_UP, False):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    if not found or not all(addresses.permits(str(address[0])) for *_, address in found):
        raise ParameterError(
            f"{shown(sound)!r}: a document that came from a web server plays sounds of servers with public addresses, "
            "and of those in callback_networks"
        )


def _played(call: Call, given: SoundParams, url: str) -> bool:
    session, (application, argument) = call.session, playable(url)
    if not argument:
        return True
    if application == "playback":
        check_playable(call, argument)
    if application == "speak":
        names = [str(getattr(given, name) or call.vars.get(name) or "") for name in _VOICE]
        engine, speaker = voice.chosen(names, call.site.voices)
        session.speak(argument, engine=engine, voice=speaker)
        return True
    response = session.playback(argument).get("Application-Response")
    # What is playing at the hang-up cannot be played either.
    session.raise_if_disconnected()
    if response in _UNPLAYABLE:
        played = session.pressed.redact(shown(url))
        log.warning("%s: %s cannot be played: the switch says %s", session.label, played, response)
    return response not in _UNPLAYABLE


def _play(call: Call, given: PlayParams) -> None:
    """Plays one URL or several in turn. One that cannot be played is passed over; that is told as ``error``."""
    if given.auto_answer:
        call.session.answer()
    tell = teller(call, given, "calling.call.play")
    tell("playing", {"state": "playing"})
    state = "error"
    try:
        state = "finished" if play(call, given, given.sounds) else "error"
    except CallGone:
        state = "finished"
        raise
    finally:
        tell(state, {"state": state})


PLAY = Method("play", PlayParams, _play, short="url", waits=True)
