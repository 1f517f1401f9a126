"""What a method of SWML is: its parameters, checked, and what it does with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from esl_record.recording.params import ParameterError, disclosed, validated
from esl_record.swml.call import Call

P = TypeVar("P", bound=BaseModel)


class Parameters(BaseModel):
    """Parameters of a method: none that is unknown, none left without a value."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _some(cls, value: object) -> object:
        # None stands within the models for what is not given.
        if value is None:
            raise ValueError("a value is wanted")
        return value


@dataclass(frozen=True, slots=True)
class Method(Generic[P]):
    """A method ``name`` with parameters of the model ``params``; where it has a ``short`` form, a bare value stands
    for that parameter, with ``whole`` whatever is given. Calling it checks what a document gives and runs it."""

    name: str
    params: type[P]
    run: Callable[[Call, P], None]
    short: str = ""
    whole: bool = False
    unread: frozenset[str] = frozenset()
    """Parameters in which references are not replaced: what they hold is looked at when it is run."""
    waits: bool = False
    """Whether it takes time in which the service can die."""
    again: Callable[[Call, P], None] | None = None
    """What is done where an earlier run of the service was in it; without it, it is run once more."""

    def read(self, given: Any) -> P:
        """The parameters ``given``. Raises ParameterError that names method, parameter, value and what is allowed."""
        return validated(self.params, self.name, self.mapping(given))

    def mapping(self, given: Any) -> Mapping[str, Any]:
        """``given`` as a mapping of parameters. Raises ParameterError where it is none and has no short form."""
        if self.whole:
            return {self.short: given}
        if isinstance(given, Mapping):
            return {str(name): value for name, value in given.items()}
        if self.short and isinstance(given, str | int | float):
            return {self.short: given}
        raise ParameterError(f"{self.name}: parameters {disclosed(given)!r}: a mapping is wanted")

    def __call__(self, call: Call, given: Any) -> None:
        self.run(call, self.read(given))
