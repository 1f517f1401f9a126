"""Why a call is ended, in SignalWire's words, as a hang-up cause of the switch."""

CAUSES = {
    "hangup": "NORMAL_CLEARING",
    "cancel": "ORIGINATOR_CANCEL",
    "busy": "USER_BUSY",
    "noAnswer": "NO_ANSWER",
    "decline": "CALL_REJECTED",
    "error": "NORMAL_TEMPORARY_FAILURE",
}
