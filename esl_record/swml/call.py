"""What a method of SWML has to work with: the call, its variables, and how a recording is made."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from esl_record.errors import DatabaseError
from esl_record.esl.session import Session
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Recording
from esl_record.status.receiver import Origin
from esl_record.swml.bookmark import Bookmark
from esl_record.swml.budget import Budget
from esl_record.swml.site import Site

log = logging.getLogger(__name__)


class Recordings(Protocol):
    """The recordings of one call. A URL is that of a recording's file, empty where there is none."""

    def record(self, params: RecordParams) -> tuple[Recording, str]:
        """Records in the foreground."""

    def start(self, params: RecordParams) -> str:
        """Begins to record in the background. Raises ParameterError where the control id is taken."""

    def stop(self, control_id: str | None) -> bool:
        """Ends one in the background, without an id the one started last; whether there was one."""

    def begun(self, control_id: str) -> str | None:
        """The URL of one that an earlier run of the service began; None where there is none."""

    def ended(self, control_id: str) -> tuple[Recording, str] | None:
        """One that an earlier run began, once it has ended; None where there is none."""


def _unnoted(place: Bookmark) -> None:
    """Notes nothing."""


@dataclass(slots=True)
class Call:
    """One call under a document."""

    session: Session
    recordings: Recordings
    vars: dict[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the section now run was given."""
    site: Site = field(default_factory=Site)
    origin: Origin | None = None
    """The web server that the document now run came from; None for one of this machine."""
    control_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """Of the step that is being run, the same if a later run of the service comes back to it."""
    note: Callable[[Bookmark], None] = _unnoted
    """Writes down where it is in its document, for a later run of the service."""
    budget: Budget = field(init=False)
    """What its documents have spent of the processor, and may."""
    headers: list[dict[str, str]] = field(init=False)
    """The headers of the caller's own in its INVITE, which the switch keeps as variables."""

    def __post_init__(self) -> None:
        self.budget = Budget(self.session)
        beginning = "variable_sip_h_"
        self.headers = [
            {"name": name.removeprefix(beginning), "value": value}
            for name, value in self.session.data.items()
            if name.startswith(beginning)
        ]

    def envs_for(self, origin: Origin | None) -> Mapping[str, Any]:
        """The scope ``envs`` of a document from there."""
        return self.site.envs if origin is None or origin in self.site.envs_origins else {}

    @property
    def scopes(self) -> Mapping[str, Mapping[str, Any]]:
        """The scopes of ``${...}``."""
        data, identity = self.session.data, self.site.identity
        caller, destination = data.get("Caller-Caller-ID-Number", ""), data.get("Caller-Destination-Number", "")
        return {
            "vars": self.vars,
            "envs": self.envs_for(self.origin),
            "params": self.params,
            "call": {
                "call_id": self.session.uuid,
                "node_id": identity.node_id,
                "segment_id": self.session.uuid,
                "project_id": identity.project_id,
                "space_id": identity.space_id,
                "headers": self.headers,
                "from": caller,
                "from_number": caller,
                "from_name": data.get("Caller-Caller-ID-Name", ""),
                "to": destination,
                "to_number": destination,
                "direction": data.get("Call-Direction", ""),
                "call_state": "answered" if self.session.answered else "created",
                "type": "sip",
            },
        }

    def tell(self, url: str | None, event_type: str, control_id: str, state: str, params: Mapping[str, Any]) -> None:
        """Queues a status event of the method that calls itself ``control_id``, if anyone wants it at ``url``."""
        if not url:
            return
        identity = self.site.identity
        body = {
            "event_type": event_type,
            "event_channel": f"swml:{self.session.uuid}",
            "timestamp": time.time(),
            "project_id": identity.project_id,
            "space_id": identity.space_id,
            "params": {
                "call_id": self.session.uuid,
                "node_id": identity.node_id,
                "control_id": control_id,
                **params,
            },
        }
        try:
            self.site.tell(url, control_id, state, body)
        except DatabaseError as error:
            log.error("%s: %s %s is not told: %s", self.session.label, event_type, state, error)

    def publish(self, **values: str) -> None:
        """Sets variables of the document and of the channel. A call that has gone keeps the document's alone."""
        self.vars.update(values)
        for name, value in values.items():
            if self.session.live:
                self.session.set_variable(name, value)
