"""connect: whom it calls and how, that nothing gets into a dial string, and what is told of how it went."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, note
from hypothesis import strategies as st
from test_calls import FakeRecordings, FakeSession, no_recorder

from esl_record.config import ConfigError, Settings, load
from esl_record.errors import CallGone, CommandRefused, DocumentError
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.recording.params import ParameterError
from esl_record.standin import dialstring
from esl_record.standin.dialstring import DialString
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.dialing import Leg, dial_string, display_name, is_plain
from esl_record.swml.document import parse
from esl_record.swml.methods.connect import CONNECT
from esl_record.swml.runner import run
from esl_record.swml.site import Site

NUMBER = "sofia/gateway/carrier/{number}"
SIP = "sofia/internal/{address}"
TO = "+15551234567"

LIMIT = "execute_on_answer_max_duration"
FOUR_HOURS = {LIMIT: "sched_hangup +14400 ALLOTTED_TIMEOUT"}
PLAIN = {"leg_timeout": "60", **FOUR_HOURS}
"""Variables of a leg of which nothing more is said."""


class BridgingSession(FakeSession):
    """A call's session that says how its bridge goes: ``events`` of the caller's channel while it stands, and the
    variables it leaves behind; an exception instead is raised."""

    def __init__(
        self,
        over: Mapping[str, str] | Exception | None = None,
        *events: Callable[[DialString], Mapping[str, str]],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.dialled: list[DialString] = []
        self.patience = 0.0
        self.lent: list[dict[str, str]] = []
        self._over = over
        self._events = events
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get_variable(self, name: str) -> str | None:
        return self.variables.get(name)

    def execute(self, application: str, argument: str, *, timeout: float) -> Event:
        assert application == "bridge"
        dialled = dialstring.parse(argument)
        self.dialled.append(dialled)
        self.patience = timeout
        self.lent.append(dict(self.variables))
        for event in self._events:
            for listener in tuple(self._listeners):
                listener(Event(event(dialled)))
        if isinstance(self._over, Exception):
            self.hangup_cause = "NORMAL_CLEARING"
            raise self._over
        return Event(
            {"variable_originate_disposition": "SUCCESS", "variable_bridge_hangup_cause": "NORMAL_CLEARING"}
            if self._over is None
            else {f"variable_{name}": value for name, value in self._over.items()}
        )


class Told:
    """What a site was to tell, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, dict[str, Any]]] = []

    def __call__(self, url: str, key: str, state: str, body: Mapping[str, Any]) -> None:
        self.events.append((url, key, state, dict(body["params"])))


def call_with(session: FakeSession, **site: Any) -> Call:
    site = {"dial_number": NUMBER, "dial_sip": SIP, **site}
    return Call(cast(Session, session), FakeRecordings(no_recorder), site=Site(**site))


def connected(params: Mapping[str, object], **site: Any) -> tuple[DialString, BridgingSession]:
    session = BridgingSession()
    CONNECT(call_with(session, **site), params)
    return session.dialled[0], session


def groups(dialled: DialString) -> list[list[tuple[str, dict[str, str]]]]:
    """Endpoints and variables, but for the ids, which are another every time."""
    ids = [leg.variables["origination_uuid"] for group in dialled.groups for leg in group]
    assert len(set(ids)) == len(ids)
    return [
        [
            (
                f"{leg.kind}/{leg.destination}",
                {name: value for name, value in leg.variables.items() if name != "origination_uuid"},
            )
            for leg in group
        ]
        for group in dialled.groups
    ]


# ---- whom it calls


DESTINATIONS = [
    ("+15551234567", "sofia/gateway/carrier/+15551234567"),
    ("1001", "sofia/gateway/carrier/1001"),
    ("*98#", "sofia/gateway/carrier/*98#"),
    ("sip:alice@example.com", "sofia/internal/alice@example.com"),
    ("SIP:Alice@Example.COM", "sofia/internal/Alice@Example.COM"),
    ("sip:+1555@10.0.0.1:5070", "sofia/internal/+1555@10.0.0.1:5070"),
    ("sip:a@[fe80::1]:5060", "sofia/internal/a@[fe80::1]:5060"),
    ("sip:a@b;transport=tcp;user=phone;lr", "sofia/internal/a@b;transport=tcp;user=phone;lr"),
    ("sips:a@b", "sofia/internal/a@b;transport=tls"),
    ("sips:a@b;transport=TLS;lr", "sofia/internal/a@b;lr;transport=tls"),
]


@pytest.mark.parametrize(("to", "endpoint"), DESTINATIONS)
def test_a_destination_is_dialled_by_its_dial_string(to: str, endpoint: str) -> None:
    dialled, _ = connected({"to": to})
    assert groups(dialled) == [[(endpoint, PLAIN)]]


def test_more_destinations_than_the_switch_rings_are_refused_unread() -> None:
    with pytest.raises(ParameterError, match="up to 128 destinations"):
        connected({"serial_parallel": [[{"to": object()}] * 100] * 100})
    with pytest.raises(ParameterError, match="headers"):
        connected({"to": "sip:a@b", "headers": [{"name": "X-A", "value": "b"}] * 65})


