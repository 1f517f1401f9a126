"""Receiver: what a status_url says, and a password that stays where it belongs."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.status.receiver import Receiver, Timeouts, shown


def test_a_plain_url_is_posted_to_as_it_is() -> None:
    receiver = Receiver.of("https://example.com/a?b=c")
    assert receiver == Receiver(
        "https://example.com/a?b=c",
        None,
        ("https", "example.com", 443),
        Timeouts(5, 10, 15),
        "https://example.com/a?***",
    )


def test_what_is_not_for_the_wire_is_taken_off() -> None:
    receiver = Receiver.of("http://ann:s%40cret%C3%A9@Example.com:8080/a?b=c#ot=2000")
    assert receiver.url == "http://Example.com:8080/a?b=c"
    assert receiver.auth == ("ann", "s@cret\u00e9")
    assert receiver.origin == ("http", "example.com", 8080)
    assert receiver.shown == "http://***@Example.com:8080/a?***#ot=2000"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://h/a/b", "http://h/a/b"),
        ("http://h/a?token=SECRET", "http://h/a?***"),
        ("http://h?SECRET", "http://h?***"),
        ("http://u:SECRET@h/a?t=SECRET#ot=1&rt=2", "http://***@h/a?***#ot=1&rt=2"),
        ("http://h/#?token=SECRET", "http://h/#***"),
        ("http://h/\n?SECRET", "http://h/?***"),
        ("ftp://u:SECRET@h/", "an unreadable address"),
        ("http://u:SECRET@[::1/", "an unreadable address"),
        ("", "an unreadable address"),
    ],
)
def test_what_is_shown_of_an_address(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.parametrize(
    ("userinfo", "auth"),
    [("ann@", ("ann", "")), ("ann:@", ("ann", "")), (":pw@", ("", "pw")), ("a:b:c@", ("a", "b:c")), ("@", None)],
)
def test_user_and_password(userinfo: str, auth: tuple[str, str] | None) -> None:
    assert Receiver.of(f"http://{userinfo}example.com/").auth == auth


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("HTTP://EXAMPLE.com", ("http", "example.com", 80)),
        ("https://example.com:443/", ("https", "example.com", 443)),
        ("https://[2001:DB8::1]:8443/", ("https", "2001:db8::1", 8443)),
        ("http://m\u00fcnchen.example/", ("http", "m\u00fcnchen.example", 80)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    assert Receiver.of(url).origin == origin


@pytest.mark.parametrize(
    ("fragment", "timeouts"),
    [
        ("ot=2000&rt=3000&tt=4000", Timeouts(2, 3, 4)),
        ("ot=1&rt=99999999&tt=0", Timeouts(0.1, 60, 0.1)),
        ("rt=30000", Timeouts(5, 30, 35)),
        ("ot=100&rt=100", Timeouts(0.1, 0.1, 15)),
        ("ot=fast&rt=&tt=-5&x=1&&=&ot", Timeouts()),
        ("ot=" + "9" * 5000, Timeouts()),
        ("ot=\u0661\u0662\u0663\u0664", Timeouts()),
        ("section", Timeouts()),
    ],
)
def test_timeouts(fragment: str, timeouts: Timeouts) -> None:
    assert Receiver.of(f"http://example.com/#{fragment}").timeouts == timeouts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://u:secret@example.com/",
        "http://",
        "http://u:secret@",
        "http://u:secret@h:99999/",
        "http://u:secret@[::1/",
        "http://u:secret/x@h/",
    ],
)
def test_what_is_no_http_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^not ") as refused:
        Receiver.of(url)
    assert "secret" not in str(refused.value)


@given(
    user=st.text(max_size=8),
    secret=st.text(min_size=1, max_size=20).map(lambda text: f"Zq9{text}"),
    path=st.text(st.characters(codec="ascii", exclude_characters="#"), max_size=20).map(lambda text: f"/{quote(text)}"),
    fragment=st.text(max_size=20),
    safe=st.sampled_from(["", "@", ":", "!$&'()*+,;=:@"]),
)
def test_the_password_is_in_nothing_that_is_shown_or_posted_to(
    user: str, secret: str, path: str, fragment: str, safe: str
) -> None:
    try:
        written = quote(secret, safe=safe)
        name = quote(user, safe="")
    except UnicodeEncodeError:
        return
    receiver = Receiver.of(f"https://{name}:{written}@example.com{path}#{fragment}")
    assert receiver.auth == (user, secret)
    assert not [text for text in (receiver.url, receiver.shown, repr(receiver)) if "Zq9" in text]
