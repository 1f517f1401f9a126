"""Recovery: what a stopped service has left becomes the recording it was to be, wherever it was stopped."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import disk_of
from test_storage import START, begun, files, frames, noise, spooled

from esl_record.audio.facts import Quality
from esl_record.errors import DatabaseError
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import Format
from esl_record.recording.recording import PauseTime, Recording
from esl_record.recording.recovery import CLOSING, COMES_BACK, QUIET, RETRY, Recovery
from esl_record.recording.storage import Storage
from esl_record.recording.vault import RESERVE, Vault

WRITTEN = START + 10.0
"""When the switch wrote a spool last."""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


def left_behind(storage: Storage, recording: Recording, data: bytes) -> Path:
    """A spool the switch has not written to since ``WRITTEN``."""
    path = spooled(storage, recording, data)
    os.utime(path, (WRITTEN, WRITTEN))
    return path


class Told:
    """What a recovery has told: ``begun`` and ``ended`` in the order it did."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Recording]] = []
        self.failure: Exception | None = None

    def begun(self, recording: Recording) -> None:
        self._say("begun", recording)

    def ended(self, recording: Recording, pausing: PauseBehavior | None = None) -> None:
        self._say("ended" if pausing is None else pausing.value, recording)

    def _say(self, what: str, recording: Recording) -> None:
        if self.failure is not None:
            raise self.failure
        self.said.append((what, recording))


def recovery_of(storage: Storage, clock: Callable[[], float], told: Told | None = None) -> Recovery:
    told = told or Told()
    recovery = Recovery(storage, told.begun, told.ended, clock=clock)
    recovery.find()
    return recovery


def recovered(
    storage: Storage, *, at: float = WRITTEN + QUIET, told: Told | None = None
) -> tuple[list[Recording], list[Path]]:
    """What one run completes, and what it leaves for another."""
    recovery = recovery_of(storage, lambda: at, told)
    return list(recovery.run()), recovery.left


# ---- in good order


@pytest.mark.parametrize("stereo", [False, True], ids=["mono", "stereo"])
@pytest.mark.parametrize("torn", [0, 1])
def test_a_quiet_spool_becomes_its_recording(storage: Storage, tmp_path: Path, stereo: bool, torn: int) -> None:
    recording = begun(stereo=stereo)
    data = noise(800, recording.channels)
    left_behind(storage, recording, data + b"\x01" * torn)
    (done,), left = recovered(storage)
    assert frames(storage.audio_path(recording))[0] == data
    assert (done.state, done.end_reason) == (State.FINISHED, EndReason.RECOVERED)
    assert (done.duration, done.end_time) == (0.1, WRITTEN)
    assert done.caller_name == recording.caller_name
    assert Recording.model_validate_json(storage.document_path(recording).read_bytes()) == done
    assert left == []
    assert len(files(tmp_path)) == 2


def test_all_are_completed(storage: Storage) -> None:
    for number in range(5):
        left_behind(storage, begun(number=number), noise(160, 1, seed=number))
    done, left = recovered(storage)
    assert sorted(recording.recording_id for recording in done) == [begun(number=n).recording_id for n in range(5)]
    for number in range(5):
        assert frames(storage.audio_path(begun(number=number)))[0] == noise(160, 1, seed=number)
    assert (left, files(storage.spool_dir)) == ([], {})


def test_a_growing_spool_waits_until_it_is_quiet(storage: Storage, tmp_path: Path) -> None:
    path = left_behind(storage, begun(), noise(800, 1))
    before = files(tmp_path)
    now = WRITTEN + QUIET - 0.01
    recovery = recovery_of(storage, lambda: now)
    waiting = recovery.left
    assert list(recovery.run()) == []
    assert (recovery.left, files(tmp_path)) == (waiting, before)
    with path.open("ab") as file:
        file.write(noise(80, 1, seed=2))
    os.utime(path, (WRITTEN + 1, WRITTEN + 1))
    now = WRITTEN + 1 + QUIET
    (done,) = recovery.run()
    assert (done.duration, recovery.left) == (0.11, [])


def test_a_growing_spool_holds_up_no_other(storage: Storage) -> None:
    left_behind(storage, begun(number=1), noise(160, 1))
    os.utime(storage.spool_path(begun(number=1).recording_id), (WRITTEN + 60, WRITTEN + 60))
    left_behind(storage, begun(number=2), noise(160, 1))
    done, left = recovered(storage, at=WRITTEN + 60)
    assert [recording.control_id for recording in done] == ["control-2"]
    assert [path.stem for path in left] == [begun(number=1).recording_id]


