"""Bytes to frames and commands to bytes: however the stream is cut, and whatever is in it."""

import re
import tracemalloc
import unicodedata
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esl_record.errors import WireError
from esl_record.esl import wire
from esl_record.esl.wire import Frame, FrameReader

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("*.txt"))
KINDS = {"command/reply", "api/response", "text/event-plain", "text/disconnect-notice"}


def received(path: Path) -> bytes:
    """What the switch sent, as one stream. The log has a line end of its own after each part."""
    stream, ours = [], False
    for line in path.read_bytes().split(b"\n"):
        mark = re.match(rb"@@ +[\d.]+ (>>|<<|##|EOF)", line)
        if mark:
            ours = mark[1] == b"<<"
        elif ours:
            stream.append(line + b"\n")
    return b"".join(stream)


STREAMS = {path.stem: received(path) for path in TRANSCRIPTS}


def frames(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    found = [frame for piece in pieces for frame in reader.feed(piece)]
    reader.close()
    return found


def block(*lines: str) -> bytes:
    return "\n".join(lines).encode() + b"\n\n"


def framed(body: bytes, kind: str = "api/response") -> bytes:
    return block(f"Content-Type: {kind}", f"Content-Length: {len(body)}") + body


# ---- what a real switch sent


@pytest.mark.parametrize("name", STREAMS)
def test_every_frame_of_a_real_switch_is_found(name: str) -> None:
    stream = STREAMS[name]
    found = frames(stream)
    for kind in KINDS:
        assert sum(frame.content_type == kind for frame in found) == stream.count(f"\nContent-Type: {kind}\n".encode())
    assert {frame.content_type for frame in found} <= KINDS


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(STREAMS)), seed=st.integers(0, 1 << 32), cuts=st.integers(1, 2000))
def test_frames_are_the_same_however_the_stream_is_cut(name: str, seed: int, cuts: int) -> None:
    stream = STREAMS[name]
    at = sorted(Random(seed).randrange(len(stream) + 1) for _ in range(cuts))
    pieces = [stream[start:end] for start, end in zip([0, *at], [*at, len(stream)], strict=True)]
    assert frames(*pieces) == frames(stream)


def test_frames_are_the_same_byte_by_byte() -> None:
    stream = STREAMS["unanswered"]
    assert frames(*(stream[at : at + 1] for at in range(len(stream)))) == frames(stream)


@pytest.mark.parametrize("name", STREAMS)
def test_the_reply_to_connect_is_the_channels_data_decoded(name: str) -> None:
    """Against the bytes: a line is a header, and its value is unquoted by itself."""
    lines = [line.split(b": ", 1) for line in STREAMS[name].lstrip(b"\n").split(b"\n\n", 1)[0].split(b"\n")]
    data = frames(STREAMS[name])[0]
    assert dict(data.headers) == {key.decode(): unquote(value.decode()) for key, value in lines}
    assert (data.content_type, data.reply, data.body) == ("command/reply", "+OK", b"")
    assert (data.headers["Event-Name"], data.headers["Control"]) == ("CHANNEL_DATA", "full")
    assert data.headers["FreeSWITCH-IPv6"] in ("fd00::2", "::1")
    assert re.fullmatch(r"[0-9a-f-]{36}", data.headers["Unique-ID"])


@pytest.mark.parametrize("name", STREAMS)
def test_every_event_parses(name: str) -> None:
    events = [wire.parse_event(frame) for frame in frames(STREAMS[name]) if frame.content_type == "text/event-plain"]
    assert events
    for event in events:
        assert re.fullmatch(r"[A-Z_]+", event.name)
        assert event.get("Event-Sequence").isdigit()
        assert event.get("Event-Date-Local").count(":") == 2
        assert event.body == b""
    assert {event.get("Unique-ID") for event in events if event.get("Call-Direction") == "inbound"} == {
        frames(STREAMS[name])[0].headers["Unique-ID"]
    }


