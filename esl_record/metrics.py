"""What an operator watches: counted here, read at ``/metrics`` in Prometheus' text format."""

import time

import gevent
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from esl_record.recording.catalog import Totals
from esl_record.recording.machine import State
from esl_record.recording.recording import Recording
from esl_record.status.outbox import Depth

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_WATCH = 0.05
"""Seconds between looks at whether the hub is late: the longest it should ever be."""

RESULTS = ("delivered", "failed", "dead", "gone")


class Metrics:
    """One service's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.calls = Gauge("esl_record_calls", "Live calls.", registry=registry)
        self.recordings = Gauge("esl_record_recordings", "Live recordings by state.", ["state"], registry=registry)
        self.ended = Counter(
            "esl_record_recordings_ended",
            "Recordings ended, by state and reason.",
            ["state", "end_reason"],
            registry=registry,
        )
        self.kept = Gauge(
            "esl_record_recordings_kept", "Recordings in the catalog by state.", ["state"], registry=registry
        )
        self.accepted = Histogram(
            "esl_record_accept_seconds", "From a call's connection to its control.", buckets=_FAST, registry=registry
        )
        self.tick = Histogram(
            "esl_record_vad_tick_seconds", "One look at the new audio of all calls.", buckets=_FAST, registry=registry
        )
        self.stalls = Histogram(
            "esl_record_hub_stall_seconds", "How late the hub was.", buckets=_FAST, registry=registry
        )
        self.pending = Gauge("esl_record_callbacks_pending", "Callbacks to be delivered.", registry=registry)
        self.dead = Gauge("esl_record_callbacks_dead", "Callbacks given up.", registry=registry)
        self.oldest = Gauge(
            "esl_record_callbacks_oldest_seconds", "Age of the oldest callback to be delivered.", registry=registry
        )
        self.deliveries = Counter(
            "esl_record_callback_results", "Attempts to deliver a callback, by result.", ["result"], registry=registry
        )
        self.bytes = Gauge("esl_record_bytes", "Bytes on disk: recordings, spool, free.", ["of"], registry=registry)
        self.refusing = Gauge(
            "esl_record_refusing", "1 while the disk lets no recording be begun, else 0.", registry=registry
        )
        for state in State:
            (self.kept if state.final else self.recordings).labels(state.value).set(0)
        for result in RESULTS:
            self.deliveries.labels(result)

    def has_ended(self, recording: Recording) -> None:
        reason = recording.end_reason.value if recording.end_reason else ""
        self.ended.labels(recording.state.value, reason).inc()

    def delivery(self, result: str) -> None:
        self.deliveries.labels(result).inc()

    def watch_hub(self) -> None:
        """Notes how late the hub wakes a greenlet; runs until it is killed."""
        while True:
            began = time.monotonic()
            gevent.sleep(_WATCH)
            self.stalls.observe(max(0.0, time.monotonic() - began - _WATCH))

    def look(self, live: list[Recording], calls: int, totals: Totals, depth: Depth, now: float) -> None:
        """Takes the figures that are not counted as they happen. ``now`` is unix time."""
        self.calls.set(calls)
        for state in State:
            if state.final:
                self.kept.labels(state.value).set(totals.by_state.get(state, 0))
            else:
                self.recordings.labels(state.value).set(sum(one.state is state for one in live))
        self.pending.set(depth.pending)
        self.dead.set(depth.dead)
        self.oldest.set(max(0.0, now - depth.oldest) if depth.oldest is not None else 0.0)

    def exposition(self) -> tuple[bytes, str]:
        """The body and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