def test_a_recording_of_this_run_is_left_alone(storage: Storage, tmp_path: Path) -> None:
    storage.prepare()
    recovery = recovery_of(storage, lambda: WRITTEN + QUIET)
    left_behind(storage, begun(), noise(160, 1))
    before = files(tmp_path)
    assert list(recovery.run()) == []
    assert files(tmp_path) == before


def test_nothing_left_is_nothing_done(storage: Storage) -> None:
    assert recovered(storage) == ([], [])


def test_what_was_not_announced_to_the_end_has_never_begun(storage: Storage, tmp_path: Path) -> None:
    """A tap is started only then."""
    storage.prepare()
    for name in (".x.json.part", ".x.json.0123456789abcdef.part"):
        (storage.pending / name).write_text("{")
    assert recovered(storage) == ([], [])
    assert files(tmp_path) == {}


def test_a_recording_whose_tap_never_wrote_ends_in_error(storage: Storage, tmp_path: Path) -> None:
    recording = begun()
    left_behind(storage, recording, b"").unlink()
    (done,), left = recovered(storage)
    assert (done.state, done.end_reason, done.file, done.duration) == (State.ERROR, EndReason.ERROR, "", 0.0)
    assert done.error
    assert list(files(tmp_path)) == [str(storage.document_path(recording).relative_to(tmp_path))]
    assert Recording.model_validate_json(storage.document_path(recording).read_bytes()) == done
    assert left == []


# ---- stopped in the middle of completing


def wav_only(storage: Storage, recording: Recording, done: Recording) -> None:
    storage.document_path(recording).unlink()


def half_of_a_wav(storage: Storage, recording: Recording, done: Recording) -> None:
    storage.document_path(recording).unlink()
    audio = storage.audio_path(recording)
    audio.replace(audio.with_name(f".{audio.name}.part"))
    audio.with_name(f".{audio.name}.part").write_bytes(noise(3000, 1))


def wav_and_half_of_a_json(storage: Storage, recording: Recording, done: Recording) -> None:
    document = storage.document_path(recording)
    document.replace(document.with_name(f".{document.name}.part"))
    document.with_name(f".{document.name}.part").write_bytes(b'{"recording_id"')


def wav_and_json(storage: Storage, recording: Recording, done: Recording) -> None:
    pass


def wav_and_json_without_the_spool(storage: Storage, recording: Recording, done: Recording) -> None:
    storage.spool_path(recording.recording_id).unlink()


@pytest.mark.parametrize(
    "stopped", [half_of_a_wav, wav_only, wav_and_half_of_a_json, wav_and_json, wav_and_json_without_the_spool]
)
def test_a_service_killed_while_completing_leaves_a_whole_recording_after_the_next_start(
    storage: Storage, tmp_path: Path, stopped: Callable[[Storage, Recording, Recording], None]
) -> None:
    recording = begun()
    data = noise(800, 1)
    spooled(storage, recording, data)
    done = storage.complete(recording.model_copy(update={"state": State.FINISHED}), 800)
    left_behind(storage, recording, data)
    stopped(storage, recording, done)
    _, left = recovered(storage)
    kept = files(tmp_path)
    place = str(storage.audio_path(recording).relative_to(tmp_path).with_suffix(""))
    assert set(kept) == {f"{place}.wav", f"{place}.json"}
    assert frames(storage.audio_path(recording))[0] == data
    found = Recording.model_validate_json(kept[f"{place}.json"])
    assert (found.duration, found.state, found.sha256) == (0.1, State.FINISHED, done.sha256)
    assert left == []


def test_a_recording_that_was_whole_keeps_how_it_ended(storage: Storage) -> None:
    recording = begun()
    spooled(storage, recording, noise(800, 1))
    ended = {"state": State.FINISHED, "end_reason": EndReason.TERMINATOR, "terminator": "#"}
    done = storage.complete(recording.model_copy(update=ended), 400)
    left_behind(storage, recording, noise(800, 1))
    assert recovered(storage) == ([done], [])
    assert Recording.model_validate_json(storage.document_path(recording).read_bytes()) == done
    assert len(frames(storage.audio_path(recording))[0]) == 800


# ---- what cannot be completed


def spools(storage: Storage) -> dict[str, bytes]:
    return files(storage.spool_dir) | files(storage.pending)


