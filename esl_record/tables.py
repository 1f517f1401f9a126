"""Recordings and callbacks as tables for a terminal."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from esl_record.logs import one_line
from esl_record.recording.recording import Recording
from esl_record.status import receiver
from esl_record.status.outbox import Callback


def recordings(entries: Iterable[Recording]) -> Table:
    return _table(
        ("id", "start (UTC)", "from", "to", "state", "ended by", "s"),
        (
            (
                one.recording_id[:8],
                _when(one.start_time),
                one.caller_number,
                one.destination,
                one.state.value,
                one.end_reason.value if one.end_reason else "",
                f"{one.duration:.2f}",
            )
            for one in entries
        ),
    )


def callbacks(entries: Iterable[Callback]) -> Table:
    return _table(
        ("id", "queued (UTC)", "recording", "state", "is", "tries", "to", "last answer"),
        (
            (
                one.callback_id.removeprefix("msg_")[:8],
                _when(one.created_at),
                one.recording_id[:8],
                one.state,
                one.status.value,
                str(one.attempts),
                receiver.shown(one.url),
                one.last_result,
            )
            for one in entries
        ),
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(one_line(text)) for text in row))
    return table


def _when(unix: float) -> str:
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"
