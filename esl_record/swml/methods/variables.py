"""set and unset: variables of the document."""

from pydantic import BaseModel, ConfigDict

from esl_record.swml.call import Call
from esl_record.swml.expressions import limit
from esl_record.swml.methods.parameters import Method


class SetParams(BaseModel):
    """Any names with any values."""

    model_config = ConfigDict(extra="allow")


class UnsetParams(BaseModel):
    """One name, or several."""

    model_config = ConfigDict(extra="forbid")
    vars: str | list[str]


def _set(call: Call, given: SetParams) -> None:
    together = {**call.vars, **(given.model_extra or {})}
    limit(together, call.budget)
    call.vars.update(together)


def _unset(call: Call, given: UnsetParams) -> None:
    for name in [given.vars] if isinstance(given.vars, str) else given.vars:
        call.vars.pop(name.removeprefix("vars."), None)


SET = Method("set", SetParams, _set)
UNSET = Method("unset", UnsetParams, _unset, short="vars", whole=True)