REFUSED = [
    ("queue:support", "queues"),
    ("stream:wss://example.com/audio", "WebSocket streams"),
    ("/public/test_room", "Resource Addresses"),
    ("", "sip:user@host"),
    ("alice", "sip:user@host"),
    ("(555) 123-4567", "sip:user@host"),
    ("tel:+1555", "sip:user@host"),
    ("sip:example.com", "sip:user@host"),
    ("sip:a@b@c", "sip:user@host"),
    ("sip:a@b,sip:c@d", "sip:user@host"),
    ("sip:a%40evil@b", "sip:user@host"),
    ("sip:a:secret@b", "sip:user@host"),
    ("sip:a@b/../x", "sip:user@host"),
    ("sip:a@b:99999", "sip:user@host"),
    ("sip:a@b:0", "sip:user@host"),
    ("sip:a@b\n", "sip:user@host"),
    ("+1555\n", "sip:user@host"),
    ("+1555|user/1", "sip:user@host"),
    ("\u0661\u0662", "sip:user@host"),
    ("1" * 33, "sip:user@host"),
    ("sip:a@b;fs_path=c", "elsewhere"),
    ("sip:a@b;received=c", "elsewhere"),
    ("sip:a@b;MAddr=192.0.2.1", "elsewhere"),
    ("sips:a@b;transport=udp", "transport=tls alone"),
    ("sips:a@b;support=x", "transport=tls alone"),
]


@pytest.mark.parametrize(("to", "told"), REFUSED)
def test_what_cannot_be_called_is_refused_by_name(to: str, told: str) -> None:
    for given_, place in (({"to": to}, "to"), ({"serial": [{"to": TO}, {"to": to}]}, "serial.1.to")):
        with pytest.raises(ParameterError, match=f"connect: {place} = .*{told}"):
            connected(given_)


def test_lists_ring_in_turn_at_once_or_in_groups() -> None:
    a, b, c = ({"to": name} for name in ("1", "2", "3"))
    found = {
        way: [[leg.destination.rpartition("/")[2] for leg in group] for group in connected({way: given_})[0].groups]
        for way, given_ in (("serial", [a, b, c]), ("parallel", [a, b, c]), ("serial_parallel", [[a, b], [c]]))
    }
    assert found == {
        "serial": [["1"], ["2"], ["3"]],
        "parallel": [["1", "2", "3"]],
        "serial_parallel": [["1", "2"], ["3"]],
    }


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"from": TO},
        {"to": TO, "serial": [{"to": TO}]},
        {"parallel": [{"to": TO}], "serial": [{"to": TO}]},
    ],
)
def test_one_way_of_dialling_is_wanted(params: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="one of to, serial, parallel, serial_parallel is wanted"):
        connected(params)


# ---- how it calls


@pytest.mark.parametrize(
    ("params", "variables"),
    [
        pytest.param({"timeout": 20}, {"leg_timeout": "20"}, id="timeout"),
        pytest.param({"timeout": "20"}, {"leg_timeout": "20"}, id="a numeric string"),
        pytest.param({"timeout": 1e300}, {"leg_timeout": "1000000000"}, id="for ever"),
        pytest.param({"timeout": 0}, {"leg_timeout": "60"}, id="the default"),
        pytest.param({"max_duration": 30}, {LIMIT: "sched_hangup +30 ALLOTTED_TIMEOUT"}, id="max_duration"),
        pytest.param({"max_duration": 0}, {LIMIT: None}, id="no max_duration"),
        pytest.param(
            {"from": "+1555"},
            {"origination_caller_id_number": "+1555", "origination_caller_id_name": "+1555"},
            id="from",
        ),
        pytest.param({"from": ""}, {}, id="a variable without a value"),
        pytest.param(
            {"from": "+1555", "from_name": "Support Team"},
            {"origination_caller_id_number": "+1555", "origination_caller_id_name": "Support Team"},
            id="from and from_name",
        ),
        pytest.param({"from_name": "Ann"}, {"origination_caller_id_name": "Ann"}, id="from_name"),
        pytest.param(
            {"from": "sip:ann@pbx.example.com"},
            {
                "origination_caller_id_number": "ann",
                "origination_caller_id_name": "ann",
                "sip_invite_domain": "pbx.example.com",
            },
            id="from an address",
        ),
        pytest.param({"codecs": "PCMU, G722@16000h ,opus"}, {"absolute_codec_string": "PCMU,G722@16000h,opus"}),
        pytest.param({"codecs": ""}, {}, id="no codecs"),
        pytest.param({"webrtc_media": True}, {"media_webrtc": "true"}, id="webrtc"),
        pytest.param({"webrtc_media": "false"}, {}, id="no webrtc"),
        pytest.param({"session_timeout": "1800"}, {"sofia_session_timeout": "1800"}, id="session timer"),
        pytest.param({"encryption": "mandatory"}, {"rtp_secure_media": "mandatory"}, id="encryption"),
        pytest.param(
            {"username": "ann", "password": 'p, "w"=x'},
            {"sip_auth_username": "ann", "sip_auth_password": 'p, "w"=x'},
            id="password",
        ),
        pytest.param({"password": 4711}, {"sip_auth_password": "4711"}, id="a password of digits"),
        pytest.param(
            {"headers": [{"name": "X-A", "value": " a,b;c=d "}, {"name": "X-B", "value": ""}]},
            {"sip_h_X-A": "a,b;c=d"},
            id="headers",
        ),
        pytest.param(
            {"headers": [{"name": "X-A", "value": "a"}, {"name": "x-a", "value": "b"}, {"name": "X-A", "value": ""}]},
            {"sip_h_X-A": "a, b"},
            id="a header several times",
        ),
        pytest.param({"confirm_timeout": 5}, {}, id="a timeout for no confirmation"),
    ],
)
def test_a_parameter_is_a_variable_of_the_leg(params: dict[str, object], variables: dict[str, str | None]) -> None:
    wanted = {name: value for name, value in {**PLAIN, **variables}.items() if value is not None}
    endpoint = "sofia/internal/alice@example.com"
    to = {"to": "sip:alice@example.com"}
    assert groups(connected({**to, **params})[0]) == [[(endpoint, wanted)]]
    # The same where a destination says it, and what it says goes before what holds for all.
    others = {name: value for name, value in params.items() if name not in ("headers", "password")}
    for whole in ({}, dict.fromkeys(others, "1") if "timeout" in params else {}):
        assert groups(connected({**whole, "parallel": [{**to, **params}]})[0]) == [[(endpoint, wanted)]]


