"""Which handler a path names, and its module, loaded by file and again when the file changes."""

import inspect
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent

from esl_record.errors import DocumentError
from esl_record.esl.session import Session

Handler = Callable[[Any, str], object]

ARGS_VARIABLE = "handler_args"
"""Channel variable with the handler's ``args`` where the path has none."""

SUFFIX = ".py"

# The switch takes the last colon of the `socket` action for that before the port, so that `python:` must be written
# `python%3A` there.
_PATH = re.compile(r"python[/:]([^ /:]*)(?:[ /:](.*))?\Z", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}\Z")

_Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Called:
    """A handler by the name of its module, not looked at yet, and its ``args``."""

    module: str
    args: str


def called_by(session: Session) -> Called | None:
    """The handler the dialplan's ``socket`` action calls by the path ``python/<module>`` or ``python/<module> <args>``;
    None where the path is another."""
    found = _PATH.match(session.path)
    return Called(found[1], found[2] or session.data.get(f"variable_{ARGS_VARIABLE}", "")) if found else None


class Handlers:
    """Finds handlers in ``folder``, else among those built in."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._loaded: dict[str, tuple[Path, _Version, dict[str, Any]]] = {}

    def load(self, name: str) -> Handler:
        """The function ``handler`` of module ``name``, as the file is now. Raises DocumentError that names the file,
        and the line of a mistake in it."""
        handler: Handler = self._module(name)["handler"]
        return handler

    def resumed(self, name: str) -> Handler | None:
        """Its function ``resumed``, for a call that has outlived a service, if it has one. Raises as ``load``."""
        resumed = self._module(name).get("resumed")
        return resumed if callable(resumed) else None

    def _module(self, name: str) -> dict[str, Any]:
        if not _NAME.match(name):
            raise DocumentError(
                "relay_script_parse_error",
                f"no handler named {name[:80]!r}: one of letters, digits and _ is wanted, as in "
                "`socket 127.0.0.1:8084/python/voicemail`",
            )
        path = self._file(name)
        try:
            stat = path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            loaded = self._loaded.get(name)
            if loaded is None or loaded[:2] != (path, version):
                loaded = self._loaded[name] = (path, version, _load(name, path))
        except OSError as error:
            raise DocumentError("relay_script_parse_error", f"{path}: {error.strerror}") from error
        return loaded[2]

    def _file(self, name: str) -> Path:
        if self.folder is not None and (found := self.folder / f"{name}{SUFFIX}").is_file():
            return found
        if name in (known := built_in()):
            return known[name]
        looked = f"in {self.folder} or " if self.folder else ""
        raise DocumentError(
            "relay_script_parse_error", f"no handler {name}: not {looked}among the built-in {', '.join(sorted(known))}"
        )


def built_in() -> dict[str, Path]:
    """The handlers that come with the package, by name."""
    return found_in(Path(str(resources.files(__package__).joinpath("examples"))))


def found_in(folder: Path) -> dict[str, Path]:
    """The files in ``folder`` that can be called as handlers, by name."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.is_file() and _NAME.match(path.stem)}


def mistake(path: Path) -> str:
    """What keeps Python from compiling ``path``, and the line; empty if nothing does. Nothing of it is run."""
    try:
        compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        return f"{path}: {error.strerror}"
    except Exception as error:
        return _told(path, error)
    return ""


def _load(name: str, path: Path) -> dict[str, Any]:
    module = ModuleType(f"esl_record_handler_{name}")
    module.__file__ = str(path)
    source = path.read_bytes()
    before = sys.modules.get(module.__name__)
    # Dataclasses, and whatever else asks for a class's module, look here.
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102  # the operator's own folder of handlers
        handler = module.__dict__.get("handler")
        if not callable(handler) or inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
            raise DocumentError("relay_script_parse_error", f"{path}: it has no function handler(session, args)")
    except BaseException as error:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before
        if isinstance(error, DocumentError | gevent.GreenletExit):
            raise
        raise DocumentError("relay_script_parse_error", _told(path, error)) from error
    return module.__dict__


def _told(path: Path, error: BaseException) -> str:
    """The mistake with its line in ``path``."""
    here = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        here.append(error.lineno)
    line = f", line {here[-1]}" if here else ""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{path}{line}: {type(error).__name__}: {said[:200]}"
