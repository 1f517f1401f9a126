"""What documents may spend: whoever has spent least goes first, nobody holds the hub, and nothing outlives its call."""

import gc
import json
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from test_calls import FakeSession, call_on

from esl_record.errors import CallGone, DocumentError
from esl_record.swml import budget, javascript
from esl_record.swml.budget import BURST, FREE, SHARE, Budget, FairQueue
from esl_record.swml.document import parse
from esl_record.swml.expressions import substitute
from esl_record.swml.javascript import evaluate
from esl_record.swml.reading import read
from esl_record.swml.runner import run

LIMIT = 10.0
LONG = "(() => { let n = 0; for (let i = 0; i < 150000; i++) n += i; return n })()"
"""An expression that takes most of what one may."""


@pytest.fixture(autouse=True, scope="module")
def _engine() -> None:
    javascript.prepare()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Budget]:
    """The budgets of the pieces of work that the engine has done, in their order."""
    order: list[Budget] = []
    worked = FairQueue._worked

    def noted(turns: FairQueue, work: Callable[[], object], of: Budget) -> tuple[object, Exception | None]:
        outcome = worked(turns, work, of)
        if turns is budget.engine:
            order.append(of)
        return outcome

    monkeypatch.setattr(FairQueue, "_worked", noted)
    return order


def spent(seconds: float = 2 * FREE) -> Budget:
    """That of a call which has spent its free share."""
    one = Budget()
    one.seconds = seconds
    return one


@pytest.fixture
def burning() -> Iterator[Callable[[int], None]]:
    """Starts calls whose documents burn all they may until the test is over."""
    calls: list[gevent.Greenlet] = []

    def burn(account: Budget) -> None:
        while True:
            account.begin_step()
            evaluate(LONG, {}, account)

    def start(count: int) -> None:
        calls.extend(gevent.spawn(burn, Budget()) for _ in range(count))
        gevent.idle()

    yield start
    gevent.killall(calls)


# ---- fair


def test_a_call_that_begins_waits_for_one_expression_of_sixty_calls_that_burn(
    burning: Callable[[int], None], done: list[Budget]
) -> None:
    burning(60)
    while len(done) < 150:
        gevent.sleep(0.001)
    fresh = Budget()
    before = len(done)
    assert evaluate("1 + 1", {}, fresh) == 2
    gevent.idle()
    assert done.index(fresh) - before <= 1


def test_expressions_of_two_calls_take_turns(done: list[Budget]) -> None:
    many, few = Budget(), Budget()

    def work_out(account: Budget, count: int) -> None:
        for _ in range(count):
            evaluate("1 + 1", {}, account)

    gevent.joinall([gevent.spawn(work_out, many, 30), gevent.spawn(work_out, few, 3)], timeout=LIMIT)
    assert done.count(many) == 30
    last = max(number for number, one in enumerate(done) if one is few)
    assert last < 10


def test_those_who_have_spent_their_free_share_have_a_share_of_a_processor() -> None:
    now = 0.0
    turns = FairQueue(clock=lambda: now)
    heavy = spent()
    turns.spent(BURST + 1.0)
    waiting = gevent.spawn(turns.run, lambda: "heavy", heavy)
    gevent.idle()
    assert turns.run(lambda: "fresh", Budget()) == "fresh"
    assert not waiting.ready()
    now += 1.1 / SHARE
    assert turns.run(lambda: "fresh", Budget()) == "fresh"
    assert waiting.get(timeout=LIMIT) == "heavy"


