"""What of a document that the schema accepts tells that it is refused all the same."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from schema_documents import METHODS
from schema_widening import SHORT

from esl_record.swml.rings import RINGS


@dataclass(frozen=True)
class Step:
    """A step of a document, or a destination of one, with what is in its section and document."""

    method: str
    given: Any
    labels: frozenset[str]
    sections: frozenset[str]

    def values(self, *names: str) -> Iterator[Any]:
        """The values of those parameters, references aside; what is given alone stands for the parameter it may."""
        given = self.given if isinstance(self.given, Mapping) else {SHORT.get(self.method): self.given}
        if self.method == "transfer" and isinstance(self.given, list):
            given = {name: value for one in self.given for name, value in one.items()}
        for name in names if self.method not in ("set", "return") else ():
            if name in given and not refers(given[name]):
                yield given[name]


def steps(document: Any) -> Iterator[Step]:
    """Every step of a document."""
    for section in document["sections"].values():
        found = list(_steps(section))
        labels = frozenset(given for method, given in found if method == "label")
        yield from (Step(method, given, labels, frozenset(document["sections"])) for method, given in found)


def _steps(section: list[Any]) -> Iterator[tuple[str, Any]]:
    for step in section:
        method, given = next(iter(step.items())) if isinstance(step, dict) else (step, {})
        yield method, given
        for block in _blocks(given) if method in ("cond", "switch", "execute", "connect") else ():
            yield from _steps(block)


def _blocks(given: Any) -> Iterator[list[Any]]:
    for branch in given if isinstance(given, list) else ():
        yield from (branch[key] for key in ("then", "else") if key in branch)
    if isinstance(given, dict):
        yield from given.get("case", {}).values()
        yield from (given[key] for key in ("default", "on_return") if key in given)
        yield from _blocks(given.get("result"))


def destinations(step: Step) -> Iterator[Step]:
    for name in ("serial", "parallel", "serial_parallel") if step.method == "connect" else ():
        for one in flat(step.values(name)):
            if isinstance(one, Mapping):
                yield replace(step, given=one)


def flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from flat(value)
        elif not refers(value):
            yield value


def refers(value: object) -> bool:
    return isinstance(value, str) and ("${" in value or "%{" in value)


def other_method(step: Step) -> bool:
    return step.method not in (*METHODS, "stop_call_record")


def no_label(step: Step) -> bool:
    return step.method == "goto" and any(label not in step.labels for label in step.values("label"))


def no_section(step: Step) -> bool:
    wanted = step.values("dest") if step.method in ("execute", "transfer") else ()
    return any(not (dest in step.sections or is_web(dest) or dest.lstrip().startswith("{")) for dest in wanted)


AT_LEAST = {
    **dict.fromkeys(("initial_timeout", "end_silence_timeout", "max_length", "input_sensitivity", "max_duration"), 0),
    **dict.fromkeys(("timeout", "connect_timeout", "confirm_timeout", "digit_timeout", "speech_timeout"), 0),
    **{"speech_end_timeout": 0, "max_digits": 1, "duration": -1, "volume": -40, "max": 1, "session_timeout": 1},
}
AT_MOST = {"input_sensitivity": 100, "volume": 40, "max": 100}
WHOLE = {"max_duration", "duration", "max", "max_digits", "session_timeout", "confirm_timeout"}


def out_of_range(step: Step) -> bool:
    for holder in (step, *destinations(step)):
        whole = WHOLE | ({"timeout"} if step.method == "connect" else set())
        for name, least in AT_LEAST.items():
            for value in map(float, holder.values(name)):
                if not least <= value <= AT_MOST.get(name, math.inf) or (name in whole and not value.is_integer()):
                    return True
    return False


def no_digits(step: Step) -> bool:
    known = set("0123456789ABCD*#")
    sent = step.values("digits") if step.method == "send_digits" else ()
    return any(set(str(end).upper()) - known for end in step.values("terminators")) or any(
        set(digits) - known - set("wW") for digits in sent
    )


def no_control_id(step: Step) -> bool:
    return step.method.startswith("record") and any(not 1 <= len(name) <= 256 for name in step.values("control_id"))


def no_address(step: Step) -> bool:
    wanted = ("url",) if step.method == "request" else ("status_url", "call_state_url")
    return any(not is_web(url) for holder in (step, *destinations(step)) for url in holder.values(*wanted))


def is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def no_sound(step: Step) -> bool:
    heard = step.values("url", "urls", "play") if step.method in ("play", "prompt") else ()
    return any(not is_sound(url) for url in flat(heard))


def is_sound(url: str) -> bool:
    kind, _, rest = url.partition(":")
    if kind in ("http", "https"):
        user, _, place = re.split(r"[/?#]", rest.removeprefix("//"))[0].rpartition("@")
        host = re.fullmatch(r"(\w[\w.-]*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", place, re.IGNORECASE)
        plain = not user.startswith(("(", "%28", "http:"))
        return is_web(url) and url.isprintable() and " " not in url and host is not None and plain
    lasts, _, country = (part.strip() for part in rest.rpartition(":"))
    number = r"(?=\.?[0-9])[0-9]{0,6}(\.[0-9]*)?"
    if kind == "ring":
        return country.lower() in RINGS and bool(re.fullmatch(rf"({number})?", lasts)) and float(lasts or 0) <= 300
    if kind == "silence":
        return bool(re.fullmatch(number, rest.strip()))
    own = ("/", "file:///", "tone_stream://", "silence_stream://")
    return kind == "say" or (url.startswith(own) and url.isprintable())


def is_silent(url: str) -> bool:
    """Whether the switch is given no file for a sound: it speaks, or there is nothing to be heard."""
    kind, _, rest = url.partition(":")
    lasts = rest if kind == "silence" else rest.rpartition(":")[0] if kind == "ring" else "1"
    return kind == "say" or float(lasts.strip() or 1) < 0.001


# ---- connect

_USER = r"[\w.+*#-]{1,64}"
_HOST = r"([a-z0-9]([\w.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
_ADDRESS = rf"sips?:{_USER}@{_HOST}(;[\w.-]+(=[\w.+-]+)?)*"


def no_destination(step: Step) -> bool:
    for one in (step, *destinations(step)) if step.method == "connect" else ():
        if not all(
            re.fullmatch(rf"\+?[0-9*#]{{1,32}}|{_ADDRESS}", to, re.ASCII | re.IGNORECASE) for to in one.values("to")
        ):
            return True
        callers = [caller for caller in one.values("from") if caller]
        if not all(re.fullmatch(rf"{_USER}|{_ADDRESS}", caller, re.ASCII | re.IGNORECASE) for caller in callers):
            return True
    return False


def no_one(step: Step) -> bool:
    lists = step.values("serial", "parallel", "serial_parallel") if step.method == "connect" else ()
    return any(not found or [] in found for found in lists)


def confirmed(step: Step) -> bool:
    return any("confirm" in one.given for one in _all(step))


def of_one_alone(step: Step) -> bool:
    shared = {"ringback", "result", "answer_on_bridge", "transfer_after_bridge"}
    return any(one.given.keys() & shared for one in destinations(step))


def unspeakable(step: Step) -> bool:
    """What a dial string cannot carry."""
    for one in _all(step):
        headers = list(flat(one.values("headers")))
        names = [header["name"] for header in headers if not refers(header["name"])]
        texts = [header["value"] for header in headers if not refers(header["value"])]
        users = list(one.values("username"))
        codecs = [name.strip() for text in one.values("codecs") if text for name in text.split(",")]
        if (
            not all(re.fullmatch("[A-Za-z0-9_.-]{1,64}", name) and name.lower() not in ("to", "from") for name in names)
            or any(set(user) & set(':"') for user in users)
            or any(set(text) & set("~|'\\[]{}$^") or not text.strip().isprintable() for text in (*texts, *users))
            or not all(re.fullmatch("[A-Za-z0-9][A-Za-z0-9@._-]{0,40}", name) for name in codecs)
        ):
            return True
    return False


def no_ringback(step: Step) -> bool:
    for found in step.values("ringback") if step.method == "connect" else ():
        given = found if isinstance(found, Mapping) else {"urls": found}
        if given.keys() & {"volume", "loop", "status_url"} or bool(given.get("url")) == bool(given.get("urls")):
            return True
        urls = flat([given.get("url", given.get("urls"))])
        if not all(is_sound(url) and not is_silent(url) and not set(url) & set("'\\!") for url in urls):
            return True
    return False


def _all(step: Step) -> Iterator[Step]:
    if step.method == "connect" and isinstance(step.given, Mapping):
        yield from (step, *destinations(step))


# ---- request


def no_header(step: Step) -> bool:
    allowed = r"Accept|Authorization|Content-Type|Range|X-[A-Za-z0-9_.-]{1,100}"
    for headers in step.values("headers") if step.method == "request" else ():
        if not all(re.fullmatch(allowed, name, re.IGNORECASE) for name in headers):
            return True
        if any(value is None or isinstance(value, bool | list | dict) for value in headers.values()):
            return True
    return False
