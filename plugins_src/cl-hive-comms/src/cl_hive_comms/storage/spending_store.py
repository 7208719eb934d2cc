"""`comms_spending` (what this plugin pays) and `comms_payments` (what somebody reports as paid), and their sums."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from hive_kit.store import Store

RESERVED, PAID, FAILED = "reserved", "paid", "failed"
BY_PAY, BY_RECOUNT = "pay", "recount"
DAY = 86_400
WEEK = 7 * DAY
# What counts: everything reported, and everything paid here or perhaps paid. What failed came back.
_COUNTED = (
    "SELECT advisor_id, amount_sats AS sats, created_at FROM comms_payments UNION ALL "
    "SELECT advisor_id, counted_sats, created_at FROM comms_spending WHERE status <> 'failed'"
)


@dataclass(frozen=True)
class Spend:
    """One payment for one advisor and nonce. `counted_sats` counts towards the limits: with the highest fee allowed
    while the outcome is open, then what was really sent."""

    advisor_id: str
    nonce: int
    payment_hash: str
    bolt11: str
    amount_sats: int
    counted_sats: int
    status: str
    source: str
    note: str
    created_at: int
    settled_at: int = 0


class SpendingStore:
    """Rows in, rows out; callers hold the transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, advisor_id: str, nonce: int) -> Spend | None:
        """The payment of an advisor and nonce."""
        return _spend(
            self._store.one("SELECT * FROM comms_spending WHERE advisor_id = ? AND nonce = ?", (advisor_id, nonce))
        )

    def by_hash(self, payment_hash: str) -> Spend | None:
        """The payment of an invoice that is paid or may be."""
        return _spend(
            self._store.one(
                "SELECT * FROM comms_spending WHERE payment_hash = ? AND status <> 'failed' LIMIT 1", (payment_hash,)
            )
        )

    def open(self) -> list[Spend]:
        """Those whose outcome is not known."""
        rows = self._store.query("SELECT * FROM comms_spending WHERE status = 'reserved' ORDER BY created_at")
        return [Spend(**dict(row)) for row in rows]

    def save(self, spend: Spend) -> None:
        """Insert, or replace what is known of this advisor and nonce."""
        self._store.execute(
            "INSERT OR REPLACE INTO comms_spending (advisor_id, nonce, payment_hash, bolt11, amount_sats, "
            "counted_sats, status, source, note, created_at, settled_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                spend.advisor_id,
                spend.nonce,
                spend.payment_hash,
                spend.bolt11,
                spend.amount_sats,
                spend.counted_sats,
                spend.status,
                spend.source,
                spend.note,
                spend.created_at,
                spend.settled_at,
            ),
        )

    def record(self, payment_id: str, advisor_id: str, amount_sats: int, kind: str, note: str, now: int) -> None:
        """Write down a payment that somebody else made."""
        self._store.execute(
            "INSERT INTO comms_payments (payment_id, advisor_id, amount_sats, kind, note, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (payment_id, advisor_id, amount_sats, kind, note, now),
        )

    def history(self, limit: int, advisor_id: str = "") -> list[dict[str, Any]]:
        """Payments of both kinds, the newest first."""
        rows = self._store.query(
            "SELECT payment_id, advisor_id, NULL AS nonce, '' AS payment_hash, amount_sats, amount_sats AS "
            "counted_sats, kind, 'recorded' AS status, note, created_at FROM comms_payments "
            "WHERE ?1 IN ('', advisor_id) UNION ALL "
            "SELECT 'hive-pay:' || advisor_id || ':' || nonce, advisor_id, nonce, payment_hash, amount_sats, "
            "counted_sats, 'bolt11', status, note, created_at FROM comms_spending "
            "WHERE ?1 IN ('', advisor_id) ORDER BY created_at DESC, 1 LIMIT ?2",
            (advisor_id, limit),
        )
        return [dict(row) for row in rows]

    def sums(self, now: int, advisor_id: str = "") -> dict[str, int]:
        """Satoshis that count: {total_sats, day_sats, week_sats}; day and week are rolling.

        What carries a time in the future (the clock was put back) counts in every window.
        """
        row = self._store.one(
            "SELECT coalesce(sum(sats), 0) AS total_sats, "
            "coalesce(sum(sats) FILTER (WHERE created_at > ?2), 0) AS day_sats, "
            "coalesce(sum(sats) FILTER (WHERE created_at > ?3), 0) AS week_sats "
            f"FROM ({_COUNTED}) WHERE ?1 IN ('', advisor_id)",
            (advisor_id, now - DAY, now - WEEK),
        )
        assert row is not None  # an aggregate always gives a row
        return {key: int(row[key]) for key in row.keys()}  # noqa: SIM118 - iterating a sqlite3.Row gives its values

    def open_sats(self) -> int:
        """Satoshis of the payments whose outcome is not known."""
        return int(
            self._store.value("SELECT coalesce(sum(counted_sats), 0) FROM comms_spending WHERE status = 'reserved'")
        )


def _spend(row: sqlite3.Row | None) -> Spend | None:
    return None if row is None else Spend(**dict(row))
