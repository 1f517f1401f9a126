"""Who may use the API: whoever knows project id and token, or holds a signed link; without those, this machine."""

import base64
import binascii
import hmac
import re
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import falcon

from esl_record.http.links import Links
from esl_record.http.problem import Problem

REALM = "esl-record"

UNGUARDED = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})
"""The paths everybody may ask for, and in no other spelling: all else is guarded, whether it is there or not."""

ALIVE = "/healthz"
"""The one path that anybody may ask for by any name: its answer holds nothing."""

ADMITTED = "esl_record.admitted"
"""Key of the request's environment that is set once it is known that its sender has a right to the answer."""

# More than the router takes for an id: whatever stands there, the answer to a bad link is the same.
_DOWNLOAD = re.compile(r"/api/v1/recordings/(.*)/download", re.DOTALL)


class Access:
    """Falcon middleware that lets nobody past who has no right to what it guards.

    It asks before there is a route, so that who has no right learns nothing from the answer. Without project id and
    token everybody who reaches this is let in: it must listen on loopback alone, and then a browser on this machine
    must not be led here under another host's name.
    """

    def __init__(self, project_id: str, token: str, links: Links, public_host: str) -> None:
        self.open = not project_id and not token
        # A user without a password is let in nowhere.
        self._expected = f"{project_id}:{token}".encode() if token else None
        self._links = links
        self._public_host = public_host.lower()

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if self.open and req.path != ALIVE:
            # Figures are checked too: a page in a browser on this machine must not read them.
            self._check_host(req)
            self._check_origin(req)
        if req.path in UNGUARDED:
            return
        self._guard(req)
        req.env[ADMITTED] = True
        # The router takes every slash before a path away, and needs none: there would be two names for everything.
        if not req.path.startswith("/") or req.path.startswith("//"):
            raise falcon.HTTPRouteNotFound

    def _guard(self, req: falcon.Request) -> None:
        download = _DOWNLOAD.fullmatch(req.path)
        if download and "signature" in req.params:
            if self._linked(req, download[1]) or self._known(req):
                return
            raise Problem(HTTPStatus.FORBIDDEN, "link_refused", "this link is not valid, or not any more")
        if not self.open and not self._known(req):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "project id and API token are wanted as HTTP Basic credentials",
                headers={"WWW-Authenticate": f'Basic realm="{REALM}"'},
            )

    def _linked(self, req: falcon.Request, recording_id: str) -> bool:
        expires, signature = req.params.get("expires"), req.params["signature"]
        if req.method not in ("GET", "HEAD", "OPTIONS") or not isinstance(expires, str):
            return False
        return isinstance(signature, str) and self._links.valid(recording_id, expires, signature)

    def _known(self, req: falcon.Request) -> bool:
        scheme, _, value = (req.get_header("Authorization") or "").partition(" ")
        if self._expected is None or scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self._expected)

    def _check_host(self, req: falcon.Request) -> None:
        if not self._is_own(f"//{req.get_header('Host') or ''}"):
            raise Problem(
                HTTPStatus.FORBIDDEN, "host_refused", "without project id and token the API answers to loopback only"
            )

    def _check_origin(self, req: falcon.Request) -> None:
        origin = req.get_header("Origin")
        if origin is not None and not self._is_own(origin):
            raise Problem(
                HTTPStatus.FORBIDDEN, "origin_refused", "without project id and token no page of another host may ask"
            )

    def _is_own(self, url: str) -> bool:
        """Whether the host in ``url`` is this machine, or the public one."""
        try:
            name = urlsplit(url).hostname or ""
        except ValueError:
            return False
        return is_loopback(name) or bool(name and name == self._public_host)


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address, is this machine's own and reached from nowhere else."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
