"""`comms_replay` and `comms_held_actions`: which nonces are used, and what waits for the operator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hive_kit.store import Store

HELD, APPROVED, REJECTED, EXPIRED = "held", "approved", "rejected", "expired"


@dataclass(frozen=True)
class HeldAction:
    """One action of an advisor that waits, or waited, for the operator. Times are unix seconds."""

    action_id: str
    advisor_id: str
    schema_type: str
    action: str
    payload: dict[str, Any]
    nonce: int
    danger: int
    status: str
    requested_at: int
    expires_at: int
    decided_at: int
    reason: str


class ReplayStore:
    """The highest nonce of each key that ever signed an envelope."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def last_nonce(self, auth_key: str) -> int | None:
        """The nonce used last, or None when the key is new."""
        nonce = self._store.value("SELECT last_nonce FROM comms_replay WHERE auth_key = ?", (auth_key,))
        return None if nonce is None else int(nonce)

    def consume(self, auth_key: str, advisor_id: str, nonce: int, timestamp: int, now: int) -> bool:
        """Use a nonce up. False, and nothing changes, when it is not greater than the last one."""
        changed = self._store.execute(
            "INSERT INTO comms_replay (auth_key, advisor_id, last_nonce, last_timestamp, updated_at) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (auth_key) DO UPDATE SET advisor_id = excluded.advisor_id, "
            "last_nonce = excluded.last_nonce, last_timestamp = excluded.last_timestamp, "
            "updated_at = excluded.updated_at WHERE excluded.last_nonce > comms_replay.last_nonce",
            (auth_key, advisor_id, nonce, timestamp, now),
        )
        return changed > 0

    def prune(self, before: int) -> int:
        """Forget keys that were not used since `before`; returns how many."""
        return self._store.execute("DELETE FROM comms_replay WHERE updated_at < ?", (before,))


class HeldStore:
    """Rows in, rows out; callers hold the transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, held: HeldAction) -> None:
        """Write a new one."""
        self._store.execute(
            "INSERT INTO comms_held_actions (action_id, advisor_id, schema_type, action, payload_json, nonce, danger, "
            "status, requested_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                held.action_id,
                held.advisor_id,
                held.schema_type,
                held.action,
                json.dumps(held.payload, sort_keys=True),
                held.nonce,
                held.danger,
                held.status,
                held.requested_at,
                held.expires_at,
            ),
        )

    def by_id(self, action_id: str) -> HeldAction | None:
        """One of them, in whatever state."""
        row = self._store.one("SELECT * FROM comms_held_actions WHERE action_id = ?", (action_id,))
        return None if row is None else _held(dict(row))

    def waiting(self, limit: int) -> list[HeldAction]:
        """Those that wait, the oldest first."""
        rows = self._store.query(
            "SELECT * FROM comms_held_actions WHERE status = 'held' ORDER BY requested_at, action_id LIMIT ?", (limit,)
        )
        return [_held(dict(row)) for row in rows]

    def count(self, advisor_id: str = "") -> int:
        """How many wait; with an advisor, of that one."""
        return int(
            self._store.value(
                "SELECT count(*) FROM comms_held_actions WHERE status = 'held' AND ? IN ('', advisor_id)", (advisor_id,)
            )
        )

    def due(self, now: int) -> list[HeldAction]:
        """Those that wait longer than they may."""
        rows = self._store.query(
            "SELECT * FROM comms_held_actions WHERE status = 'held' AND expires_at <= ? ORDER BY action_id", (now,)
        )
        return [_held(dict(row)) for row in rows]

    def decide(self, action_id: str, status: str, now: int, reason: str) -> bool:
        """End the wait of one; False when it does not wait any more."""
        changed = self._store.execute(
            "UPDATE comms_held_actions SET status = ?, decided_at = ?, reason = ? "
            "WHERE action_id = ? AND status = 'held'",
            (status, now, reason, action_id),
        )
        return changed > 0

    def prune(self, before: int) -> int:
        """Remove those that were decided before `before`; returns how many."""
        return self._store.execute(
            "DELETE FROM comms_held_actions WHERE status <> 'held' AND decided_at < ?", (before,)
        )


def _held(row: dict[str, Any]) -> HeldAction:
    payload = json.loads(row.pop("payload_json"))
    return HeldAction(payload=payload, **row)
