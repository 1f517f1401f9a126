"""What is played to the party, and what the switch itself records of it, while the input callback has the digits."""
# ruff: noqa: N802  # the names are FreeSWITCH's

from collections.abc import Callable

from esl_record.esl import wire
from esl_record.handlers.call import HandledCall

PLAYED = "FILE PLAYED"
"""What ``playback`` answers where there is such a file."""


class SoundVerbs(HandledCall):
    """``tts_name`` and ``voice_name`` are what ``speak`` speaks with."""

    tts_name = "flite"
    voice_name = "kal"

    def streamFile(self, file: str, starting_sample_count: int = 0) -> int:
        """Plays a file or stream; 0 where there is none, or the input callback has ended it."""
        name = f"{file}@@{int(starting_sample_count)}" if starting_sample_count else file

        def play() -> int:
            self._answer_first()
            event = self._heard(lambda: self._session.playback(wire.clean(name)), plays=True)
            return int(event is not None and event.get("Application-Response") == PLAYED)

        return self._verb(play, 0)

    def speak(self, text: str) -> int:
        return self._sounded(lambda: self._session.speak(text, engine=self.tts_name, voice=self.voice_name))

    def set_tts_params(self, tts_name: str, voice_name: str) -> None:
        self.tts_name, self.voice_name = tts_name, voice_name

    set_tts_parms = set_tts_params

    def say(self, tosay: str, module_name: str, say_type: str, say_method: str, say_gender: str | None = None) -> None:
        words = [module_name, say_type, say_method, *([say_gender] if say_gender else []), tosay]
        self._sounded(lambda: self._session.execute("say", wire.clean(" ".join(words))))

    def sayPhrase(self, phrase_name: str, phrase_data: str = "", phrase_lang: str | None = None) -> None:
        if phrase_lang:
            self._verb(lambda: self._session.set_variable("language", phrase_lang), None)
        self._sounded(lambda: self._session.execute("phrase", wire.clean(f"{phrase_name},{phrase_data}")))

    def sleep(self, ms: int, sync: int = 0) -> int:
        return self._sounded(lambda: self._session.sleep(max(0, int(ms))), answers=False)

    def recordFile(self, file_name: str, time_limit: int = 0, silence_threshold: int = 0, silence_hits: int = 0) -> int:
        """The switch's own ``record``, into a file of the switch's; where it cannot write that, it hangs up."""
        if not file_name or set(file_name) & set("'\\"):
            raise ValueError(f"recordFile: file_name = {file_name!r}: a path without quotes and backslashes is wanted")
        data = f"'{wire.clean(file_name)}' {int(time_limit)} {int(silence_threshold)} {int(silence_hits)}"
        return self._sounded(lambda: self._session.execute("record", data), plays=True)

    def _sounded(self, act: Callable[[], object], *, plays: bool = False, answers: bool = True) -> int:
        def whole() -> int:
            act()
            return 1

        def sound() -> int:
            if answers:
                self._answer_first()
            return self._heard(whole, plays=plays) or 0

        return self._verb(sound, 0)
