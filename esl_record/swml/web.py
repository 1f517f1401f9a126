"""The web as documents reach it: documents of web servers, and what the method ``request`` asks for."""

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

import gevent
import requests
from urllib3.exceptions import HTTPError

from esl_record import __version__, egress
from esl_record.egress import AddressPolicy, AddressRefused
from esl_record.errors import DocumentError, WebError
from esl_record.esl.pressed import Pressed
from esl_record.logs import one_line
from esl_record.status.attempt import plain, target
from esl_record.status.receiver import Receiver, credentials
from esl_record.swml.budget import Budget
from esl_record.swml.copies import Copies
from esl_record.swml.document import SIZE_LIMIT, Document
from esl_record.swml.reading import read
from esl_record.swml.site import Answer

log = logging.getLogger(__name__)

LONGEST = 60.0
"""Seconds a request may take, whatever its document says: no call waits for ever."""

BODY_LIMIT = 64 << 10
"""Bytes of an answer that ``request`` keeps."""

HEADERS = 64
"""Headers of an answer that are kept."""

PAYLOAD_LIMIT = 1 << 20
"""Bytes of JSON a server is sent for a document; most of it are the call's variables."""

_BLOCK = 8192
_REASON = 200

_HEADERS = {
    "User-Agent": f"esl-record/{__version__}",
    # Nothing to be unpacked: a small answer must not become a large one.
    "Accept-Encoding": "identity",
    # One that a server closes while it lies idle would fail the next call.
    "Connection": "close",
}
_JSON = {"Content-Type": "application/json", "Accept": "application/json, application/yaml, text/x-yaml"}


class Web:
    """Reaches what ``policy`` permits. ``timeout``: seconds all of an exchange for a document may take. With
    ``copies``, the document a server gave last is run where it fails to give one."""

    def __init__(self, policy: AddressPolicy, *, timeout: float, copies: Copies | None = None) -> None:
        self._policy = policy
        self._timeout = timeout
        self._copies = copies

    def document(self, url: str, payload: Mapping[str, Any], budget: Budget | None = None) -> Document:
        try:
            server = Receiver.of(url)
        except ValueError as error:
            raise DocumentError("relay_script_parse_error", f"dest: {error}") from None
        try:
            text = self._text(server, payload)
            document = read(text, server.shown, budget)
        except (WebError, DocumentError) as error:
            copy = self._copies.find(url) if self._copies else None
            if copy is None:
                raise
            age = timedelta(seconds=max(0, round(time.time() - copy.given)))
            pressed = Pressed()
            pressed.note(str(payload.get("vars", {}).get("prompt_value", "")))
            log.warning("%s; what it gave %s ago (h:mm:ss) is run", pressed.redact(error), age)
            return read(copy.text.encode(), server.shown, budget)
        if self._copies:
            self._copies.keep(url, text.decode())
        return document

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout: float,
        connect_timeout: float,
    ) -> Answer:
        """As the site's. Waits for ``LONGEST`` at most, keeps ``BODY_LIMIT`` and ``HEADERS`` of the answer, and follows
        no redirect."""
        try:
            server = Receiver.of(url)
        except ValueError as error:
            raise WebError(str(error)) from None
        total = min(timeout or LONGEST, LONGEST)
        return self._exchange(server, method, headers, body, (min(connect_timeout or total, total), total), BODY_LIMIT)

    def _text(self, server: Receiver, payload: Mapping[str, Any]) -> bytes:
        try:
            body = json.dumps(payload, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise WebError(f"{server.shown}: not asked: a variable has no value in JSON") from None
        if len(body) > PAYLOAD_LIMIT:
            raise WebError(f"{server.shown}: not asked: the call's variables have more than {PAYLOAD_LIMIT} bytes")
        answer = self._exchange(server, "POST", _JSON, body, (self._timeout, self._timeout), SIZE_LIMIT + 1)
        if 300 <= answer.status < 400:
            to = _told(target(answer.headers), server)
            raise WebError(f"{server.shown}: {answer.status}: redirect to {to} not followed")
        if not 200 <= answer.status < 300:
            raise WebError(f"{server.shown}: {answer.status}")
        return answer.body

    def _exchange(
        self,
        server: Receiver,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: tuple[float, float],
        most: int,
    ) -> Answer:
        """``timeouts``: seconds until connected, and for everything. Of the body ``most`` bytes are read."""
        opening, total = timeouts
        # As bytes: text would have to be latin-1.
        sent = {name: value.encode(errors="replace") for name, value in headers.items()}
        limit = gevent.Timeout(total)
        try:
            with limit, egress.session(self._policy, connections=1, answer=most + egress.ANSWER) as session:
                request = requests.Request(method, server.url, headers=_HEADERS | sent, data=body)
                return _answered(session, session.prepare_request(request), server, timeouts, most)
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            reason = f"no whole answer within {total:g} s"
        except AddressRefused as error:
            reason = f"{error}: not in the setting callback_networks"
        except requests.ConnectTimeout:
            reason = f"no connection within {opening:g} s"
        except requests.ReadTimeout:
            reason = f"no whole answer within {total:g} s"
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            reason = plain(error)
        raise WebError(f"{server.shown}: {_told(reason, server)}")


def _answered(
    session: requests.Session,
    request: requests.PreparedRequest,
    server: Receiver,
    timeouts: tuple[float, float],
    most: int,
) -> Answer:
    if server.auth is not None and "Authorization" not in request.headers:
        # requests would write the password in latin-1; RFC 7617 has UTF-8.
        request.headers["Authorization"] = f"Basic {credentials(server.auth)}"
    answer = session.send(request, stream=True, timeout=timeouts, allow_redirects=False)
    try:
        packed = answer.headers.get("Content-Encoding", "identity").lower()
        if packed != "identity":
            raise ValueError(f"answered in Content-Encoding {packed}, which was not asked for")
        body = bytearray()
        for block in answer.raw.stream(_BLOCK, decode_content=False):
            body += block
            if len(body) >= most:
                break
    finally:
        answer.close()
    headers = {name.lower(): value.strip() for name, value in islice(answer.headers.items(), HEADERS)}
    return Answer(answer.status_code, headers, bytes(body[:most]))


def _told(text: str, server: Receiver) -> str:
    """``text`` on a line, and without secrets: some servers repeat what they are sent."""
    for secret in server.secrets:
        text = text.replace(secret, "***")
    return one_line(text)[:_REASON]
