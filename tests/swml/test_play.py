"""play: what each kind of URL is to the switch, and that nothing else gets there."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calls import FakeSession, call_on

from esl_record.recording.params import ParameterError
from esl_record.swml.methods import METHODS
from esl_record.swml.methods.play import LONGEST_RING, RINGS, playable

SOUNDS = [
    ("say:Hello there", ("speak", "Hello there")),
    ("say:  Hello: there  ", ("speak", "Hello: there")),
    ("say:\u00fcber \u4e2d", ("speak", "\u00fcber \u4e2d")),
    ("silence:2", ("playback", "silence_stream://2000")),
    ("silence:0.25", ("playback", "silence_stream://250")),
    ("ring:us", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring:US", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring:8:us", ("playback", "tone_stream://%(2000,4000,440,480);%(2000,0,440,480)")),
    ("ring:2.5:us", ("playback", "tone_stream://%(2000,500,440,480)")),
    ("ring:uk", ("playback", "tone_stream://%(400,200,400,450);%(400,2000,400,450)")),
    ("ring:0.5:uk", ("playback", "tone_stream://%(400,100,400,450)")),
    ("tone_stream://%(250,0,1000)", ("playback", "tone_stream://%(250,0,1000)")),
    ("tone_stream://%(250,50,1000);loops=3", ("playback", "tone_stream://%(250,50,1000);loops=3")),
    ("silence_stream://1000,1400", ("playback", "silence_stream://1000,1400")),
    ("/var/sounds/hello.wav", ("playback", "/var/sounds/hello.wav")),
    ("/var/sounds/hello there.wav", ("playback", "/var/sounds/hello there.wav")),
    ("file:///var/sounds/hello.wav", ("playback", "/var/sounds/hello.wav")),
    ("file:///var/sounds/hello%20there.wav", ("playback", "/var/sounds/hello there.wav")),
    ("http://example.com/a.wav", ("playback", "http://example.com/a.wav")),
    ("https://example.com/a.wav?b=c&d=%20", ("playback", "https://example.com/a.wav?b=c&d=%20")),
]


@pytest.mark.parametrize(("url", "expected"), SOUNDS)
def test_a_url_is_an_application_and_its_argument(url: str, expected: tuple[str, str]) -> None:
    assert playable(url) == expected


REFUSED = [
    "",
    "hello.wav",
    "hello",
    "../hello.wav",
    "say:",
    "say:   ",
    "silence:",
    "silence:-1",
    "silence:long",
    "silence:nan",
    "silence:1e9",
    "silence:inf",
    "silence:9999999",
    "ring:",
    "ring:atlantis",
    "ring:5",
    "ring:us:5",
    "ring:-5:us",
    "ring:nan:us",
    "ring:301:us",
    "ring:5:us;loops=-1",
    "tone_stream://",
    "tone_stream://path=/etc/passwd",
    "tone_stream://PATH=/etc/passwd",
    "tone_stream://Path=/etc/passwd",
    "tone_stream://%(250,0,1000)\n",
    "tone_stream://%(250,0,1000)\x00",
    "tone_stream://\u00fc",
    "silence_stream://",
    "silence_stream://1000\r\nX: y",
    "{loops=-1}/var/sounds/hello.wav",
    "{a=b}tone_stream://%(1,1,1)",
    "[a=b]/hello.wav",
    "file_string:///a.wav!/b.wav",
    "file_string://a!b",
    "phrase:welcome",
    "local_stream://moh",
    "shout://example.com/a.mp3",
    "vlc:///etc/passwd",
    "/var/http://example.com/a.wav",
    "/a/tone_stream://path=/etc/passwd",
    "file:///a/tone_stream%3a//x",
    "file:///a/tone_stream:%2F/x",
    "file://example.com/a.wav",
    "file://",
    "file:relative.wav",
    "file:///a%00.wav",
    "file:///a%0d%0aX:y",
    "file:///%1b[31m",
    "file:///{a=b}/%E2%80%AE.wav",
    "/a\nb",
    "/a\x00b",
    "/a\u202eb",
    "/\ud800",
    "http://",
    "http:///a.wav",
    "http:a.wav",
    "http://example.com/a b",
    "http://example.com/a\r\nX: y",
    "http://example.com/\x00",
    "http://[",
    "http://[::1/a.wav",
    "http://exa\u2100mple.com/",
    "//[x",
    "ftp://example.com/a.wav",
    "javascript:alert(1)",
    "data:audio/wav;base64,AAAA",
    "${system ls}",
]


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_any_other_url_is_refused_and_named(url: str) -> None:
    with pytest.raises(ParameterError) as caught:
        playable(url)
    assert str(caught.value).startswith(f"play: url = {url[:80]!r}: ")


def test_a_refused_url_shows_only_its_beginning() -> None:
    with pytest.raises(ParameterError) as caught:
        playable("x" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("url", ["ring:0:us", "ring:0.0001:de"])
def test_a_ring_of_no_time_is_no_empty_tone(url: str) -> None:
    """The switch could not play a tone stream without a tone."""
    try:
        argument = playable(url)[1]
    except ParameterError as error:
        argument = str(error)
    assert argument != "tone_stream://"


PARTS = re.compile(r"%\((\d+),(\d+),([\d,]+)\)")


@given(st.sampled_from(sorted(RINGS)), st.integers(1, round(LONGEST_RING * 1000)))
def test_a_ring_lasts_as_long_as_asked_and_follows_its_cadence(country: str, ms: int) -> None:
    kind, argument = playable(f"ring:{ms / 1000:.3f}:{country}")
    tones = argument.removeprefix("tone_stream://").split(";")
    parts = [PARTS.fullmatch(tone) for tone in tones]
    assert kind == "playback"
    assert all(parts)
    played = [(int(part[1]), int(part[2]), part[3]) for part in parts if part]
    assert sum(on + off for on, off, _ in played) == ms
    cadence = RINGS[country]
    for number, (on, off, hertz) in enumerate(played):
        whole = cadence[number % len(cadence)]
        last = number == len(played) - 1
        assert hertz == whole[2]
        assert (on <= whole[0] and off <= whole[1]) if last else (on, off) == whole[:2]


KINDS = ["say:", "silence:", "ring:", "ring:5:", "tone_stream://", "silence_stream://", "file://", "http://", "/", ""]


@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from([*"/:%[]{}@!;,=#?.0123456789aus\r\n\0", "://", "path="]) | st.characters()).map("".join),
)
def test_whatever_the_url_the_switch_gets_one_clean_line_or_nothing(kind: str, rest: str) -> None:
    try:
        application, argument = playable(kind + rest)
    except ParameterError:
        application, argument = "", ""
    assert application in ("", "speak", "playback")
    if application == "playback":
        assert argument.isprintable()
        scheme, found, _ = argument.partition("://")
        assert not found or scheme.lower() in ("tone_stream", "silence_stream", "http", "https")
        assert found or argument.startswith("/")


# ---- the method


def test_several_are_played_in_turn_and_the_call_answered_first() -> None:
    session = FakeSession()
    METHODS["play"](call_on(session), {"urls": ["say:One", "silence:1", "/two.wav"]})
    assert session.verbs == [
        ("answer",),
        ("speak", "One"),
        ("playback", "silence_stream://1000"),
        ("playback", "/two.wav"),
    ]


@pytest.mark.parametrize("params", ["say:Hi", {"url": "say:Hi"}, {"urls": ["say:Hi"]}], ids=str)
def test_every_shape_of_one_url_is_the_same(params: object) -> None:
    session = FakeSession()
    METHODS["play"](call_on(session), params)
    assert session.verbs == [("answer",), ("speak", "Hi")]


@pytest.mark.parametrize("flag", [False, "false"])
def test_without_auto_answer_it_is_early_media(flag: object) -> None:
    session = FakeSession()
    METHODS["play"](call_on(session), {"url": "ring:us", "auto_answer": flag})
    assert [verb for verb, *_ in session.verbs] == ["playback"]


def test_nothing_is_heard_when_one_of_several_is_refused() -> None:
    session = FakeSession()
    with pytest.raises(ParameterError, match="nonsense"):
        METHODS["play"](call_on(session), {"urls": ["say:One", "nonsense"]})
    assert session.verbs == []


BAD = [
    ({}, ["play", "url", "urls"]),
    ({"url": "say:a", "urls": ["say:b"]}, ["play", "url", "urls"]),
    ({"urls": []}, ["play", "url"]),
    ({"urls": "say:a"}, ["play", "urls", "say:a", "list"]),
    ({"urls": ["say:a", 5]}, ["play", "urls", "5", "string"]),
    ({"url": 5}, ["play", "url", "5", "string"]),
    ({"url": None}, ["play", "url"]),
    (5, ["play", "5"]),
    (["say:a"], ["play", "mapping"]),
    ({"url": "say:a", "auto_answer": 1}, ["play", "auto_answer", "1", "true or false"]),
    ({"url": "say:a", "volume": 5}, ["play", "volume", "url"]),
]


@pytest.mark.parametrize(("params", "named"), BAD, ids=lambda value: str(value)[:40])
def test_wrong_parameters_are_refused_by_name_with_nothing_heard(params: object, named: list[str]) -> None:
    session = FakeSession()
    with pytest.raises(ParameterError) as caught:
        METHODS["play"](call_on(session), params)
    missing = [word for word in named if word not in str(caught.value)]
    assert (missing, session.verbs) == ([], [])
