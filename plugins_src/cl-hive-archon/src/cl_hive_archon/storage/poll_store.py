"""`archon_polls` and `archon_votes`."""

from __future__ import annotations

from hive_kit.store import Store


class PollStore:
    """Counts of what is stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def counts(self) -> dict[str, int]:
        """{active_polls, completed_polls, total_polls, total_votes}."""
        by_status = {
            str(row["status"]): int(row["number"])
            for row in self._store.query("SELECT status, count(*) AS number FROM archon_polls GROUP BY status")
        }
        return {
            "active_polls": by_status.get("active", 0),
            "completed_polls": by_status.get("completed", 0),
            "total_polls": sum(by_status.values()),
            "total_votes": int(self._store.value("SELECT count(*) FROM archon_votes")),
        }
