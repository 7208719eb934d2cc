"""What the hive agreed on: settlement_proposals, settlement_ready_votes, settlement_executions, settled_periods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

ProposalStatus = Literal["pending", "ready", "completed", "expired"]
MAX_SHOWN: Final = 100


@dataclass(frozen=True)
class Proposal:
    """A row of settlement_proposals; `contributions` are the documents the plan is made of."""

    proposal_id: str
    period: str
    proposer_peer_id: str
    proposed_at: int
    expires_at: int
    status: ProposalStatus
    data_hash: str
    plan_hash: str
    total_fees_sats: int
    member_count: int
    contributions: tuple[dict[str, Any], ...]

    @property
    def quorum(self) -> int:
        """How many votes make it ready."""
        return self.member_count // 2 + 1

    def shown(self) -> dict[str, Any]:
        """For the operator: without the figures, which hive-settlement-calculate shows."""
        return {
            "proposal_id": self.proposal_id,
            "period": self.period,
            "proposer_peer_id": self.proposer_peer_id,
            "proposed_at": self.proposed_at,
            "expires_at": self.expires_at,
            "status": self.status,
            "data_hash": self.data_hash,
            "plan_hash": self.plan_hash,
            "total_fees_sats": self.total_fees_sats,
            "member_count": self.member_count,
            "quorum": self.quorum,
        }


class SettlementStore:
    """Proposals with their votes and executions. One proposal per period; a settled period has none that is open."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- proposals ----------------------------------------------------------------------------------------------------

    def proposal(self, proposal_id: str) -> Proposal | None:
        """One proposal."""
        row = self.store.one("SELECT * FROM settlement_proposals WHERE proposal_id = ?", (proposal_id,))
        return None if row is None else _proposal(row)

    def of_period(self, period: str) -> Proposal | None:
        """The proposal of a period, whatever became of it."""
        row = self.store.one("SELECT * FROM settlement_proposals WHERE period = ?", (period,))
        return None if row is None else _proposal(row)

    def with_status(self, statuses: Sequence[ProposalStatus], limit: int = MAX_SHOWN) -> list[Proposal]:
        """The latest proposals of some statuses."""
        marks = ", ".join("?" for _ in statuses)
        rows = self.store.query(
            f"SELECT * FROM settlement_proposals WHERE status IN ({marks}) ORDER BY period DESC LIMIT ?",
            (*statuses, limit),
        )
        return [_proposal(row) for row in rows]

    def put(self, proposal: Proposal) -> None:
        """Keep a proposal as the one of its period; the one before, and its votes, are dropped."""
        with self.store.atomic():
            for table in ("settlement_ready_votes", "settlement_executions"):
                self.store.execute(
                    f"DELETE FROM {table} WHERE proposal_id IN "
                    "(SELECT proposal_id FROM settlement_proposals WHERE period = ?)",
                    (proposal.period,),
                )
            self.store.execute("DELETE FROM settlement_proposals WHERE period = ?", (proposal.period,))
            self.store.execute(
                "INSERT INTO settlement_proposals (proposal_id, period, proposer_peer_id, proposed_at, expires_at, "
                "status, data_hash, plan_hash, total_fees_sats, member_count, last_broadcast_at, contributions_json) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    proposal.proposal_id,
                    proposal.period,
                    proposal.proposer_peer_id,
                    proposal.proposed_at,
                    proposal.expires_at,
                    proposal.status,
                    proposal.data_hash,
                    proposal.plan_hash,
                    proposal.total_fees_sats,
                    proposal.member_count,
                    proposal.proposed_at,
                    canonical_json(list(proposal.contributions)),
                ),
            )

    def set_status(self, proposal_id: str, before: ProposalStatus, after: ProposalStatus) -> bool:
        """Move a proposal on. Returns False when it was not where it should be."""
        changed = self.store.execute(
            "UPDATE settlement_proposals SET status = ? WHERE proposal_id = ? AND status = ?",
            (after, proposal_id, before),
        )
        return changed > 0

    def expire(self, now: int) -> int:
        """Close what found no quorum in time. Returns how many."""
        return self.store.execute(
            "UPDATE settlement_proposals SET status = 'expired' WHERE status = 'pending' AND expires_at <= ?", (now,)
        )

    # -- votes and executions -----------------------------------------------------------------------------------------

    def vote(self, proposal_id: str, voter: str, data_hash: str, voted_at: int, signature: str) -> bool:
        """Count a vote whose signature was verified. Returns False when the voter had voted."""
        changed = self.store.execute(
            "INSERT OR IGNORE INTO settlement_ready_votes VALUES (?, ?, ?, ?, ?)",
            (proposal_id, voter, data_hash, voted_at, signature),
        )
        return changed > 0

    def voters(self, proposal_id: str) -> set[str]:
        """Who has voted for a proposal."""
        rows = self.store.query(
            "SELECT voter_peer_id FROM settlement_ready_votes WHERE proposal_id = ?", (proposal_id,)
        )
        return {str(row["voter_peer_id"]) for row in rows}

    def put_execution(
        self,
        proposal_id: str,
        executor: str,
        payment_hash: str,
        amount_sats: int,
        executed_at: int,
        signature: str,
        plan_hash: str,
    ) -> bool:
        """Keep a report whose signature was verified. Returns False when the payer had reported."""
        changed = self.store.execute(
            "INSERT OR IGNORE INTO settlement_executions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (proposal_id, executor, payment_hash, amount_sats, executed_at, signature, plan_hash),
        )
        return changed > 0

    def executed(self, proposal_id: str) -> dict[str, int]:
        """What each payer reported to have paid."""
        rows = self.store.query(
            "SELECT executor_peer_id, amount_paid_sats FROM settlement_executions WHERE proposal_id = ?", (proposal_id,)
        )
        return {str(row["executor_peer_id"]): int(row["amount_paid_sats"] or 0) for row in rows}

    # -- settled periods ----------------------------------------------------------------------------------------------

    def is_settled(self, period: str) -> bool:
        """Whether a period is done with."""
        return self.store.value("SELECT 1 FROM settled_periods WHERE period = ?", (period,)) is not None

    def settle(self, proposal: Proposal, total_sats: int, now: int) -> None:
        """Close a period for good: the guard against settling it again."""
        with self.store.atomic():
            self.store.execute(
                "INSERT OR IGNORE INTO settled_periods VALUES (?, ?, ?, ?)",
                (proposal.period, proposal.proposal_id, now, total_sats),
            )
            self.set_status(proposal.proposal_id, "ready", "completed")

    def settled(self, limit: int) -> list[dict[str, Any]]:
        """The latest settled periods."""
        rows = self.store.query("SELECT * FROM settled_periods ORDER BY period DESC LIMIT ?", (limit,))
        return [dict(row) for row in rows]


def documents(rows: str | None) -> tuple[dict[str, Any], ...]:
    """The contributions of a stored proposal; () when an older installation left something else there."""
    try:
        found = json.loads(rows or "[]")
    except ValueError:
        return ()
    entries: Iterable[Any] = found if isinstance(found, list) else ()
    return tuple(entry for entry in entries if isinstance(entry, dict))


def _proposal(row: Any) -> Proposal:
    return Proposal(
        proposal_id=row["proposal_id"],
        period=row["period"],
        proposer_peer_id=row["proposer_peer_id"],
        proposed_at=row["proposed_at"],
        expires_at=row["expires_at"],
        status=row["status"],
        data_hash=row["data_hash"],
        plan_hash=row["plan_hash"] or "",
        total_fees_sats=row["total_fees_sats"],
        member_count=row["member_count"],
        contributions=documents(row["contributions_json"]),
    )
