"""What ``show`` lists: the channels of a switch, and which of them talk to each other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from esl_record.standin.channel import Channel
from esl_record.standin.clock import local_stamp
from esl_record.standin.profile import Profile
from esl_record.standin.variables import separate

if TYPE_CHECKING:
    from esl_record.standin.call import Call

Row = dict[str, str]

USAGE = (
    "-USAGE: codec|endpoint|application|api|dialplan|file|timer|calls [count]|channels [count|like <match string>]"
    "|calls|detailed_calls|bridged_calls|detailed_bridged_calls|aliases|complete|chat|management|modules|nat_map|say"
    "|interfaces|interface_types|tasks|limits|status\n"
)

_COLUMNS = (
    "uuid direction created created_epoch name state cid_name cid_num ip_addr dest application application_data "
    "dialplan context read_codec read_rate read_bit_rate write_codec write_rate write_bit_rate secure hostname "
    "presence_id presence_data accountcode callstate callee_name callee_num callee_direction call_uuid "
    "sent_callee_name sent_callee_num initial_cid_name initial_cid_num initial_ip_addr initial_dest "
    "initial_dialplan initial_context"
)
_CALL_COLUMNS = (
    "uuid direction created created_epoch name state cid_name cid_num ip_addr dest presence_id presence_data "
    "accountcode callstate callee_name callee_num callee_direction"
)


def show(text: str, calls: Iterable[Call]) -> str:
    """``channels`` or ``calls``, ``count`` or not, ``as json`` or comma separated; of a switch's other lists none.

    ``application`` is what the channel began last, even if that has ended. A call that has been hung up is listed as
    it was, as long as a connection about it lingers.
    """
    what, *options = [*separate(text, " ", 6), ""]
    if what.lower() not in ("channels", "calls"):
        return USAGE
    live = [call.channel for call in calls if call.alive or call.lingers]
    rows = _channels(live) if what.lower() == "channels" else _calls(live)
    counted = options[0].lower() == "count"
    form = options[options.index("as") + 1].lower() if "as" in options[:-1] else "delim"
    if form == "json":
        return _json([] if counted else rows, len(rows))
    if form not in ("delim", "csv"):
        return f"-ERR Cannot find format {form}\n"
    lines = [] if counted else [",".join(row.values()) for row in rows]
    title = [",".join(rows[0])] if lines else []
    return "".join(f"{line}\n" for line in [*title, *lines]) + f"\n{len(rows)} total.\n"


def _json(rows: list[Row], count: int) -> str:
    if not count:
        return '{"row_count": 0}\n'
    return json.dumps({"row_count": count, "rows": rows}, ensure_ascii=False, separators=(",", ":"))


def _channels(channels: Iterable[Channel]) -> list[Row]:
    facts = [row for channel in channels for row in (_own(channel), *_other(channel))]
    return [{name: row.get(name, "") for name in _COLUMNS.split()} for row in facts]


def _calls(channels: Iterable[Channel]) -> list[Row]:
    found = []
    for channel in channels:
        row = _own(channel)
        other, *_ = [*_other(channel), Row()]
        own = f"{_CALL_COLUMNS} call_uuid hostname sent_callee_name sent_callee_num"
        others = f"{_CALL_COLUMNS} sent_callee_name sent_callee_num"
        both = {name: row.get(name, "") for name in own.split()}
        both |= {f"b_{name}": other.get(name, "") for name in others.split()}
        found.append({**both, "call_created_epoch": other.get("created_epoch", "")})
    return found


def _own(channel: Channel) -> Row:
    profile = channel.profile
    application, argument = channel.last_app or ("", None)
    gone = channel.hangup_cause is not None
    row = _described(channel, profile)
    row |= {
        "state": "CS_EXECUTE" if gone else channel.running_state,
        "dest": profile.sent_to or profile.destination,
        "application": application,
        "application_data": argument or "",
        "callstate": "ACTIVE" if gone and channel.answered else channel.call_state,
        "initial_dest": channel.caller.destination,
    }
    if channel.bridged and channel.other is not None:
        number = channel.other.destination
        row |= {"call_uuid": channel.uuid, "callee_name": number, "callee_num": number, "callee_direction": "SEND"}
        row |= {"sent_callee_name": number, "sent_callee_num": number}
    return row


def _other(channel: Channel) -> list[Row]:
    """The party it is bridged with, if it is."""
    other = channel.other
    if not channel.bridged or other is None:
        return []
    row = _described(channel, other)
    row |= {"state": "CS_EXCHANGE_MEDIA", "dest": other.destination, "callstate": "ACTIVE", "call_uuid": channel.uuid}
    row |= {"callee_name": other.destination, "callee_num": other.destination, "callee_direction": "SEND"}
    row |= {"sent_callee_name": channel.caller.name, "sent_callee_num": channel.caller.number}
    return [{**row, "initial_dest": other.destination}]


def _described(channel: Channel, profile: Profile) -> Row:
    codec = channel.codec
    sides = ("read", "write")
    return {
        "uuid": profile.uuid,
        "direction": profile.direction,
        "created": local_stamp(profile.created),
        "created_epoch": str(profile.created // 1_000_000),
        "name": profile.channel_name,
        "cid_name": profile.name,
        "cid_num": profile.number,
        "ip_addr": "127.0.0.1",
        "dialplan": profile.dialplan,
        "context": profile.context,
        **{f"{side}_codec": codec.name for side in sides},
        **{f"{side}_rate": str(codec.rate) for side in sides},
        **{f"{side}_bit_rate": str(codec.bits) for side in sides},
        "hostname": "standin",
        "initial_cid_name": profile.name,
        "initial_cid_num": profile.number,
        "initial_ip_addr": "127.0.0.1",
        "initial_dialplan": "XML",
        "initial_context": "default",
    }
