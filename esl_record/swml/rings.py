"""Ring tones by country."""

Cadence = tuple[tuple[int, int, str], ...]


def _single(on: int, off: int, hertz: str) -> Cadence:
    return ((on, off, hertz),)


def _double(hertz: str) -> Cadence:
    return ((400, 200, hertz), (400, 2000, hertz))


_NORTH_AMERICA = _single(2000, 4000, "440,480")
_BRITAIN = _double("400,450")
_EUROPE = _single(1000, 4000, "425")

RINGS: dict[str, Cadence] = {
    "at": _single(1000, 5000, "420"),
    "au": _double("413,438"),
    "be": _single(1000, 3000, "425"),
    "bg": _EUROPE,
    "br": _EUROPE,
    "ca": _NORTH_AMERICA,
    "ch": _EUROPE,
    "cl": _single(1000, 3000, "400"),
    "cn": _single(1000, 4000, "450"),
    "cz": _EUROPE,
    "de": _EUROPE,
    "dk": _EUROPE,
    "ee": _EUROPE,
    "es": _single(1500, 3000, "425"),
    "fi": _EUROPE,
    "fr": _single(1500, 3500, "440"),
    "gb": _BRITAIN,
    "gr": _EUROPE,
    "hu": _single(1250, 3750, "425"),
    "il": _single(1000, 3000, "414"),
    "in": _double("375,425"),
    "it": _EUROPE,
    "jp": _single(1000, 2000, "385,415"),
    "lt": _EUROPE,
    "mx": _EUROPE,
    "my": _double("425"),
    "nl": _EUROPE,
    "no": _EUROPE,
    "nz": _BRITAIN,
    "ph": _single(1000, 4000, "425,480"),
    "pl": _EUROPE,
    "pt": _single(1000, 5000, "425"),
    "ru": _single(800, 3200, "425"),
    "se": _single(1000, 5000, "425"),
    "sg": _double("401,449"),
    "th": _single(1000, 4000, "400"),
    "tw": _single(1000, 2000, "440,480"),
    "uk": _BRITAIN,
    "us": _NORTH_AMERICA,
    "us-old": _single(2000, 4000, "380,460"),
    "ve": _EUROPE,
    "za": _double("367,433"),
}
"""(ms of tone, ms of silence, Hz) in turn, after the ITU's list of national tones (E.180, supplement 2).

Where a tone is modulated, as India's 400 Hz by 25 Hz, its two side bands stand for it: the switch modulates none.
"""
