"""The bodies of status events, as the contract's callbacks have them. Pure."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from esl_record.cipher import Cipher
from esl_record.esl.pressed import SHORTEST
from esl_record.recording.machine import PauseBehavior, State
from esl_record.recording.recording import Recording

EVENT_TYPE = "calling.call.record"

COLLECT = "calling.call.collect"
"""The type of the events that have what a party pressed."""


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


def sealed(body: Mapping[str, Any], cipher: Cipher) -> dict[str, Any]:
    """``body`` as it may lie in the database: the ``result`` of a step, which has what a party pressed, encrypted."""
    params = body["params"]
    if not isinstance(params.get("result"), dict):
        return dict(body)
    return {**body, "params": {**params, "result": cipher.encrypt(json.dumps(params["result"]))}}


def unsealed(body: Mapping[str, Any], cipher: Cipher) -> dict[str, Any]:
    """``body`` as it was before ``sealed``. Raises ValueError where that was with another key."""
    params = body["params"]
    # One that an earlier version queued is not encrypted.
    if not isinstance(params.get("result"), str):
        return dict(body)
    return {**body, "params": {**params, "result": json.loads(cipher.decrypt(params["result"]))}}


def digits(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What a party pressed, of an unsealed ``body``: no log may have it."""
    result = body["params"].get("result") or {}
    pressed = str(result.get("params", {}).get("digits", ""))
    return (pressed,) if len(pressed) >= SHORTEST else ()
