"""The methods of SWML this service runs, one module a family. A method takes the call and its parameters,
variables substituted, and checks them itself; adding one is a line here."""

from collections.abc import Callable
from typing import Any

from esl_record.swml.call import Call
from esl_record.swml.methods.calls import answer, hangup, sleep
from esl_record.swml.methods.play import play
from esl_record.swml.methods.record import record
from esl_record.swml.methods.variables import set_variables

Method = Callable[[Call, Any], None]

METHODS: dict[str, Method] = {
    "answer": answer,
    "hangup": hangup,
    "play": play,
    "record": record,
    "set": set_variables,
    "sleep": sleep,
}
