"""The join this node is asking for, so that it goes on after a restart: hive_join_requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hive_kit.store import Store

Status = Literal["pending", "attested", "joined", "refused", "expired"]
OPEN: tuple[Status, ...] = ("pending", "attested")


@dataclass(frozen=True)
class JoinRequest:
    """The only row. `reason` says why the last answer was no; times are unix seconds."""

    ticket: str
    target: str
    hive_id: str
    status: Status
    reason: str
    attempts: int
    next_try_at: int
    created_at: int
    updated_at: int

    @property
    def open(self) -> bool:
        """Whether an answer is still awaited."""
        return self.status in OPEN

    def shown(self) -> dict[str, Any]:
        """For hive-status: without the ticket, which is a credential."""
        return {
            "status": self.status,
            "hive_id": self.hive_id,
            "target": self.target,
            "attempts": self.attempts,
            "reason": self.reason,
            "requested_at": self.created_at,
        }


class JoinStore:
    """One request at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self) -> JoinRequest | None:
        """The request, whatever became of it."""
        row = self.store.one(
            "SELECT ticket, target, hive_id, status, reason, attempts, next_try_at, created_at, updated_at "
            "FROM hive_join_requests WHERE id = 1"
        )
        return None if row is None else JoinRequest(**dict(row))

    def begin(self, ticket: str, target: str, hive_id: str, now: int) -> None:
        """Start anew with this ticket."""
        self.store.execute(
            "INSERT OR REPLACE INTO hive_join_requests VALUES (1, ?, ?, ?, 'pending', '', 0, ?, ?, ?)",
            (ticket, target, hive_id, now, now, now),
        )

    def tried(self, now: int, next_try_at: int) -> None:
        """A HELLO was tried; the handshake starts over."""
        self.store.execute(
            "UPDATE hive_join_requests "
            "SET status = 'pending', attempts = attempts + 1, next_try_at = ?, updated_at = ?",
            (next_try_at, now),
        )

    def mark(self, status: Status, reason: str, now: int) -> None:
        """Note how it stands. A finished request forgets its ticket, which is a credential."""
        self.store.execute(
            "UPDATE hive_join_requests SET status = ?, reason = ?, updated_at = ?, "
            "ticket = CASE WHEN ? IN ('pending', 'attested') THEN ticket ELSE '' END",
            (status, reason, now, status),
        )
