"""set: variables of the document."""

from typing import Any

from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import mapping


def set_variables(call: Call, params: Any) -> None:
    call.vars.update(mapping("set", params))