def test_a_newline_and_a_colon_in_a_real_variable_make_no_header() -> None:
    events = [
        wire.parse_event(frame)
        for frame in frames(STREAMS["header_encoding"])
        if frame.content_type == "text/event-plain"
    ]
    tricky = [event for event in events if event.get("variable_tricky")]
    assert tricky
    for event in tricky:
        assert event.get("variable_tricky") == "a\nInjected-Header: yes: 100%"
        assert "Injected-Header" not in event.headers
    assert tricky[-1].get("variable_tricky2") == "line one: two A \u00e9"


# ---- frames


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"no colon\n\n", "not a header line: b'no colon'"),
        (b": no name\n\n", "not a header line"),
        (b"  : blank name\n\n", "not a header line"),
        (block("Content-Type: x", "\0\1\2"), "not a header line"),
        (b"X: " + b"x" * wire.HEADER_LIMIT + b"\n\n", "header block of more than 262144 bytes"),
        (b"X: " + b"x" * wire.HEADER_LIMIT, "header block of more than 262144 bytes"),
        (block("Content-Length: -1"), "Content-Length '-1': must be 0 to 16777216"),
        (block(f"Content-Length: {wire.BODY_LIMIT + 1}"), "Content-Length '16777217'"),
        (block("Content-Length: " + "9" * 5000), "Content-Length '9999999999"),
        (block("Content-Length: 5x"), "Content-Length '5x'"),
        (block("Content-Length: +5"), "Content-Length '+5'"),
        (block("Content-Length: 0x10"), "Content-Length '0x10'"),
        (block("Content-Length: 1_0"), "Content-Length '1_0'"),
        (block("Content-Length: 1e3"), "Content-Length '1e3'"),
        (block("Content-Length: \u0665"), "Content-Length '\u0665'"),
        (block("Content-Length: \u00b2"), "Content-Length '\u00b2'"),
        (block("Content-Length:"), "Content-Length ''"),
        (block("Content-Length: five", "Content-Length: 5") + b"12345", "Content-Length 'five'"),
    ],
)
def test_what_breaks_the_protocol_is_told(stream: bytes, told: str) -> None:
    with pytest.raises(WireError, match=re.escape(told)) as caught:
        frames(stream)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"Content-Type: api/resp", "in its headers"),
        (b"Content-Type: api/response\n", "in its headers"),
        (framed(b"hello")[:-2], "2 bytes of body missing"),
        (framed(b"hello")[:-5], "5 bytes of body missing"),
        (framed(b"whole") + framed(b"cut")[:-1], "1 bytes of body missing"),
    ],
)
def test_an_end_inside_a_frame_is_told(stream: bytes, told: str) -> None:
    reader = FrameReader()
    list(reader.feed(stream))
    with pytest.raises(WireError, match=told):
        reader.close()


@pytest.mark.parametrize("stream", [b"", b"\n", b"\n\n\n", framed(b"x"), framed(b"x") + b"\n", framed(b"")])
def test_an_end_between_frames_is_in_order(stream: bytes) -> None:
    assert len(frames(stream)) == stream.count(b"Content-Type")


def test_frames_before_the_break_are_given() -> None:
    feeding = FrameReader().feed(framed(b"good") + b"garbage\n\n")
    assert next(feeding).body == b"good"
    with pytest.raises(WireError):
        next(feeding)


def test_blank_lines_between_frames_do_not_count() -> None:
    assert [frame.body for frame in frames(b"\n\n\n" + framed(b"a") + b"\n" + framed(b"b") + b"\n\n")] == [b"a", b"b"]


