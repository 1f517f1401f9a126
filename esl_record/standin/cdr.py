"""The call's books: the variables that say, at its end, when what happened and how long it took."""

from __future__ import annotations

from esl_record.standin.channel import Channel
from esl_record.standin.clock import local_stamp
from esl_record.standin.headers import Header


def timestamps(channel: Channel) -> list[Header]:
    """Stamps, epochs and durations, in the order the switch sets them when a call is hung up.

    Durations in seconds are differences of whole epoch seconds, as the switch counts them; those in milliseconds
    (``m``) and microseconds (``u``) are exact.
    """
    profile = channel.profile
    at = {
        "start": profile.created,
        "profile_start": profile.profiled or profile.created,
        "answer": profile.time("Answered"),
        "bridge": profile.time("Bridged"),
        "progress_media": profile.time("Progress-Media"),
        "last_hold": profile.time("Last-Hold"),
        "end": profile.time("Hangup"),
    }
    found = [("digits_dialed", "".join(channel.dialed) or "none")]
    found += [(f"{name}_stamp", local_stamp(us)) for name, us in at.items() if us and name != "last_hold"]
    for name in ("start", "profile_start", "answer", "bridge", "last_hold"):
        found += _epochs(name, at.get(name, 0))
    for name, us in (("seconds", 1_000_000), ("usec", 1), ("ms", 1000)):
        found.append((f"hold_accum_{name}", str(profile.held_us // us)))
    for name in ("resurrect", "progress", "progress_media", "end"):
        found += _epochs(name, at.get(name, 0))
    if channel.last_app is not None:
        found.append(("last_app", channel.last_app[0]))
        if channel.last_app[1]:
            found.append(("last_arg", channel.last_app[1]))
    found.append(("caller_id", f'"{profile.name}" <{profile.number}>'))
    return found + _durations(at)


def _epochs(name: str, us: int) -> list[Header]:
    return [(f"{name}_epoch", str(us // 1_000_000)), (f"{name}_uepoch", str(us))]


def _durations(at: dict[str, int]) -> list[Header]:
    spans = {
        "duration": ("start", "end"),
        "bill": ("answer", "end"),
        "progress": ("start", "progress"),
        "answer": ("start", "answer"),
        "wait": ("start", "bridge"),
        "progress_media": ("start", "progress_media"),
        "flow_bill": ("start", "end"),
    }
    found = []
    for unit, size in (("sec", 1_000_000), ("msec", 1000), ("usec", 1)):
        for name, (since, until) in spans.items():
            begin, end = at.get(since, 0), at.get(until, 0)
            if name == "flow_bill" and not at["answer"]:
                end = 0
            length = 0
            if begin and end:
                length = end // size - begin // size if unit == "sec" else (end - begin) // size
            title = f"{name}{unit}"
            if name == "duration":
                title = {"sec": "", "msec": "m", "usec": "u"}[unit] + "duration"
            found.append((title, str(length)))
    return found
