"""Reliable delivery: proto_outbox (what must still arrive) and proto_events (what arrived before)."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Final

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

FIRST_RETRY_SECONDS: Final = 30
LONGEST_RETRY_SECONDS: Final = 3600
MAX_TRIES: Final = 20
LIFETIME_SECONDS: Final = 24 * 3600
MAX_IN_FLIGHT_PER_PEER: Final = 10
MAX_OUTBOX_ROWS: Final = 100_000
MAX_EVENT_ROWS: Final = 500_000
EVENT_RETENTION_SECONDS: Final = 30 * 24 * 3600
DONE_RETENTION_SECONDS: Final = 24 * 3600


@dataclass(frozen=True)
class Parcel:
    """A message on its way to one peer."""

    id: int
    msg_id: str
    peer_id: str
    msg_type: int
    payload: dict[str, Any]
    retry_count: int


def retry_delay(tries: int, chance: float) -> int:
    """Seconds until the next try: doubling, at most an hour, plus up to a quarter by chance (0 to 1)."""
    pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** max(0, tries - 1))
    return int(pause * (1 + 0.25 * chance))


class Outbox:
    """Messages that are sent again until they are acknowledged, given up or too old."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, msg_id: str, peer_id: str, msg_type: int, payload: dict[str, Any], now: int) -> None:
        """Queue a message for a peer; the same message twice is once. A full outbox drops its oldest row."""
        with self.store.atomic():
            surplus = int(self.store.value("SELECT COUNT(*) FROM proto_outbox")) - MAX_OUTBOX_ROWS + 1
            if surplus > 0:
                self.store.execute(
                    "DELETE FROM proto_outbox WHERE id IN (SELECT id FROM proto_outbox ORDER BY id LIMIT ?)", (surplus,)
                )
            self.store.execute(
                "INSERT OR IGNORE INTO proto_outbox "
                "(msg_id, peer_id, msg_type, payload_json, created_at, next_retry_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (msg_id, peer_id, msg_type, canonical_json(payload), now, now, now + LIFETIME_SECONDS),
            )

    def due(self, now: int) -> list[Parcel]:
        """What should be sent now, oldest first, not too much for one peer. Expired rows are closed."""
        self.store.execute(
            "UPDATE proto_outbox SET status = 'expired', last_error = 'not acknowledged in time' "
            "WHERE status IN ('queued', 'sent') AND expires_at <= ?",
            (now,),
        )
        rows = self.store.query(
            "SELECT * FROM proto_outbox WHERE status IN ('queued', 'sent') AND next_retry_at <= ? ORDER BY id", (now,)
        )
        parcels: list[Parcel] = []
        share: dict[str, int] = {}
        for row in rows:
            share[row["peer_id"]] = share.get(row["peer_id"], 0) + 1
            if share[row["peer_id"]] <= MAX_IN_FLIGHT_PER_PEER:
                parcels.append(
                    Parcel(
                        row["id"],
                        row["msg_id"],
                        row["peer_id"],
                        row["msg_type"],
                        json.loads(row["payload_json"]),
                        row["retry_count"],
                    )
                )
        return parcels

    def sent(self, parcel: Parcel, now: int, error: str = "") -> None:
        """Note a try, and when to try again."""
        tries = parcel.retry_count + 1
        status = "failed" if tries >= MAX_TRIES else "sent"
        self.store.execute(
            "UPDATE proto_outbox SET status = ?, sent_at = ?, retry_count = ?, next_retry_at = ?, last_error = ? "
            "WHERE id = ?",
            (status, now, tries, now + retry_delay(tries, random.random()), error or None, parcel.id),
        )

    def acked(self, msg_id: str, peer_id: str, now: int) -> bool:
        """Close a message. Returns whether one was open."""
        changed = self.store.execute(
            "UPDATE proto_outbox SET status = 'acked', acked_at = ? "
            "WHERE msg_id = ? AND peer_id = ? AND status IN ('queued', 'sent')",
            (now, msg_id, peer_id),
        )
        return changed > 0

    def refused(self, msg_id: str, peer_id: str, reason: str) -> bool:
        """Give up on a message that the peer calls invalid. Returns whether one was open."""
        changed = self.store.execute(
            "UPDATE proto_outbox SET status = 'failed', last_error = ? "
            "WHERE msg_id = ? AND peer_id = ? AND status IN ('queued', 'sent')",
            (reason, msg_id, peer_id),
        )
        return changed > 0

    def counts(self) -> dict[str, int]:
        """Rows per status."""
        rows = self.store.query("SELECT status, COUNT(*) AS n FROM proto_outbox GROUP BY status")
        return {str(row["status"]): int(row["n"]) for row in rows}

    def prune(self, now: int) -> None:
        """Drop closed rows after a day and events after 30 days, or when there are too many."""
        with self.store.atomic():
            self.store.execute(
                "DELETE FROM proto_outbox WHERE status NOT IN ('queued', 'sent') AND created_at < ?",
                (now - DONE_RETENTION_SECONDS - LIFETIME_SECONDS,),
            )
            self.store.execute("DELETE FROM proto_events WHERE created_at < ?", (now - EVENT_RETENTION_SECONDS,))
            surplus = int(self.store.value("SELECT COUNT(*) FROM proto_events")) - MAX_EVENT_ROWS
            if surplus > 0:
                self.store.execute(
                    "DELETE FROM proto_events WHERE event_id IN "
                    "(SELECT event_id FROM proto_events ORDER BY created_at LIMIT ?)",
                    (surplus,),
                )

    # -- events -------------------------------------------------------------------------------------------------------

    def is_known(self, event_id: str) -> bool:
        """Whether an event was handled before."""
        return self.store.value("SELECT 1 FROM proto_events WHERE event_id = ?", (event_id,)) is not None

    def remember(self, event_id: str, event_type: str, actor_id: str, created_at: int, now: int) -> bool:
        """Note that an event is handled. Returns False when it was before."""
        changed = self.store.execute(
            "INSERT OR IGNORE INTO proto_events VALUES (?, ?, ?, ?, ?)",
            (event_id, event_type, actor_id, created_at, now),
        )
        return changed > 0