def test_what_a_destination_does_not_say_holds_for_it_from_above() -> None:
    dialled, _ = connected(
        {
            "serial": [{"to": "sip:a@b", "from_name": "Billing", "timeout": 5}, {"to": "sip:c@d"}],
            "from": "+1555",
            "from_name": "Support",
            "timeout": 20,
            "headers": [{"name": "X-A", "value": "a"}],
        }
    )
    common = {**FOUR_HOURS, "origination_caller_id_number": "+1555", "sip_h_X-A": "a"}
    assert groups(dialled) == [
        [("sofia/internal/a@b", {**common, "leg_timeout": "5", "origination_caller_id_name": "Billing"})],
        [("sofia/internal/c@d", {**common, "leg_timeout": "20", "origination_caller_id_name": "Support"})],
    ]
    assert dialled.variables["originate_timeout"] == "25"


def test_what_is_of_sip_alone_has_no_effect_on_numbers() -> None:
    sip_only = {
        "headers": [{"name": "X-A", "value": "a"}],
        "codecs": "PCMU",
        "webrtc_media": True,
        "session_timeout": 90,
        "username": "u",
        "password": "p",
        "encryption": "mandatory",
        "from_name": "Ann",
        "from": "sip:+1555@example.com",
    }
    dialled, _ = connected({"to": TO, **sip_only})
    identity = {"origination_caller_id_number": "+1555", "origination_caller_id_name": "+1555"}
    assert groups(dialled) == [[(f"sofia/gateway/carrier/{TO}", {**PLAIN, **identity})]]


@pytest.mark.parametrize(
    ("template", "more"), [("loopback/{number}/default", {"loopback_bowout": "false"}), ("sofia/x/{number}", {})]
)
def test_a_loopback_must_not_take_the_call_out_of_its_bridge(template: str, more: dict[str, str]) -> None:
    dialled, _ = connected({"to": TO}, dial_number=template)
    assert groups(dialled) == [[(template.replace("{number}", TO), {**PLAIN, **more})]]


def test_behind_a_user_there_may_be_several_legs_for_which_one_id_would_not_do() -> None:
    dialled, _ = connected({"to": TO}, dial_number="user/{number}@pbx")
    assert dialled.groups[0][0].variables == PLAIN


@pytest.mark.parametrize(("name", "answered"), [("answer_on_bridge", False), ("timeout", True)])
def test_the_caller_is_answered_first_unless_asked_otherwise(name: str, answered: bool) -> None:
    _, session = connected({"to": TO, name: True if name == "answer_on_bridge" else 5})
    assert session.answered is answered


def test_early_media_is_heard_unless_there_is_a_ringback() -> None:
    common = {"originate_timeout": "65", "originate_continue_on_timeout": "true"}
    dialled, session = connected({"to": TO})
    assert dialled.variables == {**common, "bridge_early_media": "true"}
    assert session.lent == [{"continue_on_fail": "true", "hangup_after_bridge": "false"}]
    dialled, session = connected({"to": TO, "ringback": ["ring:us", "/a b.wav"]})
    assert dialled.variables == {**common, "ignore_early_media": "true", "instant_ringback": "true"}
    heard = "file_string://tone_stream://%(2000,4000,440,480)!/a b.wav"
    assert session.lent[0]["ringback"] == session.lent[0]["transfer_ringback"] == heard
    assert not session.variables.get("ringback")


@pytest.mark.parametrize(
    "ringback", [["/a.wav"], {"url": "/a.wav"}, {"urls": ["/a.wav"], "auto_answer": False, "say_voice": "x"}]
)
def test_a_ringback_is_a_list_or_as_play_has_it(ringback: object) -> None:
    _, session = connected({"to": TO, "ringback": ringback})
    assert session.lent[0]["ringback"] == "file_string:///a.wav"


