"""A status event of a recording, as the contract's callback has it. Pure."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from esl_record.recording.machine import PauseBehavior, State
from esl_record.recording.recording import Recording

EVENT_TYPE = "calling.call.record"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who tells: SignalWire's ids of project and space, and this node's."""

    project_id: str = ""
    space_id: str = ""
    node_id: str = ""


def payload(
    recording: Recording, identity: Identity, at: float, *, url: str, pausing: PauseBehavior | None = None
) -> dict[str, Any]:
    """The body of the callback that tells of the state of ``recording`` at the unix time ``at``.

    ``url`` is where its file is served, ``pausing`` how a paused one is paused. ``record`` uses the keys beside
    ``record``, ``record_call`` those within: both are filled.
    """
    form = {"format": recording.format.value, "direction": recording.direction.value, "stereo": recording.stereo}
    params: dict[str, Any] = {
        "call_id": recording.call_id,
        "node_id": identity.node_id,
        "control_id": recording.control_id,
        "recording_id": recording.recording_id,
        "state": recording.state.value,
        "url": url,
    }
    record: dict[str, Any] = {"audio": form, "url": url, "format": recording.format.value}
    if pausing is not None:
        params["pause_behavior"] = pausing.value
    if recording.state.final:
        params["start_time"] = recording.start_time
        params["end_time"] = recording.end_time
        params["end_reason"] = recording.end_reason.value if recording.end_reason else ""
        if recording.state is not State.ERROR or recording.file:
            ended = {"duration": recording.duration, "size": recording.size}
            params |= ended
            record |= ended
    return {
        "event_type": EVENT_TYPE,
        "event_channel": f"swml:{recording.call_id}",
        "timestamp": at,
        "project_id": identity.project_id,
        "space_id": identity.space_id,
        "params": params | {"record": record},
    }


def renewed(body: Mapping[str, Any], link: Callable[[str], str]) -> dict[str, Any]:
    """``body`` with a new URL from ``link``, which is given the format, in the places of the one it has.

    A body without one stays without, as does one that tells of no recording.
    """
    told = deepcopy(dict(body))
    params = told["params"]
    if "record" in params and params["url"]:
        params["url"] = params["record"]["url"] = link(params["record"]["format"])
    return told
