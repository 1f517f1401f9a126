"""Metrics: what is counted can be read."""

import gevent
import pytest
from prometheus_client.parser import text_string_to_metric_families

from esl_record.metrics import Metrics
from esl_record.recording.catalog import Totals
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.status.outbox import Depth


def figures(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample, by name and the values of its labels."""
    body, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def recording(state: State, reason: EndReason | None = None) -> Recording:
    one = Recording.begun("r", Party(call_id="c"), RecordParams(), 1.0)
    return one.model_copy(update={"state": state, "end_reason": reason})


def test_live_recordings_are_counted_by_state_and_fall_again() -> None:
    metrics = Metrics()
    live = [recording(State.RECORDING), recording(State.PAUSED), recording(State.RECORDING)]
    for one, calls in ((live, 2), (live[:1], 1)):
        metrics.look(one, calls, Totals({State.FINISHED: 7}, 100), Depth(3, 1, 90.0), 100.0)
    read = figures(metrics)
    assert read[("esl_record_calls", ())] == 1
    assert read[("esl_record_recordings", ("recording",))] == 1
    assert read[("esl_record_recordings", ("paused",))] == 0
    assert read[("esl_record_recordings_kept", ("finished",))] == 7
    assert read[("esl_record_callbacks_pending", ())] == 3
    assert read[("esl_record_callbacks_dead", ())] == 1
    assert read[("esl_record_callbacks_oldest_seconds", ())] == 10


def test_an_empty_outbox_has_no_age() -> None:
    metrics = Metrics()
    metrics.look([], 0, Totals({}, 0), Depth(0, 0, None), 100.0)
    assert figures(metrics)[("esl_record_callbacks_oldest_seconds", ())] == 0


def test_ends_are_counted_by_state_and_reason() -> None:
    metrics = Metrics()
    for one in (
        recording(State.FINISHED, EndReason.HANGUP),
        recording(State.FINISHED, EndReason.HANGUP),
        recording(State.NO_INPUT, EndReason.HANGUP),
    ):
        metrics.has_ended(one)
    read = figures(metrics)
    assert read[("esl_record_recordings_ended_total", ("hangup", "finished"))] == 2
    assert read[("esl_record_recordings_ended_total", ("hangup", "no_input"))] == 1


def test_every_result_of_a_delivery_is_there_from_the_start() -> None:
    metrics = Metrics()
    metrics.delivery("failed")
    read = figures(metrics)
    assert read[("esl_record_callback_results_total", ("failed",))] == 1
    assert read[("esl_record_callback_results_total", ("delivered",))] == 0


def test_a_hub_that_is_held_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    now = 0.0
    slept = iter([0.05, 0.35])

    def sleep(_: float) -> None:
        nonlocal now
        try:
            now += next(slept)
        except StopIteration:
            raise gevent.GreenletExit from None

    monkeypatch.setattr("esl_record.metrics.gevent.sleep", sleep)
    monkeypatch.setattr("esl_record.metrics.time.monotonic", lambda: now)
    with pytest.raises(gevent.GreenletExit):
        metrics.watch_hub()
    read = figures(metrics)
    assert read[("esl_record_hub_stall_seconds_count", ())] == 2
    assert read[("esl_record_hub_stall_seconds_sum", ())] == pytest.approx(0.3)


def test_two_services_do_not_share_figures() -> None:
    first, second = Metrics(), Metrics()
    first.delivery("dead")
    assert figures(second)[("esl_record_callback_results_total", ("dead",))] == 0
