"""Every event of every recording arrives, whatever the receiver does and whenever the service is killed."""

import random
from collections import defaultdict
from pathlib import Path

import pytest
from gevent import socket
from phones import Dialled, Phone
from receivers import (
    SECRETS,
    SIGNING_KEY,
    Answer,
    Endpoint,
    Post,
    breaks_off,
    breaks_off_chunked,
    closes,
    garbles,
    says,
)
from running import RunningService, free_port

from esl_record.recording.machine import State
from esl_record.recording.storage import Storage
from esl_record.standin import voice

pytestmark = pytest.mark.slow

FAULTS: list[Answer] = [
    says(500),
    says(503, Retry_After="0"),
    says(302, Location="http://127.0.0.1:9/"),
    says(404),
    closes,
    garbles,
    breaks_off,
    breaks_off_chunked,
]

STEPS = 70
"""Steps of the service within which it is killed; four recordings take it more than that."""


class Taker:
    """A receiver that fails for its first posts, and then takes what it gets."""

    def __init__(self, faults: list[Answer], port: int = 0) -> None:
        self.taken: list[Post] = []
        self._faults = list(faults)
        self.endpoint = Endpoint(self._answer, port=port)

    @property
    def url(self) -> str:
        return self.endpoint.url

    def of(self, recording_id: str) -> list[Post]:
        return [post for post in self.taken if post.json["params"]["recording_id"] == recording_id]

    def finished(self) -> set[str]:
        """The recordings whose end has been told."""
        told = [post.json["params"] for post in self.taken]
        return {params["recording_id"] for params in told if State(params["state"]).final}

    def _answer(self, sock: socket.socket, post: Post) -> bool:
        if self._faults:
            return self._faults.pop()(sock, post)
        self.taken.append(post)
        return says(200)(sock, post)


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_loses_no_event(phone: Phone, own_service: RunningService, seed: int) -> None:
    chance = random.Random(seed)
    service = own_service
    service.settings |= {"webhook_secrets": ",".join(SECRETS), "signing_key": SIGNING_KEY, "stall_timeout": 2}
    # A caller whose connection was killed before its `connect` would stay in `socket`.
    service.settings["event_socket"] = "{}:{}".format(*phone.event_socket)
    late_port = free_port()
    faulty, good = Taker(chance.choices(FAULTS, k=chance.randrange(5))), Taker([])
    urls = [faulty.url, good.url, f"http://127.0.0.1:{late_port}/status", faulty.url]
    phone.service = service
    for number, url in enumerate(urls):
        record = {"status_url": url, "max_length": chance.uniform(0.5, 3.0), "initial_timeout": 0}
        service.document(f"call-{number}", "answer", {"record": record}, "hangup")
    service.start(doomed=chance.randrange(1, STEPS))
    calls = [phone.dial(Dialled(f"call-{number}", voice.say(4.0), hangup_after=4.0)) for number in range(len(urls))]
    service.died()
    service.start()
    # Of those that found no service some were not recorded at all; those that were are told of to their end.
    ended = [call.end() for call in calls]
    late = Taker([], port=late_port)
    takers = dict(zip(urls, (faulty, good, late, faulty), strict=True))
    recordings = {
        one.recording_id: (urls[number], one) for number, end in enumerate(ended) for _, one in end.recordings
    }
    assert {one.recording_id for _, one in Storage(service.data).filed()} == set(recordings)
    service.wait(lambda: all(id_ in takers[url].finished() for id_, (url, _) in recordings.items()), "the last event")
    repeated: dict[str, int] = defaultdict(int)
    for recording_id, (url, recording) in recordings.items():
        posts = takers[url].of(recording_id)
        assert all(post.signed for post in posts)
        first: list[str] = []
        seen: set[str] = set()
        for post in posts:
            if post.headers["webhook-id"] in seen:
                repeated[recording_id] += 1
            else:
                seen.add(post.headers["webhook-id"])
                first.append(post.json["params"]["state"])
        assert first == ["recording", recording.state.value]
        assert posts[-1].json["params"].get("duration", 0.0) == recording.duration
    assert all(times == 1 for times in repeated.values()), repeated


def test_the_url_in_a_finished_event_serves_the_file(phone: Phone, own_service: RunningService) -> None:
    """At the very moment the event comes."""
    fetched: list[tuple[int, Path]] = []
    service = own_service

    def fetching(sock: socket.socket, post: Post) -> bool:
        params = post.json["params"]
        if params["state"] == "finished":
            answer = service.get(params["url"].removeprefix(f"http://{service.http}"))
            fetched.append((answer.status_code, answer.content))
        return says(200)(sock, post)

    endpoint = Endpoint(fetching)
    service.start()
    phone.service = service
    document = service.document("told", "answer", {"record": {"max_length": 1, "status_url": endpoint.url}}, "hangup")
    ended = phone.call(Dialled(document, voice.say(3.0)))
    service.wait(lambda: fetched, "the event")
    assert fetched == [(200, ended.audio.read_bytes())]
