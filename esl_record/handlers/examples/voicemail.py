"""Voicemail with a menu: 1 plays the message, 2 records it anew, # keeps it, and so does hanging up.

``args`` is the longest a message may be, in seconds. What is kept is in the channel variables ``voicemail_result``,
``voicemail_url`` and ``voicemail_id``, unless the caller has hung up; earlier takes stay among the recordings. What is
spoken is heard where the switch has a speech module; the tones alone are enough to use it.
"""

from esl_record.handlers import DTMF, RecordResult, Session

LONGEST = 180
TAKES = 5
ROUNDS = 3
ANSWER_WITHIN = 5000

CHOOSE = "tone_stream://v=-13;%(120,60,600);%(120,0,900)"


def handler(session: Session, args: str) -> None:
    longest = int(args) if args else LONGEST
    session.answer()
    session.setVariable("voicemail_result", "failed")
    session.speak("Please leave a message after the tone. Press pound when you are done.")
    for _ in range(TAKES):
        message = session.record(beep=True, terminators="#", end_silence_timeout=5, max_length=longest)
        _note(session, message)
        if message.succeeded and not _wants_another(session, message):
            break
        if not session.ready():
            return
        if not message.succeeded:
            session.speak("I have not heard anything. Please speak after the tone.")
    session.speak("Thank you. Good bye.")
    session.hangup()


def resumed(session: Session, args: str) -> None:
    """A service that was killed while the message was left has come back: the rest of it, without the menu."""
    for recording in session.recordings():
        _note(session, recording.wait())
    session.speak("Thank you. Good bye.")
    session.hangup()


def _note(session: Session, message: RecordResult) -> None:
    if message.succeeded:
        session.setVariable("voicemail_result", "success")
        session.setVariable("voicemail_url", message.url)
        session.setVariable("voicemail_id", message.recording_id)


def _wants_another(session: Session, message: RecordResult) -> bool:
    for _ in range(ROUNDS):
        choice = _choice(
            session, "To hear your message, press 1. To record it again, press 2. To keep it, press pound."
        )
        if choice == "1":
            # A switch that may not read the file can have it by its address.
            session.streamFile(message.path) or session.streamFile(message.url)
        elif choice:
            return choice == "2"
    return False


def _choice(session: Session, question: str) -> str:
    """The digit pressed while the question is asked, which ends it, or soon after."""
    pressed: list[str] = []

    def stop(session: Session, what: str, dtmf: DTMF) -> str:
        pressed.append(dtmf.digit)
        return "break"

    session.setInputCallback(stop)
    session.streamFile(CHOOSE)
    if not pressed:
        session.speak(question)
    session.unsetInputCallback()
    return pressed[0] if pressed else session.getDigits(1, "", ANSWER_WITHIN)
