"""What this node pays: hive_settlement_journal, and its image in the field's settlement_{periods,payments,…} tables.

The journal decides. It is keyed by what a payment is for and not by the proposal, so that the same week agreed upon a
second time, as after a restore, is not paid a second time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

from cl_hive.protocol.settlement_plan import Line, Plan, bounds

EntryStatus = Literal["reserved", "completed", "failed"]


@dataclass(frozen=True)
class Entry:
    """A row of the journal. `source` says how it came there: paid, recognised (by its label), confirmed, or field."""

    id: int
    period: str
    from_peer_id: str
    to_peer_id: str
    amount_sats: int
    invoice: str
    payment_hash: str
    invoice_expires_at: int
    status: EntryStatus
    source: str
    reserved_at: int
    ended_at: int | None
    error: str

    def shown(self) -> dict[str, Any]:
        """For the operator."""
        return {
            "period": self.period,
            "to_peer_id": self.to_peer_id,
            "amount_sats": self.amount_sats,
            "payment_hash": self.payment_hash,
            "status": self.status,
            "source": self.source,
            "error": self.error,
        }


class PaymentStore:
    """Payments of this node."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- the journal --------------------------------------------------------------------------------------------------

    def live(self, period: str, payer: str, receiver: str) -> Entry | None:
        """The payment that was made or may have been made; None when there is none or all are known to have failed."""
        row = self.store.one(
            "SELECT * FROM hive_settlement_journal "
            "WHERE period = ? AND from_peer_id = ? AND to_peer_id = ? AND status <> 'failed'",
            (period, payer, receiver),
        )
        return None if row is None else Entry(**dict(row))

    def reserved(self) -> list[Entry]:
        """Payments whose end is not known."""
        rows = self.store.query("SELECT * FROM hive_settlement_journal WHERE status = 'reserved' ORDER BY id")
        return [Entry(**dict(row)) for row in rows]

    def completed(self, period: str, payer: str) -> list[Entry]:
        """Payments of a payer that arrived."""
        rows = self.store.query(
            "SELECT * FROM hive_settlement_journal WHERE period = ? AND from_peer_id = ? AND status = 'completed' "
            "ORDER BY to_peer_id",
            (period, payer),
        )
        return [Entry(**dict(row)) for row in rows]

    def reserve(
        self, proposal_id: str, period: str, line: Line, invoice: str, payment_hash: str, expires_at: int, now: int
    ) -> None:
        """Write down that a payment is about to be made. Nothing is written when another one for the same is live."""
        with self.store.atomic():
            self.store.execute(
                "INSERT INTO hive_settlement_journal (period, from_peer_id, to_peer_id, amount_sats, invoice, "
                "payment_hash, invoice_expires_at, status, source, reserved_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 'reserved', 'paid', ?)",
                (period, line.from_peer_id, line.to_peer_id, line.amount_sats, invoice, payment_hash, expires_at, now),
            )
            self._image(proposal_id, line, payment_hash, "pending", now)

    def end(self, entry: Entry, status: EntryStatus, now: int, error: str = "") -> None:
        """Write down how a payment ended."""
        with self.store.atomic():
            self.store.execute(
                "UPDATE hive_settlement_journal SET status = ?, ended_at = ?, error = ? "
                "WHERE id = ? AND status = 'reserved'",
                (status, now, error, entry.id),
            )
            self._image_end(entry, status, now, error)

    def recognise(self, period: str, line: Line, payment_hash: str, source: str, now: int) -> None:
        """Write down a payment that was made and that this database does not know."""
        with self.store.atomic():
            self.store.execute(
                "UPDATE hive_settlement_journal SET status = 'failed', ended_at = ?, error = 'another one was paid' "
                "WHERE period = ? AND from_peer_id = ? AND to_peer_id = ? AND status = 'reserved'",
                (now, period, line.from_peer_id, line.to_peer_id),
            )
            self.store.execute(
                "INSERT INTO hive_settlement_journal (period, from_peer_id, to_peer_id, amount_sats, invoice, "
                "payment_hash, invoice_expires_at, status, source, reserved_at, ended_at) "
                "VALUES (?, ?, ?, ?, '', ?, 0, 'completed', ?, ?, ?)",
                (period, line.from_peer_id, line.to_peer_id, line.amount_sats, payment_hash, source, now, now),
            )
            self.mirror(period, line.from_peer_id, now)

    def paid_by_field(self, proposal_id: str, payer: str, receiver: str) -> tuple[int, str] | None:
        """(sats, payment hash) of a payment the monolith recorded for a proposal."""
        row = self.store.one(
            "SELECT amount_sats, payment_hash FROM settlement_sub_payments "
            "WHERE proposal_id = ? AND from_peer_id = ? AND to_peer_id = ? AND status = 'completed'",
            (proposal_id, payer, receiver),
        )
        return None if row is None else (int(row["amount_sats"]), str(row["payment_hash"] or ""))

    # -- the image in the field's tables ------------------------------------------------------------------------------

    def open_period(self, proposal_id: str, plan: Plan, payer: str, offers: dict[str, str]) -> int:
        """Make the rows of a period with its figures and this node's payments, once. Returns its number."""
        with self.store.atomic():
            found = self.period_id(plan.period)
            if found is not None:
                return found
            begin, end = bounds(plan.period)
            number = self.store.insert(
                "INSERT INTO settlement_periods (start_time, end_time, total_fees_sats, total_members, metadata) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    begin,
                    end,
                    plan.total_fees_sats,
                    len(plan.shares),
                    canonical_json({"period": plan.period, "proposal_id": proposal_id, "plan_hash": plan.plan_hash}),
                ),
            )
            for share in plan.shares:
                brought = share.contribution
                self.store.execute(
                    "INSERT INTO settlement_contributions (period_id, peer_id, capacity_sats, forwards_sats, "
                    "fees_earned_sats, uptime_pct, fair_share_sats, balance_sats, rebalance_costs_sats, "
                    "net_profit_sats) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        number,
                        brought.peer_id,
                        brought.capacity_sats,
                        brought.forward_count,  # the column is called sats, and has always held the count
                        brought.fees_earned_sats,
                        brought.uptime_pct,
                        share.fair_share_sats,
                        share.balance_sats,
                        brought.rebalance_costs_sats,
                        brought.net_profit_sats,
                    ),
                )
            for line in plan.of_payer(payer):
                self.store.execute(
                    "INSERT INTO settlement_payments (period_id, from_peer_id, to_peer_id, amount_sats, bolt12_offer) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (number, payer, line.to_peer_id, line.amount_sats, offers.get(line.to_peer_id, "")),
                )
            return number

    def mirror(self, period: str, payer: str, now: int) -> None:
        """Bring the image up to what the journal knows of a period, as after payments were recognised."""
        proposal = self.store.value("SELECT proposal_id FROM settlement_proposals WHERE period = ?", (period,))
        for entry in self.completed(period, payer):
            if proposal is not None:
                line = Line(entry.from_peer_id, entry.to_peer_id, entry.amount_sats)
                self._image(str(proposal), line, entry.payment_hash, "completed", now)
            self._image_end(entry, "completed", now, "")

    def close_period(self, period: str, now: int) -> None:
        """Every payer has paid."""
        self.store.execute(
            "UPDATE settlement_periods SET status = 'completed', settled_at = ? WHERE period_id = ?",
            (now, self.period_id(period)),
        )

    def period_id(self, period: str) -> int | None:
        """Number of a period's row."""
        begin, _ = bounds(period)
        found = self.store.value("SELECT MAX(period_id) FROM settlement_periods WHERE start_time = ?", (begin,))
        return None if found is None else int(found)

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The latest periods."""
        rows = self.store.query("SELECT * FROM settlement_periods ORDER BY period_id DESC LIMIT ?", (limit,))
        return [dict(row) for row in rows]

    def details(self, period_id: int) -> dict[str, Any] | None:
        """One period with its figures and payments."""
        row = self.store.one("SELECT * FROM settlement_periods WHERE period_id = ?", (period_id,))
        if row is None:
            return None
        tables = {
            "contributions": "SELECT * FROM settlement_contributions WHERE period_id = ? ORDER BY peer_id",
            "payments": "SELECT * FROM settlement_payments WHERE period_id = ? ORDER BY payment_id",
        }
        found = {name: [dict(r) for r in self.store.query(sql, (period_id,))] for name, sql in tables.items()}
        return {"period": dict(row), **found}

    def _image(self, proposal_id: str, line: Line, payment_hash: str, status: str, now: int) -> None:
        self.store.execute(
            "INSERT INTO settlement_sub_payments VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (proposal_id, from_peer_id, to_peer_id) DO UPDATE SET "
            "payment_hash = excluded.payment_hash, status = excluded.status, amount_sats = excluded.amount_sats",
            (proposal_id, line.from_peer_id, line.to_peer_id, line.amount_sats, payment_hash, status, now),
        )

    def _image_end(self, entry: Entry, status: EntryStatus, now: int, error: str) -> None:
        self.store.execute(
            "UPDATE settlement_sub_payments SET status = ? WHERE from_peer_id = ? AND to_peer_id = ? "
            "AND proposal_id IN (SELECT proposal_id FROM settlement_proposals WHERE period = ?)",
            (status, entry.from_peer_id, entry.to_peer_id, entry.period),
        )
        self.store.execute(
            "UPDATE settlement_payments SET status = ?, payment_hash = ?, paid_at = ?, error = ? "
            "WHERE period_id = ? AND from_peer_id = ? AND to_peer_id = ?",
            (
                status,
                entry.payment_hash,
                now if status == "completed" else None,
                error or None,
                self.period_id(entry.period),
                entry.from_peer_id,
                entry.to_peer_id,
            ),
        )

    # -- restores -----------------------------------------------------------------------------------------------------

    def is_reconciled(self, restore_key: str) -> bool:
        """Whether this restore was dealt with."""
        return self.store.value("SELECT 1 FROM hive_restores WHERE restore_key = ?", (restore_key,)) is not None

    def reconciled(
        self, restore_key: str, set_id: str, created_at: float, restored_at: float, now: int, findings: dict[str, Any]
    ) -> None:
        """Write down that a restore was dealt with."""
        self.store.execute(
            "INSERT OR REPLACE INTO hive_restores VALUES (?, ?, ?, ?, ?, ?)",
            (restore_key, set_id, created_at, restored_at, now, json.dumps(findings, sort_keys=True)),
        )