def test_blank_lines_without_an_end_are_given_up() -> None:
    frames(b"\n" * wire.BLANK_LINES + framed(b"a") + b"\n" * wire.BLANK_LINES + framed(b"b"))
    reader = FrameReader()
    assert list(reader.feed(b"\n" * wire.BLANK_LINES)) == []
    with pytest.raises(WireError, match="more than 64 blank lines"):
        list(reader.feed(b"\n"))


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (b"a:\n" * (wire.HEADER_LIMIT // 4), f"more than {wire.HEADERS} lines"),
        (b"\n".join(b"%x:" % number for number in range(wire.HEADERS + 1)), f"more than {wire.HEADERS} lines"),
        (b"a:" + b"%" * (wire.ESCAPES + 1), f"more than {wire.ESCAPES} percent signs"),
        (b"a:" + b"%41" * (wire.ESCAPES + 1), f"more than {wire.ESCAPES} percent signs"),
        (b"a:" + b"x" * wire.HEADER_LIMIT, "more than 262144 bytes"),
    ],
    ids=["equal", "distinct", "percent", "escapes", "long"],
)
def test_an_event_that_would_take_long_to_read_is_not_read(block: bytes, told: str) -> None:
    (frame,) = frames(framed(block + b"\n\n", "text/event-plain"))
    with pytest.raises(WireError, match=told):
        wire.parse_event(frame)


def test_a_frame_of_more_headers_than_any_switch_sends_is_not_read() -> None:
    with pytest.raises(WireError, match=f"more than {wire.HEADERS} lines"):
        frames(b"Event-Name: X\n" * (wire.HEADERS + 1) + b"\n")


def test_a_header_block_that_comes_byte_by_byte_is_searched_once() -> None:
    """However long it is: a search of all of it for each byte would take minutes."""

    class Counting(bytearray):
        searched = 0

        def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]
            Counting.searched += len(self) - start
            return super().find(sub, start)

    reader = FrameReader(_buffer=Counting())
    for _ in range(20_000):
        assert list(reader.feed(b"x")) == []
    assert Counting.searched < 3 * 20_000


def test_a_reader_may_take_less_than_the_largest_body() -> None:
    reader = FrameReader(100)
    assert [frame.body for frame in reader.feed(framed(bytes(100)))] == [bytes(100)]
    with pytest.raises(WireError, match="must be 0 to 100"):
        list(reader.feed(framed(bytes(101))))


def test_a_body_may_be_anything() -> None:
    body = bytes(range(256)) + b"\n\nContent-Length: 3\n\n"
    assert [frame.body for frame in frames(framed(body) + framed(b"next"))] == [body, b"next"]


def test_the_largest_body_is_taken() -> None:
    body = bytes(wire.BODY_LIMIT)
    assert frames(framed(body))[0].body == body


def test_a_header_block_of_just_the_limit_is_taken() -> None:
    assert len(frames(b"X: " + b"x" * (wire.HEADER_LIMIT - 3) + b"\n\n")) == 1


def test_endless_headers_are_given_up_at_the_limit() -> None:
    reader, piece = FrameReader(), b"X-Header: again\n" * 100
    for _ in range(wire.HEADER_LIMIT // len(piece)):
        assert list(reader.feed(piece)) == []
    with pytest.raises(WireError):
        list(reader.feed(piece))


def test_what_has_been_read_takes_no_memory() -> None:
    piece = framed(b"x" * 1000) * 60
    reader = FrameReader()
    tracemalloc.start()
    try:
        for _ in range(10):
            for _ in reader.feed(piece):
                pass
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * len(piece)
    assert peak < 6 * len(piece)


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\n", b"\n\n", b":", b"Content-Length: ", b"Content-Length: 3\n\n", b"7", b"-", b"Event-Name: X\n", b"%0A"]
    ),
    st.builds(framed, st.binary(max_size=30), st.sampled_from(sorted(KINDS))),
)


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=30))
def test_any_bytes_are_frames_or_a_wire_error(pieces: list[bytes]) -> None:
    reader, found, told = FrameReader(), [], ""
    try:
        for piece in pieces:
            found.extend(reader.feed(piece))
        reader.close()
    except WireError as error:
        told = str(error)
    # Nothing that was read is there twice.
    assert sum(len(frame.body) for frame in found) <= sum(map(len, pieces))
    assert len(told) < 500
    for frame in found:
        assert frame.headers
        assert isinstance(frame.reply, str)
        with suppress(WireError):
            assert isinstance(wire.parse_event(frame).name, str)