def test_the_dialplans_variables_are_put_back() -> None:
    session = BridgingSession()
    session.variables = {"ringback": "theirs", "hangup_after_bridge": "true"}
    CONNECT(call_with(session), {"to": TO, "ringback": ["/a.wav"]})
    assert session.lent[0]["hangup_after_bridge"] == "false"
    assert {name: session.variables[name] for name in ("ringback", "hangup_after_bridge")} == {
        "ringback": "theirs",
        "hangup_after_bridge": "true",
    }


@pytest.mark.parametrize(
    ("params", "longest"),
    [
        ({"to": TO}, 14_400 + 65 + 60),
        ({"serial": [{"to": TO}] * 3, "timeout": 10, "max_duration": 100}, 100 + 3 * 15 + 60),
        ({"to": TO, "max_duration": 0}, 1e9),
    ],
)
def test_the_switch_is_not_waited_for_longer_than_it_may_take(params: dict[str, object], longest: float) -> None:
    _, session = connected(params)
    assert session.patience == longest


WRONG = [
    ({"timeout": -1}, ["timeout", "-1", "greater than or equal to 0"]),
    ({"timeout": "soon"}, ["timeout", "soon", "number"]),
    ({"timeout": 0.5}, ["timeout", "0.5", "multiple of 1"]),
    ({"max_duration": True}, ["max_duration", "number"]),
    ({"session_timeout": 0}, ["session_timeout", "greater than or equal to 1"]),
    ({"encryption": "strong"}, ["encryption", "strong", "mandatory", "optional", "forbidden"]),
    ({"from": "Ann Caller"}, ["from", "Ann Caller"]),
    ({"from": "a,b"}, ["from", "a,b"]),
    ({"codecs": "PCMU,,PCMA"}, ["codecs", "separated by commas"]),
    ({"codecs": "PCMU]sofia"}, ["codecs"]),
    ({"username": "a:b"}, ["username", "without :"]),
    ({"username": "a" * 81}, ["username", "80"]),
    ({"headers": [{"name": "X A", "value": "a"}]}, ["headers.0.name", "X A"]),
    ({"headers": [{"name": "Via", "value": "a"}]}, ["headers.0.name", "Via"]),
    ({"headers": [{"name": "X-A", "value": "a\r\nb"}]}, ["headers.0.value", "printable"]),
    ({"headers": [{"name": "X-A", "value": "${x}"}]}, ["headers.0.value", "$"]),
    ({"headers": [{"name": "X-A"}]}, ["headers.0.value", "missing"]),
    ({"confirm": [{"play": "say:Hi"}]}, ["confirm", "no confirmation"]),
    ({"confirm": "https://example.com"}, ["confirm", "no confirmation"]),
    ({"ringback": ["say:Hello"]}, ["ringback.urls.0", "say:Hello", "speech"]),
    ({"ringback": ["silence:0"]}, ["ringback.urls.0", "nothing"]),
    ({"ringback": ["/a!b.wav"]}, ["ringback.urls.0", "without"]),
    ({"ringback": ["/it's.wav"]}, ["ringback.urls.0", "without"]),
    ({"ringback": []}, ["ringback", "one of url and urls"]),
    ({"ringback": {"url": "/a.wav", "volume": 3}}, ["ringback.volume", "as it is"]),
    ({"ringback": {"url": "/a.wav", "loop": 3}}, ["ringback.loop", "again and again"]),
    ({"ringback": {"url": "/a.wav", "status_url": "http://x/"}}, ["ringback.status_url", "tells nobody"]),
    ({"status_url": "ftp://x/"}, ["status_url"]),
    ({"call_state_events": ["busy"]}, ["call_state_events.0", "busy", "ringing"]),
    ({"call_state_url": "http://u:secret@x:99999/"}, ["call_state_url", "***"]),
    ({"result": {}}, ["result.switch.case", "missing"]),
    ({"result": {"case": []}}, ["result.switch.case"]),
    ({"colour": "red"}, ["colour", "unknown"]),
]


@pytest.mark.parametrize(("params", "named"), WRONG, ids=lambda value: str(value)[:50])
def test_a_wrong_parameter_is_refused_by_name_before_the_switch_is_told(
    params: dict[str, object], named: list[str]
) -> None:
    session = BridgingSession()
    with pytest.raises(ParameterError) as caught:
        CONNECT(call_with(session), {"to": "sip:a@b", **params})
    missing = [word for word in named if word not in str(caught.value)]
    assert (missing, session.verbs, session.dialled) == ([], [], [])


@pytest.mark.parametrize(
    "params",
    [
        {"to": "sip:a@b", "password": "s3cr|et"},
        {"to": "sip:a@b", "password": "s3cret:x"},
        {"to": "sip:a@b", "password": "s3cret" * 20},
        {"serial": [{"to": "sip:a@b", "password": "s3cr]et"}]},
        {"password": "s3cret"},
        {"to": "sip:a@b", "parallel": [], "password": "s3cret"},
    ],
)
def test_no_message_shows_a_password(params: dict[str, object]) -> None:
    with pytest.raises(ParameterError) as caught:
        connected(params)
    assert "s3cr" not in str(caught.value)


