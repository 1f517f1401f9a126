"""The web of a call's site, as its steps use it."""

from collections.abc import Mapping
from typing import Any

from esl_record.errors import WebError
from esl_record.esl.errand import errand
from esl_record.swml.call import Call
from esl_record.swml.document import Document
from esl_record.swml.site import Web


def fetched(call: Call, url: str, params: Mapping[str, Any]) -> Document:
    """The document ``url`` gives for ``call`` and ``params``, checked. Raises DocumentError for what is none, WebError
    where there is no answer, CallGone as soon as the call is over."""
    payload = {"call": call.scopes["call"], "vars": call.vars, "params": params, "envs": call.site.envs}
    web = lent(call)
    return errand(call.session, lambda: web.document(url, payload, call.budget))


def lent(call: Call) -> Web:
    """Raises WebError where there is none."""
    if call.site.web is None:
        raise WebError("there is no web here")
    return call.site.web
