"""Documents that burn all they may, and what other calls notice of it, on whole calls."""

from phones import Dialled, Phone
from running import RunningService
from test_control import OPEN, tone

from esl_record.standin import voice

BURNS = "(() => { let n = 0; for (let i = 0; i < 150000; i++) n += i; return n })()"
"""An expression that takes most of what one may."""

CALLS, ROUNDS = 8, 100


def test_documents_that_burn_all_they_may_do_not_hold_up_another_call(phone: Phone) -> None:
    """Counted in what they have done meanwhile: each call's end is logged, and so is each of its steps."""
    service = phone.service
    plain = service.document(
        "plain", "answer", {"set": {"a": "${1 + 1}"}}, {"record": {"initial_timeout": 0, "max_length": 0.5}}, "hangup"
    )
    assert phone.call(Dialled(plain, tone(OPEN, 3.0))).recording.duration == 0.5
    rounds = [{"set": {f"v{n}": f"${{{BURNS}}}" for n in range(4)}}] * ROUNDS
    burning = service.document("burning", "answer", *rounds, {"sleep": -1})
    calls = [phone.dial(Dialled(burning, voice.say(5.0))) for _ in range(CALLS)]
    service.wait(lambda: steps(service) > 2 * CALLS, "the others to burn")
    before = steps(service)
    assert phone.call(Dialled(plain, tone(OPEN, 3.0))).recording.duration == 0.5
    # Half of them would be many seconds of work.
    assert steps(service) - before < CALLS * ROUNDS / 2
    for call in calls:
        call.hang_up()
    for call in calls:
        call.end()
    after = steps(service)
    assert phone.call(Dialled(plain, tone(OPEN, 3.0))).recording.duration == 0.5
    assert steps(service) - after <= 1


def steps(service: RunningService) -> int:
    """How many `set` steps have begun."""
    return service.log.count(": set\n")