# ---- nothing gets into a dial string

SPECIAL = "|,'\\[]{}<>~$^\"=:; \t\r\n\0/@&%!\x01\x02\u2028\u00e9"
hostile = st.text(st.sampled_from("ab1" + SPECIAL), max_size=12) | st.text(max_size=8)
spiked = st.sampled_from(
    [
        "a,sofia/x/evil",
        "a|user/1",
        "a]sofia/x/evil,[b=c",
        "a~origination_uuid=x",
        "a\u2028~b=c",
        "${system rm}",
        "a:_:user/1",
        "^^;x=y",
        "'",
        "\\",
        "a\\,b",
        "{x=y}",
        "<x=y>",
        "a\r\nb: c",
    ]
)
anything = hostile | spiked
user = st.text(st.sampled_from("aB1.+*#-_"), min_size=1, max_size=6)
addresses = st.builds(
    lambda scheme, name, host: f"{scheme}:{name}@{host}", st.sampled_from(["sip", "sips"]), user, user
)
harmless = st.text(st.sampled_from('ab1 ,;="<>()&@/%\u00fc'), max_size=8)


def mostly(good: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Seldom anything else: one bad word refuses the whole."""
    return st.integers(0, 19).flatmap(lambda chance: good if chance else anything)


devices = st.fixed_dictionaries(
    {"to": mostly(st.sampled_from([TO, "*98", "sip:a@b.c", "sips:a@b:5061"]) | addresses)},
    optional={
        "from": mostly(st.sampled_from([TO, "sip:a@b", "", "ann"])),
        "from_name": anything,
        "headers": st.lists(
            st.fixed_dictionaries({"name": mostly(st.sampled_from(["X-A", "X-B"])), "value": mostly(harmless)}),
            max_size=2,
            unique_by=lambda header: header["name"],
        ),
        "codecs": mostly(st.sampled_from(["PCMU,PCMA", "opus@48000h , G722", ""])),
        "username": mostly(harmless),
        "password": mostly(harmless.map(str.strip)),
        "timeout": st.integers(1, 99),
    },
)


def intended(device: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Endpoint and variables of a destination, as the parameters' words have it."""
    to = str(device["to"])
    is_sip = to.lower().startswith("sip")
    variables = {"leg_timeout": str(device.get("timeout", 60)), **FOUR_HOURS}
    origin = str(device.get("from", ""))
    number, _, domain = origin.removeprefix("sip:").removeprefix("sips:").partition("@")
    name = display_name(str(device.get("from_name", ""))) if is_sip else ""
    if origin:
        variables["origination_caller_id_number"] = number
    if name or number:
        variables["origination_caller_id_name"] = name or number
    if domain and is_sip:
        variables["sip_invite_domain"] = domain.partition(":")[0]
    if is_sip:
        for header in device.get("headers", ()):
            if header["value"].strip():
                variables[f"sip_h_{header['name']}"] = header["value"].strip()
        for parameter, variable in (("username", "sip_auth_username"), ("password", "sip_auth_password")):
            if str(device.get(parameter, "")).strip():
                variables[variable] = device[parameter].strip() if parameter == "username" else device[parameter]
        if device.get("codecs"):
            variables["absolute_codec_string"] = ",".join(one.strip() for one in device["codecs"].split(","))
    scheme, _, rest = to.partition(":")
    if not is_sip:
        return NUMBER.replace("{number}", to), variables
    return SIP.replace("{address}", f"{rest};transport=tls" if scheme.lower() == "sips" else rest), variables


@given(st.lists(st.lists(devices, min_size=1, max_size=3), min_size=1, max_size=3))
@example([[{"to": "sip:a@b", "headers": [{"name": "X-A", "value": "a,b=c"}]}, {"to": TO}], [{"to": TO}]])
def test_a_dial_string_is_read_as_what_was_meant_or_there_is_none(legs: list[list[dict[str, Any]]]) -> None:
    session = BridgingSession()
    try:
        CONNECT(call_with(session), {"serial_parallel": legs})
    except ParameterError as error:
        note(str(error))
        assert not session.dialled
        return
    wanted = [[intended(device) for device in group] for group in legs]
    assert groups(session.dialled[0]) == wanted


@given(
    st.lists(
        st.lists(
            st.builds(
                Leg,
                st.sampled_from(["sofia/x/a@b", "user/1"]) | anything,
                st.dictionaries(st.sampled_from(["a", "sip_h_X"]) | anything, anything, max_size=3),
            ),
            max_size=3,
        ),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(["b", "c"]) | anything, anything, max_size=2),
)
def test_whatever_is_dialled_arrives_as_it_is_or_is_refused(legs: list[list[Leg]], variables: dict[str, str]) -> None:
    try:
        text = dial_string(legs, variables)
    except ParameterError:
        return
    # What the switch would expand, or the event socket would cut, is not in it.
    assert not set(text) & set("$\\\r\n\0")
    read = dialstring.parse(text)
    assert read.variables == variables
    assert [[Leg(f"{leg.kind}/{leg.destination}", leg.variables) for leg in group] for group in read.groups] == legs


@given(anything)
def test_a_name_is_told_as_far_as_it_can_be(text: str) -> None:
    name = display_name(text)
    assert not name or is_plain(name)
    assert not set(name) & set('"%/@:<>')
    assert display_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Support Team", "Support Team"),
        ('O\'Brien, "Bob"', "O\u2019Brien, Bob"),
        ("100%22 <a@b>", "100 22 a b"),
        ("\u00fcber  \u4e2d\n", "\u00fcber \u4e2d"),
        ("Jose\u0301 \u0915\u0940_1", "Jose\u0301 \u0915\u0940_1"),
        ("x" * 100, "x" * 80),
        ("", ""),
    ],
)
def test_names(text: str, name: str) -> None:
    assert display_name(text) == name