def test_an_error_of_the_work_is_its_callers_own() -> None:
    turns = FairQueue()
    with pytest.raises(ZeroDivisionError):
        turns.run(lambda: 1 // 0, Budget())
    assert turns.run(lambda: 1, Budget()) == 1


# ---- limits


def test_the_expressions_of_a_step_have_a_limit_together(done: list[Budget]) -> None:
    account = Budget()
    account.begin_step()
    with pytest.raises(DocumentError, match="expressions of a step take too long: more than 5e") as caught:
        substitute([f"${{{LONG}}}"] * 900, {}, account)
    assert caught.value.code == "relay_script_js_eval_error"
    # Those that are not short are begun twice.
    assert len(done) < 200
    account.begin_step()
    assert evaluate("1 + 1", {}, account) == 2


def test_the_expressions_of_a_call_have_a_limit_together() -> None:
    account = Budget()
    account.charge(budget.CALL - 1)
    account.begin_step()
    assert evaluate("1 + 1", {}, account) == 2
    with pytest.raises(DocumentError, match="expressions of a call take too long"):
        evaluate("1 + 1", {}, account)


def test_what_a_document_burns_ends_it() -> None:
    steps = {"set": {f"v{n}": f"${{{LONG}}}" for n in range(900)}}
    document = parse(json.dumps({"version": "1.0.0", "sections": {"main": [steps]}}), "burns")
    call = call_on(FakeSession())
    with pytest.raises(DocumentError, match="burns, section main, step 1: the expressions of a step take too long"):
        run(document, call)
    assert call.vars["script_error"] == "relay_script_js_eval_error"


# ---- the end of the call


def test_nothing_goes_on_after_the_hang_up(done: list[Budget]) -> None:
    session = FakeSession()
    steps = [{"set": {f"v{n}": f"${{{LONG}}}" for n in range(40)}}]
    document = parse(json.dumps({"version": "1.0.0", "sections": {"main": steps}}), "burns")
    call = call_on(session)
    running = gevent.spawn(_ended, lambda: run(document, call))
    while len(done) < 3:
        gevent.sleep(0.001)
    session.hangup()
    assert isinstance(running.get(timeout=LIMIT), CallGone)
    after = len(done)
    evaluate("1 + 1", {})
    evaluate("1 + 1", {})
    assert len(done) <= after + 3


def test_who_waits_for_the_engine_when_the_call_ends_waits_no_longer() -> None:
    session = FakeSession()
    turns = FairQueue()
    turns.spent(BURST + 100.0)
    account = Budget(session)  # type: ignore[arg-type]
    account.seconds = 2 * FREE
    done: list[int] = []
    waiting = gevent.spawn(_ended, lambda: turns.run(lambda: done.append(1), account))
    gevent.idle()
    session.hangup()
    assert isinstance(waiting.get(timeout=LIMIT), CallGone)
    assert not done


def _ended(act: Callable[[], object]) -> object:
    try:
        return act()
    except CallGone as gone:
        return gone


# ---- the hub

HEAVY = [
    pytest.param({"set": {"a": ["x" * 8] * 20_000}}, id="many values"),
    pytest.param({"set": {"a": ["${vars.b}"] * 900, "c": [[1] * 100] * 400}}, id="many references"),
    pytest.param({"set": {"a": "${" + "1 +" * 5000 + " 1}"}}, id="a long expression"),
    pytest.param({"set": {"a": "${a" + "'" * 100_000}}, id="no expression"),
    pytest.param({"cond": [{"when": f"vars.b == {n}", "then": []} for n in range(100)]}, id="many branches"),
    pytest.param({"cond": [{"when": f"a{n}", "then": []} for n in range(1000)]}, id="many plain branches"),
]


@pytest.mark.parametrize("step", HEAVY)
def test_a_heavy_step_lets_others_go_on(step: dict[str, object]) -> None:
    """Counted in the hub's own time, not in that of the machine: what others do on it is not counted."""
    document = read(json.dumps({"version": "1.0.0", "sections": {"main": [step]}}).encode(), "heavy")
    turns: list[float] = []

    def breathe() -> None:
        while True:
            turns.append(time.thread_time())
            gevent.sleep(0.0005)

    other = gevent.spawn(breathe)
    gevent.idle()
    gc.disable()
    try:
        calls = [gevent.spawn(_outcome, lambda: run(document, call_on(FakeSession()))) for _ in range(5)]
        gevent.joinall(calls, timeout=LIMIT)
        assert all(one.ready() for one in calls)
    finally:
        gc.enable()
        other.kill()
    assert (turns[-1] - turns[0]) / len(turns) < 0.01


def _outcome(act: Callable[[], object]) -> object:
    try:
        return act()
    except DocumentError as error:
        return error


def test_a_loop_without_a_pause_takes_turns_with_a_call_that_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [{"set": {"big": ["x" * 8] * 10_000}}, {"label": "again"}, {"set": {"n": "%{n}"}}]
    looping = [*rounds, {"goto": {"label": "again"}}]
    document = parse(json.dumps({"version": "1.0.0", "sections": {"main": looping}}), "loop")
    short = parse(json.dumps({"version": "1.0.0", "sections": {"main": [{"set": {"a": 1}}] * 5}}), "short")
    calls = [call_on(FakeSession()) for _ in range(30)]
    loops = [gevent.spawn(_outcome, lambda call=call: run(document, call)) for call in calls]
    while not all(call.budget.seconds > FREE for call in calls):
        gevent.sleep(0.01)
    slices: list[object] = []
    served = FairQueue._do

    def counted(turns: FairQueue, job: budget._Job) -> None:
        slices.append(job)
        served(turns, job)

    monkeypatch.setattr(FairQueue, "_do", counted)
    run(short, call_on(FakeSession()))
    gevent.killall(loops)
    # Five steps, each behind one slice of another call at most, and one that had begun.
    assert len(slices) <= 6
