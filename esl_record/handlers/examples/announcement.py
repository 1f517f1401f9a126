"""Records an announcement over the telephone and plays it back: 1 keeps it, 2 records it anew.

``args`` is the PIN to be entered first; without it everybody who gets here may record. What is kept is in the channel
variables ``announcement_url``, ``announcement_path`` and ``announcement_id``, for the dialplan that goes on.
"""

import hmac

from esl_record.handlers import Session

TRIES = 3
TAKES = 10
LONGEST_PIN = 32

ENTER = "tone_stream://v=-13;%(150,0,900)"
WRONG = "tone_stream://v=-13;%(250,100,300);%(250,0,300)"
KEPT = "tone_stream://v=-13;%(120,60,600);%(120,60,900);%(120,0,1200)"


def handler(session: Session, args: str) -> None:
    session.answer()
    if args and not _knows(session, args):
        session.hangup("CALL_REJECTED")
        return
    for _ in range(TAKES):
        if not session.ready():
            return
        session.speak("Speak your announcement after the tone, then press pound.")
        take = session.record(beep=True, terminators="#", initial_timeout=10, end_silence_timeout=0, max_length=600)
        if not take.succeeded or not session.ready():
            continue
        session.streamFile(take.path) or session.streamFile(take.url)
        session.speak("To keep it, press 1. To record it again, press 2.")
        if session.getDigits(1, "", 5000) == "1":
            session.setVariable("announcement_url", take.url)
            session.setVariable("announcement_path", take.path)
            session.setVariable("announcement_id", take.recording_id)
            session.consoleLog("notice", f"announcement {take.recording_id}, {take.duration:.1f} s")
            session.streamFile(KEPT)
            return


def _knows(session: Session, pin: str) -> bool:
    for _ in range(TRIES):
        session.speak("Please enter your PIN, then press pound.")
        session.streamFile(ENTER)
        entered = session.getDigits(LONGEST_PIN, "#", 5000)
        if hmac.compare_digest(entered.encode(), pin.encode()):
            return True
        session.streamFile(WRONG)
    return False
