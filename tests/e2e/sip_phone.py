"""A SIP phone as a process of its own: commands are JSON lines on stdin, events are JSON lines on stdout.

pjsua2 brings threads of its own, which do not mix with gevent; `handset.py` is its other side.

A command is `{"id": 1, "do": "hold", "call": "first", ...}`; its reply is `{"event": "reply", "id": 1, "error": null}`.
A call has a name that its maker chooses; an incoming one is `in-1`, `in-2`, and so on.
"""

import functools
import json
import os
import re
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import pjsua2 as pj

STARTED = time.monotonic()


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, "at": round(time.monotonic() - STARTED, 3), **fields}), flush=True)


def reported(callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Report what a callback raises: pjsua2 would drop it without a word."""

    @functools.wraps(callback)
    def guarded(self: Any, prm: Any) -> None:
        try:
            callback(self, prm)
        except Exception as error:
            emit(
                "error", callback=callback.__name__, error=error.info() if isinstance(error, pj.Error) else repr(error)
            )

    return guarded


class Call(pj.Call):  # type: ignore[misc]
    def __init__(self, phone: "Phone", name: str, call_id: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(phone.account, call_id)
        self.phone = phone
        self.name = name
        self.media: Any = None
        self.muted = False
        self.fax = False

    @reported
    def onCallState(self, _: Any) -> None:  # noqa: N802
        info = self.getInfo()
        emit("state", call=self.name, state=info.stateText, status=info.lastStatusCode, reason=info.lastReason)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.media = None

    @reported
    def onCallMediaState(self, _: Any) -> None:  # noqa: N802
        self.media = None
        # Its list of media does not outlive it.
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type != pj.PJMEDIA_TYPE_AUDIO:
                continue
            codec = {}
            if media.status in (pj.PJSUA_CALL_MEDIA_ACTIVE, pj.PJSUA_CALL_MEDIA_REMOTE_HOLD):
                self.media = self.getAudioMedia(index)
                self.phone.connect(self)
                stream = self.getStreamInfo(index)
                codec = {"codec": stream.codecName, "rate": stream.codecClockRate}
            emit("media", call=self.name, status=media.status, direction=media.dir, **codec)

    @reported
    def onCallSdpCreated(self, prm: Any) -> None:  # noqa: N802
        if self.fax:
            self.fax = False
            head, media = prm.sdp.wholeSdp.split("m=audio ", 1)
            address = re.search(r"^c=.*$", media, re.MULTILINE)
            lines = [
                f"m=image {media.split(' ', 1)[0]} udptl t38",
                address[0].strip() if address else "",
                "a=T38FaxVersion:0",
            ]
            prm.sdp.wholeSdp = head + "".join(f"{line}\r\n" for line in lines if line)

    @reported
    def onCallTsxState(self, prm: Any) -> None:  # noqa: N802
        info = prm.e.body.tsxState.tsx
        if info.method == "INVITE" and info.role == pj.PJSIP_ROLE_UAC and info.state == pj.PJSIP_TSX_STATE_COMPLETED:
            emit("refused", call=self.name, status=info.statusCode)

    @reported
    def onDtmfDigit(self, prm: Any) -> None:  # noqa: N802
        emit("dtmf", call=self.name, digit=prm.digit)

    @reported
    def onCallTransferStatus(self, prm: Any) -> None:  # noqa: N802
        emit("transfer", call=self.name, status=prm.statusCode, final=prm.finalNotify)

    @reported
    def onCallReplaced(self, prm: Any) -> None:  # noqa: N802
        emit("replaced", call=self.name, by=prm.newCallId)


class Account(pj.Account):  # type: ignore[misc]
    def __init__(self, phone: "Phone") -> None:
        super().__init__()
        self.phone = phone
        self.incoming = 0

    @reported
    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802
        self.incoming += 1
        call = Call(self.phone, f"in-{self.incoming}", prm.callId)
        self.phone.calls[call.name] = call
        emit("incoming", call=call.name, sender=call.getInfo().remoteUri)
        status = self.phone.options.get("answer")
        if status:
            self.phone.answer(call=call.name, status=status)


class Phone:
    """Options: `sip` and `rtp` (ports), `codecs`, `srtp`, `vad` (send next to nothing while nothing is said), `answer`
    (status with which incoming calls are answered by themselves), `hold_address` (hold with 0.0.0.0), `log`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.calls: dict[str, Call] = {}
        self.player: Any = None
        self.recorder: Any = None
        self.tones: dict[str, Any] = {}
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = options.get("log", 0)
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.medConfig.noVad = not options.get("vad", False)
        config.medConfig.ecTailLen = 0
        config.medConfig.clockRate = 16000
        config.medConfig.quality = 4
        self.endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.port = options["sip"]
        transport.boundAddress = transport.publicAddress = "127.0.0.1"
        self.endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self.endpoint.libStart()
        self.endpoint.audDevManager().setNullDev()
        self.set_codecs(options.get("codecs", ["PCMU"]))
        account = pj.AccountConfig()
        account.idUri = f"sip:{options.get('user', 'phone')}@127.0.0.1"
        media = account.mediaConfig
        media.transportConfig.port = options["rtp"]
        media.transportConfig.boundAddress = media.transportConfig.publicAddress = "127.0.0.1"
        media.srtpUse = pj.PJMEDIA_SRTP_MANDATORY if options.get("srtp") else pj.PJMEDIA_SRTP_DISABLED
        media.srtpSecureSignaling = 0
        account.callConfig.timerUse = 0
        if options.get("hold_address"):
            account.callConfig.holdType = pj.PJSUA_CALL_HOLD_TYPE_RFC2543
        self.account = Account(self)
        self.account.create(account)

    def set_codecs(self, names: list[str]) -> None:
        for codec in self.endpoint.codecEnum2():
            wanted = [at for at, name in enumerate(names) if codec.codecId.lower().startswith(name.lower())]
            self.endpoint.codecSetPriority(codec.codecId, 255 - wanted[0] if wanted else 0)

    def connect(self, call: Call) -> None:
        """Connect a call's media, which each re-INVITE makes anew."""
        if call.media is None:
            return
        if self.player is not None and not call.muted:
            self.player.startTransmit(call.media)
        if self.recorder is not None:
            call.media.startTransmit(self.recorder)

    @staticmethod
    def _audio(flags: int = 0) -> Any:
        param = pj.CallOpParam(True)
        param.opt.audioCount = 1
        param.opt.videoCount = 0
        param.opt.flag = flags
        return param

    # ---- commands

    def call(self, call: str, to: str, headers: dict[str, str] | None = None) -> None:
        param = self._audio()
        for name, value in (headers or {}).items():
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            param.txOption.headers.append(header)
        self.calls[call] = Call(self, call)
        self.calls[call].makeCall(to, param)

    def answer(self, call: str, status: int = 200) -> None:
        param = self._audio()
        param.statusCode = status
        self.calls[call].answer(param)

    def hold(self, call: str) -> None:
        """Re-INVITE with sendonly, or with 0.0.0.0 if the phone was made so."""
        self.calls[call].setHold(pj.CallOpParam())

    def inactive(self, call: str) -> None:
        param = self._audio(pj.PJSUA_CALL_SET_MEDIA_DIR)
        param.opt.mediaDir = pj.IntVector([pj.PJMEDIA_DIR_NONE])
        self.calls[call].reinvite(param)

    def unhold(self, call: str) -> None:
        param = self._audio(pj.PJSUA_CALL_UNHOLD | pj.PJSUA_CALL_SET_MEDIA_DIR)
        param.opt.mediaDir = pj.IntVector([pj.PJMEDIA_DIR_ENCODING_DECODING])
        self.calls[call].reinvite(param)

    def codecs(self, call: str, names: list[str]) -> None:
        """Re-INVITE with other codecs; a held call stays held."""
        self.set_codecs(names)
        self.calls[call].reinvite(self._audio())

    def t38(self, call: str) -> None:
        """Re-INVITE for a fax; brings `refused` where the peer takes none, and the call goes on."""
        self.calls[call].fax = True
        self.calls[call].reinvite(self._audio())

    def refer(self, call: str, to: str) -> None:
        self.calls[call].xfer(to, pj.CallOpParam())

    def refer_replaces(self, call: str, other: str) -> None:
        """Attended transfer: connect the peer of `call` with the peer of `other`."""
        self.calls[call].xferReplaces(self.calls[other], pj.CallOpParam())

    def dtmf(self, call: str, digits: str, method: str = "rfc2833") -> None:
        if method == "inband":
            generator = self.tones.get(call)
            if generator is None:
                generator = self.tones[call] = pj.ToneGenerator()
                generator.createToneGenerator(16000, 1)
            generator.startTransmit(self.calls[call].media)
            tones = pj.ToneDigitVector()
            for digit in digits:
                tone = pj.ToneDigit()
                tone.digit, tone.on_msec, tone.off_msec, tone.volume = digit, 120, 120, 0
                tones.append(tone)
            generator.playDigits(tones)
            return
        param = pj.CallSendDtmfParam()
        param.method = pj.PJSUA_DTMF_METHOD_SIP_INFO if method == "info" else pj.PJSUA_DTMF_METHOD_RFC2833
        param.digits = digits
        self.calls[call].sendDtmf(param)

    def play(self, path: str) -> None:
        """Say a file in every call. It runs on while a call is held or mute: what is said then is missed."""
        self.player = pj.AudioMediaPlayer()
        self.player.createPlayer(path, pj.PJMEDIA_FILE_NO_LOOP)
        self.player.startTransmit(self.endpoint.audDevManager().getPlaybackDevMedia())
        for call in self.calls.values():
            self.connect(call)

    def hear(self, path: str) -> None:
        """Write what is heard in every call to a file."""
        self.recorder = pj.AudioMediaRecorder()
        self.recorder.createRecorder(path)
        for call in self.calls.values():
            self.connect(call)

    def mute(self, call: str) -> None:
        """Say nothing in a call; a phone with `vad` then sends a packet a second."""
        self.calls[call].muted = True
        self.player.stopTransmit(self.calls[call].media)

    def unmute(self, call: str) -> None:
        self.calls[call].muted = False
        self.connect(self.calls[call])

    def hangup(self, call: str, status: int = 0) -> None:
        param = pj.CallOpParam()
        param.statusCode = status
        self.calls[call].hangup(param)

    # ---- the loop

    def run(self) -> None:
        emit("ready", sip=self.options["sip"])
        pending = b""
        while True:
            self.endpoint.libHandleEvents(5)
            while select.select([0], [], [], 0)[0]:
                received = os.read(0, 65536)
                if not received:
                    return
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self.carry_out(json.loads(line))

    def carry_out(self, command: dict[str, Any]) -> None:
        number, verb = command.pop("id"), command.pop("do")
        error = None
        try:
            action: Callable[..., None] = getattr(self, verb)
            action(**command)
        except Exception as exception:  # pjsua2's Error is one; the test is to see every one
            error = str(exception) or repr(exception)
            if isinstance(exception, pj.Error):
                error = exception.info()
        emit("reply", id=number, error=error)


if __name__ == "__main__":
    try:
        Phone(json.loads(sys.argv[1])).run()
    finally:
        sys.stdout.flush()
        # pjsua2 shut down by the interpreter's end crashes.
        os._exit(0)
