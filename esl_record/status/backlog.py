"""What one recording still has to tell, in the order it happened. Pure."""

from bisect import insort

from esl_record.status.outbox import Callback


class Backlog:
    """The pending callbacks of a recording. ``busy``: its first is being posted, or in line for it.

    ``due`` is the unix time at which the first is to be posted, None where it is none of the future; ``asked`` the one
    before which the receiver has asked not to be tried again.
    """

    def __init__(self, recording_id: str) -> None:
        self.recording_id = recording_id
        self.waiting: list[Callback] = []
        self.busy = False
        self.due: float | None = None
        self.asked = 0.0

    def take(self, callback: Callback) -> bool:
        """Adds ``callback`` in its place; False if it is here already and has not been queued again since."""
        known = self.find(callback.seq)
        if known is None:
            insort(self.waiting, callback, key=lambda one: one.seq)
        elif callback.queued_at != known.queued_at:
            # Not only later: the clock may have been set back.
            self.replace(known, callback)
        else:
            return False
        return True

    def find(self, seq: int) -> Callback | None:
        return next((one for one in self.waiting if one.seq == seq), None)

    def replace(self, old: Callback, new: Callback) -> None:
        """Puts ``new`` in the place of ``old``; nothing where another has taken it meanwhile."""
        self.waiting = [new if one is old else one for one in self.waiting]

    def drop(self, seq: int) -> None:
        self.waiting = [one for one in self.waiting if one.seq != seq]

    def drop_all_to(self, url: str) -> int:
        """Drops what is for ``url``; says how many."""
        before = len(self.waiting)
        self.waiting = [one for one in self.waiting if one.url != url]
        return before - len(self.waiting)