# ---- headers


@pytest.mark.parametrize("encoded", [True, False])
def test_the_first_of_two_equal_headers_counts(encoded: bool) -> None:
    headers = wire.parse_headers(b"Unique-ID: first\nOther: x\nUnique-ID: second", encoded=encoded)
    assert dict(headers) == {"Unique-ID": "first", "Other": "x"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"Name: Ann%0AUnique-ID%3A%20forged", "Ann\nUnique-ID: forged"),
        (b"Name: a%0A%0Ab", "a\n\nb"),
        (b"Name: a%00b%0D", "a\0b\r"),
        (b"Name: a: b: c", "a: b: c"),
        (b"Name:", ""),
        (b"Name: ", ""),
        (b"Name:tight", "tight"),
        (b"Name: %20kept%20", " kept "),
        (b"Name: caf%C3%A9", "caf\u00e9"),
        (b"Name: caf\xc3\xa9", "caf\u00e9"),
        (b"Name: %FF%FE", "\ufffd\ufffd"),
        (b"Name: \xff\xfe", "\ufffd\ufffd"),
        (b"Name: 100%", "100%"),
        (b"Name: %zz%4", "%zz%4"),
        (b"Name: a+b", "a+b"),
    ],
)
def test_a_value_is_decoded_by_itself(line: bytes, value: str) -> None:
    headers = wire.parse_headers(b"First: 1\n" + line + b"\nLast: 2", encoded=True)
    assert dict(headers) == {"First": "1", "Name": value, "Last": "2"}


def test_only_events_and_the_reply_to_connect_are_encoded() -> None:
    (frame,) = frames(block("Content-Type: command/reply", "Reply-Text: +OK 100%25 %0A"))
    assert frame.reply == "+OK 100%25 %0A"


def test_a_content_length_among_the_channels_data_is_the_callers() -> None:
    data = block("Event-Name: CHANNEL_DATA", "Content-Length: 5000", "Content-Type: command/reply", "Reply-Text: +OK")
    assert [frame.reply for frame in frames(data + framed(b"next"))] == ["+OK", "next"]


def test_an_event_has_its_own_headers_and_body() -> None:
    body = block("Event-Name: BACKGROUND_JOB", "Job-UUID: j1", "Content-Length: 12") + b"-ERR a%20b\n\n"
    (frame,) = frames(framed(body, "text/event-plain"))
    event = wire.parse_event(frame)
    assert (event.name, event.get("Job-UUID"), event.body) == ("BACKGROUND_JOB", "j1", b"-ERR a%20b\n\n")
    assert event.get("Not-There", "fallback") == "fallback"


def test_headers_cannot_be_changed() -> None:
    (frame,) = frames(framed(b""))
    with pytest.raises(TypeError):
        frame.headers["Content-Type"] = "x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("stream", "reply"),
    [
        (framed(b"+OK\n"), "+OK"),
        (framed(b"two\nlines\n\n"), "two\nlines"),
        (framed(b"\xff"), "\ufffd"),
        (block("Content-Type: command/reply", "Reply-Text: -ERR no"), "-ERR no"),
        (block("Content-Type: command/reply"), ""),
    ],
)
def test_the_reply_is_what_the_switch_answered(stream: bytes, reply: str) -> None:
    assert frames(stream)[0].reply == reply


# ---- commands

TEXT = st.text(st.characters(codec=None), max_size=60) | st.text("${}'\\|,:\r\n\0\x85 ab", max_size=40)


def lines_of(data: bytes) -> list[str]:
    """What a switch reads: lines up to a blank one, carriage returns dropped."""
    assert data.endswith(b"\n\n")
    assert b"\0" not in data
    assert b"\r" not in data
    lines = data.removesuffix(b"\n\n").decode().split("\n")
    assert all(lines)
    return lines


