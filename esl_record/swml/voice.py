"""Which of the switch's voices speaks, by the names a document may use."""

from collections.abc import Mapping, Sequence

FLITE = {
    "female": "flite|slt",
    "male": "flite|rms",
    "awb": "flite|awb",
    "kal": "flite|kal",
    "rms": "flite|rms",
    "slt": "flite|slt",
}
"""Voices of the speech module every FreeSWITCH can have, ``engine|voice`` by name."""

DEFAULTS = ("en-US", "female")
"""What SWML takes for the language and the gender a document names none of."""


def chosen(names: Sequence[str], voices: Mapping[str, str]) -> tuple[str, str]:
    """Engine and voice for ``names``, the most telling first, empty ones passed over. ``voices``, which an installation
    has, go before flite's; the case of a name does not matter."""
    wanted = [name.lower() for name in (*names, *DEFAULTS) if name]
    for table in (voices, FLITE):
        known = {name.lower(): voice for name, voice in table.items()}
        found = next((known[name] for name in wanted if name in known), None)
        if found is not None:
            engine, _, voice = found.partition("|")
            return engine, voice
    raise AssertionError("flite has a voice of either gender")
