"""What steers a document: its parameters alone; the runner follows them.

``when`` is JavaScript. The steps of a branch are raw here: a document has made steps of them.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator

from esl_record.recording.params import number
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method, Parameters

MOST_BRANCHES = 1000
"""Of one ``cond``: all of them are read again whenever it is run."""

Times = Annotated[float, BeforeValidator(number), Field(ge=1, le=100, multiple_of=1)]


class LabelParams(Parameters):
    label: str


class GotoParams(Parameters):
    """Jumps back or forth in its section, at most ``max`` times."""

    label: str
    when: str | None = None
    max: Times = 100.0


class Branch(Parameters):
    """``when`` with ``then``, or only ``else``."""

    when: str | None = None
    then: list[Any] | None = None
    else_: list[Any] | None = Field(None, alias="else")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Branch":
        if (self.when is None) != (self.then is None) or (self.when is None and self.else_ is None):
            raise ValueError("when and then are wanted, or else")
        return self


Branches = Annotated[list[Branch], Field(max_length=MOST_BRANCHES)]


class CondParams(Parameters):
    branches: Branches


class SwitchParams(Parameters):
    """``variable`` is a path."""

    variable: str
    case: dict[str, list[Any]]
    default: list[Any] | None = None


class ChoiceParams(Parameters):
    """A switch on what a step came to; ``variable`` is a path where it is to look elsewhere."""

    variable: str | None = None
    case: dict[str, list[Any]]
    default: list[Any] | None = None


Result = Annotated[
    Annotated[ChoiceParams, Tag("switch")] | Annotated[Branches, Tag("cond")],
    Discriminator(lambda given: "cond" if isinstance(given, list) else "switch"),
]
"""What is done after a step, by what it came to: a switch, or the branches of a cond."""


RESULT: TypeAdapter[ChoiceParams | list[Branch] | None] = TypeAdapter(Result | None)


class ExecuteParams(Parameters):
    """``dest``: a section, or a document written as JSON."""

    dest: str
    params: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)
    on_return: list[Any] | None = None
    result: Result | None = None


class TransferParams(Parameters):
    dest: str
    params: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)


class ReturnParams(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: Any = None


def _steered(call: Call, given: BaseModel) -> None:
    raise AssertionError("the runner follows this itself")


LABEL = Method("label", LabelParams, _steered, short="label", whole=True)
GOTO = Method("goto", GotoParams, _steered, short="label", unread=frozenset({"when"}))
COND = Method("cond", CondParams, _steered, short="branches", whole=True, unread=frozenset({"branches"}))
SWITCH = Method("switch", SwitchParams, _steered, unread=frozenset({"variable", "case", "default"}))
EXECUTE = Method("execute", ExecuteParams, _steered, short="dest", unread=frozenset({"on_return", "result"}))
TRANSFER = Method("transfer", TransferParams, _steered, short="dest")
RETURN = Method("return", ReturnParams, _steered, short="value", whole=True)
