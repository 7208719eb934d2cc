"""What waits for the operator's yes: pending_actions."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final, Literal

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

ActionStatus = Literal["pending", "approved", "executed", "rejected", "expired", "failed"]
EXPIRY_SECONDS: Final = 24 * 3600
RETENTION_SECONDS: Final = 7 * 24 * 3600
MAX_BULK: Final = 100


@dataclass(frozen=True)
class Action:
    """A row. Times are unix seconds."""

    id: int
    action_type: str
    payload: dict[str, Any]
    proposed_at: int
    expires_at: int | None
    status: ActionStatus
    rejection_reason: str | None

    def shown(self) -> dict[str, Any]:
        """As hive-pending-actions shows it."""
        return dict(vars(self))


class ActionStore:
    """Actions, newest last."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, action_type: str, payload: dict[str, Any], now: int) -> int:
        """Queue an action. Returns its number."""
        return self.store.insert(
            "INSERT INTO pending_actions (action_type, payload, proposed_at, expires_at) VALUES (?, ?, ?, ?)",
            (action_type, canonical_json(payload), now, now + EXPIRY_SECONDS),
        )

    def get(self, action_id: int) -> Action | None:
        """One action."""
        row = self.store.one("SELECT * FROM pending_actions WHERE id = ?", (action_id,))
        return None if row is None else _action(row)

    def with_status(self, status: ActionStatus, limit: int = MAX_BULK) -> list[Action]:
        """Actions of one status, oldest first."""
        rows = self.store.query("SELECT * FROM pending_actions WHERE status = ? ORDER BY id LIMIT ?", (status, limit))
        return [_action(row) for row in rows]

    def of_type(self, action_type: str, since: int) -> list[Action]:
        """Actions of a type proposed since a moment, newest first."""
        rows = self.store.query(
            "SELECT * FROM pending_actions WHERE action_type = ? AND proposed_at >= ? ORDER BY id DESC",
            (action_type, since),
        )
        return [_action(row) for row in rows]

    def move(self, action_id: int, before: ActionStatus, after: ActionStatus, reason: str | None = None) -> bool:
        """Change a status. Returns False when it was another one before."""
        changed = self.store.execute(
            "UPDATE pending_actions SET status = ?, rejection_reason = ? WHERE id = ? AND status = ?",
            (after, reason, action_id, before),
        )
        return changed > 0

    def expire(self, now: int) -> None:
        """Close what nobody answered in time, and drop what was closed a week ago."""
        with self.store.atomic():
            self.store.execute(
                "UPDATE pending_actions SET status = 'expired' WHERE status = 'pending' AND expires_at <= ?", (now,)
            )
            self.store.execute(
                "DELETE FROM pending_actions WHERE status IN ('expired', 'rejected', 'executed', 'failed') "
                "AND proposed_at < ?",
                (now - RETENTION_SECONDS,),
            )


def _action(row: sqlite3.Row) -> Action:
    try:
        payload = json.loads(row["payload"])
    except ValueError:
        payload = {}
    return Action(
        row["id"],
        row["action_type"],
        payload if isinstance(payload, dict) else {},
        row["proposed_at"],
        row["expires_at"],
        row["status"],
        row["rejection_reason"],
    )
