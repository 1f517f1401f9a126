"""play: what each kind of URL is to the switch, and that nothing else gets there."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calls import FakeSession, call_on

from esl_record.errors import CallGone, CommandRefused, DocumentError
from esl_record.recording.params import ParameterError
from esl_record.status.event import Identity
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import parse
from esl_record.swml.methods import METHODS
from esl_record.swml.methods.play import LEVELS
from esl_record.swml.rings import RINGS
from esl_record.swml.site import Site
from esl_record.swml.sounds import FORMATS, LONGEST_RING, LONGEST_SILENCE, LONGEST_TEXT, playable, shown
from esl_record.swml.tones import LONGEST, MOST_TONES

SOUNDS = [
    ("say:Hello there", ("speak", "Hello there")),
    ("say:  Hello: there  ", ("speak", "Hello: there")),
    ("say:\u00fcber \u4e2d", ("speak", "\u00fcber \u4e2d")),
    ("say:", ("speak", "")),
    ("say:   ", ("speak", "")),
    ("say: x", ("speak", "x")),
    ("silence: 5", ("playback", "silence_stream://5000")),
    ("silence:.5", ("playback", "silence_stream://500")),
    ("silence:5.", ("playback", "silence_stream://5000")),
    ("silence:0", ("playback", "")),
    ("silence:0.0001", ("playback", "")),
    ("silence:2", ("playback", "silence_stream://2000")),
    ("silence:0.25", ("playback", "silence_stream://250")),
    ("ring:us", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring: us", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring: 8: us", ("playback", "tone_stream://%(2000,4000,440,480);%(2000,0,440,480)")),
    ("ring::us", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring:us-old", ("playback", "tone_stream://%(2000,4000,380,460)")),
    ("ring:1.5:us-old", ("playback", "tone_stream://%(1500,0,380,460)")),
    ("ring:in", ("playback", "tone_stream://%(400,200,375,425);%(400,2000,375,425)")),
    ("ring:0:us", ("playback", "")),
    ("ring:0.0001:de", ("playback", "")),
    ("ring:US", ("playback", "tone_stream://%(2000,4000,440,480)")),
    ("ring:8:us", ("playback", "tone_stream://%(2000,4000,440,480);%(2000,0,440,480)")),
    ("ring:2.5:us", ("playback", "tone_stream://%(2000,500,440,480)")),
    ("ring:uk", ("playback", "tone_stream://%(400,200,400,450);%(400,2000,400,450)")),
    ("ring:0.5:uk", ("playback", "tone_stream://%(400,100,400,450)")),
    ("tone_stream://%(250,0,1000)", ("playback", "tone_stream://%(250,0,1000)")),
    ("tone_stream://%(250,50,1000);loops=3", ("playback", "tone_stream://%(250,50,1000);loops=3")),
    ("silence_stream://1000,1400", ("playback", "silence_stream://1000,1400")),
    ("silence_stream://-1", ("playback", "silence_stream://-1")),
    *(
        (f"tone_stream://{tone}", ("playback", f"tone_stream://{tone}"))
        for tone in (
            "%(60000,0,440)",
            "%(1000,500,440.5,480);%(2000, 0, 440)",
            "%(100,0,1000)%(100,0,2000)",
            "v=-13;%(120,60,600);%(120,0,900)",
            "L=30;%(1000,1000,440)",
            "l=3;%(1000,1000,440);%(100,0,440)",
            "d=200;w=100;0123456789*#ABCD",
            "v=-7;>=2;+=0.1;%(1000,0,440)",
            "%(2000,4000,440,480);loops=-1",
            "%(2000,4000,440,480);LOOPS=10000",
        )
    ),
    ("ring:90:us", ("playback", "tone_stream://%(2000,4000,440,480);loops=15")),
    ("/var/sounds/hello.WAV@@8000", ("playback", "/var/sounds/hello.WAV@@8000")),
    ("/var/sounds/hello", ("playback", "/var/sounds/hello")),
    ("/var/sounds.d/hello", ("playback", "/var/sounds.d/hello")),
    ("/var/sounds/hello.wav", ("playback", "/var/sounds/hello.wav")),
    ("/var/sounds/hello there.wav", ("playback", "/var/sounds/hello there.wav")),
    ("file:///var/sounds/hello.wav", ("playback", "/var/sounds/hello.wav")),
    ("file:///var/sounds/hello%20there.wav", ("playback", "/var/sounds/hello there.wav")),
    ("http://example.com/a.wav", ("playback", "http://example.com/a.wav")),
    ("https://ann:secret@example.com/a.wav", ("playback", "https://ann:secret@example.com/a.wav")),
    ("https://ann:a%2Fb%25@example.com/%20.wav", ("playback", "https://ann:a/b%@example.com/%20.wav")),
    ("https://[2001:db8::1]:8443/a.wav", ("playback", "https://[2001:db8::1]:8443/a.wav")),
    ("https://example.com/(a).wav", ("playback", "https://example.com/(a).wav")),
    ("https://ann:a%40b@example.com/a.wav", ("playback", "https://ann:a%40b@example.com/a.wav")),
    ("https://ann:a%0Ab@example.com/a.wav", ("playback", "https://ann:a%0Ab@example.com/a.wav")),
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
    "silence:",
    "silence:.",
    "silence:1.2.3",
    "silence:\u0663",
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
    "tone_stream://%(30000000,0,440)",
    "tone_stream://%(0,30000000,440)",
    "tone_stream://%(60001,0,440)",
    "tone_stream://%(30000,0,440);%(30001,0,440)",
    "tone_stream://%(30000,0,440)%(30001,0,440)",
    "tone_stream://L=100;%(1000,0,440)",
    "tone_stream://%(1000,0,440);L=100",
    "tone_stream://L=1;L=100;%(1000,0,440)",
    "tone_stream://l=100;%(1000,0,440)",
    "tone_stream://l=-1;%(1000,0,440)",
    "tone_stream://L=999999999999;%(1,0,440)",
    "tone_stream://L=1000000;%(0,0,440)",
    "tone_stream://l=1000000;%(0,0,440)",
    "tone_stream://d=60000;12",
    "tone_stream://12;d=60000;L=2",
    "tone_stream://w=60000;12",
    "tone_stream://" + "1" * 3000,
    "tone_stream://r=4000000;%(1000,0,440)",
    "tone_stream://c=1000;%(1000,0,440)",
    "tone_stream://%(-1,0,440)",
    "tone_stream://%(1e9,0,440)",
    "tone_stream://%(1000,0,440",
    "tone_stream://%(1000,0)",
    "tone_stream://%(1000)",
    "tone_stream://%(10,0" + ",440" * 19 + ")",
    "tone_stream://1(1000,0,440)",
    "tone_stream://v=-20",
    "tone_stream://%(1000,0,440);loops=0",
    "tone_stream://%(1000,0,440);loops=10001",
    "tone_stream://%(1000,0,440);loops=-2",
    "tone_stream://%(1000,0,440);loops=1;L=100",
    "tone_stream://%(1000,0,440);loops=1!/etc/passwd.wav",
    "tone_stream://%(1000,0,440)!/etc/passwd.wav",
    "tone_stream://{loops=1}%(1000,0,440)",
    "tone_stream://${system(ls)}",
    "Tone_Stream://%(30000000,0,440)",
    "silence_stream://99999999",
    "silence_stream://-2",
    "silence_stream://0",
    "silence_stream://1e9",
    "silence_stream://{a=b}100",
    "silence:43201",
    "/" + "x" * 5000 + ".wav",
    "/bin/true;touch /tmp/x;.shell_stream",
    "/bin/true.SHELL_STREAM",
    "/bin/true.shell_stream@@1.wav",
    "/a.file_string",
    "/a!/b.file_string",
    "/a.tone_stream",
    "/a.local_stream",
    "/a.say",
    "/a.phrase",
    "/a.tts",
    "/a.vlc",
    "/a.lua",
    "/a.wav\u0130",
    "file:///bin/true%2Eshell_stream",
    "https://example.com/a.shell_stream",
    "https://example.com/a?b=.file_string",
    "http://(ext=shell_stream)example.com/a.wav",
    "http://(ext=;touch$IFS$9a;.shell_stream)example.com/a.wav",
    "http://http://(ext=shell_stream)example.com/a.wav",
    "https://https://(ext=shell_stream)example.com/a.wav",
    "http://example.com:/a.wav",
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


@pytest.mark.parametrize(
    "url",
    [
        "http://(ext=shell_stream)ann:secret@example.com/a.wav",
        "http://%28ext=shell_stream%29ann:secret@example.com/a.wav",
        "http://%20(ext=shell_stream)ann@example.com/a.wav",
        "http://(ext=shell_stream)a%40b@example.com/a.wav",
        "http://http%3A%2F%2F(ext=shell_stream)ann@example.com/a.wav",
    ],
)
def test_what_the_switch_would_take_for_settings_is_no_user_of_an_address(url: str) -> None:
    with pytest.raises(ValueError, match="address of a sound file"):
        playable(url)


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_any_other_url_is_refused_and_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"understood|wanted|tone stream of"):
        playable(url)
    with pytest.raises(ParameterError) as caught:
        METHODS["play"](call_on(FakeSession()), url)
    assert str(caught.value).startswith(f"play: url = {url[:80]!r}: ")


def test_a_refused_url_shows_only_its_beginning_and_no_password() -> None:
    for url in ("x" * 100_000, "https://ann:secret@example.com/a b"):
        with pytest.raises(ParameterError) as caught:
            METHODS["play"](call_on(FakeSession()), url)
        assert len(str(caught.value)) < 300
        assert "secret" not in str(caught.value)
    assert shown("https://ann:secret@example.com/a.wav?token=secret") == "https://***@example.com/a.wav"


LISTED = """at au bg br be ch cl cn cz de dk ee es fi fr gr hu il in it lt jp mx my nl no nz ph pl pt ru se sg th uk us
us-old tw ve za"""


def test_every_country_of_the_reference_has_a_ring() -> None:
    assert set(LISTED.split()) <= set(RINGS)


PARTS = re.compile(r"%\((\d+),(\d+),([\d,]+)\)")


@given(st.sampled_from(sorted(RINGS)), st.integers(1, round(LONGEST_RING * 1000)))
def test_a_ring_lasts_as_long_as_asked_and_follows_its_cadence(country: str, ms: int) -> None:
    kind, argument = playable(f"ring:{ms / 1000:.3f}:{country}")
    *tones, last = argument.removeprefix("tone_stream://").split(";")
    loops = int(last.removeprefix("loops=")) if last.startswith("loops=") else 1
    cadence = RINGS[country]
    cycle = sum(on + off for on, off, _ in cadence)
    tones += [last] if loops == 1 else []
    parts = [PARTS.fullmatch(tone) for tone in tones]
    assert kind == "playback"
    assert all(parts)
    played = [(int(part[1]), int(part[2]), part[3]) for part in parts if part]
    lasts = loops * sum(on + off for on, off, _ in played)
    # One of more than a minute ends with a whole ring.
    assert lasts == ms if ms <= LONGEST * 1000 else ms <= lasts < ms + cycle
    for number, (on, off, hertz) in enumerate(played):
        whole = cadence[number % len(cadence)]
        last = number == len(played) - 1
        assert hertz == whole[2]
        assert (on <= whole[0] and off <= whole[1]) if last else (on, off) == whole[:2]


SETTINGS = st.one_of(
    st.tuples(st.sampled_from("dwlLv"), st.integers(-1, 10**8)).map(lambda pair: f"{pair[0]}={pair[1]}"),
    st.tuples(st.integers(0, 10**8), st.integers(0, 10**5)).map(lambda pair: f"%({pair[0]},{pair[1]},440)"),
    st.sampled_from(["1", "12*#", "r=48000", "c=2", "loops=-1", "loops=5", "", " ", "!", "{a=b}"]),
)


def made(text: str) -> tuple[int, float]:
    """The tones and the ms that the switch makes for ``text``, after ``teletone_run``."""
    text = text.partition(";loops=")[0]
    duration, wait, loops, rounds, looping, count, ms = 250.0, 62.5, 0, 0, False, 0, 0.0
    while True:
        for part in text.split(";"):
            name, equals, value = part.strip(" ").partition("=")
            if equals and len(name) == 1:
                number = int(float(value))
                duration, wait = number if name == "d" else duration, number if name == "w" else wait
                loops = number if name == "l" else loops
                if name == "L" and number > 0 and not looping:
                    rounds, looping = number, True
                continue
            for tone in re.findall(r"%\([^)]*\)|[0-9*#A-D]", part):
                lasts = sum(map(int, tone[2:-1].split(",")[:2])) if tone[0] == "%" else duration + wait
                while True:
                    count, ms = count + 1, ms + lasts
                    loops -= loops > 0
                    if not loops or count > 2 * MOST_TONES:
                        break
        rounds -= rounds > 0
        if not rounds or count > 2 * MOST_TONES:
            return count, ms


@given(st.lists(SETTINGS, min_size=1, max_size=6).map(";".join))
def test_a_tone_stream_that_is_played_is_made_within_the_limits(text: str) -> None:
    try:
        playable(f"tone_stream://{text}")
    except ValueError:
        return
    count, ms = made(text)
    assert 0 < count <= MOST_TONES
    assert ms <= LONGEST * 1000


def test_a_limit_is_named() -> None:
    for url, limit in (
        ("tone_stream://%(30000000,0,440)", f"{LONGEST:g} s"),
        ("tone_stream://L=1000000;%(0,0,440)", f"{MOST_TONES} tones"),
        ("silence:1e5", str(LONGEST_SILENCE)),
        ("say:" + "x" * 5000, str(LONGEST_TEXT)),
    ):
        with pytest.raises(ValueError, match=limit):
            playable(url)


@given(st.from_regex(r"/[a-z!@{}|; ./]{0,12}\.[A-Za-z_@!0-9]{1,12}", fullmatch=True))
def test_the_switch_chooses_a_reader_of_sound_for_whatever_path(path: str) -> None:
    try:
        _, argument = playable(path)
    except ValueError:
        return
    # What mod_dptools plays, and the extension by which the core chooses who reads it.
    at = argument.find("@")
    name = argument[:at] if argument[at : at + 2] == "@@" else argument
    extension = name.rpartition(".")[2]
    assert "/" in extension or extension.lower() in FORMATS


KINDS = ["say:", "silence:", "ring:", "ring:5:", "tone_stream://", "silence_stream://", "file://", "http://", "/", ""]


@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from([*"/:%[]{}@!;,=#?.0123456789aus\r\n\0", "://", "path="]) | st.characters()).map("".join),
)
def test_whatever_the_url_the_switch_gets_one_clean_line_or_nothing(kind: str, rest: str) -> None:
    try:
        application, argument = playable(kind + rest)
    except ValueError:
        application, argument = "", ""
    assert application in ("", "speak", "playback")
    if application == "playback" and argument:
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
    assert session.ignores_digits


def test_what_takes_no_time_is_passed_over() -> None:
    session = FakeSession()
    METHODS["play"](call_on(session), {"urls": ["say:", "silence:0", "say:One", "ring:0:us"]})
    METHODS["play"](call_on(session), {"urls": []})
    assert session.verbs == [("answer",), ("speak", "One")]


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
    ({}, ["play", "url", "missing"]),
    ({"url": "say:a", "urls": ["say:b"]}, ["play", "url", "urls"]),
    ({"urls": "say:a"}, ["play", "urls", "say:a", "list"]),
    ({"urls": ["say:a", 5]}, ["play", "urls", "5", "string"]),
    ({"url": 5}, ["play", "url", "5", "string"]),
    ({"url": None}, ["play", "url"]),
    (5, ["play", "5"]),
    (["say:a"], ["play", "mapping"]),
    ({"url": "say:a", "auto_answer": 1}, ["play", "auto_answer", "1", "true or false"]),
    ({"url": "say:a", "volume": 40.5}, ["play", "volume", "40.5", "40"]),
    ({"url": "say:a", "volume": "loud"}, ["play", "volume", "loud", "number"]),
    ({"url": "say:a", "volume": "nan"}, ["play", "volume", "nan"]),
    ({"url": "say:a", "say_voice": 5}, ["play", "say_voice", "5", "string"]),
    ({"url": "say:a", "status_url": "example"}, ["play", "status_url", "example", "URL"]),
    ({"url": "say:a", "loud": True}, ["play", "loud", "url", "urls", "volume"]),
    ({"urls": ["say:a", "ring:xx"]}, ["play", "urls.1", "ring:xx", "za"]),
]


@pytest.mark.parametrize(("params", "named"), BAD, ids=lambda value: str(value)[:40])
def test_wrong_parameters_are_refused_by_name_with_nothing_heard(params: object, named: list[str]) -> None:
    session = FakeSession()
    with pytest.raises(ParameterError) as caught:
        METHODS["play"](call_on(session), params)
    missing = [word for word in named if word not in str(caught.value)]
    assert (missing, session.verbs) == ([], [])


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("[{play: 'ring:xx'}]", ["step 1", "play: url = 'ring:xx'"]),
        ("[answer, {play: {urls: ['say:a', 'mp3:x']}}]", ["step 2", "play: urls.1 = 'mp3:x'"]),
        ("[{play: {url: 'say:a', volume: 41}}]", ["play: volume = '41'", "40"]),
        ("[{prompt: {play: 'ring:xx'}}]", ["prompt: play.0 = 'ring:xx'"]),
        ("[{prompt: {play: ['say:a', 'mp3:x']}}]", ["prompt: play.1 = 'mp3:x'"]),
    ],
)
def test_a_wrong_url_is_found_before_the_first_step(steps: str, told: list[str]) -> None:
    with pytest.raises(DocumentError) as caught:
        check(parse(f"{{version: 1.0.0, sections: {{main: {steps}}}}}", "greeting"))
    assert [text for text in told if text not in str(caught.value)] == []


@pytest.mark.parametrize(
    "step",
    [
        {"play": "ring:${seconds}:us"},
        {"play": "${sound}"},
        {"play": {"urls": ["say:a", "%{sound}"], "volume": "${volume}"}},
        {"play": {"urls": "${sounds}"}},
        {"prompt": {"play": "${sound}", "max_digits": "${n}"}},
        {"prompt": {"play": ["silence:${n}", "say:${text}"]}},
    ],
    ids=str,
)
def test_what_a_reference_will_be_is_looked_at_when_it_is_run(step: object) -> None:
    check(parse(json.dumps({"version": "1.0.0", "sections": {"main": [step]}}), "greeting"))


# ---- voices


VOICES = {"polly.salli": "cloud|salli", "de-DE": "cloud|anna", "male": "cloud|bob"}
SPOKEN: list[tuple[dict[str, str], dict[str, str], dict[str, str], str]] = [
    ({}, {}, {}, "flite|slt"),
    ({"say_gender": "male"}, {}, {}, "flite|rms"),
    ({"say_voice": "kal"}, {}, {}, "flite|kal"),
    ({"say_voice": "Polly.Nobody", "say_gender": "male"}, {}, {}, "flite|rms"),
    ({"say_voice": "Polly.Salli", "say_gender": "male"}, {}, VOICES, "cloud|salli"),
    ({"say_voice": "Polly.Nobody", "say_language": "de-de"}, {}, VOICES, "cloud|anna"),
    ({"say_language": "sv-SE", "say_gender": "Male"}, {}, VOICES, "cloud|bob"),
    ({}, {"say_voice": "Polly.Salli"}, VOICES, "cloud|salli"),
    ({"say_voice": "de-DE"}, {"say_voice": "Polly.Salli"}, VOICES, "cloud|anna"),
    ({"say_language": "de-DE"}, {"say_voice": "Polly.Salli"}, VOICES, "cloud|salli"),
    ({}, {}, VOICES, "flite|slt"),
    ({}, {}, {**VOICES, "female": "cloud|carol"}, "cloud|carol"),
    ({"say_gender": "male"}, {}, {"en-US": "cloud|dora"}, "cloud|dora"),
]


@pytest.mark.parametrize(("params", "variables", "voices", "spoken"), SPOKEN)
def test_the_voice_is_the_first_there_is_for_what_was_named(
    params: dict[str, str], variables: dict[str, str], voices: dict[str, str], spoken: str
) -> None:
    session = FakeSession()
    call = call_on(session)
    call.vars.update(variables)
    call.site = replace(call.site, voices=voices)
    METHODS["play"](call, {"url": "say:Hi", **params})
    assert session.voices == [spoken]


# ---- volume


@pytest.mark.parametrize(
    ("volume", "level"), [(-40, -4), (-10, -3), ("-6", -2), (-1.0, -1), (1.2, 1), (6, 2), (9.0, 3), (11, 3), (40.0, 4)]
)
def test_the_volume_is_the_nearest_the_switch_has_and_is_taken_back(volume: object, level: int) -> None:
    session = FakeSession(answered=True)
    METHODS["play"](call_on(session), {"urls": ["say:a", "say:b"], "volume": volume})
    assert session.verbs == [("audio_level", level), ("speak", "a"), ("speak", "b"), ("audio_level", 0)]


@pytest.mark.parametrize("volume", [0, "0", 0.9, -0.9])
def test_where_no_step_is_nearer_nothing_is_changed(volume: object) -> None:
    session = FakeSession(answered=True)
    METHODS["play"](call_on(session), {"url": "say:a", "volume": volume})
    assert session.verbs == [("speak", "a")]


def test_the_volume_is_taken_back_where_a_sound_is_refused() -> None:
    session = FakeSession(answered=True, refused=["speak"])
    with pytest.raises(CommandRefused):
        METHODS["play"](call_on(session), {"url": "say:a", "volume": 6})
    assert session.verbs == [("audio_level", 2), ("audio_level", 0)]


@given(st.floats(-40, 40))
def test_no_step_is_nearer_than_the_one_taken(volume: float) -> None:
    session = FakeSession(answered=True)
    METHODS["play"](call_on(session), {"url": "say:a", "volume": volume})
    taken = session.verbs[0][1] if len(session.verbs) > 1 else 0
    assert abs(LEVELS[taken] - volume) == min(abs(level - volume) for level in LEVELS.values())  # type: ignore[index]


# ---- status events


def events_of(call: Call) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """What ``call`` tells from now on."""
    told: list[tuple[str, str, str, Mapping[str, Any]]] = []
    call.site = Site(Identity("p", "s", "n"), tell=lambda *event: told.append(event))
    return told


def played(session: FakeSession, params: Mapping[str, object]) -> list[tuple[str, str]]:
    """Where events went, and the states they told."""
    call = call_on(session)
    told = events_of(call)
    try:
        METHODS["play"](call, params)
    except (CallGone, CommandRefused):
        pass
    assert len({key for _, key, _, _ in told}) == (1 if told else 0)
    assert all(body["params"]["control_id"] == key for _, key, _, body in told)
    assert all(body["params"]["state"] == state for _, _, state, body in told)
    assert {body["event_type"] for _, _, _, body in told} <= {"calling.call.play"}
    return [(url, state) for url, _, state, _ in told]


URL = "http://example.com/told"


@pytest.mark.parametrize(
    ("session", "states"),
    [
        ({}, ["playing", "finished"]),
        ({"missing": ["/two.wav"]}, ["playing", "error"]),
        ({"refused": ["speak"]}, ["playing", "error"]),
        ({"lives": 2}, ["playing", "finished"]),
        ({"lives": 3, "missing": ["/two.wav"]}, ["playing", "finished"]),
    ],
    ids=["played", "missing", "refused", "hung up while speaking", "hung up while playing"],
)
def test_who_wants_to_know_is_told(session: dict[str, Any], states: list[str]) -> None:
    params = {"urls": ["say:One", "/two.wav", "say:Three"], "status_url": URL}
    assert played(FakeSession(**session), params) == [(URL, state) for state in states]


def test_who_does_not_want_to_know_is_not() -> None:
    assert played(FakeSession(), {"url": "say:One"}) == []


def test_an_event_is_the_references() -> None:
    call = call_on(FakeSession())
    told = events_of(call)
    METHODS["play"](call, {"url": "say:One", "status_url": URL})
    *_, (_, key, _, body) = told
    assert body == {
        "event_type": "calling.call.play",
        "event_channel": "swml:3f5b",
        "timestamp": body["timestamp"],
        "project_id": "p",
        "space_id": "s",
        "params": {"call_id": "3f5b", "node_id": "n", "control_id": key, "state": "finished"},
    }


def test_what_cannot_be_played_does_not_keep_the_rest() -> None:
    session = FakeSession(missing=["/two.wav"])
    METHODS["play"](call_on(session), {"urls": ["/two.wav", "say:Three"]})
    assert session.verbs[-1] == ("speak", "Three")
