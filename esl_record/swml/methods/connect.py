"""connect: the call is bridged with a phone number or a SIP address, or with the first of several to answer."""

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from esl_record.esl.session import Session
from esl_record.recording.params import ParameterError
from esl_record.swml.bridging import Bridging, Outcome, Party, reason_of
from esl_record.swml.call import Call
from esl_record.swml.dialing import MOST_LEGS, SPECIAL, Leg, Origin, Target, dial_string, display_name, filled, is_plain
from esl_record.swml.methods.destinations import LONGEST, ConnectParams, Destination
from esl_record.swml.methods.parameters import Method
from esl_record.swml.methods.play import check_playable

log = logging.getLogger(__name__)

Tell = Callable[[str, Mapping[str, object]], None]

WAYS = ("to", "serial", "parallel", "serial_parallel")

GRACE = 60.0
"""Seconds a bridge may be late before the switch is taken not to tell of its end any more."""

_LONGEST = 1e9

_OF_MANY = ("user", "group")
"""Endpoints behind which there can be several legs: no one uuid would do for them."""


class ConnectMethod(Method[ConnectParams]):
    """Says what is wrong with the whole without showing it: there are passwords in it."""

    def mapping(self, given: Any) -> Mapping[str, Any]:
        found = super().mapping(given)
        ways = [way for way in WAYS if way in found]
        if len(ways) != 1:
            told = f"given are {', '.join(ways)}" if ways else "none is given"
            raise ParameterError(
                f"connect: one of {', '.join(WAYS)} is wanted; {told}", "invalid_value" if ways else "missing"
            )
        groups = found.get("serial_parallel")
        if isinstance(groups, list) and sum(len(one) for one in groups if isinstance(one, list)) > MOST_LEGS:
            # Each by itself is checked below, which for all that a document can hold would take long.
            raise ParameterError(f"connect: serial_parallel: up to {MOST_LEGS} destinations are wanted")
        return found


def _teller(call: Call, given: ConnectParams) -> Tell:
    url = str(given.status_url) if given.status_url else None
    return lambda state, params: call.tell(
        url, "calling.call.connect", call.control_id, state, {"connect_state": state, **params}
    )


def _connect(call: Call, given: ConnectParams) -> None:
    """Bridges the call, which goes on when the other party hangs up. Raises CallGone when the caller does."""
    groups, tell = given.groups(), _teller(call, given)
    unset = {_setting(destination) for group in groups for destination in group if not _template(call, destination)}
    if unset:
        reason = f"setting {' and '.join(sorted(unset))} is empty: the switch is not told how to call"
        log.error("%s: connect: %s", call.session.label, reason)
        tell("failed", {"failed_reason": "error"})
        outcome = Outcome(False, reason)
    else:
        outcome = _bridged(call, given, groups, tell)
    _publish(call, outcome)


def _connect_again(call: Call, given: ConnectParams) -> None:
    """The switch has dialled, and bridged to the end, without this service; unless it had not been told to yet."""
    disposition = call.session.get_variable("originate_disposition")
    if disposition is None:
        _connect(call, given)
    elif disposition == "SUCCESS":
        _teller(call, given)("disconnected", {})
        _publish(call, Outcome(True))
    else:
        reason = reason_of(disposition)
        _teller(call, given)("failed", {"failed_reason": reason})
        _publish(call, Outcome(False, reason))


def _publish(call: Call, outcome: Outcome) -> None:
    call.publish(
        connect_result="connected" if outcome.connected else "failed",
        connect_failed_reason=outcome.reason,
    )
    call.vars["return_value"] = call.vars["connect_result"]


def _bridged(call: Call, given: ConnectParams, groups: list[list[Destination]], tell: Tell) -> Outcome:
    legs = [[_leg(call, destination) for destination in group] for group in groups]
    every = [destination for group in groups for destination in group]
    ringing = max(destination.ringing for destination in every)
    # Time is up for a leg first: for all of a group at once the switch would also give up the groups behind it.
    dialling = {"originate_timeout": _whole(ringing + 5), "originate_continue_on_timeout": "true"}
    lent = {"continue_on_fail": "true", "hangup_after_bridge": "false"}
    if given.ringback is None:
        dialling |= {"bridge_early_media": "true"}
    else:
        for sound in given.ringback.sounds:
            check_playable(call, sound)
        dialling |= {"ignore_early_media": "true", "instant_ringback": "true"}
        lent |= {"ringback": given.ringback.heard, "transfer_ringback": given.ringback.heard}
    text = dial_string([[leg for _, leg in group] for group in legs], dialling)
    longest = max(destination.max_duration or _LONGEST for destination in every) + (ringing + 5) * len(groups) + GRACE
    if not given.answer_on_bridge:
        call.session.answer()
    bridging = Bridging(call, [[party for party, _ in group] for group in legs], tell)
    with _lent(call.session, lent):
        return bridging.run(text, longest=min(longest, _LONGEST))


