"""What ``record`` and ``record_call`` give a handler."""

from collections.abc import Callable
from dataclasses import dataclass

from esl_record.recording.machine import PauseBehavior
from esl_record.recording.params import ParameterError


@dataclass(frozen=True, slots=True)
class RecordResult:
    """What came of a recording, in the words of its status events.

    ``state`` is ``recording``, ``paused``, ``finished``, ``no_input`` or ``error``; ``end_reason`` is ``terminator``,
    ``end_silence``, ``initial_timeout``, ``max_length``, ``stop``, ``hangup`` or ``error``, empty while it runs.
    ``url`` and ``path`` are those of the audio, empty where there is none; a ``path`` that ends with ``.age`` is
    encrypted, and the switch plays ``url`` only. ``duration`` and the (start, end) of ``speech`` are seconds.
    ``terminator`` is the digit that ended it.
    """

    state: str
    end_reason: str = ""
    url: str = ""
    path: str = ""
    duration: float = 0.0
    speech: tuple[tuple[float, float], ...] = ()
    terminator: str = ""
    error: str = ""
    recording_id: str = ""
    control_id: str = ""

    @property
    def succeeded(self) -> bool:
        """What ``record_result`` says in a document: ``finished`` is success."""
        return self.state == "finished"


class BackgroundRecording:
    """A recording beside whatever the call does, until ``stop``, a limit of its own, or the end of call or handler."""

    def __init__(
        self,
        control_id: str,
        *,
        look: Callable[[], RecordResult],
        running: Callable[[], bool],
        stop: Callable[[], None],
        pause: Callable[[PauseBehavior], None],
        resume: Callable[[], None],
        wait: Callable[[float | None], None],
    ) -> None:
        self.control_id = control_id
        self._look = look
        self._running = running
        self._stop = stop
        self._pause = pause
        self._resume = resume
        self._wait = wait

    @property
    def result(self) -> RecordResult:
        """The recording as it is now."""
        return self._look()

    @property
    def url(self) -> str:
        """Where the audio will be had once the recording has ended; empty where it could not begin."""
        return self.result.url

    @property
    def running(self) -> bool:
        """Whether it is not complete yet."""
        return self._running()

    def pause(self, behavior: str = "skip") -> RecordResult:
        """Pause it, and return it once the switch writes no more of the call; ask the result for ``paused``.

        Args:
            behavior: ``skip`` leaves the paused time out of the recording, ``silence`` keeps it as silence.

        Returns:
            The recording: ``state`` is ``paused``, ``error`` where the switch refused, and another where it had ended.
            A recording that is paused already stays as it is.

        Raises:
            ParameterError: ``behavior`` is neither.
        """
        if behavior not in list(PauseBehavior):
            raise ParameterError(f"pause: behavior = {str(behavior)[:80]!r}: skip or silence is allowed")
        self._pause(PauseBehavior(behavior))
        return self.result

    def resume(self) -> RecordResult:
        """Resume it, whoever paused it, and return it once the switch writes again."""
        self._resume()
        return self.result

    def stop(self) -> RecordResult:
        """Ends it and gives it complete."""
        self._stop()
        return self.wait()

    def wait(self, timeout: float | None = None) -> RecordResult:
        """Waits, up to ``timeout`` seconds, until it is complete, and gives it as it is then."""
        self._wait(timeout)
        return self.result
