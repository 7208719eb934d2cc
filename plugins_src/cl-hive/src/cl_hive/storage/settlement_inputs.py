"""What a settlement is made of: fee_reports (who earned what in a week), settlement_offers (where to pay whom)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_kit.store import Store


@dataclass(frozen=True)
class FeeReport:
    """What a member said it earned in a period: sats, and a count of forwards. Times are unix seconds."""

    peer_id: str
    period: str
    fees_earned_sats: int
    forward_count: int
    period_start: int
    period_end: int
    received_at: int
    rebalance_costs_sats: int

    def figures(self) -> tuple[int, int, int]:
        """(fees, costs, forwards): all of them only grow while a week lasts."""
        return self.fees_earned_sats, self.rebalance_costs_sats, self.forward_count


class InputStore:
    """Fee reports by member and period, and the offer of each member."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def report(self, peer_id: str, period: str) -> FeeReport | None:
        """What a member reported for a period."""
        row = self.store.one("SELECT * FROM fee_reports WHERE peer_id = ? AND period = ?", (peer_id, period))
        return None if row is None else FeeReport(**dict(row))

    def reports(self, period: str) -> list[FeeReport]:
        """All reports for a period."""
        rows = self.store.query("SELECT * FROM fee_reports WHERE period = ? ORDER BY peer_id", (period,))
        return [FeeReport(**dict(row)) for row in rows]

    def put_report(self, report: FeeReport) -> None:
        """Keep a report in place of the one before."""
        self.store.execute(
            "INSERT OR REPLACE INTO fee_reports (peer_id, period, fees_earned_sats, forward_count, period_start, "
            "period_end, received_at, rebalance_costs_sats) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                report.peer_id,
                report.period,
                report.fees_earned_sats,
                report.forward_count,
                report.period_start,
                report.period_end,
                report.received_at,
                report.rebalance_costs_sats,
            ),
        )

    def prune(self, before: int) -> None:
        """Drop the reports of periods that ended before a moment."""
        self.store.execute("DELETE FROM fee_reports WHERE period_end < ?", (before,))

    # -- offers -------------------------------------------------------------------------------------------------------

    def offer(self, peer_id: str) -> str:
        """Where to pay a member, "" when it has not said."""
        found = self.store.value(
            "SELECT bolt12_offer FROM settlement_offers WHERE peer_id = ? AND active = 1", (peer_id,)
        )
        return str(found or "")

    def put_offer(self, peer_id: str, offer: str, now: int) -> bool:
        """Keep a member's offer. Returns whether it is another than before."""
        changed = self.store.execute(
            "INSERT INTO settlement_offers (peer_id, bolt12_offer, registered_at, last_verified, active) "
            "VALUES (?, ?, ?, ?, 1) ON CONFLICT (peer_id) DO UPDATE SET bolt12_offer = excluded.bolt12_offer, "
            "registered_at = excluded.registered_at, last_verified = excluded.last_verified, active = 1 "
            "WHERE bolt12_offer <> excluded.bolt12_offer OR active <> 1",
            (peer_id, offer, now, now),
        )
        return changed > 0

    def offers(self) -> list[dict[str, Any]]:
        """All offers."""
        rows = self.store.query("SELECT * FROM settlement_offers ORDER BY peer_id")
        return [{**dict(row), "active": bool(row["active"])} for row in rows]
