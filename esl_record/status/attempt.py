"""One attempt to deliver an event, and what came of it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http.client import HTTPException

import gevent
import requests
from urllib3.exceptions import HTTPError

from esl_record import __version__
from esl_record.egress import AddressRefused
from esl_record.logs import one_line
from esl_record.status.receiver import Receiver, credentials

log = logging.getLogger(__name__)

_ANSWER = 1 << 16
"""Bytes of an answer that are read; a longer one is left where it is."""

_KEPT = 105
"""Characters of a result: a status and a hundred of the answer."""

_BLOCK = 8192

_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": f"esl-record/{__version__}",
    # An answer is read for a line of it at most: nothing to be unpacked.
    "Accept-Encoding": "identity",
}


class Verdict(Enum):
    DELIVERED = auto()
    FAILED = auto()
    REFUSED = auto()
    """Failed, as the receiver's address is not one requests may go to."""
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``result`` is a line for people, without passwords; ``retry_after`` the header of that name."""

    verdict: Verdict
    result: str
    retry_after: str | None = None


def post(
    session: requests.Session, receiver: Receiver, body: bytes, sign: Callable[[str], Mapping[str, str]]
) -> Outcome:
    """Posts ``body`` once. Raises nothing but what ends the greenlet.

    ``sign`` gives the headers that sign it, for the URL as it goes on the wire. Delivered is what is answered by a 2xx
    that ends as it should: of one cut off nobody can say how far the receiver got.
    """
    limit = gevent.Timeout(receiver.timeouts.total)
    try:
        with limit:
            outcome = _exchange(session, receiver, body, sign)
    except gevent.Timeout as expired:
        if expired is not limit:
            raise
        outcome = _failed(receiver, f"timed out after {receiver.timeouts.total:g} s")
    except AddressRefused as error:
        outcome = Outcome(Verdict.REFUSED, f"{error}: not in the setting callback_networks")
    except requests.ConnectTimeout:
        outcome = _failed(receiver, f"no connection within {receiver.timeouts.open:g} s")
    except requests.ReadTimeout:
        outcome = _failed(receiver, f"timed out after {receiver.timeouts.read:g} s")
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        outcome = _failed(receiver, plain(error))
    except Exception as error:
        log.exception("callback to %s: failed as it should not", receiver.shown)
        outcome = _failed(receiver, type(error).__name__)
    return outcome


def _exchange(
    session: requests.Session, receiver: Receiver, body: bytes, sign: Callable[[str], Mapping[str, str]]
) -> Outcome:
    request = session.prepare_request(requests.Request("POST", receiver.url, headers=_HEADERS, data=body))
    request.headers.update(sign(request.url or ""))
    if receiver.auth is not None:
        # requests would write the password in latin-1; RFC 7617 has UTF-8.
        request.headers["Authorization"] = f"Basic {credentials(receiver.auth)}"
    timeouts = receiver.timeouts.open, receiver.timeouts.read
    answer = session.send(request, stream=True, timeout=timeouts, allow_redirects=False)
    try:
        return _judged(answer, receiver)
    finally:
        # What has been read to its end has gone back to the pool by now; anything else is closed.
        answer.close()


def _judged(answer: requests.Response, receiver: Receiver) -> Outcome:
    status = answer.status_code
    said, whole = b"", True
    try:
        said = _read(answer)
    except (HTTPError, OSError):
        whole = False
    if status == 410:
        return Outcome(Verdict.GONE, "410")
    if 200 <= status < 300:
        if whole:
            return Outcome(Verdict.DELIVERED, str(status))
        return _failed(receiver, f"{status}, but the answer broke off")
    if 300 <= status < 400:
        return _failed(receiver, f"{status}: redirect to {target(answer.headers)} not followed")
    text = " ".join(said.decode(errors="replace").split())
    return _failed(receiver, f"{status}: {text}" if text else str(status), answer.headers.get("Retry-After"))


def _read(answer: requests.Response) -> bytes:
    said = b""
    for block in answer.raw.stream(_BLOCK, decode_content=False):
        said += block
        if len(said) > _ANSWER:
            break
    return said


def target(headers: Mapping[str, str]) -> str:
    """Where an answer with these ``headers`` redirects to, as logs may show it."""
    location = headers.get("location", "nowhere")
    try:
        return Receiver.of(location).shown
    except ValueError:
        # Within the receiver, or unreadable: an address with a password would be neither.
        path, asking, _ = location.partition("#")[0].partition("?")
        return "an unreadable address" if "@" in location else path + (asking and "?***")


def _failed(receiver: Receiver, result: str, retry_after: str | None = None) -> Outcome:
    """``result`` cut to what is worth keeping, and without its secrets: some servers repeat what they are sent."""
    for secret in receiver.secrets:
        result = result.replace(secret, "***")
    return Outcome(Verdict.FAILED, one_line(result)[:_KEPT], retry_after)


def plain(error: Exception) -> str:
    """The error beneath the wrappings of requests and urllib3, in its own words."""
    inner = next((one for one in _chain(error) if not isinstance(one, requests.RequestException | HTTPError)), error)
    text = (inner.strerror if isinstance(inner, OSError) else None) or str(inner) or type(inner).__name__
    if isinstance(inner, HTTPException) and not isinstance(inner, OSError):
        return f"no HTTP answer: {text}"
    return text[:1].lower() + text[1:]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
