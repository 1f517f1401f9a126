"""The digits pressed in a call, and texts for the log without them."""

import re

KEPT = 1024
"""Digits remembered of a call, the last ones."""

SHORTEST = 3
"""Digits in a row that are hidden; fewer are a choice in a menu, and no secret."""

_RUN = re.compile(rf"[0-9*#]{{{SHORTEST},}}")


class Pressed:
    """Remembers the digits of one call, so that no text that repeats them is logged as it is."""

    def __init__(self) -> None:
        self._digits = ""

    def note(self, digits: str) -> None:
        """Remember ``digits``, which were pressed after those before."""
        self._digits = (self._digits + digits)[-KEPT:]

    def redact(self, text: object) -> str:
        """Return ``text`` with each run of pressed digits replaced by ``***``."""
        shown = str(text)
        return _RUN.sub(lambda run: self._hide(run[0]), shown) if self._digits else shown

    def _hide(self, run: str) -> str:
        """Hide every stretch of ``run`` that was pressed in that order, the longest first from its left."""
        hidden, at = "", 0
        while at < len(run):
            end = at
            while end < len(run) and run[at : end + 1] in self._digits:
                end += 1
            if end - at >= SHORTEST:
                hidden, at = f"{hidden}***", end
            else:
                hidden, at = hidden + run[at], at + 1
        return hidden
