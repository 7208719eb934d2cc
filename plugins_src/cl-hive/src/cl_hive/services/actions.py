"""What the operator is asked: the queue of hive-pending-actions. In this release only settlement puts something in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hive_kit.errors import NotFoundError, RefusedError

from cl_hive.errors import ActionClosedError
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS
from cl_hive.protocol.settlement_plan import Plan
from cl_hive.storage.actions import Action, ActionStatus, ActionStore
from cl_hive.storage.settlements import Proposal

SETTLEMENT_EXECUTE: Final = "settlement_execute"
OPEN: Final[tuple[ActionStatus, ...]] = ("pending", "approved")


class Actions:
    """Actions and their answers."""

    def __init__(self, store: ActionStore, now: Callable[[], int]) -> None:
        self.store = store
        self._now = now

    # -- settlement ---------------------------------------------------------------------------------------------------

    def queue(self, proposal: Proposal, plan: Plan, payer: str) -> int:
        """Ask the operator whether this node shall pay by a plan. Returns the action's number."""
        lines = plan.of_payer(payer)
        payload = {
            "proposal_id": proposal.proposal_id,
            "period": proposal.period,
            "plan_hash": proposal.plan_hash,
            "total_sats": sum(line.amount_sats for line in lines),
            "payments": [{"to_peer_id": line.to_peer_id, "amount_sats": line.amount_sats} for line in lines],
        }
        return self.store.add(SETTLEMENT_EXECUTE, payload, self._now())

    def answer(self, proposal: Proposal) -> tuple[int, bool]:
        """(number, approved) of the open or approved action of a proposal; (0, False) when there is none.

        An approval is of one plan: the same week proposed anew is asked about anew.
        """
        for action in self._of(proposal):
            if action.status in OPEN:
                return action.id, action.status == "approved"
        return 0, False

    def asked(self, proposal: Proposal) -> bool:
        """Whether the operator was asked about a proposal and the question or its answer stands."""
        return any(action.status != "expired" for action in self._of(proposal))

    def finish(self, proposal: Proposal) -> None:
        """Everything of a proposal is paid."""
        for action in self._of(proposal):
            self.store.move(action.id, "approved", "executed")

    def supersede(self, proposal: Proposal) -> None:
        """Close the questions about other plans of the same period: this one has taken their place."""
        for action in self.store.of_type(SETTLEMENT_EXECUTE, 0):
            if action.payload.get("period") == proposal.period and not self._is_about(action, proposal):
                for status in OPEN:
                    self.store.move(action.id, status, "expired", "another plan took its place")

    def _of(self, proposal: Proposal) -> list[Action]:
        return [
            action
            for action in self.store.of_type(SETTLEMENT_EXECUTE, proposal.proposed_at - FUTURE_SKEW_SECONDS)
            if self._is_about(action, proposal)
        ]

    @staticmethod
    def _is_about(action: Action, proposal: Proposal) -> bool:
        about = (action.payload.get("proposal_id"), action.payload.get("plan_hash"))
        return about == (proposal.proposal_id, proposal.plan_hash)

    # -- the operator -------------------------------------------------------------------------------------------------

    def pending(self) -> list[Action]:
        """What waits for an answer."""
        self.store.expire(self._now())
        return self.store.with_status("pending")

    def approve(self, action_id: int) -> Action:
        """The operator says yes.

        Raises:
            NotFoundError, ActionClosedError: there is no such action, or it was answered.
            RefusedError: this release cannot do what it asks for.
        """
        action = self._open(action_id)
        if action.action_type != SETTLEMENT_EXECUTE:
            raise RefusedError(
                f"this release does not execute {action.action_type}; reject the action, or do it by hand",
                action_type=action.action_type,
            )
        self.store.move(action_id, "pending", "approved")
        return action

    def reject(self, action_id: int, reason: str) -> Action:
        """The operator says no.

        Raises:
            NotFoundError, ActionClosedError: there is no such action, or it was answered.
        """
        action = self._open(action_id)
        self.store.move(action_id, "pending", "rejected", reason or None)
        return action

    def _open(self, action_id: int) -> Action:
        self.store.expire(self._now())
        action = self.store.get(action_id)
        if action is None:
            raise NotFoundError(f"Action not found: {action_id}; hive-pending-actions lists them")
        if action.status != "pending":
            status: ActionStatus = action.status
            text = "Action has expired" if status == "expired" else f"Action already {status}"
            raise ActionClosedError(f"{text}: {action_id}; hive-pending-actions lists the open ones", status=status)
        return action
