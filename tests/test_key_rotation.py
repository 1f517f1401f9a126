"""Changing the keys in the data directory, as SECURITY.md says: what each change ends, and what goes on."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from cryptography.fernet import Fernet
from receivers import Endpoint

from esl_record import keys
from esl_record.cipher import Cipher
from esl_record.config import Settings
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.service import Service
from esl_record.status import event

LIMIT = 10.0
AUDIO = b"RIFF" + bytes(range(256)) * 40
Run = Callable[[], Service]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a service on the test's folder; the one before is stopped."""
    running: list[Service] = []

    def starting() -> Service:
        for service in running:
            service.stop(0.0)
        named: dict[str, Any] = {"data_dir": tmp_path, "disk_floor": 0, "capacity": 10, "node_id": "test"}
        places = {"listen": ("127.0.0.1", 0), "http": ("127.0.0.1", 0), "callback_networks": ["127.0.0.0/8"]}
        running[:] = [Service(Settings(**named, **places))]
        running[0].start()
        return running[0]

    yield starting
    for service in running:
        service.stop(0.0)


def keep(service: Service) -> Recording:
    """A recording that has ended, in storage and catalog."""
    begun = Recording.begun(service.storage.new_id(), Party(call_id="call"), RecordParams(control_id="c"), 1.7e9)
    path = service.storage.document_path(begun).with_suffix(".wav")
    path.parent.mkdir(parents=True)
    path.write_bytes(AUDIO)
    ended = {"state": State.FINISHED, "end_reason": EndReason.STOP, "end_time": begun.start_time + 1.0, "duration": 1.0}
    file = {"file": path.name, "size": len(AUDIO), "sha256": hashlib.sha256(AUDIO).hexdigest()}
    recording = begun.model_copy(update=ended | file)
    service.storage.file(recording)
    service.ledger.tell(recording)
    return recording


def link(service: Service, recording: Recording) -> str:
    host, port = service.http_address
    listed = f"http://{host}:{port}/api/relay/rest/recordings/{recording.recording_id}"
    url: str = requests.get(listed, timeout=LIMIT).json()["url"]
    return url


def test_without_its_link_key_a_service_makes_another_and_the_old_links_are_dead(run: Run, tmp_path: Path) -> None:
    service = run()
    recording = keep(service)
    old = link(service, recording)
    assert requests.get(old, timeout=LIMIT).content == AUDIO
    port = service.http_address[1]
    (tmp_path / "link.key").unlink()
    service = run()
    moved = old.replace(f":{port}/", f":{service.http_address[1]}/")
    for ask in (requests.get, requests.head):
        assert ask(moved, timeout=LIMIT).status_code == 403
        assert ask(moved, headers={"Range": "bytes=0-0"}, timeout=LIMIT).status_code == 403
    assert requests.get(link(service, recording), timeout=LIMIT).content == AUDIO


def test_with_its_link_key_a_service_honours_the_links_of_an_earlier_run(run: Run) -> None:
    service = run()
    recording = keep(service)
    old, port = link(service, recording), service.http_address[1]
    service = run()
    moved = old.replace(f":{port}/", f":{service.http_address[1]}/")
    assert requests.get(moved, timeout=LIMIT).content == AUDIO


def pressed(service: Service, cipher: Cipher, url: str) -> None:
    """Queues the event of a prompt that has collected digits."""
    params = {"control_id": "c", "call_id": "call", "result": {"type": "digit", "params": {"digits": "4111"}}}
    body = {"event_type": event.COLLECT, "timestamp": 1.0, "params": params}
    service.ledger.queue(url, "call", "finished", event.sealed(body, cipher))


@pytest.mark.parametrize("kept", [True, False], ids=["kept as a second line", "gone"])
def test_the_key_of_calls_is_changed_without_loss_where_the_old_one_stays_behind_the_new(
    run: Run, tmp_path: Path, kept: bool
) -> None:
    service, endpoint = run(), Endpoint()
    path = tmp_path / "calls.key"
    old = path.read_text()
    # It lies encrypted with the old key when the service stops.
    service.ledger.on_queued = lambda callback: None
    pressed(service, Cipher(old.encode()), endpoint.url)
    service.stop(0.0)
    new = Fernet.generate_key().decode()
    path.write_text(f"{new}\n{old if kept else ''}")
    service = run()
    if kept:
        (post,) = endpoint.wait(1)
        assert post.json["params"]["result"]["params"]["digits"] == "4111"
        pressed(service, Cipher(keys.call_key(tmp_path)), endpoint.url)
        endpoint.wait(2)
    else:
        with gevent.Timeout(LIMIT, AssertionError("it was not tried")):
            while not (first := service.ledger.outbox.listed()[0]).attempts:
                gevent.sleep(0.005)
        assert "another key" in first.last_result
        assert endpoint.posts == []
    service.stop(0.0)


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    both = Cipher(new + b"\n" + old + b"\n")
    assert both.decrypt(Cipher(old).encrypt("digits")) == "digits"
    assert Cipher(new).decrypt(both.encrypt("digits")) == "digits"
    with pytest.raises(ValueError, match="another key"):
        Cipher(old).decrypt(both.encrypt("digits"))
    for wrong in (b"", b" \n", new + b"\nno-key"):
        with pytest.raises(ValueError, match=r"Fernet|key"):
            Cipher(wrong)


def test_what_is_written_of_a_call_is_encrypted_with_the_new_key(tmp_path: Path) -> None:
    old = keys.call_key(tmp_path)
    new = Fernet.generate_key()
    (tmp_path / "calls.key").write_bytes(new + b"\n" + old)
    assert (tmp_path / "calls.key").stat().st_mode & 0o077 == 0
    sealed = Cipher(keys.call_key(tmp_path)).encrypt("x")
    assert Cipher(new).decrypt(sealed) == "x"