@pytest.mark.parametrize("count", [0, 129])
def test_there_are_as_many_destinations_as_the_switch_can_ring(count: int) -> None:
    for way, legs in (("serial", [{"to": TO}] * count), ("serial_parallel", [[{"to": TO}] * count])):
        with pytest.raises(ParameterError, match=way):
            connected({way: legs})


# ---- how it went


FAILED = {"originate_disposition": "USER_BUSY"}


def bridged(dialled: DialString, *, group: int = 0, leg: int = 0, **variables: str) -> dict[str, str]:
    """The event of the bridge with one of those who were dialled."""
    uuid = dialled.groups[group][leg].variables.get("origination_uuid", "some-uuid")
    return {
        "Event-Name": "CHANNEL_BRIDGE",
        "Bridge-B-Unique-ID": uuid,
        **{f"variable_{name}": value for name, value in variables.items()},
    }


@pytest.mark.parametrize(
    ("over", "result", "reason"),
    [
        (None, "connected", ""),
        ({"originate_disposition": "USER_BUSY"}, "failed", "busy"),
        ({"originate_disposition": "CALL_REJECTED"}, "failed", "declined"),
        ({"originate_disposition": "NO_ANSWER"}, "failed", "no_answer"),
        ({"originate_disposition": "NO_USER_RESPONSE"}, "failed", "no_answer"),
        ({"originate_disposition": "ALLOTTED_TIMEOUT"}, "failed", "no_answer"),
        ({"originate_disposition": "UNALLOCATED_NUMBER"}, "failed", "unallocated_number"),
        ({"originate_disposition": "INVALID_GATEWAY"}, "failed", "invalid_gateway"),
        ({}, "failed", "error"),
    ],
)
def test_variables_say_how_it_went(over: Mapping[str, str] | None, result: str, reason: str) -> None:
    session = BridgingSession(over)
    call = call_with(session)
    CONNECT(call, {"to": TO})
    assert call.vars == {"connect_result": result, "connect_failed_reason": reason, "return_value": result}
    assert (session.variables["connect_result"], session.variables["connect_failed_reason"]) == (result, reason)


