"""What steers a document: its parameters alone; the runner follows them.

``when`` is JavaScript. The steps of a branch are raw here: a document has made steps of them.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from esl_record.recording.params import number
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Times = Annotated[float, BeforeValidator(number), Field(ge=1, le=100, multiple_of=1)]


class LabelParams(_Strict):
    label: str


class GotoParams(_Strict):
    """Jumps back or forth in its section, at most ``max`` times."""

    label: str
    when: str | None = None
    max: Times = 100.0


class Branch(_Strict):
    """``when`` with ``then``, or only ``else``."""

    when: str | None = None
    then: list[Any] | None = None
    else_: list[Any] | None = Field(None, alias="else")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Branch":
        if (self.when is None) != (self.then is None) or (self.when is None and self.else_ is None):
            raise ValueError("when and then are wanted, or else")
        return self


class CondParams(_Strict):
    branches: list[Branch]


class SwitchParams(_Strict):
    """``variable`` is a path."""

    variable: str
    case: dict[str, list[Any]]
    default: list[Any] | None = None


class ExecuteParams(_Strict):
    """``dest``: a section, or a document written as JSON. ``result`` is a switch on the value that is returned, or a
    cond."""

    dest: str
    params: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    on_return: list[Any] | None = None
    result: dict[str, Any] | list[Any] | None = None


class TransferParams(_Strict):
    dest: str
    params: dict[str, Any] = {}
    meta: dict[str, Any] = {}


class ReturnParams(_Strict):
    value: Any = None


def _steered(call: Call, given: BaseModel) -> None:
    raise AssertionError("the runner follows this itself")


LABEL = Method("label", LabelParams, _steered, short="label", whole=True)
GOTO = Method("goto", GotoParams, _steered, short="label", unread=frozenset({"when"}))
COND = Method("cond", CondParams, _steered, short="branches", whole=True, unread=frozenset({"branches"}))
SWITCH = Method("switch", SwitchParams, _steered, unread=frozenset({"case", "default"}))
EXECUTE = Method("execute", ExecuteParams, _steered, short="dest", unread=frozenset({"on_return", "result"}))
TRANSFER = Method("transfer", TransferParams, _steered, short="dest")
RETURN = Method("return", ReturnParams, _steered, short="value", whole=True)
