"""What a method of SWML has to work with: the call, its variables, and how a recording is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from esl_record.esl.session import Session
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Recording


class Recordings(Protocol):
    """The recordings of one call. A URL is that of a recording's file, empty where there is none."""

    def record(self, params: RecordParams) -> tuple[Recording, str]:
        """Records in the foreground."""

    def start(self, params: RecordParams) -> str:
        """Begins to record in the background. Raises ParameterError where the control id is taken."""

    def stop(self, control_id: str) -> bool:
        """Ends one in the background; whether there was one."""


@dataclass(slots=True)
class Call:
    """One call under a document."""

    session: Session
    recordings: Recordings
    vars: dict[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the section now run was given."""

    @property
    def scopes(self) -> Mapping[str, Mapping[str, Any]]:
        """The scopes of ``${...}``: ``vars`` and ``call``; no environment is given to documents."""
        data = self.session.data
        return {
            "vars": self.vars,
            "envs": {},
            "params": self.params,
            "call": {
                "call_id": self.session.uuid,
                "from": data.get("Caller-Caller-ID-Number", ""),
                "from_name": data.get("Caller-Caller-ID-Name", ""),
                "to": data.get("Caller-Destination-Number", ""),
                "direction": data.get("Call-Direction", ""),
                "call_state": "answered" if self.session.answered else "created",
                "type": "sip",
            },
        }

    def publish(self, **values: str) -> None:
        """Sets variables of the document and of the channel. A call that has gone keeps the document's alone."""
        self.vars.update(values)
        for name, value in values.items():
            if self.session.live:
                self.session.set_variable(name, value)
