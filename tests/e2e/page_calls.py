"""Examples of the reference pages as calls: what the caller does, and what came of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import yaml
from following import Executed, Followed, Follower
from hearing import likeness_within
from numpy.typing import NDArray
from pages import PAGES, Asked, Server, play
from phones import Dialled, Ended

from esl_record.esl.session import SPEECH

PATIENCE = 60.0
"""Seconds all calls have."""


@dataclass(frozen=True)
class Outcome:
    """What came of an example's call. ``sounds``: what the caller was played, in order: a text that was spoken,
    ``silence:`` and its seconds, ``tone``, a sound of the page by its name, any other by its path or URL."""

    ended: Ended
    executed: list[Executed]
    sounds: list[str]
    heard: NDArray[np.int16]
    dtmf: str
    asked: list[Asked]
    parties: list[dict[str, str]]
    """Whom the call was connected with, or who was busy: ``to``, ``from`` and ``name`` as they saw it. Of all calls."""
    real: bool
    fetches: bool
    """Whether the switch can play what a web server gives."""
    speaks: bool
    caller: str
    ended_at: float
    late: bool

    def variable(self, name: str) -> str:
        return self.ended.variables[name]

    def seconds_since(self, application: str) -> float:
        """From the first execution of ``application`` to the end of the call."""
        return self.ended_at - next(one.at for one in self.executed if one.application == application)

    def hears_again(self, samples: NDArray[np.int16]) -> bool:
        """Whether the caller heard ``samples``, if it is a switch on which that can be told."""
        return not self.fetches or likeness_within(self.heard, samples) > 0.9


Check = Callable[[Outcome], None]


@dataclass(frozen=True)
class Example:
    """``page`` and heading of the example; ``check`` says in its name what the page promises.

    ``around``: steps before and after the example, which is then executed as a document of its own. ``says``: what
    the caller says. ``presses``: what it presses, each once it has been played what stands before it.
    ``hangs_up_after``: seconds from the first thing that is done. ``serves``: what the server answers. ``as_json``:
    the document is given as JSON. ``refused``: the service has no such thing, and the dialplan goes on.
    """

    page: str
    check: Check
    around: tuple[list[Any], list[Any]] | None
    says: NDArray[np.int16]
    presses: tuple[tuple[str, str], ...]
    serves: Callable[[Asked], str]
    hangs_up_after: float | None
    as_json: bool
    refused: bool

    @property
    def name(self) -> str:
        return self.check.__name__

    def document(self, server: Server, *, by_web: bool) -> tuple[str, str]:
        """The text of the document, and the suffix of its file."""
        page, _, heading = self.page.partition(": ")
        text = server.document(PAGES[page][heading], self.name, by_web=by_web)
        tree = yaml.safe_load(text)
        if self.around is not None:
            before, after = self.around
            steps = [*before, {"execute": {"dest": json.dumps(tree)}}, *after]
            tree = {"version": "1.0.0", "sections": {"main": steps}}
            return yaml.safe_dump(tree), "yaml"
        return (json.dumps(tree), "json") if self.as_json else (text, "yaml")


EXAMPLES: list[Example] = []


def example(
    page: str,
    *,
    around: tuple[list[Any], list[Any]] | None = None,
    says: NDArray[np.int16] | None = None,
    presses: tuple[tuple[str, str], ...] = (),
    serves: Callable[[Asked], str] = lambda _: play("something"),
    hangs_up_after: float | None = None,
    as_json: bool = False,
    refused: bool = False,
) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        spoken = np.zeros(0, np.int16) if says is None else says
        EXAMPLES.append(Example(page, check, around, spoken, presses, serves, hangs_up_after, as_json, refused))
        return check

    return add


def run(chosen: list[Example], follower: Follower, server: Server) -> dict[str, Outcome]:
    """What came of ``chosen``, by their names. Their calls begin shortly after each other, and go on together."""
    calls: dict[str, Followed] = {}
    for one in chosen:
        calls[one.name] = _dial(one, follower, server)
        gevent.sleep(0.1)
    gevent.wait([call.over for call in calls.values()], timeout=PATIENCE)
    late = {name for name, call in calls.items() if not call.over.is_set()}
    for name in late:
        calls[name].live.hang_up()
    return {name: _outcome(name, call, follower, server, late=name in late) for name, call in calls.items()}


def _dial(one: Example, follower: Follower, server: Server) -> Followed:
    text, suffix = one.document(server, by_web=follower.fetches)
    (follower.service.documents / f"{one.name}.{suffix}").write_text(text)
    server.answers[one.name] = one.serves
    call = follower.dial(Dialled(one.name, one.says))
    gevent.spawn(_act, one, call, server)
    return call


def _outcome(name: str, call: Followed, follower: Follower, server: Server, *, late: bool) -> Outcome:
    ended = call.live.end()
    return Outcome(
        ended,
        call.executed,
        [_shown(one, server) for one in call.executed if one.application == "playback"],
        call.heard(),
        call.dtmf,
        server.served.get(name, []),
        [asked.body for asked in server.served.get("parties", [])],
        follower.real,
        follower.fetches,
        follower.speaks,
        call.caller,
        call.ended_at,
        late,
    )


def _act(one: Example, call: Followed, server: Server) -> None:
    seen = 0
    for text, digits in one.presses:
        while text not in (played := [_shown(done, server) for done in call.executed[seen:]]):
            if call.over.wait(0.02):
                return
        seen += played.index(text) + 1
        gevent.sleep(1.0)
        call.press(digits)
    if one.hangs_up_after is not None:
        while not call.executed and not call.over.wait(0.02):
            pass
        gevent.sleep(one.hangs_up_after)
        call.live.hang_up()


def _shown(one: Executed, server: Server) -> str:
    """As in ``Outcome.sounds``; empty for what is not played."""
    if one.argument.startswith(SPEECH):
        return one.argument.split("|", 2)[2]
    if one.application != "playback":
        return ""
    kind, _, rest = one.argument.partition("://")
    if kind == "silence_stream":
        return f"silence:{int(rest) / 1000:g}"
    if kind == "tone_stream":
        return "tone"
    ours = one.argument.startswith((f"{server.url}/sounds/", str(server.folder)))
    return Path(one.argument).stem if ours else one.argument
