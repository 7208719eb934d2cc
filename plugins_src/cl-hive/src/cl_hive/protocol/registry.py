"""How a message type is described. The table itself is in `messages`; later releases add rows, not code paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from cl_hive.protocol import fields
from cl_hive.protocol.events import event_id
from cl_hive.protocol.fields import Validator

Payload = Mapping[str, Any]
FUTURE_SKEW_SECONDS: Final = 300


class Audience(Enum):
    """Whose messages of this type are read."""

    ANYONE = "anyone"
    MEMBERS = "members"


@dataclass(frozen=True)
class Rate:
    """At most `count` messages of one peer in `seconds`."""

    count: int
    seconds: int


@dataclass(frozen=True)
class Signed:
    """Who signs what: `actor` names the payload field with the signer's node id."""

    actor: str
    text: Callable[[Payload], str]
    field: str = "signature"


@dataclass(frozen=True)
class MessageSpec:
    """One row of the message table.

    Args:
        number: the type inside the frame.
        name: as the field calls it.
        required: fields that must be there, with what they must be.
        optional: fields that may be there.
        check: what spans several fields; "" or the end of a sentence.
        audience: whose messages are read.
        signed: the signature every receiver verifies, None when the handshake does it itself.
        max_age_seconds: how old `timestamp` may be, None when there is none.
        rate: limit for each sending peer.
        reliable: kept in the outbox until it is acknowledged.
        relayed: may arrive from another member than the one who signed it.
        identity: the fields that make two messages the same event.
    """

    number: int
    name: str
    required: Mapping[str, Validator]
    optional: Mapping[str, Validator] = field(default_factory=dict)
    check: Callable[[Payload], str] | None = None
    audience: Audience = Audience.MEMBERS
    signed: Signed | None = None
    max_age_seconds: int | None = None
    rate: Rate | None = None
    reliable: bool = False
    relayed: bool = False
    identity: tuple[str, ...] = ()

    def problem(self, payload: Payload) -> str:
        """First thing wrong with the payload: "" or the end of a sentence."""
        if problem := fields.problem_of(payload, self.required, self.optional):
            return problem
        return self.check(payload) if self.check else ""

    def stale(self, payload: Payload, now: int) -> bool:
        """Whether the message is too old, or comes from the future."""
        if self.max_age_seconds is None:
            return False
        sent = int(payload["timestamp"])
        return not now - self.max_age_seconds <= sent <= now + FUTURE_SKEW_SECONDS

    def event_id(self, payload: Payload) -> str:
        """Id of what the message reports."""
        return event_id(self.name, payload, self.identity)


class MessageTable:
    """All types this release reads."""

    def __init__(self, rows: Iterable[MessageSpec]) -> None:
        """Index the rows.

        Raises:
            ValueError: two rows share a number or a name, or a number is even (peers would disconnect).
        """
        self._by_number: dict[int, MessageSpec] = {}
        self._by_name: dict[str, MessageSpec] = {}
        for row in rows:
            if row.number in self._by_number or row.name in self._by_name:
                raise ValueError(f"message {row.name} ({row.number}) is in the table twice")
            if row.number % 2 == 0:
                raise ValueError(f"message {row.name} has an even number")
            self._by_number[row.number] = row
            self._by_name[row.name] = row

    def __iter__(self) -> Iterator[MessageSpec]:
        """Rows in the order of their numbers."""
        return iter(sorted(self._by_number.values(), key=lambda row: row.number))

    def number(self, number: int) -> MessageSpec | None:
        """The row of a number."""
        return self._by_number.get(number)

    def named(self, name: str) -> MessageSpec | None:
        """The row of a name, in any case."""
        return self._by_name.get(name.upper())