def stays(storage: Storage, broken: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """``content`` in place of one of two announced JSON files: it stays, is told of, and the other is done."""
    broken.write_bytes(content)
    before = {name: data for name, data in spools(storage).items() if broken.stem in name}
    with caplog.at_level(logging.ERROR):
        done, left = recovered(storage)
    assert [recording.control_id for recording in done] == ["control-2"]
    assert spools(storage) == before
    assert left == []
    (record,) = caplog.records
    assert str(broken) in record.getMessage()
    assert "\n" not in record.getMessage()


BROKEN: list[Any] = [
    pytest.param(lambda text: b"", id="empty"),
    pytest.param(lambda text: text[: len(text) // 2], id="half"),
    pytest.param(lambda text: b"\0" * len(text), id="zeros"),
    pytest.param(lambda text: b"\xff" + text, id="no utf-8"),
    pytest.param(lambda text: b"[]", id="no mapping"),
    pytest.param(lambda text: text.replace(b'"recording"', b'"dancing"'), id="unknown state"),
    pytest.param(lambda text: text.replace(b'"sample_rate": 8000', b'"sample_rate": 0'), id="no rate"),
    pytest.param(lambda text: text.replace(b'"channels": 1', b'"channels": 0'), id="no channels"),
    pytest.param(lambda text: text.replace(b'"channels": 1', b'"channels": -1'), id="negative channels"),
    pytest.param(lambda text: text.replace(b"1704164645.25", b"1e300"), id="no day of any year"),
    pytest.param(lambda text: text.replace(b"1704164645.25", b"NaN"), id="no time"),
]


@pytest.mark.parametrize("spoilt", BROKEN)
def test_a_broken_json_stays_with_its_spool_and_holds_up_no_other(
    storage: Storage, caplog: pytest.LogCaptureFixture, spoilt: Callable[[bytes], bytes]
) -> None:
    left_behind(storage, begun(number=1), noise(160, 1))
    left_behind(storage, begun(number=2), noise(160, 1))
    broken = storage.announced_path(begun(number=1))
    content = spoilt(broken.read_bytes())
    assert content != broken.read_bytes()
    stays(storage, broken, content, caplog)


def test_a_directory_in_place_of_a_spool_stays_and_holds_up_no_other(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    path = left_behind(storage, begun(number=1), b"")
    path.unlink()
    path.mkdir()
    os.utime(path, (WRITTEN, WRITTEN))
    left_behind(storage, begun(number=2), noise(160, 1))
    with caplog.at_level(logging.ERROR):
        done, left = recovered(storage)
    assert [(recording.control_id, recording.state) for recording in done] == [
        ("control-1", State.ERROR),
        ("control-2", State.FINISHED),
    ]
    assert done[0].error == f"spool {path}: is a directory, no regular file"
    assert (path.is_dir(), left) == (True, [])
    assert str(path) in caplog.text


def test_a_full_disk_leaves_the_spool_until_there_is_room(
    storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recording = begun()
    left_behind(storage, recording, noise(800, 1))
    before = files(tmp_path)
    now, told = WRITTEN + QUIET, Told()
    recovery = recovery_of(storage, lambda: now, told)
    with caplog.at_level(logging.ERROR), disk_of(500):
        assert list(recovery.run()) == []
    assert files(tmp_path) == before
    assert recording.recording_id in caplog.text
    assert [what for what, _ in told.said] == ["begun"]
    assert list(recovery.run()) == []
    now += RETRY
    (done,) = recovery.run()
    assert (done.duration, files(storage.spool_dir)) == (0.1, {})
    assert told.said[-1] == ("ended", done)


def free_of(size: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 1, 10**12, size, size, 0, 0, 0, 0, 255))


SPARE = 1 << 20


@pytest.mark.parametrize(
    ("format", "quality", "sealed", "wanted"),
    [
        ("wav", Quality(), False, 1600 + SPARE),
        ("mp3", Quality(), False, 400 + SPARE),
        ("mp4", Quality(), False, 400 + SPARE),
        ("mp3", Quality(mp3_bit_rate=64), False, 800 + SPARE),
        ("wav", Quality(), True, 2 * (1600 + SPARE)),
    ],
    ids=["wav", "mp3", "mp4", "a bit rate", "encrypted on the same disk"],
)
def test_what_may_not_fit_is_not_begun(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    quality: Quality,
    sealed: bool,
    wanted: int,
) -> None:
    storage = Storage(tmp_path / "data", quality=quality)
    monkeypatch.setattr(Vault, "encrypts", sealed)
    recording = begun().model_copy(update={"format": Format(format)})
    left_behind(storage, recording, noise(800, 1))
    has, now, encoded = wanted - 1, WRITTEN + QUIET, []
    monkeypatch.setattr(Storage, "begin", lambda *_: encoded.append(now) or no_room())
    recovery = Recovery(
        storage, lambda one: None, lambda one, pausing: None, clock=lambda: now, statvfs=lambda _: free_of(has)
    )
    recovery.find()
    for _ in range(3):
        assert list(recovery.run()) == []
        has -= 1
        recovery.hurry()
    told = f"{storage.recordings} has {wanted - 1} bytes free, and it may take {wanted}"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{storage.announced_path(recording)}: it cannot be completed yet: {told}"
    assert (encoded, len(recovery.left)) == ([], 1)
    has = wanted
    assert list(recovery.run()) == []
    assert encoded == [now]


def no_room() -> None:
    raise OSError("no room after all")


@pytest.mark.parametrize(("free", "passes"), [(SPARE + RESERVE, True), (SPARE + RESERVE - 1, False)])
def test_on_a_disk_of_its_own_the_spool_may_have_room_for_what_is_to_be_encrypted(
    tmp_path: Path, free: int, passes: bool
) -> None:
    storage = Storage(tmp_path, Path("/proc"))
    storage.prepare_recordings()
    recovery = Recovery(storage, lambda one: None, lambda one, pausing: None, statvfs=lambda _: free_of(free))
    assert recovery._passes_spool(SPARE) is passes


def test_a_file_in_place_of_the_recordings_leaves_every_spool(storage: Storage, tmp_path: Path) -> None:
    for number in (1, 2):
        left_behind(storage, begun(number=number), noise(160, 1))
    storage.recordings.rmdir()
    storage.recordings.write_text("in the way")
    before = files(tmp_path)
    done, left = recovered(storage)
    assert (done, len(left)) == ([], 2)
    assert files(tmp_path) == before
    storage.recordings.unlink()
    storage.prepare_recordings()
    done, _ = recovered(storage)
    assert len(done) == 2


# ---- what is told


def test_it_tells_of_the_beginning_and_of_what_became_of_it_before_the_spool_goes(storage: Storage) -> None:
    left_behind(storage, begun(), noise(800, 1))
    told = Told()
    (done,), _ = recovered(storage, told=told)
    assert told.said == [("begun", begun()), ("ended", done)]


def test_what_cannot_be_told_keeps_its_spool_and_is_told_later(storage: Storage) -> None:
    left_behind(storage, begun(), noise(800, 1))
    before = files(storage.spool_dir)
    now, told = WRITTEN + QUIET, Told()
    told.failure = DatabaseError("disk full")
    recovery = recovery_of(storage, lambda: now, told)
    assert list(recovery.run()) == []
    assert files(storage.spool_dir) == before
    told.failure = None
    now += RETRY
    (done,) = recovery.run()
    assert told.said == [("begun", begun()), ("ended", done)]
    assert files(storage.spool_dir) == {}


def test_a_whole_recording_is_told_of_with_the_address_it_was_asked_for(storage: Storage) -> None:
    url = "https://ann:secret@example.com/status"
    recording = begun()
    recording = recording.model_copy(update={"parameters": {**recording.parameters, "status_url": url}})
    left_behind(storage, recording, noise(800, 1))
    storage.complete(recording.model_copy(update={"state": State.FINISHED}), 400)
    told = Told()
    recovered(storage, told=told)
    assert [one.status_url for _, one in told.said] == [url, url]


def test_one_of_this_run_that_could_not_be_put_in_place_is_tried_again(storage: Storage) -> None:
    now = WRITTEN + QUIET
    recovery = recovery_of(storage, lambda: now)
    left_behind(storage, begun(), noise(160, 1))
    recovery.add(begun())
    assert list(recovery.run()) == []
    now += RETRY
    assert [recording.recording_id for recording in recovery.run()] == [begun().recording_id]


def test_why_one_cannot_be_completed_is_said_once(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    now, told = WRITTEN + QUIET, Told()
    recovery = recovery_of(storage, lambda: now, told)
    left_behind(storage, begun(), noise(160, 1))
    recovery.add(begun())
    for failure in ("full", "full", "full", "locked", "full"):
        told.failure = DatabaseError(failure)
        now += RETRY
        assert list(recovery.run()) == []
    lines = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert lines == ["full", "locked", "full"]


def test_what_is_in_a_hurry_is_tried_again_at_once(storage: Storage) -> None:
    recovery = recovery_of(storage, lambda: WRITTEN + QUIET)
    left_behind(storage, begun(), noise(160, 1))
    recovery.add(begun())
    assert list(recovery.run()) == []
    recovery.hurry()
    assert [recording.recording_id for recording in recovery.run()] == [begun().recording_id]


def test_one_somebody_has_taken_away_is_forgotten(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(storage, begun(), noise(160, 1))
    recovery = recovery_of(storage, lambda: WRITTEN + QUIET)
    storage.drop_spool(begun())
    assert list(recovery.run()) == []
    assert recovery.left == []
    assert caplog.records == []


def test_what_its_own_run_could_not_tell_is_told_first_and_in_order(storage: Storage) -> None:
    now, told = WRITTEN + QUIET, Told()
    recovery = recovery_of(storage, lambda: now, told)
    left_behind(storage, begun(), noise(160, 1))
    paused = begun().model_copy(update={"state": State.PAUSED})
    recovery.add(begun(), [(begun(), None), (paused, PauseBehavior.SKIP), (begun(), None)])
    now += RETRY
    (done,) = recovery.run()
    assert told.said == [("ended", begun()), ("skip", paused), ("ended", begun()), ("begun", begun()), ("ended", done)]


def test_what_was_never_announced_is_told_when_it_can_be(storage: Storage) -> None:
    storage.prepare()
    now, told = WRITTEN, Told()
    recovery = recovery_of(storage, lambda: now, told)
    failed = begun().model_copy(update={"state": State.ERROR})
    recovery.add(failed, [(failed, None)])
    told.failure = DatabaseError("locked")
    now += RETRY
    assert list(recovery.run()) == []
    told.failure = None
    now += RETRY
    assert list(recovery.run()) == []
    assert (told.said, recovery.left) == ([("ended", failed)], [])


# ---- calls that wake up


def grow(storage: Storage, at: float) -> None:
    path = storage.spool_path(begun().recording_id)
    with path.open("ab") as file:
        file.write(noise(800, 1, seed=9))
    os.utime(path, (at, at))


@pytest.mark.parametrize("when", ["begun", "ended"])
def test_a_spool_that_grows_while_it_is_completed_is_completed_again_whole(storage: Storage, when: str) -> None:
    left_behind(storage, begun(), noise(800, 1))
    now, told = WRITTEN + QUIET, Told()
    growing = [when]

    def waking(what: str) -> Callable[..., None]:
        def tell(recording: Recording, *more: object) -> None:
            if growing == [what]:
                growing.clear()
                grow(storage, now)
            getattr(told, what)(recording)

        return tell

    recovery = Recovery(storage, waking("begun"), waking("ended"), clock=lambda: now)
    recovery.find()
    list(recovery.run())
    for _ in range(2):
        now += RETRY + QUIET
        list(recovery.run())
    assert frames(storage.audio_path(begun()))[0] == noise(800, 1) + noise(800, 1, seed=9)
    assert told.said[-1][1].duration == 0.2
    assert recovery.left == []


def test_one_completed_short_by_a_run_that_was_killed_is_completed_again(storage: Storage) -> None:
    left_behind(storage, begun(), noise(800, 1))
    ended = {"state": State.FINISHED, "end_reason": EndReason.RECOVERED}
    storage.complete(begun().model_copy(update=ended), 800)
    grow(storage, WRITTEN)
    ((done,), left) = recovered(storage)
    assert (done.duration, left) == (0.2, [])
    assert frames(storage.audio_path(begun()))[0] == noise(800, 1) + noise(800, 1, seed=9)


def test_a_clock_that_was_set_back_holds_up_no_recovery(storage: Storage) -> None:
    left_behind(storage, begun(), noise(160, 1))
    assert len(recovered(storage, at=WRITTEN - 3600)[0]) == 1


def test_an_address_that_is_no_text_holds_up_no_other(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        left_behind(storage, begun(number=number), noise(160, 1))

    def strange(recording: Recording) -> None:
        if recording.control_id == "control-1":
            raise TypeError("an address that is a number")

    recovery = Recovery(storage, strange, lambda recording, pausing: None, clock=lambda: WRITTEN + QUIET)
    recovery.find()
    assert [one.control_id for one in recovery.run()] == ["control-2"]
    assert "a number" in caplog.text
    assert len(spools(storage)) == 2


# ---- calls that come back


def test_what_was_left_of_a_call_is_given_up_to_it(storage: Storage) -> None:
    mine, others = begun(), begun(number=2).model_copy(update={"call_id": "another"})
    for one in (mine, others):
        spooled(storage, one, noise(800, 1))
    told = Told()
    recovery = recovery_of(storage, lambda: WRITTEN, told)
    assert recovery.waiting() == {mine.call_id, "another"}
    assert recovery.claim(mine.call_id) == [mine]
    assert told.said == [("begun", mine)]
    assert recovery.left == [storage.announced_path(others)]
    assert recovery.claim(mine.call_id) == []
    assert recovery.waiting() == {"another"}


def test_a_paused_one_is_given_up_as_it_is_and_told_of_as_it_was(storage: Storage) -> None:
    pause = PauseTime(start=0.5, end=0.5, behavior=PauseBehavior.SKIP)
    paused = begun().model_copy(update={"state": State.PAUSED, "pauses": [pause]})
    spooled(storage, paused, noise(800, 1))
    told = Told()
    assert recovery_of(storage, lambda: WRITTEN, told).claim(paused.call_id) == [paused]
    assert [(what, one.state, one.pauses) for what, one in told.said] == [("begun", State.RECORDING, [])]


def test_what_cannot_be_told_of_goes_on_all_the_same(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    one = begun()
    spooled(storage, one, noise(800, 1))
    told = Told()
    told.failure = DatabaseError("no database")
    assert recovery_of(storage, lambda: WRITTEN, told).claim(one.call_id) == [one]
    assert "no database" in caplog.text


def test_what_has_no_spool_any_more_or_is_filed_is_not_gone_on_with(storage: Storage) -> None:
    lost, filed = begun(), begun(number=2)
    storage.prepare()
    storage.announce(lost)
    spooled(storage, filed, noise(800, 1))
    storage.file(filed)
    recovery = recovery_of(storage, lambda: WRITTEN)
    assert recovery.claim(lost.call_id) == []
    assert len(recovery.left) == 2


def test_what_this_run_could_not_complete_is_not_gone_on_with(storage: Storage) -> None:
    recovery = recovery_of(storage, lambda: WRITTEN)
    one = begun()
    spooled(storage, one, noise(800, 1))
    recovery.add(one)
    assert recovery.claim(one.call_id) == []


def test_what_is_asked_back_is_not_completed_meanwhile(storage: Storage) -> None:
    """A paused spool does not grow, and is none the less of a call that lives."""
    one, now = begun(), WRITTEN + QUIET
    left_behind(storage, one, noise(800, 1))
    recovery = recovery_of(storage, lambda: now)
    recovery.expect([one.call_id])
    assert list(recovery.run()) == []
    now += COMES_BACK + 1
    assert [done.recording_id for done in recovery.run()] == [one.recording_id]


def test_what_is_of_a_call_that_has_ended_is_completed_after_a_moment(storage: Storage) -> None:
    """Not at once: the switch that was asked may not be the one that writes."""
    one, now = begun(), WRITTEN
    left_behind(storage, one, noise(800, 1))
    recovery = recovery_of(storage, lambda: now)
    recovery.expect([one.call_id])
    recovery.give_up([one.call_id, "another"])
    now += CLOSING - 0.1
    assert list(recovery.run()) == []
    now += 0.1
    assert [done.recording_id for done in recovery.run()] == [one.recording_id]


def test_a_call_that_lives_after_all_is_expected_again(storage: Storage) -> None:
    one, now = begun(), WRITTEN
    left_behind(storage, one, noise(800, 1))
    recovery = recovery_of(storage, lambda: now)
    recovery.give_up([one.call_id])
    recovery.expect([one.call_id])
    now += QUIET
    assert list(recovery.run()) == []


def test_a_sidecar_that_tells_of_another_recording_is_not_gone_on_with(storage: Storage) -> None:
    one = begun()
    spooled(storage, one, noise(800, 1))
    storage.announced_path(one).write_text(begun(number=2).model_dump_json())
    assert recovery_of(storage, lambda: WRITTEN).claim(one.call_id) == []


def test_of_what_is_claimed_nothing_is_completed_as_well(storage: Storage) -> None:
    """Telling of one waits for the database; meanwhile the other's turn may come."""
    ones = [begun(), begun(number=2)]
    for one in ones:
        left_behind(storage, one, noise(800, 1))
    completed: list[Recording] = []

    def telling(_: Recording) -> None:
        completed.extend(recovery.run())

    recovery = Recovery(storage, telling, lambda recording, pausing: None, clock=lambda: WRITTEN + QUIET)
    recovery.find()
    assert recovery.claim(ones[0].call_id) == ones
    assert completed == []
