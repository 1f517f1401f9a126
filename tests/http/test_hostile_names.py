"""Text that a caller chooses, in answers, log lines and figures: it is text there and nothing else."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from http_fakes import Client, Serve, Site, sites
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_record.logs import OneLine
from esl_record.metrics import Metrics
from esl_record.recording.catalog import Totals
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.status.outbox import Depth
from esl_record.tables import recordings as table

HOSTILE = st.lists(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from([*'\r\n\t\x00\x1b\x85\x9b\u2028\u2029\u202e";,=\\/%<>', "\r\nSet-Cookie: x=1", '"}\n', "../"])
).map("".join)

NUMBER = iter(range(1, 10**6))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sites(tmp_path_factory.mktemp("hostile")) as make:
        yield make()


@settings(deadline=None, max_examples=15)
@given(name=HOSTILE, number=HOSTILE, to=HOSTILE, file=HOSTILE)
def test_no_header_and_no_json_is_anything_but_what_it_is(
    shared: Site, name: str, number: str, to: str, file: str
) -> None:
    party = {"caller_name": name, "caller_number": number, "destination": to}
    recording = shared.keep(next(NUMBER), **party)
    answers = [
        shared.get(f"/api/v1/recordings/{recording.recording_id}/download"),
        shared.get(f"/api/relay/rest/recordings/{recording.recording_id}"),
        shared.get("/api/relay/rest/recordings?page_size=1"),
    ]
    # As from a catalog that somebody has written to: a file that is elsewhere is not there.
    shared.ledger.tell(recording.model_copy(update={"file": f"{file}.wav"}))
    answers.append(shared.get(f"/api/v1/recordings/{recording.recording_id}/download"))
    for answer in answers:
        for header, value in answer.headers.items():
            assert re.fullmatch(r"[\x20-\x7e]*", value), header
        assert "set-cookie" not in answer.headers
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert re.fullmatch(r'inline; filename="[A-Za-z0-9._-]+"', answers[0].headers["content-disposition"])
    assert answers[1].json["id"] == recording.recording_id
    assert answers[3].status_code == 404


@pytest.mark.parametrize("file", ["../../../../etc/passwd", "..", ".", "/etc/passwd", "a\x00b", "x" * 300, "a/../b"])
def test_a_file_of_another_place_is_not_there(shared: Site, file: str) -> None:
    recording = shared.keep(next(NUMBER))
    shared.ledger.tell(recording.model_copy(update={"file": file}))
    answer = shared.get(f"/api/v1/recordings/{recording.recording_id}/download")
    assert answer.status_code == 404


def test_a_row_that_is_no_recording_is_not_there(site: Site) -> None:
    recording = site.keep()
    site.database.run(lambda connection: connection.exec_driver_sql("UPDATE recordings SET facts = '{}'").rowcount)
    for path in ("/api/v1/recordings/{}/download", "/api/relay/rest/recordings/{}"):
        assert site.get(path.format(recording.recording_id)).status_code == 404


@pytest.mark.parametrize("path", ["/%0d%0aforged", "/%1b[2J", "/api/v1/recordings/%0a%e2%80%a8/download", "/x%c2%85y"])
def test_no_path_writes_a_second_line_to_the_log(site: Site, serve: Serve, path: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logger = logging.getLogger("esl_record.http")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with Client(serve(site)) as client:
            client.send(f"GET {path} HTTP/1.1")
            client.answer()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    asked = [line for line in stream.getvalue().split("\n") if line]
    assert len([line for line in asked if " 404 " in line]) == 1
    assert all(line.startswith(("INFO ", "DEBUG ")) and line.isprintable() for line in asked)


@given(st.lists(st.tuples(HOSTILE, HOSTILE, st.sampled_from(State), st.sampled_from([None, *EndReason])), max_size=5))
def test_no_text_of_a_caller_is_in_the_figures_and_their_number_is_bounded(
    ended: list[tuple[str, str, State, EndReason | None]],
) -> None:
    metrics = Metrics()
    marked = [
        Recording.begun("id", Party(call_id=f"MARK{name}", caller_name=f"MARK{name}"), RecordParams(), 1.0)
        .model_copy(update={"state": state, "end_reason": reason, "error": f"MARK{why}"})
        for name, why, state, reason in ended
    ]  # fmt: skip
    for one in marked:
        metrics.has_ended(one)
    metrics.look(marked, len(marked), Totals({}, 0), Depth(0, 0, None), 1.0)
    text = metrics.exposition()[0].decode()
    assert "MARK" not in text
    lines = text.splitlines()
    assert all(re.match(r"# |esl_record_\w+(\{[a-z_]+=\"[a-z_0-9.+Inf]*\"(,[a-z_]+=\"[a-z_]*\")*\})? ", one) for one in lines)  # fmt: skip # noqa: E501
    labels = {one.partition(" ")[0] for one in lines if one.startswith("esl_record_recordings_ended")}
    assert len(labels) <= 2 * len(State) * (len(EndReason) + 1)


@given(HOSTILE, HOSTILE)
def test_a_table_for_a_terminal_moves_no_cursor(number: str, to: str) -> None:
    from rich.console import Console

    one = Recording.begun("id", Party(call_id="c", caller_number=number, destination=to), RecordParams(), 1.0)
    stream = io.StringIO()
    Console(file=stream, width=100_000, color_system=None).print(table([one]))
    lines = stream.getvalue().rstrip("\n").split("\n")
    assert len(lines) == 2
    assert all(re.sub(r"\s", " ", line).isprintable() for line in lines)
    assert json.dumps(one.model_dump(mode="json")).isprintable()
