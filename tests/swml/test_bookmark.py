"""A document that goes on in another run of the service, from any step at which the first one may have died."""

import os
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import yaml
from test_calls import FakeRecordings, FakeSession, no_recorder

from esl_record.cipher import Cipher
from esl_record.errors import CallGone, DocumentError
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.recording.machine import State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.swml.bookmark import Bookmark, Text
from esl_record.swml.bookmarks import MOST, Bookmarks
from esl_record.swml.call import Call
from esl_record.swml.document import SIZE_LIMIT, Document, parse
from esl_record.swml.runner import STEPS, go_on, run
from esl_record.swml.site import Site

NOWHERE = Site()

CIPHER = Cipher.with_new_key()

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Told(FakeSession):
    """A caller who never hangs up; the switch dials as ``disposition`` says."""

    def __init__(self, log: list[Any], disposition: str | None = None) -> None:
        super().__init__(answered=True)
        self.verbs = log
        self.disposition = disposition

    def execute(self, application: str, argument: str = "", *, timeout: float = 0) -> Event:
        raise self.gone()

    def listen(self, listener: object) -> Callable[[], None]:
        return lambda: None

    def get_variable(self, name: str) -> str | None:
        return self.disposition if name == "originate_disposition" else None


class ToldRecordings(FakeRecordings):
    """Every recording is finished; the one an earlier run has begun is ``known`` by its control id."""

    def __init__(self, log: list[Any], known: str = "") -> None:
        super().__init__(no_recorder)
        self.log = log
        self.known = known
        self.record = self._record

    def start(self, params: RecordParams) -> str:
        self.log.append(("record_call", params.control_id))
        return self.url

    def stop(self, control_id: str | None) -> bool:
        self.log.append(("stop", control_id))
        return True

    def begun(self, control_id: str) -> str | None:
        if control_id != self.known:
            return None
        self.log.append(("record_call", control_id))
        return self.url

    def ended(self, control_id: str) -> tuple[Recording, str] | None:
        return self._of(control_id) if control_id == self.known else None

    def _record(self, params: RecordParams) -> tuple[Recording, str]:
        return self._of(params.control_id)

    def _of(self, control_id: str) -> tuple[Recording, str]:
        self.log.append(("record", control_id))
        begun = Recording.begun("8d1c", Party(call_id="3f5b"), RecordParams(control_id=control_id), 1.7e9)
        return begun.model_copy(update={"state": State.FINISHED}), f"http://x/{control_id}.wav"


def outcome(call: Call, what: Document | Bookmark) -> str:
    try:
        if isinstance(what, Bookmark):
            go_on(what, call)
        else:
            run(what, call)
    except DocumentError as error:
        return error.code
    except CallGone:
        return "gone"
    return ""


# ---- documents by chance: what takes time, and all that steers


def leaf(chance: Random) -> Any:
    """A step that leaves a trace of its own."""
    number = chance.randrange(10)
    return chance.choice(
        [
            {"play": f"silence:{number + 1}"},
            {"sleep": number + 1},
            {"record": {"control_id": f"r{number}"}},
            {"record": {}},
            {"record_call": {"control_id": f"c{number}"}},
            "stop_record_call",
            {"set": {"n": "${n + 1}", f"v{number}": "${n}"}},
            {"play": "say:${n} ${vars.record_url} ${params.p}"},
        ]
    )


def steering(chance: Random, depth: int, below: list[str]) -> Any:
    """A step that chooses among others, or sends to one of the sections ``below``."""

    def inner() -> list[Any]:
        return steps(chance, depth - 1, below)

    branches = [{"when": f"n % 3 > {chance.randrange(2)}", "then": inner()}, {"else": inner()}]
    cases = {"case": {"0": inner(), "1": inner()}, "default": inner()}
    kinds: list[Any] = [{"cond": branches}, {"switch": {"variable": "n", **cases}}]
    if below:
        called: dict[str, Any] = {"dest": chance.choice(below), "params": {"p": "${n}"}}
        if chance.random() < 0.5:
            called["on_return"] = inner()
        if chance.random() < 0.7:
            called["result"] = chance.choice([branches, cases])
        kinds += [{"execute": called}] * 3 + [{"transfer": chance.choice(below)}]
    return chance.choice(kinds)


def steps(chance: Random, depth: int, below: list[str]) -> list[Any]:
    most = chance.randrange(1, 4)
    return [steering(chance, depth, below) if depth and chance.random() < 0.6 else leaf(chance) for _ in range(most)]


def section(chance: Random, below: list[str]) -> list[Any]:
    """In half of them there is a loop around it all, whose count is part of the place."""
    inner = steps(chance, 2, below)
    if below == [] and chance.random() < 0.7:
        inner.append({"return": "${n % 3}"})
    if chance.random() < 0.5:
        return inner
    return [{"label": "again"}, *inner, {"goto": {"label": "again", "max": 2}}]


