"""An answer of JSON."""

import falcon
from pydantic import BaseModel


def put(resp: falcon.Response, model: BaseModel) -> None:
    """Answers with ``model``, its unset fields left out; nobody is to keep it, since links in it expire."""
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = model.model_dump_json(by_alias=True, exclude_unset=True).encode()
