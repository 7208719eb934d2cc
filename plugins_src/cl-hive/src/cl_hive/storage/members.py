"""Who belongs to the hive, and what proves it.

Tables: hive_members, hive_admissions, hive_departures, hive_bans, peer_capabilities.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

from cl_hive.protocol import records
from cl_hive.protocol.records import MembershipRecord


@dataclass(frozen=True)
class Member:
    """A row of hive_members. Times are unix seconds, `uptime_pct` is 0 to 1."""

    peer_id: str
    tier: str
    joined_at: int
    promoted_at: int | None = None
    contribution_ratio: float = 0.0
    uptime_pct: float = 0.0
    vouch_count: int = 0
    last_seen: int | None = None
    metadata: dict[str, Any] | None = None
    addresses: tuple[str, ...] = ()

    def hashed(self) -> dict[str, Any]:
        """The values the membership hash covers."""
        return {"peer_id": self.peer_id, "tier": self.tier, "joined_at": self.joined_at}

    def shown(self) -> dict[str, Any]:
        """The row as hive-members shows it: uptime in percent."""
        row = asdict(self)
        row["uptime_pct"] = round(self.uptime_pct * 100, 2)
        row["metadata"] = self.metadata or {}
        row["addresses"] = list(self.addresses)
        return row


@dataclass(frozen=True)
class Departure:
    """A member that left, with its signature over the MEMBER_LEFT, its last tier and when it had joined."""

    peer_id: str
    left_at: int
    tier: str
    joined_at: int
    reason: str
    signature: str

    def payload(self) -> dict[str, Any]:
        """The MEMBER_LEFT again."""
        return {
            "peer_id": self.peer_id,
            "timestamp": self.left_at,
            "reason": self.reason,
            "signature": self.signature,
        }


class MemberStore:
    """Rows of membership. All methods are short; callers put several into one `store.atomic()`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, peer_id: str) -> Member | None:
        """One member."""
        row = self.store.one("SELECT * FROM hive_members WHERE peer_id = ?", (peer_id,))
        return None if row is None else _member(row)

    def all(self) -> list[Member]:
        """All members, oldest first."""
        return [_member(row) for row in self.store.query("SELECT * FROM hive_members ORDER BY joined_at, peer_id")]

    def count(self) -> int:
        """How many members of any tier there are."""
        return int(self.store.value("SELECT COUNT(*) FROM hive_members"))

    def put(self, member: Member) -> None:
        """Insert or replace a member."""
        self.store.execute(
            """INSERT INTO hive_members (peer_id, tier, joined_at, promoted_at, contribution_ratio, uptime_pct,
                                         vouch_count, last_seen, metadata, addresses)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
               ON CONFLICT (peer_id) DO UPDATE SET tier = excluded.tier, joined_at = excluded.joined_at,
                   promoted_at = excluded.promoted_at, last_seen = excluded.last_seen, metadata = excluded.metadata,
                   addresses = excluded.addresses""",
            (
                member.peer_id,
                member.tier,
                member.joined_at,
                member.promoted_at,
                member.contribution_ratio,
                member.uptime_pct,
                member.vouch_count,
                member.last_seen,
                canonical_json(member.metadata or {}),
                canonical_json(list(member.addresses)),
            ),
        )

    def seen(self, peer_id: str, now: int) -> None:
        """Note that a member gave a sign of life."""
        self.store.execute("UPDATE hive_members SET last_seen = ? WHERE peer_id = ?", (now, peer_id))

    def set_addresses(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Keep where a member listens."""
        self.store.execute(
            "UPDATE hive_members SET addresses = ? WHERE peer_id = ?", (canonical_json(list(addresses)), peer_id)
        )

    def remove(self, peer_id: str) -> None:
        """Delete a member and what is known of its node."""
        for table in ("hive_members", "hive_state", "hive_signed_states", "peer_capabilities"):
            self.store.execute(f"DELETE FROM {table} WHERE peer_id = ?", (peer_id,))
        self.store.execute("DELETE FROM hive_nostr_bindings WHERE node_id = ?", (peer_id,))

    def forget_hive(self, own_id: str) -> None:
        """Delete the whole hive, as after leaving it.

        The own gossip version and the bans stay, and whom this node admitted, so that its tickets stay used up.
        """
        for table in ("hive_members", "peer_capabilities", "hive_nostr_bindings"):
            self.store.execute(f"DELETE FROM {table}")
        self.store.execute("DELETE FROM hive_departures WHERE peer_id <> ?", (own_id,))
        self.store.execute("DELETE FROM hive_admissions WHERE admitted_by <> ?", (own_id,))
        self.store.execute("DELETE FROM hive_state WHERE peer_id <> ?", (own_id,))
        self.store.execute("DELETE FROM hive_signed_states")

    # -- proofs -------------------------------------------------------------------------------------------------------

    def record(self, peer_id: str, joined_at: int) -> MembershipRecord | None:
        """The record that proves one membership."""
        text = self.store.value(
            "SELECT record_json FROM hive_admissions WHERE peer_id = ? AND joined_at = ?", (peer_id, joined_at)
        )
        return None if text is None else records.parse(json.loads(text))

    def put_record(self, record: MembershipRecord, now: int) -> None:
        """Keep a record; its signatures were verified."""
        self.store.execute(
            "INSERT OR REPLACE INTO hive_admissions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                record.peer_id,
                record.joined_at,
                record.hive_id,
                record.admitted_by,
                record.ticket.digest() if record.ticket else "",
                canonical_json(record.document()),
                now,
            ),
        )

    def ticket_users(self, ticket_digest: str) -> set[str]:
        """Nodes that were admitted with a ticket, also those that left again."""
        rows = self.store.query("SELECT peer_id FROM hive_admissions WHERE ticket_digest = ?", (ticket_digest,))
        return {str(row["peer_id"]) for row in rows}

    def departure(self, peer_id: str) -> Departure | None:
        """The last departure of a node."""
        row = self.store.one("SELECT * FROM hive_departures WHERE peer_id = ?", (peer_id,))
        return None if row is None else _departure(row)

    def departures(self, limit: int) -> list[Departure]:
        """The latest departures."""
        rows = self.store.query("SELECT * FROM hive_departures ORDER BY left_at DESC, peer_id LIMIT ?", (limit,))
        return [_departure(row) for row in rows]

    def put_departure(self, departure: Departure, now: int) -> None:
        """Keep a departure; its signature was verified."""
        self.store.execute(
            "INSERT OR REPLACE INTO hive_departures VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                departure.peer_id,
                departure.left_at,
                departure.tier,
                departure.joined_at,
                departure.reason,
                departure.signature,
                now,
            ),
        )

    def banned(self, peer_id: str, now: int) -> bool:
        """Whether a node is banned at this time."""
        return bool(
            self.store.value(
                "SELECT 1 FROM hive_bans WHERE peer_id = ? AND (expires_at IS NULL OR expires_at > ?)", (peer_id, now)
            )
        )

    def put_capabilities(self, peer_id: str, features: Sequence[str], version: str, now: int) -> None:
        """Keep what a joiner said of itself."""
        self.store.execute(
            "INSERT OR REPLACE INTO peer_capabilities VALUES (?, ?, 1, ?, ?)",
            (peer_id, canonical_json(list(features)), version, now),
        )


def _json(text: str | None, kind: type, default: Any) -> Any:
    # Rows of older installations may hold anything here.
    try:
        value = json.loads(text) if text else default
    except ValueError:
        return default
    return value if isinstance(value, kind) else default


def _member(row: sqlite3.Row) -> Member:
    return Member(
        peer_id=row["peer_id"],
        tier=row["tier"],
        joined_at=row["joined_at"],
        promoted_at=row["promoted_at"],
        contribution_ratio=row["contribution_ratio"] or 0.0,
        uptime_pct=row["uptime_pct"] or 0.0,
        vouch_count=row["vouch_count"] or 0,
        last_seen=row["last_seen"],
        metadata=_json(row["metadata"], dict, {}),
        addresses=tuple(str(entry) for entry in _json(row["addresses"], list, [])),
    )


def _departure(row: sqlite3.Row) -> Departure:
    return Departure(row["peer_id"], row["left_at"], row["tier"], row["joined_at"], row["reason"], row["signature"])
