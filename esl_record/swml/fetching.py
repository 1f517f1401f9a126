"""The web of a call's site, as its steps use it."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from esl_record.errors import WebError
from esl_record.esl.errand import errand
from esl_record.status.receiver import Origin
from esl_record.swml.call import Call
from esl_record.swml.document import Document, origin_of
from esl_record.swml.site import Web

log = logging.getLogger(__name__)


def fetched(call: Call, url: str, params: Mapping[str, Any]) -> Document:
    """The document ``url`` gives for ``call`` and ``params``, checked. Raises DocumentError for what is none, WebError
    where there is no answer, CallGone as soon as the call is over."""
    origin = origin_of(url)
    envs = call.envs_for(origin)
    if call.site.envs and not envs:
        _warn_without_envs(origin)
    payload = {"call": call.scopes["call"], "vars": call.vars, "params": params, "envs": envs}
    web = lent(call)
    return errand(call.session, lambda: web.document(url, payload, call.budget))


@lru_cache(maxsize=100)
def _warn_without_envs(origin: Origin) -> None:
    """Once for each, not with every call."""
    scheme, host, port = origin
    log.warning(
        "documents of %s://%s:%d are given no envs: they are not in the setting envs_origins", scheme, host, port
    )


def lent(call: Call) -> Web:
    """Raises WebError where there is none."""
    if call.site.web is None:
        raise WebError("there is no web here")
    return call.site.web
