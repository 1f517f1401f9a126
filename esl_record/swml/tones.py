"""Tones that a document may have played: a part of the language of the switch's ``tone_stream``.

The switch makes all of a tone in memory before it plays it, in the thread of the call, so that what a document asks
for is counted first. Source: ``teletone_run`` of libteletone, and mod_tone_stream.
"""

import re

LONGEST = 60.0
"""Seconds of sound that the switch makes for one tone stream; ``;loops=`` plays it again without making it again."""

MOST_TONES = 2000
"""Tones in one tone stream, each counted as often as it is made."""

MOST_LOOPS = 10_000
"""Times it may be played; -1 is for ever."""

_NUMBER = r"[0-9]{1,9}"
_LOOPS = re.compile(r";loops=(-1|[0-9]{1,5})\Z", re.IGNORECASE)
_TONE = re.compile(
    rf" *(?:%\( *({_NUMBER}) *, *({_NUMBER})((?: *, *[0-9]{{1,5}}(?:\.[0-9]{{1,6}})?){{1,18}}) *\)|[0-9A-D*#])"
)
_SETTING = re.compile(rf" *(?:([dwlL])=({_NUMBER})|[<>]={_NUMBER}|(?:v=-?|\+=)[0-9]{{1,3}}(?:\.[0-9]{{1,3}})?) *\Z")

_DIGIT = 250
"""Milliseconds of a digit's tone, and of the silence behind it, at most, where ``d=`` and ``w=`` do not say."""


def check_tones(text: str) -> None:
    """Raise ValueError, which names the limit, if ``text`` behind ``tone_stream://`` is none a document may have."""
    loops = _LOOPS.search(text)
    if loops and not (loops[1] == "-1" or 1 <= int(loops[1]) <= MOST_LOOPS):
        raise ValueError(f"loops=1 to loops={MOST_LOOPS} is wanted, or loops=-1 for ever")
    settings: dict[str, list[int]] = {"d": [], "w": [], "L": []}
    tones: list[tuple[int, int | None]] = []
    """How often each is made, and the ms it takes; None for a digit."""
    times = 1
    for part in (text[: loops.start()] if loops else text).split(";"):
        setting = _SETTING.match(part)
        if setting:
            name, value = setting[1], int(setting[2] or 0)
            if name == "l":
                times = max(1, value)
            elif name:
                settings[name].append(value)
            continue
        at = 0
        while at < len(part.rstrip(" ")):
            tone = _TONE.match(part, at)
            if not tone:
                raise ValueError(
                    f"{part[at:][:40]!r} in a tone stream: wanted are %(ms,ms,Hz,...) with up to 18 frequencies, "
                    "digits, v=dB, d=ms, w=ms, l=times, L=times, and ;loops=times at its end"
                )
            tones.append((times, int(tone[1]) + int(tone[2]) if tone[1] else None))
            times, at = 1, tone.end()
    if not tones:
        raise ValueError("a tone is wanted in a tone stream")
    rounds = max([1, *settings["L"]])
    if rounds * sum(count for count, _ in tones) > MOST_TONES:
        raise ValueError(f"a tone stream of more than {MOST_TONES} tones, l= and L= counted")
    digit = max([_DIGIT, *settings["d"]]) + max([_DIGIT, *settings["w"]])
    lasts = rounds * sum(count * (digit if ms is None else ms) for count, ms in tones)
    if lasts > LONGEST * 1000:
        raise ValueError(
            f"a tone stream of {lasts / 1000:g} s, l= and L= counted: {LONGEST:g} s are made, which ;loops= repeats"
        )