@contextmanager
def _lent(session: Session, variables: Mapping[str, str]) -> Iterator[None]:
    """Sets channel variables, and puts back what the dialplan had there."""
    before = {name: session.get_variable(name) or "" for name in variables}
    for name, value in variables.items():
        session.set_variable(name, value)
    try:
        yield
    finally:
        for name, value in before.items() if session.live else ():
            session.set_variable(name, value)


def _setting(destination: Destination) -> str:
    return "dial_sip" if Target.of(destination.to).is_sip else "dial_number"


def _template(call: Call, destination: Destination) -> str:
    return call.site.dial_sip if Target.of(destination.to).is_sip else call.site.dial_number


def _leg(call: Call, device: Destination) -> tuple[Party, Leg]:
    target, leg_id = Target.of(device.to), str(uuid.uuid4())
    endpoint = filled(_template(call, device), target)
    kind = endpoint.partition("/")[0].lower()
    party = Party(
        uuid=leg_id,
        named=kind not in _OF_MANY,
        to=device.to,
        caller=device.from_ or str(call.scopes["call"]["from"]),
        is_sip=target.is_sip,
        url=device.call_state_url,
        events=frozenset(device.call_state_events),
    )
    variables = {"origination_uuid": leg_id} if party.named else {}
    variables["leg_timeout"] = _whole(device.ringing)
    if device.max_duration:
        # By the switch itself, which ends the other leg alone, whatever becomes of this service.
        variables["execute_on_answer_max_duration"] = f"sched_hangup +{_whole(device.max_duration)} ALLOTTED_TIMEOUT"
    if kind == "loopback":
        # It would take itself out of the way, and the call out of this bridge.
        variables["loopback_bowout"] = "false"
    variables |= _identity(device, target)
    if target.is_sip:
        variables |= _sip(device)
    return party, Leg(endpoint, variables)


def _identity(device: Destination, target: Target) -> dict[str, str]:
    """Who calls, where that is not the caller. A number given for it takes the caller's name away too."""
    origin = Origin.of(device.from_) if device.from_ else None
    name = display_name(device.from_name) if target.is_sip else ""
    found = {}
    if origin:
        found["origination_caller_id_number"] = origin.user
    if name or origin:
        found["origination_caller_id_name"] = name or (origin.user if origin else "")
    if origin and origin.domain and target.is_sip:
        found["sip_invite_domain"] = origin.domain
    return found


def _sip(device: Destination) -> dict[str, str]:
    # Looked at here, where no message shows it. The switch would cut it at a colon.
    secret = device.password
    if secret and (not is_plain(secret) or ":" in secret or len(secret.encode()) > LONGEST):
        raise ParameterError(f"connect: password must be printable, up to {LONGEST} bytes, without : {SPECIAL}")
    values: dict[str, list[str]] = {}
    for header in device.headers:
        # A variable there is once; what SIP lets stand in several headers it lets stand in one with commas as well.
        name = next((name for name in values if name.lower() == header.name.lower()), header.name)
        values.setdefault(name, []).append(header.value)
    found = {f"sip_h_{name}": ", ".join(filter(None, several)) for name, several in values.items()}
    found |= {
        "absolute_codec_string": device.codecs,
        "media_webrtc": "true" if device.webrtc_media else "",
        "sofia_session_timeout": _whole(device.session_timeout) if device.session_timeout else "",
        "sip_auth_username": device.username,
        "sip_auth_password": device.password,
        "rtp_secure_media": device.encryption.value if device.encryption else "",
    }
    return {name: value for name, value in found.items() if value}


def _whole(seconds: float) -> str:
    return str(max(1, round(min(seconds, _LONGEST))))


CONNECT = ConnectMethod(
    "connect",
    ConnectParams,
    _connect,
    unread=frozenset({"result", "confirm", "transfer_after_bridge"}),
    waits=True,
    again=_connect_again,
)