@pytest.mark.parametrize(
    ("to", "unset", "named"),
    [
        ([{"to": TO}], {"dial_number": ""}, "dial_number"),
        ([{"to": "sip:a@b"}], {"dial_sip": ""}, "dial_sip"),
        ([{"to": "sip:a@b"}, {"to": TO}], {"dial_number": ""}, "dial_number"),
        ([{"to": "sip:a@b"}, {"to": TO}], {"dial_number": "", "dial_sip": ""}, "dial_number and dial_sip"),
    ],
)
def test_without_a_dial_string_nobody_is_called(
    to: list[object], unset: dict[str, str], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    session, told = BridgingSession(), Told()
    call = call_with(session, **unset, tell=told)
    CONNECT(call, {"serial": to, "status_url": "http://x/"})
    assert call.vars["connect_result"] == "failed"
    assert f"setting {named} is empty" in call.vars["connect_failed_reason"]
    assert f"setting {named} is empty" in caplog.text
    assert (session.dialled, session.verbs) == ([], [])
    assert [(state, params["failed_reason"]) for _, _, state, params in told.events] == [("failed", "error")]


def test_those_who_want_to_know_are_told() -> None:
    told = Told()

    def answered(dialled: DialString) -> dict[str, str]:
        busy, tried = (group[0].variables["origination_uuid"] for group in dialled.groups[:2])
        causes = f"ARRAY::{busy};USER_BUSY|:{tried};NONE"
        return bridged(dialled, group=1, originate_causes=causes)

    session = BridgingSession(None, answered, data={"Caller-Caller-ID-Number": "+1777"})
    call = call_with(session, tell=told)
    CONNECT(
        call,
        {
            "serial_parallel": [
                [{"to": TO, "call_state_url": "http://own/"}],
                [{"to": "sip:a@b"}, {"to": "sip:c@d", "call_state_events": ["ended"]}],
                [{"to": "sip:never@b"}],
            ],
            "from": "+1555",
            "status_url": "http://u:p@whole/",
            "call_state_url": "http://legs/",
            "call_state_events": ["created", "ringing", "answered", "ended"],
        },
    )
    ids = [[leg.variables["origination_uuid"] for leg in group] for group in session.dialled[0].groups]
    number = {"type": "phone", "params": {"from_number": "+1555", "to_number": TO}}
    first = {"type": "sip", "params": {"from_number": "+1555", "to_number": "sip:a@b"}}
    common = {"node_id": call.site.identity.node_id}
    whole = {**common, "call_id": session.uuid}
    peer = {**common, "call_id": ids[1][0], "device": first}

    def leg(url: str, id_: str, device: object, state: str, reason: str | None) -> tuple[object, ...]:
        params = {"call_state": state, "direction": "outbound", "device": device, "end_reason": reason}
        return url, id_, state, {**common, "control_id": id_, "call_id": id_, **params}

    control_id = told.events[0][1]
    assert told.events == [
        (
            "http://u:p@whole/",
            control_id,
            "connecting",
            {**whole, "control_id": control_id, "connect_state": "connecting"},
        ),
        leg("http://own/", ids[0][0], number, "created", None),
        leg("http://own/", ids[0][0], number, "ended", "busy"),
        leg("http://legs/", ids[1][0], first, "created", None),
        (
            "http://u:p@whole/",
            control_id,
            "connected",
            {**whole, "control_id": control_id, "connect_state": "connected", "peer": peer},
        ),
        leg("http://legs/", ids[1][0], first, "answered", None),
        leg("http://legs/", ids[1][0], first, "ended", "hangup"),
        (
            "http://u:p@whole/",
            control_id,
            "disconnected",
            {**whole, "control_id": control_id, "connect_state": "disconnected"},
        ),
    ]


def states(told: Told) -> list[tuple[str, str, object]]:
    """Of whom, which state, and why it ended."""
    return [
        (params.get("device", {}).get("params", {}).get("to_number", "whole"), state, params.get("end_reason"))
        for _, _, state, params in told.events
    ]


TELLING = {
    "status_url": "http://x/",
    "call_state_url": "http://x/",
    "call_state_events": ["created", "answered", "ended"],
}


@pytest.mark.parametrize("in_bridge", [False, True])
def test_a_caller_who_hangs_up_ends_all_of_it(in_bridge: bool) -> None:
    told = Told()
    session = BridgingSession(CallGone("gone"), *([bridged] if in_bridge else []))
    call = call_with(session, tell=told)
    with pytest.raises(CallGone):
        CONNECT(call, {"parallel": [{"to": "1"}, {"to": "2"}], **TELLING})
    assert "connect_result" not in call.vars
    began = [("whole", "connecting", None), ("1", "created", None), ("2", "created", None)]
    if in_bridge:
        rest = [
            ("whole", "connected", None),
            ("1", "answered", None),
            ("1", "ended", "hangup"),
            ("2", "ended", "cancel"),
            ("whole", "disconnected", None),
        ]
    else:
        rest = [("1", "ended", "cancel"), ("2", "ended", "cancel"), ("whole", "failed", None)]
    assert states(told) == began + rest


def test_a_refusal_by_the_switch_is_told_and_raised() -> None:
    told = Told()
    with pytest.raises(CommandRefused):
        CONNECT(call_with(BridgingSession(CommandRefused("-ERR")), tell=told), {"to": TO, **TELLING})
    assert states(told)[-1] == ("whole", "failed", None)


@pytest.mark.parametrize(("parties", "known"), [(["1"], True), (["1", "2"], False)])
def test_behind_users_the_one_there_is_must_be_it(parties: list[str], known: bool) -> None:
    told = Told()
    session = BridgingSession(None, bridged)
    call = call_with(session, tell=told, dial_number="user/{number}")
    CONNECT(call, {"parallel": [{"to": party} for party in parties], **TELLING})
    peer = next(params["peer"] for _, _, state, params in told.events if state == "connected")
    assert peer["call_id"] == "some-uuid"
    assert ("device" in peer) is known
    assert (("1", "answered", None) in states(told)) is known


def test_who_answers_and_is_gone_before_there_is_a_bridge_was_connected() -> None:
    told = Told()
    over = {"originate_disposition": "SUCCESS", "bridge_hangup_cause": "NORMAL_CLEARING", "signal_bond": "b"}
    call = call_with(BridgingSession(over), tell=told)
    CONNECT(call, {"to": TO, "status_url": "http://x/"})
    assert call.vars["connect_result"] == "connected"
    assert [state for _, _, state, _ in told.events] == ["connecting", "connected", "disconnected"]


# ---- within a document


def document(step: str, *more: str) -> str:
    steps = "\n".join(f"    - {one}" for one in (step, *more))
    return f"version: 1.0.0\nsections:\n  main:\n{steps}\n"


@pytest.mark.parametrize(
    ("result", "way"),
    [
        ("{case: {busy: [{set: {way: x}}], failed: [{set: {way: chosen}}]}}", "chosen"),
        ("{variable: connect_failed_reason, case: {busy: [{set: {way: busy}}]}}", "busy"),
        ("{case: {connected: []}, default: [{set: {way: other}}]}", "other"),
        ("[{when: connect_result == 'connected', then: []}, {else: [{set: {way: else}}]}]", "else"),
        ("[{when: \"return_value == 'failed'\", then: [{set: {way: then}}]}]", "then"),
    ],
)
def test_the_document_goes_on_by_the_result(result: str, way: str) -> None:
    call = call_with(BridgingSession(FAILED))
    run(parse(document(f"connect: {{to: '{TO}', result: {result}}}", "set: {after: '${way}'}"), "d"), call)
    assert (call.vars["way"], call.vars["after"]) == (way, way)


def test_steps_within_the_result_are_checked() -> None:
    with pytest.raises(DocumentError, match=r"connect result case failed 1: .*no method 'nonsense'"):
        check(parse(document(f"connect: {{to: '{TO}', result: {{case: {{failed: [nonsense]}}}}}}"), "d"))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ("{to: 'queue:support'}", "queues"),
        ("{to: '+1555', confirm: [hangup]}", "no confirmation"),
        ("{parallel: [{to: '+1555', confirm: 'http://x/'}]}", "no confirmation"),
        ("{from: '+1555'}", "one of to"),
    ],
)
def test_what_this_service_does_not_do_is_refused_before_the_first_step(params: str, told: str) -> None:
    with pytest.raises(DocumentError, match=told):
        check(parse(document(f"connect: {params}"), "d"))