@pytest.mark.parametrize("seed", range(40))
def test_it_does_what_it_would_have_done(seed: int) -> None:
    chance = Random(seed)
    main = [{"set": {"n": chance.randrange(3)}}, {"record": {"control_id": "first"}}, *section(chance, ["a", "b"])]
    document = document_of({"main": main, "a": section(chance, ["b"]), "b": section(chance, [])})
    log: list[Any] = []
    marks: list[tuple[int, str]] = []
    call = Call(
        cast(Session, Told(log)),
        ToldRecordings(log),
        note=lambda mark: marks.append((len(log), mark.model_dump_json())),
    )
    ended = outcome(call, document)
    for done, written in chance.sample(marks, min(len(marks), 8)):
        mark = Bookmark.model_validate_json(written)
        # The recording of the step had not begun, or had.
        for there in ("", mark.control_id):
            again: list[Any] = []
            later = Call(cast(Session, Told(again)), ToldRecordings(again, there))
            assert outcome(later, mark) == ended
            assert named(again) == named(log[done:])
            assert later.vars.keys() == call.vars.keys()


def named(log: list[Any]) -> list[Any]:
    """Without the control ids nobody has chosen."""
    return [tuple(UUID.sub("*", str(part)) for part in entry) for entry in log]


def document_of(sections: dict[str, list[Any]]) -> Document:
    return parse(yaml.safe_dump({"version": "1.0.0", "sections": deepcopy(sections)}), "chance")


# ---- single steps


def resumed(
    steps: str, *, disposition: str | None = None, at: int, site: Site = NOWHERE
) -> tuple[list[Any], dict[str, Any]]:
    """What is done, and the variables, of a run that finds the place of the last step that waits."""
    log: list[Any] = []
    marks: list[Bookmark] = []
    document = parse(f"version: 1.0.0\nsections: {{main: {steps}}}", "greeting")
    outcome(Call(cast(Session, Told(log)), ToldRecordings(log), site=site, note=marks.append), document)
    again: list[Any] = []
    later = Call(cast(Session, Told(again, disposition)), ToldRecordings(again, marks[at].control_id), site=site)
    outcome(later, marks[at])
    return again, later.vars


def test_what_a_recording_came_to_is_published_by_the_run_that_sees_its_end() -> None:
    did, variables = resumed("[{record: {control_id: r}}, {play: 'say:${vars.record_url}'}]", at=0)
    assert did == [("record", "r"), ("speak", "http://x/r.wav"), ("hangup", "NORMAL_CLEARING")]
    assert variables["record_result"] == "success"


def test_a_background_recording_is_not_begun_twice() -> None:
    did, variables = resumed("[{record_call: {control_id: c}}, {play: 'silence:1'}]", at=0)
    assert did[0] == ("record_call", "c")
    assert (variables["record_control_id"], variables["record_call_result"]) == ("c", "success")


CONNECT = """[{record: {control_id: r}}, {connect: {to: 'sip:ann@example.com', status_url: 'http://x/',
    transfer_after_bridge: main,
    result: {case: {connected: [{play: 'say:good bye'}, hangup], failed: [{play: 'say:nobody'}, hangup]}}}}]"""


@pytest.mark.parametrize(
    ("disposition", "said", "result", "reason"),
    [("SUCCESS", "good bye", "connected", ""), ("USER_BUSY", "nobody", "failed", "busy")],
)
def test_a_bridge_has_ended_without_the_service(disposition: str, said: str, result: str, reason: str) -> None:
    told: list[tuple[str, str]] = []
    site = Site(tell=lambda url, control_id, state, body: told.append((state, control_id)))
    did, variables = resumed(CONNECT, disposition=disposition, at=1, site=site)
    # Under the name of the step that began it.
    assert [state for state, _ in told] == ["failed", "disconnected" if result == "connected" else "failed"]
    assert len({control_id for _, control_id in told}) == 1
    assert did == [("speak", said), ("hangup", "NORMAL_CLEARING")]
    assert (variables["connect_result"], variables["connect_failed_reason"]) == (result, reason)


def test_nothing_is_noted_before_the_first_recording() -> None:
    marks: list[Bookmark] = []
    log: list[Any] = []
    document = parse("version: 1.0.0\nsections: {main: [{play: 'silence:1'}, {sleep: 5}]}", "greeting")
    outcome(Call(cast(Session, Told(log)), ToldRecordings(log), note=marks.append), document)
    assert marks == []


def test_the_steps_before_count_towards_the_most_there_may_be() -> None:
    log: list[Any] = []
    marks: list[Bookmark] = []
    document = parse("version: 1.0.0\nsections: {main: [{record: {}}, {sleep: 5}]}", "greeting")
    outcome(Call(cast(Session, Told(log)), ToldRecordings(log), note=marks.append), document)
    last = marks[-1].model_copy(update={"steps": STEPS})
    again: list[Any] = []
    assert (
        outcome(Call(cast(Session, Told(again)), ToldRecordings(again)), last) == "relay_script_method_execute_failed"
    )
    assert again == []


