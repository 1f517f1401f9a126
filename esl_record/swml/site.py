"""What an installation lends to the documents of its calls: names, voices, dial strings, the web, status events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from esl_record.egress import AddressPolicy
from esl_record.status.event import Identity
from esl_record.status.receiver import Origin
from esl_record.swml.budget import Budget
from esl_record.swml.folders import PlayFolders

if TYPE_CHECKING:
    from esl_record.swml.document import Document


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web server answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Web(Protocol):
    """What a document may reach by http."""

    def document(self, url: str, payload: Mapping[str, Any], budget: Budget) -> "Document":
        """The document a server gives for ``payload``, checked; reading it spends from ``budget``.

        Raises DocumentError for what is none, WebError.
        """

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout: float,
        connect_timeout: float,
    ) -> Answer:
        """What a server answers; times in seconds, 0 for the longest there is. Raises WebError."""


def _untold(url: str, key: str, state: str, body: Mapping[str, Any]) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Site:
    """The same for every call. ``envs`` is the scope of that name; ``dial_number`` and ``dial_sip`` are dial strings
    with ``{number}`` and ``{address}`` in them; ``voices`` are ``engine|voice`` by the names a document may use.
    ``envs_origins`` are the web servers whose documents have ``envs``.

    ``tell`` queues a status event: its URL, the key within which events keep their order, its state, its body.
    """

    identity: Identity = field(default_factory=Identity)
    envs: Mapping[str, Any] = field(default_factory=dict)
    dial_number: str = ""
    dial_sip: str = ""
    voices: Mapping[str, str] = field(default_factory=dict)
    envs_origins: frozenset[Origin] = frozenset()
    play_folders: PlayFolders = field(default_factory=PlayFolders)
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    """Where a fetched document may have the switch fetch sounds."""
    web: Web | None = None
    tell: Callable[[str, str, str, Mapping[str, Any]], None] = _untold
