"""The folder documents are looked up in."""

import re
from functools import partial
from importlib import resources
from pathlib import Path

from esl_record.errors import DocumentError
from esl_record.hub import off_hub
from esl_record.swml.document import SIZE_LIMIT, Document
from esl_record.swml.reading import read

NAME_LIMIT = 200
"""Characters a document's name may have; a file name has 255 bytes."""

SUFFIXES = (".yaml", ".yml", ".json")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")


class Library:
    """Finds documents by the path of the ``socket`` action: in ``folder``, else among those built in."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, path: str) -> Document:
        """The document named ``path``, checked. Raises DocumentError; it names where it was looked for."""
        if not _NAME.match(path) or ".." in path or len(path) > NAME_LIMIT:
            raise DocumentError(
                "relay_script_parse_error",
                f"no document named {path[:80]!r}: name one after the port, as in `socket 127.0.0.1:8084/voicemail`, "
                "or give one or its URL in the channel variable swml_url",
            )
        text = off_hub(partial(self._text, path))
        if text is None:
            looked = f"in {self.folder} or " if self.folder else ""
            raise DocumentError(
                "relay_script_parse_error",
                f"no document {path}: not {looked}among the built-in {', '.join(built_in())}",
            )
        return read(text, path)

    def _text(self, path: str) -> bytes | None:
        for suffix in ("", *SUFFIXES) if Path(path).suffix in SUFFIXES else SUFFIXES:
            if self.folder is not None and (found := self.folder / f"{path}{suffix}").is_file():
                try:
                    with found.open("rb") as file:
                        return file.read(SIZE_LIMIT + 1)
                except OSError as error:
                    raise DocumentError("relay_script_parse_error", f"{found}: {error.strerror}") from error
        if path in built_in():
            return resources.files(__package__).joinpath("documents", f"{path}.yaml").read_bytes()
        return None


def built_in() -> list[str]:
    """Names of the documents that come with the package."""
    folder = resources.files(__package__).joinpath("documents")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
