"""The examples of the reference pages, and the web servers they name, played by one of our own."""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import yaml
from gevent.pywsgi import WSGIServer
from test_control import tone

PAGES: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("reference.yaml").read_text())
"""The examples as they stand there: YAML by page and heading."""

HERTZ, LEVEL = 700.0, 800
"""What every sound of the pages is here, and the largest of its samples: soft, so that louder can be heard."""

_SOUND = re.compile(r"https://[^/\s'\"]+(?:/[^/\s'\"]+)*/(\w+)\.(?:mp3|wav)")
_HOST = re.compile(r"https://[^/\s'\"]+")
_SIP_HOST = re.compile(r"(sip:\w+)@[a-z.]+")


class Asked(NamedTuple):
    """A request as it came to the server."""

    method: str
    path: str
    body: Any


@dataclass
class Server:
    """Gives sounds and documents. ``answers``: what it says by the first part of a path, ``served`` what it was asked
    there. ``switch``: where that takes SIP, ``host:port``."""

    folder: Path
    switch: str
    answers: dict[str, Callable[[Asked], str]] = field(default_factory=dict)
    served: dict[str, list[Asked]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sound = (tone(HERTZ, 1.5) * (LEVEL / 8000)).astype(np.int16)
        file = io.BytesIO()
        soundfile.write(file, sound, 8000, "PCM_16", format="WAV")
        self._sound = file.getvalue()
        self._server = WSGIServer(("127.0.0.1", 0), self._answer, log=None)
        self._server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.stop()

    def document(self, text: str, name: str, *, by_web: bool) -> str:
        """``text`` with this server for every web server, and the switch for every SIP one; its sounds are files of
        this machine unless they go ``by_web``."""
        for sound in _SOUND.findall(text):
            (self.folder / f"{sound}.wav").write_bytes(self._sound)
        sounds = f"{self.url}/sounds" if by_web else f"file://{self.folder}"
        text = _HOST.sub(f"{self.url}/{name}", _SOUND.sub(rf"{sounds}/\1.wav", text))
        return _SIP_HOST.sub(rf"\1@{self.switch}", text)

    def _answer(self, request: Mapping[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        method, path = request["REQUEST_METHOD"], request["PATH_INFO"]
        name = path.split("/")[1]
        if name == "sounds":
            start("200 OK", [("Content-Type", "audio/x-wav"), ("Content-Length", str(len(self._sound)))])
            return [self._sound] if method == "GET" else []
        text = request["wsgi.input"].read()
        asked = Asked(method, path, json.loads(text) if text else None)
        self.served.setdefault(name, []).append(asked)
        start("200 OK", [("Content-Type", "application/json")])
        return [self.answers[name](asked).encode()]


def play(text: str) -> str:
    """A document that says ``text``, as the servers on the pages write it."""
    return yaml.safe_dump(
        {"version": "1.0.0", "sections": {"main": [{"answer": {}}, {"play": {"url": f"say: {text}"}}]}}
    )
