"""Python handlers: ``handler(session, args)`` in the manner of FreeSWITCH's own mod_python.

``socket 127.0.0.1:8084/python/greeter async full`` runs the function ``handler`` of ``greeter.py`` in the folder of the
setting ``handlers``; ``voicemail``, ``announcement`` and ``conference_leg`` are built in. ``args`` is what follows the
name behind a blank, ``socket '127.0.0.1:8084/python/greeter some text' async full``, or else the channel variable
``handler_args``, which may hold the colons and bars that the switch keeps for itself in that action.

When the handler returns, the dialplan goes on; where it raises, the call is hung up. It is one file, read again once it
has changed; what several share belongs into a package that is installed. A handler shares its process with all other
calls: what waits for the network, a process or ``time.sleep`` lets them go on meanwhile, but a long computation holds
up every one.
"""

from esl_record.handlers.keypad import DTMF
from esl_record.handlers.results import BackgroundRecording, RecordResult
from esl_record.handlers.session import CallSession as Session

__all__ = ["DTMF", "BackgroundRecording", "RecordResult", "Session"]
