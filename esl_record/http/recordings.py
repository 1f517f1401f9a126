"""The recordings there are, as SignalWire's REST API lists them."""

import logging
import math
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import urlencode

import falcon
import gevent
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from esl_record.http.downloads import entry_of
from esl_record.http.links import Links
from esl_record.http.problem import Problem
from esl_record.http.reply import put
from esl_record.recording.catalog import Catalog, Entry
from esl_record.recording.machine import State
from esl_record.recording.params import Direction
from esl_record.status.ledger import Ledger

log = logging.getLogger(__name__)

PATH = "/api/relay/rest/recordings"

LARGEST_PAGE = 1000

FARTHEST = 10_000
"""Recordings a page number may skip; a page token gets anywhere at once."""

TOKEN = r"^[0-9]{1,12}\.[0-9]{1,17}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"  # noqa: S105  # of a page
"""What a page token looks like. Every text that looks so is one: clients learn from the description what to send."""

_TRACKS: dict[Direction, Literal["inbound", "outbound", "both"]] = {
    Direction.SPEAK: "inbound",
    Direction.LISTEN: "outbound",
    Direction.BOTH: "both",
}

Status = Literal["recording", "paused", "completed", "no_input", "error"]

_STATUSES: dict[State, Status] = {
    State.RECORDING: "recording",
    State.PAUSED: "paused",
    # The one status SignalWire's reference of a recording names; the others are told as the states they are.
    State.FINISHED: "completed",
    State.NO_INPUT: "no_input",
    State.ERROR: "error",
}


class Item(BaseModel):
    """A recording."""

    id: str
    project_id: str
    created_at: datetime = Field(description="when it began, UTC")
    updated_at: datetime = Field(description="when its state last changed, UTC")
    duration_in_seconds: int = Field(description="of the audio, rounded; 0 until it has ended")
    error_code: str | None = Field(description="recording_error where it ended in error")
    price: float
    price_unit: str
    status: Status
    url: str = Field(description="a link to the audio that expires; empty where there is none, or not yet")
    stereo: bool
    byte_size: int
    track: Literal["inbound", "outbound", "both"] = Field(
        description="inbound: what the party says; outbound: what it hears"
    )
    relay_sip_leg_id: str = Field(description="the call")


class PageLinks(BaseModel):
    """Where this page is found, and those beside it."""

    this: str = Field(alias="self")
    first: str
    next: str = Field(default="", description="missing on the last page")
    prev: str = Field(default="", description="missing on the first page")


class Page(BaseModel):
    """Some of the recordings, the newest first."""

    links: PageLinks
    data: list[Item]


class PageQuery(BaseModel):
    """Which page is wanted. ``page_token`` says where it begins; without one the number counts from the newest."""

    model_config = ConfigDict(extra="forbid")

    page_size: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="recordings at most")] = 50
    page_number: Annotated[int, Field(ge=0, le=2**31, description="0 is the first")] = 0
    page_token: Annotated[str, Field(pattern=TOKEN, description="out of the link to the page")] | None = None

    @field_validator("page_size", "page_number", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
            raise ValueError("digits are wanted")
        return value


class Recordings:
    """``/api/relay/rest/recordings``."""

    def __init__(self, catalog: Catalog, links: Links, project_id: str) -> None:
        self._catalog = catalog
        self._links = links
        self._project_id = project_id

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = _query(req)
        before = place_of(query.page_token) if query.page_token else self._skipped(query)
        entries = self._catalog.page(query.page_size + 1, before=before) if before is not _END else []
        shown = entries[: query.page_size]
        links = {"self": _link(query.page_size, query.page_number, query.page_token), "first": _link(query.page_size)}
        if len(entries) > len(shown):
            links["next"] = _link(query.page_size, query.page_number + 1, token_of(_place(shown[-1])))
        ahead = self._catalog.page(query.page_size + 1, after=_place(shown[0])) if shown else []
        if len(ahead) > query.page_size:
            links["prev"] = _link(query.page_size, max(0, query.page_number - 1), token_of(_place(ahead[0])))
        elif ahead:
            links["prev"] = links["first"]
        items = [item(entry, self._links, self._project_id) for entry in shown]
        put(resp, Page(links=PageLinks.model_validate(links), data=items))

    on_head = on_get

    def _skipped(self, query: PageQuery) -> tuple[float, str] | None:
        """The last recording before the page of a mere number."""
        before, left = None, query.page_size * query.page_number
        if left > FARTHEST:
            message = "too far: follow the links to the next page"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_parameter", message, "page_number")
        while left:
            entries = self._catalog.page(min(left, LARGEST_PAGE), before=before)
            if not entries:
                return _END
            before, left = _place(entries[-1]), left - len(entries)
            gevent.sleep(0)
        return before


class OneRecording:
    """``/api/relay/rest/recordings/{id}``."""

    def __init__(self, ledger: Ledger, links: Links, project_id: str) -> None:
        self._ledger = ledger
        self._links = links
        self._project_id = project_id

    def on_get(self, req: falcon.Request, resp: falcon.Response, recording_id: str) -> None:
        put(resp, item(entry_of(self._ledger.catalog, recording_id), self._links, self._project_id))

    on_head = on_get

    def on_delete(self, req: falcon.Request, resp: falcon.Response, recording_id: str) -> None:
        recording = entry_of(self._ledger.catalog, recording_id).recording
        if not recording.state.final:
            message = "it is still being recorded: stop it first"
            raise Problem(HTTPStatus.CONFLICT, "recording_in_progress", message, "id")
        try:
            self._ledger.delete(recording, f"by the API, asked from {req.remote_addr}")
        except OSError as error:
            log.error("recording %s cannot be deleted: %s", recording_id, error)
            message = "the files cannot be deleted now"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "storage_unavailable", message, "id") from None
        resp.status = 204


def item(entry: Entry, links: Links, project_id: str) -> Item:
    """The recording as SignalWire tells of it, with a link made now."""
    recording = entry.recording
    return Item(
        id=recording.recording_id,
        project_id=project_id,
        created_at=_time(recording.start_time),
        updated_at=_time(entry.updated_at),
        duration_in_seconds=math.floor(recording.duration + 0.5),
        error_code="recording_error" if recording.state is State.ERROR else None,
        price=0.0,
        price_unit="USD",
        status=_STATUSES[recording.state],
        url=links.download(recording.recording_id, recording.format.value)
        if recording.state.final and recording.file
        else "",
        stereo=recording.stereo,
        byte_size=recording.size,
        track=_TRACKS[recording.direction],
        relay_sip_leg_id=recording.call_id,
    )


def token_of(place: tuple[float, str]) -> str:
    """What a client gives back to go on after the recording at ``place``, its start time and id."""
    return f"{place[0]!r}_{place[1]}"


def place_of(token: str) -> tuple[float, str]:
    """The place ``token_of`` made ``token`` of."""
    start, _, recording_id = token.partition("_")
    return float(start), recording_id


_END = (-math.inf, "")
"""The place behind the oldest."""


def _query(req: falcon.Request) -> PageQuery:
    try:
        return PageQuery.model_validate(req.params)
    except ValidationError as error:
        raise Problem.found(error) from None


def _link(size: int, number: int = 0, token: str | None = None) -> str:
    query: dict[str, object] = {"page_number": number, "page_size": size}
    return f"{PATH}?{urlencode(query | ({'page_token': token} if token else {}))}"


def _place(entry: Entry) -> tuple[float, str]:
    return entry.recording.start_time, entry.recording.recording_id


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