# ---- kept


def test_a_bookmark_is_there_for_the_next_run_until_its_call_has_ended(tmp_path: Path) -> None:
    mark = Bookmark(texts=[], levels=[], vars={"n": 1}, control_id="r", steps=1, transfers=0)
    first = Bookmarks(tmp_path / "calls", CIPHER)
    first.put("3f5b", mark)
    first.put("../evil", mark)
    (tmp_path / "calls" / "77.checkpoint").write_text("torn")
    (tmp_path / "calls" / ".78.checkpoint.part").write_text("torn")
    second = Bookmarks(tmp_path / "calls", CIPHER)
    assert second.get("3f5b") is None
    second.find()
    found = second.get("3f5b")
    assert found is not None
    assert (found.vars, found.control_id) == ({"n": 1}, "r")
    assert second.get("77") is None
    second.drop("3f5b")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["77.checkpoint"]


def test_a_bookmark_of_last_week_is_taken_away(tmp_path: Path) -> None:
    kept = Bookmarks(tmp_path, CIPHER)
    kept.put("3f5b", Bookmark(texts=[], levels=[], vars={}, control_id="", steps=0, transfers=0))
    os.utime(tmp_path / "3f5b.checkpoint", (0, 0))
    kept.find()
    assert list(tmp_path.iterdir()) == []


def test_a_document_that_never_rests_is_not_written_down_for_ever(tmp_path: Path) -> None:
    kept = Bookmarks(tmp_path, CIPHER)
    mark = Bookmark(
        texts=[Text(name="large", text="#" * SIZE_LIMIT)], levels=[], vars={}, control_id="", steps=0, transfers=0
    )
    for _ in range(MOST // SIZE_LIMIT + 2):
        kept.put("3f5b", mark)
    assert list(tmp_path.iterdir()) == []
    assert kept.get("3f5b") is None


def test_what_a_step_was_given_when_it_began_is_not_looked_at_again() -> None:
    """Its section has changed the variables it was called with."""
    text = """
version: 1.0.0
sections:
  main: [{set: {p: {a: 1}}}, {execute: {dest: take, params: '${p}', on_return: [{play: 'say:${params.a}'}]}}]
  take: [{set: {p: no mapping}}, {record: {control_id: r}}]
"""
    log: list[Any] = []
    marks: list[Bookmark] = []
    outcome(Call(cast(Session, Told(log)), ToldRecordings(log), note=marks.append), parse(text, "greeting"))
    again: list[Any] = []
    assert outcome(Call(cast(Session, Told(again)), ToldRecordings(again, "r")), marks[0]) == ""
    assert again == log


def test_a_bookmark_that_cannot_be_written_leaves_none_that_is_passed(tmp_path: Path) -> None:
    kept = Bookmarks(tmp_path, CIPHER)
    mark = Bookmark(texts=[], levels=[], vars={}, control_id="r", steps=1, transfers=0)
    assert kept.put("3f5b", mark)
    assert not kept.put("3f5b", mark.model_copy(update={"vars": {"half": "\ud800"}}))
    assert kept.get("3f5b") is None


PIN = Bookmark(texts=[], levels=[], vars={"prompt_value": "4111111111111111"}, control_id="r", steps=1, transfers=0)


def test_what_a_caller_pressed_cannot_be_read_in_the_file(tmp_path: Path) -> None:
    kept = Bookmarks(tmp_path, CIPHER)
    assert kept.put("3f5b", PIN)
    (path,) = tmp_path.iterdir()
    assert b"4111" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    found = kept.get("3f5b")
    assert found is not None
    assert found.vars == PIN.vars


@pytest.mark.parametrize("wrong", ["key", "changed", "content"])
def test_a_checkpoint_that_cannot_be_decrypted_is_lost_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    Bookmarks(tmp_path, CIPHER).put("3f5b", PIN)
    path = tmp_path / "3f5b.checkpoint"
    if wrong == "changed":
        path.write_bytes(path.read_bytes()[:-20] + b"A" * 20)
    if wrong == "content":
        path.write_text(CIPHER.encrypt('{"texts": "4111111111111111"}'))
    later = Bookmarks(tmp_path, Cipher.with_new_key() if wrong == "key" else CIPHER)
    later.find()
    assert later.get("3f5b") is None
    (line,) = caplog.messages
    assert line.startswith("call 3f5b: its place in its document is lost: ")
    assert "4111" not in line
    assert later.put("3f5b", PIN)
    assert later.get("3f5b") is not None


def test_checkpoints_that_an_earlier_version_did_not_encrypt_are_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("3f5b.json", "3f5c.json", ".3f5d.json.part"):
        (tmp_path / name).write_text(PIN.model_dump_json())
    kept = Bookmarks(tmp_path, CIPHER)
    kept.find()
    assert list(tmp_path.iterdir()) == []
    assert kept.waiting() == set()
    assert caplog.messages == [f"{tmp_path}: removed 3 unencrypted checkpoints of an earlier version"]