@pytest.mark.parametrize(
    "params",
    [
        "{to: '${vars.to}'}",
        "{to: 'sip:${vars.user}@example.com', from: '%{call.from}', timeout: '${vars.t}'}",
        "{serial: [{to: '${a}', headers: [{name: X-A, value: '${b}'}]}]}",
        "{to: '+1555', ringback: ['${tone}'], encryption: '${e}', status_url: '${u}'}",
        "'${all}'",
    ],
)
def test_what_references_will_be_is_not_known_before(params: str) -> None:
    check(parse(document(f"connect: {params}"), "d"))


def test_references_are_read_in_destinations() -> None:
    session = BridgingSession()
    call = call_with(session)
    call.vars["who"] = "ann"
    run(
        parse(document("connect: {serial: [{to: 'sip:${who}@b', headers: [{name: X-A, value: '${who}'}]}]}"), "d"), call
    )
    assert groups(session.dialled[0]) == [[("sofia/internal/ann@b", {**PLAIN, "sip_h_X-A": "ann"})]]


def test_a_reference_cannot_bring_in_another_destination() -> None:
    session = BridgingSession()
    call = call_with(session)
    call.vars["who"] = "ann@evil,sofia/x/y"
    with pytest.raises(DocumentError, match="to = 'sip:ann@evil,sofia/x/y@b'") as caught:
        run(parse(document("connect: {to: 'sip:${who}@b'}"), "d"), call)
    assert caught.value.code == "relay_script_method_parameter_invalid_value"
    assert not session.dialled


THEN = '{"version": "1.0.0", "sections": {"main": [{"set": {"came": "${connect_result}"}}]}}'


@pytest.mark.parametrize(("over", "came"), [(None, "connected"), (FAILED, None)])
def test_after_a_bridge_the_call_goes_on_in_another_document(over: Mapping[str, str] | None, came: str | None) -> None:
    call = call_with(BridgingSession(over))
    result = "{case: {}, default: [{set: {r: 1}}]}"
    step = f"connect: {{to: '{TO}', transfer_after_bridge: '{THEN}', result: {result}}}"
    run(parse(document(step, "set: {stayed: true}"), "d"), call)
    assert (call.vars.get("came"), call.vars.get("stayed")) == (came, None if came else True)
    assert call.vars["r"] == 1


def test_where_the_call_goes_after_a_bridge_may_be_a_reference() -> None:
    call = call_with(BridgingSession())
    call.vars["then"] = THEN
    run(parse(document(f"connect: {{to: '{TO}', transfer_after_bridge: '${{then}}'}}"), "d"), call)
    assert call.vars["came"] == "connected"


# ---- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("dial_number", value) for value in ("{number}", "sofia/{address}", "a/{number}{number}", "{a=b}x/{number}")],
        *[("dial_number", value) for value in ("[a=b]x/{number}", "a/{number}|b/{number}", "a/{number},b/x")],
        *[("dial_number", value) for value in ("a/${x}/{number}", "a b/{number}", "a/{number}\n", "a/'{number}'")],
        *[("dial_number", value) for value in ("a/{number}:_:b/c", "a/\u00e4/{number}")],
        ("dial_sip", "sofia/internal/{number}"),
        ("dial_sip", "<a=b>sofia/internal/{address}"),
    ],
)
def test_a_dial_string_of_more_than_one_leg_is_refused(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"setting {name} = .*such as sofia"):
        load({name: value})


@pytest.mark.parametrize(
    "template", ["sofia/gateway/c/9{number}", "user/{number}@pbx", "loopback/{number}/default/XML"]
)
def test_dial_strings(template: str) -> None:
    assert Settings(dial_number=template).dial_number == template
    endpoint, _ = groups(connected({"to": TO}, dial_number=template.replace("user/", "other/"))[0])[0][0]
    assert endpoint == template.replace("user/", "other/").replace("{number}", TO)
