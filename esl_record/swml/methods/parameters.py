"""The shapes SWML gives a method's parameters in."""

from collections.abc import Mapping
from typing import Any

from esl_record.recording.params import ParameterError


def mapping(method: str, params: Any, short: str = "") -> Mapping[str, Any]:
    """``params`` as a mapping; where the method has a ``short`` form, a bare value stands for that parameter."""
    if isinstance(params, Mapping):
        return {str(name): value for name, value in params.items()}
    if short and isinstance(params, str | int | float):
        return {short: params}
    raise ParameterError(f"{method}: parameters {str(params)[:80]!r}: a mapping is wanted")
