"""What a caller presses is nowhere on disk and in no log as it was pressed: not while the call is live, not after."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from phones import Dialled, Live, Phone
from receivers import Endpoint, Post
from running import RunningService, free_port

CARD = "4539148803436467"
PAUSE = 0.25
"""Seconds of call between two digits, of which a real switch needs one to be over before the next."""


def typed(digits: str, after: float = 1.5) -> tuple[tuple[float, str], ...]:
    return tuple((after + PAUSE * number, digit) for number, digit in enumerate(digits))


def traces(service: RunningService) -> list[str]:
    """The files under the service's folder, its log among them, with half of the card's number in them."""
    halves = CARD[:8].encode(), CARD[8:].encode()
    found = []
    for path in service.folder.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue  # a temporary file, renamed meanwhile
        found += [str(path) for half in halves if half in content]
    return found


@pytest.fixture
def own(phone: Phone, own_service: RunningService) -> Iterator[RunningService]:
    """A service that logs all it has to say, with a folder of handlers."""
    (own_service.folder / "handlers").mkdir()
    own_service.settings["handlers"] = own_service.folder / "handlers"
    own_service.settings["document_fallback"] = True
    own_service.start()
    phone.service = own_service
    yield own_service
    assert own_service.stop() == 0
    assert traces(own_service) == []


def repeats(sock: object, post: Post) -> bool:
    """Fails, and repeats what it was sent, in a line short enough to be kept."""
    pressed = json.loads(post.body)["params"]["result"]["params"]["digits"].encode()
    reply = b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n%s" % (len(pressed), pressed)
    sock.sendall(reply)  # type: ignore[attr-defined]
    return True


def ended(live: Live) -> None:
    live.hang_up()
    live.end()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.shut()


def checkpoint(service: RunningService) -> Path:
    (path,) = (service.data / "calls").iterdir()
    return path


def test_a_card_number_that_a_document_asks_for(phone: Phone, own: RunningService, endpoint: Endpoint) -> None:
    endpoint.answer = repeats
    prompt = {"play": "silence:0.5", "max_digits": 16, "initial_timeout": 20, "status_url": endpoint.url}
    taken = {"switch": {"variable": "prompt_value", "case": {CARD: [{"sleep": 60000}]}}}
    own.document("card", "answer", {"record_call": {"stereo": True}}, {"prompt": prompt}, taken)
    # The document's text has the number as well: it lies outside of what is searched.
    text = (own.documents / "card.yaml").read_text()
    live = phone.dial(Dialled("card", digits=typed(CARD)))
    (post, *_) = endpoint.wait(1)
    (own.documents / "card.yaml").unlink()
    assert CARD in text
    assert post.json["params"]["result"]["params"]["digits"] == CARD
    own.wait(lambda: "fails and will be tried again" in own.log, "the callback to fail")
    own.wait(lambda: "case *** 1: sleep" in own.log, "the step behind the prompt")
    assert checkpoint(own).suffix == ".checkpoint"
    assert traces(own) == []
    ended(live)
    own.wait(lambda: not list((own.data / "calls").iterdir()), "the checkpoint to be removed")


def test_a_card_number_in_the_errors_of_a_document(phone: Phone, own: RunningService) -> None:
    prompt = {"play": "silence:0.5", "max_digits": 16, "initial_timeout": 20}
    nowhere = f"http://127.0.0.1:{free_port()}/${{prompt_value}}"
    own.document(
        "card",
        "answer",
        {"record_call": {}},
        {"prompt": prompt},
        {"play": {"url": "/no/${prompt_value}.wav"}},
        {"request": {"url": nowhere, "method": "GET"}},
        {"transfer": "${prompt_value}"},
    )
    done = phone.call(Dialled("card", digits=typed(CARD)))
    assert done.went_on
    assert done.variables["script_error"] == "relay_script_method_parameter_invalid_value"
    assert done.variables["prompt_value"] == CARD
    assert "dest = '***': there is no such section" in own.log
    assert "/***: connection refused" in own.log
    assert "/no/***.wav cannot be played" in own.log
    assert traces(own) == []


def test_a_card_number_that_a_handler_reads(phone: Phone, own: RunningService) -> None:
    (own.folder / "handlers" / "card.py").write_text(
        """
def handler(session, args):
    session.answer()
    session.record_call(stereo=True)
    first = session.read(1, 8, "silence", 20000, "#", 5000)
    rest = "".join(session.getDigits(1, "", 5000) for _ in range(8))
    session.setVariable("card_length", len(first + rest))
    int(f"{first}{rest}x")
"""
    )
    done = phone.call(Dialled("python/card", digits=typed(CARD)))
    assert done.variables["card_length"] == "16"
    assert "ValueError: invalid literal for int() with base 10: '***x'" in own.log
    assert traces(own) == []


def test_a_document_of_a_server_that_repeats_the_card_number(
    phone: Phone, own: RunningService, endpoint: Endpoint
) -> None:
    def answer(sock: object, post: Post) -> bool:
        pressed = json.loads(post.body)["vars"].get("prompt_value")
        prompt = {"prompt": {"play": "silence:0.5", "max_digits": 16, "initial_timeout": 20}}
        steps = [{"set": {"card": pressed}}, {"sleep": 60000}] if pressed else [prompt, {"transfer": endpoint.url}]
        body = json.dumps({"version": "1.0.0", "sections": {"main": ["answer", {"record_call": {}}, *steps]}}).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))  # type: ignore[attr-defined]
        return False

    endpoint.answer = answer
    live = phone.dial(Dialled("", url=endpoint.url, digits=typed(CARD)))
    own.wait(lambda: own.log.count("sleep") == 1, "the second document")
    assert json.loads(endpoint.posts[1].body)["vars"]["prompt_value"] == CARD
    assert list((own.data / "documents-cache").iterdir())
    assert traces(own) == []
    ended(live)
