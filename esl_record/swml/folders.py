"""The folders from which documents may play files."""

import os.path
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from esl_record.hub import off_hub
from esl_record.recording.params import ParameterError

_OFFSET = re.compile(r"@@[0-9]*\Z")


class PlayFolders:
    """Permits files beneath ``folders``, links followed; without any, all files to local documents and none to fetched
    ones.

    Files are looked for on this machine. One that is not there is judged by its path alone: the switch may have it.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = [os.path.realpath(folder) for folder in folders]

    def check(self, sound: str, *, fetched: bool) -> None:
        """Raise ParameterError if ``sound``, as the switch has it, is a file that must not be played.

        Args:
            sound: What ``playable`` gives.
            fetched: Whether the document that plays it came from a web server.
        """
        if not sound.startswith("/") or not (self._folders or fetched):
            return
        if not self._folders:
            raise ParameterError(
                f"{sound[:80]!r}: a document that came from a web server plays files only from the folders of the "
                "setting play_folders, which is empty"
            )
        name = _OFFSET.sub("", sound)
        # Without an extension the switch adds one of its own, and plays another file than the one looked at.
        if ".." in name.split("/") or not Path(name).suffix or not off_hub(partial(self._holds, name)):
            raise ParameterError(f"{sound[:80]!r}: is not in a folder of the setting play_folders")

    def _holds(self, name: str) -> bool:
        real = os.path.realpath(name)
        return any(os.path.commonpath([folder, real]) == folder for folder in self._folders)