@given(line=TEXT.filter(bool))
@example("api x\n\nexit")
@example("\udcff")
def test_a_command_is_one_line_or_nothing(line: str) -> None:
    if set(line) & set("\r\n\0"):
        with pytest.raises(WireError, match="one line without NUL"):
            wire.command(line)
    else:
        assert len(lines_of(wire.command(line))) == 1


@given(application=TEXT, argument=TEXT, event_uuid=TEXT, uuid=TEXT)
@example("playback", "x\n\napi system rm", "u", "")
@example("speak", "flite|kal|$${system id}", "u", "")
@example("speak", "$$$${{", "u", "")
def test_an_application_is_the_given_headers_or_nothing(
    application: str, argument: str, event_uuid: str, uuid: str
) -> None:
    try:
        data = wire.execute(application, argument, event_uuid, uuid)
    except WireError:
        assert set(application + argument + event_uuid + uuid) & set("\r\n\0")
        return
    lines = lines_of(data)
    assert len(lines) == 5 if argument else 4
    assert lines[0].startswith("sendmsg")
    assert [line.split(":")[0] for line in lines[1:3]] == ["call-command", "execute-app-name"]
    assert lines[-1].startswith("Event-UUID: ")
    if argument:
        sent = lines[3].removeprefix("execute-app-arg: ")
        assert not ("$" in sent and "{" in sent)


@pytest.mark.parametrize(
    ("argument", "sent"),
    [
        ("a.wav", "a.wav"),
        ("costs $5", "costs $5"),
        ("{x=1}a.wav", "{x=1}a.wav"),
        ("${system rm}", "{system rm}"),
        ("$${domain}", "{domain}"),
        ("\\${a}", "\\{a}"),
        ("$\\'{a}", "\\'{a}"),
        ("{a} for $5", "{a} for 5"),
    ],
)
def test_the_switch_is_given_nothing_to_expand(argument: str, sent: str) -> None:
    assert lines_of(wire.execute("playback", argument, "u"))[3] == f"execute-app-arg: {sent}"


def test_commands_are_as_the_switch_wants_them() -> None:
    assert wire.command("api status") == b"api status\n\n"
    assert wire.execute("answer", "", "e1") == (
        b"sendmsg\ncall-command: execute\nexecute-app-name: answer\nEvent-UUID: e1\n\n"
    )
    assert wire.execute("playback", "a b.wav", "e1", "u1") == (
        b"sendmsg u1\ncall-command: execute\nexecute-app-name: playback\nexecute-app-arg: a b.wav\nEvent-UUID: e1\n\n"
    )


@pytest.mark.parametrize("name", ["a", "record_url", "sip_h_X-Thing", "a.b", "x" * 128])
def test_a_variables_name_is_taken(name: str) -> None:
    assert wire.variable_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\n", "\na", "a\nb", "a=b", "a,b", "a;b", "a:b", "${a}", "a[0]", "é", "\u0661", "a\0", "x" * 129],
)
def test_a_hostile_variable_name_is_refused(name: str) -> None:
    with pytest.raises(WireError, match=r"letters, digits and _ \. - only"):
        wire.variable_name(name)


@given(text=TEXT)
def test_cleaned_text_is_one_line(text: str) -> None:
    cleaned = wire.clean(text)
    assert len(cleaned.splitlines()) <= 1
    assert "\0" not in cleaned
    assert len(cleaned) <= len(text)
    assert wire.clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"), [("a\r\nb", "a b"), ("\ta\0\0b\x7f", " a b "), ("é\u2028ö", "é ö"), ("", ""), ("a  b", "a  b")]
)
def test_a_run_of_control_characters_becomes_one_space(text: str, cleaned: str) -> None:
    assert wire.clean(text) == cleaned


def test_every_control_character_and_line_separator_is_cleaned() -> None:
    controls = [chr(code) for code in range(0x2100) if unicodedata.category(chr(code)) in ("Cc", "Zl", "Zp")]
    assert [character for character in controls if wire.clean(character) != " "] == []
