"""Sending a call elsewhere: what becomes of its channel, and the dialplan that stands in a destination."""

from __future__ import annotations

from esl_record.standin.channel import Channel
from esl_record.standin.variables import integer, separate

FORWARDS = 70
"""Times a call may be sent elsewhere."""


def inline(destination: str) -> list[tuple[str, str]]:
    """The applications of a destination of the dialplan ``inline``, with their arguments.

    ``app:argument,app:argument``; ``m:^:app:argument^app:argument`` names its own delimiter.
    """
    delimiter = ","
    if destination.startswith("m:") and destination[3:4] == ":":
        delimiter, destination = destination[2], destination[4:]
    parts = [part.partition(":") for part in separate(destination, delimiter)]
    return [(name.lstrip(" "), argument) for name, _, argument in parts]


def leave(channel: Channel, destination: str, dialplan: str, context: str) -> bool:
    """Mark a channel sent elsewhere; its session notices and takes it there. False if that was too often."""
    if channel.hangup_cause is not None:
        return True
    left = integer(channel.variables.get("max_forwards") or str(FORWARDS)) - 1
    if left <= 0:
        channel.hang_up("EXCHANGE_ROUTING_ERROR")
        return False
    channel.set("max_forwards", str(left))
    channel.set("signal_bond", None)
    channel.profile.send_on(destination, dialplan, context, channel.core.clock.now_us)
    channel.state = ("CS_ROUTING", 2)
    channel.transferred = True
    source = channel.profile.transfer_source
    before = channel.variables.get("transfer_history")
    history = source if before is None else f"ARRAY::{source}|:{before.removeprefix('ARRAY::')}"
    channel.set("transfer_history", history, checked=False)
    channel.set("transfer_source", source, checked=False)
    return True


def arrive(channel: Channel) -> None:
    """Begin the dialplan that a channel was sent to."""
    channel.set("call_uuid", channel.uuid)
    channel.profile.arrive()
    channel.enter("CS_EXECUTE", 4)
