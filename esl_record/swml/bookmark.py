"""Where a call is in its documents, as it is written down for a later run of the service."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from esl_record.swml.document import Document, Place


@dataclass(slots=True)
class Turn:
    """A block of steps, by its place in the step it is within, and the step in it that is being run. ``came_to`` is
    what that outer step has come to so far."""

    block: Place
    at: int
    came_to: Any = None


@dataclass(slots=True)
class Frame:
    """A section while it runs: its own steps and the blocks open in them, and how often each jump was taken."""

    document: Document
    section: str
    params: Mapping[str, Any]
    turns: list[Turn] = field(default_factory=list)
    jumps: Counter[Place] = field(default_factory=Counter)


class Text(BaseModel):
    """A document."""

    name: str
    text: str


class Level(BaseModel):
    """A frame; ``document`` is its number among the texts."""

    document: int
    section: str
    params: dict[str, Any]
    turns: list[Turn]
    jumps: list[tuple[Place, int]]


class Bookmark(BaseModel):
    """``levels`` lead from the outermost section inwards. ``control_id`` is that of the recording the step makes, empty
    where it makes none; ``steps`` and ``transfers`` are how many there have been."""

    texts: list[Text]
    levels: list[Level]
    vars: dict[str, Any]
    control_id: str
    steps: int
    transfers: int
    waiting: list[dict[str, Any]] = []
    """Parameters of the recordings in the background that wait for the answer of the call."""
    at: float = 0.0
    """Unix time at which it was written down: what its step records began after that."""

    def way(self, documents: Sequence[Document]) -> Iterator[Any]:
        """The frames from the outermost inwards, each followed by its turns; ``documents`` are those of the texts."""
        for level in self.levels:
            yield Frame(documents[level.document], level.section, level.params, jumps=Counter(dict(level.jumps)))
            yield from (replace(turn) for turn in level.turns)


def bookmark(
    frames: Sequence[Frame], variables: Mapping[str, Any], control_id: str, *, steps: int, transfers: int
) -> Bookmark:
    """The place ``frames`` are at."""
    texts = list(dict.fromkeys((frame.document.name, frame.document.text) for frame in frames))
    levels = [
        Level(
            document=texts.index((frame.document.name, frame.document.text)),
            section=frame.section,
            params=dict(frame.params),
            turns=[replace(turn) for turn in frame.turns],
            jumps=list(frame.jumps.items()),
        )
        for frame in frames
    ]
    return Bookmark(
        texts=[Text(name=name, text=text) for name, text in texts],
        levels=levels,
        vars=dict(variables),
        control_id=control_id,
        steps=steps,
        transfers=transfers,
    )
