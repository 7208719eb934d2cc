"""`comms_advisors`, `comms_advisor_auth`, `comms_aliases`, and the count of running `comms_trials`."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from hive_kit.store import Store


@dataclass(frozen=True)
class Advisor:
    """Somebody who may manage this node. `advisor_ref` is what the operator typed: a DID, an npub, a name."""

    advisor_id: str
    advisor_ref: str
    permissions: tuple[str, ...]
    status: str
    daily_limit_sats: int
    note: str


@dataclass(frozen=True)
class Alias:
    """A short name for an advisor."""

    alias: str
    advisor_id: str
    created_at: int
    updated_at: int


class AdvisorStore:
    """Rows in, rows out; callers hold the transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def by_id(self, advisor_id: str) -> Advisor | None:
        """The advisor of that id, active or revoked."""
        return _advisor(self._store.one("SELECT * FROM comms_advisors WHERE advisor_id = ?", (advisor_id,)))

    def by_alias(self, alias: str) -> Advisor | None:
        """The advisor that an alias names."""
        return _advisor(
            self._store.one(
                "SELECT a.* FROM comms_aliases JOIN comms_advisors a USING (advisor_id) WHERE comms_aliases.alias = ?",
                (alias,),
            )
        )

    def save(self, advisor: Advisor, now: int) -> None:
        """Insert, or change everything but the reference and the time of creation."""
        self._store.execute(
            "INSERT INTO comms_advisors "
            "(advisor_id, advisor_ref, permissions_json, status, daily_limit_sats, note, created_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (advisor_id) DO UPDATE SET "
            "permissions_json = excluded.permissions_json, status = excluded.status, "
            "daily_limit_sats = excluded.daily_limit_sats, note = excluded.note, updated_at = excluded.updated_at",
            (
                advisor.advisor_id,
                advisor.advisor_ref,
                json.dumps(advisor.permissions),
                advisor.status,
                advisor.daily_limit_sats,
                advisor.note,
                now,
                now,
            ),
        )

    def count(self, status: str) -> int:
        """How many advisors have that status."""
        return int(self._store.value("SELECT count(*) FROM comms_advisors WHERE status = ?", (status,)))

    def sealed_token(self, advisor_id: str) -> str | None:
        """The advisor's token as it is stored, sealed."""
        token = self._store.value("SELECT auth_token FROM comms_advisor_auth WHERE advisor_id = ?", (advisor_id,))
        return None if token is None else str(token)

    def set_sealed_token(self, advisor_id: str, sealed: str, now: int) -> None:
        """Give an advisor a token."""
        self._store.execute("INSERT INTO comms_advisor_auth VALUES (?, ?, ?, ?)", (advisor_id, sealed, now, now))

    def delete_token(self, advisor_id: str) -> None:
        """Take the token away."""
        self._store.execute("DELETE FROM comms_advisor_auth WHERE advisor_id = ?", (advisor_id,))

    def sealed_tokens(self) -> int:
        """How many sealed tokens the database holds."""
        return int(self._store.value("SELECT count(*) FROM comms_advisor_auth"))

    def aliases(self, limit: int) -> list[Alias]:
        """Aliases in order of name."""
        return [
            Alias(**dict(row))
            for row in self._store.query("SELECT * FROM comms_aliases ORDER BY alias LIMIT ?", (limit,))
        ]

    def alias(self, alias: str) -> Alias | None:
        """One alias, or None."""
        row = self._store.one("SELECT * FROM comms_aliases WHERE alias = ?", (alias,))
        return None if row is None else Alias(**dict(row))

    def set_alias(self, alias: str, advisor_id: str, now: int) -> None:
        """Name an advisor; `comms_advisors.alias` shows the newest name."""
        self._store.execute(
            "INSERT INTO comms_aliases VALUES (?, ?, ?, ?) ON CONFLICT (alias) DO UPDATE SET "
            "advisor_id = excluded.advisor_id, updated_at = excluded.updated_at",
            (alias, advisor_id, now, now),
        )
        self._show_newest_alias()

    def remove_alias(self, alias: str) -> bool:
        """Forget a name; returns whether it existed."""
        removed = self._store.execute("DELETE FROM comms_aliases WHERE alias = ?", (alias,)) > 0
        self._show_newest_alias()
        return removed

    def active_trials(self, now: int) -> int:
        """Trials that run at `now`."""
        return int(
            self._store.value("SELECT count(*) FROM comms_trials WHERE status = 'active' AND ends_at > ?", (now,))
        )

    def _show_newest_alias(self) -> None:
        self._store.execute(
            "UPDATE comms_advisors SET alias = (SELECT alias FROM comms_aliases "
            "WHERE comms_aliases.advisor_id = comms_advisors.advisor_id ORDER BY updated_at DESC, alias LIMIT 1)"
        )


def _advisor(row: sqlite3.Row | None) -> Advisor | None:
    if row is None:
        return None
    return Advisor(
        row["advisor_id"],
        row["advisor_ref"],
        tuple(json.loads(row["permissions_json"])),
        row["status"],
        row["daily_limit_sats"],
        row["note"],
    )
