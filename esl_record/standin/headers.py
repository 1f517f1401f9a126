"""Headers as the event socket writes them: which, in which order, and how their values are encoded.

The order is that of the wire logs in tests/transcripts; ``variables.txt`` beside this module is taken from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import resources
from urllib.parse import unquote

from esl_record.standin.clock import gmt_stamp, local_stamp

Header = tuple[str, str]

# A percent sign that already starts an escape stays as it is (switch_url_encode does not encode twice).
_UNSAFE = re.compile(rb"%(?![0-9A-F]{2})|[^ -~]|[ #&+:;<=>?@\[\\\]^`{|}\"]")

# Where in the switch's source each event comes from: file, function, line.
_CALLING = {
    "CHANNEL_DATA": ("mod_event_socket.c", "parse_command", 2029),
    "CHANNEL_EXECUTE": ("switch_core_session.c", "switch_core_session_exec", 2949),
    "CHANNEL_EXECUTE_COMPLETE": ("switch_core_session.c", "switch_core_session_exec", 2972),
    "CHANNEL_ANSWER": ("switch_channel.c", "switch_channel_perform_mark_answered", 3848),
    "CHANNEL_PROGRESS_MEDIA": ("switch_channel.c", "switch_channel_perform_mark_pre_answered", 3562),
    "CHANNEL_HANGUP": ("switch_channel.c", "switch_channel_perform_hangup", 3447),
    "CHANNEL_PARK": ("switch_ivr.c", "switch_ivr_park", 1001),
    "CHANNEL_UNPARK": ("switch_ivr.c", "switch_ivr_park", 1213),
    "CHANNEL_STATE": ("switch_channel.c", "switch_channel_perform_set_running_state", 2409),
    "CHANNEL_CALLSTATE": ("switch_channel.c", "switch_channel_perform_set_callstate", 302),
    "CHANNEL_HOLD": ("switch_channel.c", "switch_channel_mark_hold", 876),
    "CHANNEL_UNHOLD": ("switch_channel.c", "switch_channel_mark_hold", 876),
    "CODEC": ("switch_core_codec.c", "switch_core_session_set_write_codec", 471),
    "CHANNEL_HANGUP_COMPLETE": ("switch_core_state_machine.c", "switch_core_session_reporting_state", 943),
    "CHANNEL_BRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1689),
    "CHANNEL_UNBRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1879),
    "DTMF": ("switch_channel.c", "switch_channel_dequeue_dtmf", 678),
    "RECORD_START": ("switch_ivr_async.c", "record_callback", 1482),
    "RECORD_STOP": ("switch_ivr_async.c", "send_record_stop_event", 1241),
    "MEDIA_BUG_START": ("switch_core_media_bug.c", "switch_core_media_bug_add", 1014),
    "MEDIA_BUG_STOP": ("switch_core_media_bug.c", "switch_core_media_bug_destroy", 84),
    "PLAYBACK_START": ("switch_ivr_play_say.c", "switch_ivr_play_file", 1611),
    "PLAYBACK_STOP": ("switch_ivr_play_say.c", "switch_ivr_play_file", 1965),
    "BACKGROUND_JOB": ("mod_event_socket.c", "api_exec", 1592),
}


@lru_cache(maxsize=8192)
def url_encode(value: str) -> str:
    """Encode a header's value: everything outside printable ASCII, and what could break or confuse a header line."""
    raw = value.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")


def serialize(headers: Iterable[Header], *, encode: bool = True) -> bytes:
    """Header lines and the blank line that ends them; an empty value is written ``_undef_``."""
    lines = [f"{name}: {(url_encode(value) if encode else value) or '_undef_'}\n" for name, value in headers]
    return ("".join(lines) + "\n").encode("utf-8", "surrogateescape")


def preamble(name: str, core_uuid: str, now_us: int, sequence: int) -> list[Header]:
    """What every event starts with."""
    file, function, line = _CALLING.get(name, ("switch_core.c", "unknown", 1))
    return [
        ("Event-Name", name),
        ("Core-UUID", core_uuid),
        ("FreeSWITCH-Hostname", "standin"),
        ("FreeSWITCH-Switchname", "standin"),
        ("FreeSWITCH-IPv4", "127.0.0.1"),
        ("FreeSWITCH-IPv6", "::1"),
        ("Event-Date-Local", local_stamp(now_us)),
        ("Event-Date-GMT", gmt_stamp(now_us)),
        ("Event-Date-Timestamp", str(now_us)),
        ("Event-Calling-File", file),
        ("Event-Calling-Function", function),
        ("Event-Calling-Line-Number", str(line)),
        ("Event-Sequence", str(sequence)),
    ]


@cache
def _sections() -> dict[str, list[Header]]:
    text = resources.files("esl_record.standin").joinpath("variables.txt").read_text("ascii")
    sections: dict[str, list[Header]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif line:
            name, _, value = line.partition(": ")
            current.append((name, unquote(value)))
    return sections


def variables(section: str, values: Mapping[str, str]) -> list[Header]:
    """The variables one stage of a call sets, in order, with ``values`` filled in.

    Stages: ``ring``, ``media`` (the codec is settled), ``ack`` (an answer was acknowledged), ``re-invite`` (the far end
    offers something else), ``re-invite answer``, ``codec`` (that changed the codec), ``bye`` (the far end hung up),
    ``media statistics``.
    """
    return [(name, value.format_map(values)) for name, value in _sections()[section]]
