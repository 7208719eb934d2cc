"""What follows once a plan has its quorum: the operator's yes, what this node pays by it, and closing the week."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from cl_hive.errors import SettlementNotReadyError, UndecidedError
from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.settlement_plan import Contribution, Line, Plan, make_plan, previous
from cl_hive.services.actions import Actions
from cl_hive.services.limits import Counters
from cl_hive.services.membership import Membership
from cl_hive.services.post import Post
from cl_hive.services.settlement_hold import Findings, Hold
from cl_hive.storage.actions import Action
from cl_hive.storage.settlement_inputs import InputStore
from cl_hive.storage.settlement_payments import PaymentStore
from cl_hive.storage.settlements import Proposal, SettlementStore

OPEN: Final = ("pending", "ready")


@dataclass(frozen=True)
class Execution:
    """What this node may pay now: a plan with quorum, and the operator's yes."""

    proposal: Proposal
    plan: Plan
    lines: tuple[Line, ...]
    action_id: int
    approved: bool


def plan_of(proposal: Proposal) -> Plan | None:
    """The plan of a proposal; None when its figures do not give the plan that was voted for.

    That is so for proposals of older installations, which rounded otherwise: what they agreed on is not paid here.
    """
    if any(wire.CONTRIBUTION(entry) for entry in proposal.contributions):
        return None
    try:
        plan = make_plan(proposal.period, [Contribution.of(entry) for entry in proposal.contributions])
    except ValueError:
        return None
    return plan if (plan.data_hash, plan.plan_hash) == (proposal.data_hash, proposal.plan_hash) else None


class Executions:
    """Everything between a quorum and a settled week, apart from paying, which is the payer's work."""

    def __init__(
        self,
        membership: Membership,
        store: SettlementStore,
        inputs: InputStore,
        payments: PaymentStore,
        actions: Actions,
        hold: Hold,
        post: Post,
        counters: Counters,
        now: Callable[[], int],
        deliver: Callable[[], None],
    ) -> None:
        """Args: deliver: sends what was queued now instead of soon."""
        self.store = store
        self.payments = payments
        self.actions = actions
        self.hold = hold
        self._inputs = inputs
        self._membership = membership
        self._me = membership.me
        self._post = post
        self._counters = counters
        self._now = now
        self._deliver = deliver

    def ready(self) -> list[tuple[Proposal, Plan]]:
        """Plans with quorum that are not settled, oldest first."""
        found = [(proposal, plan_of(proposal)) for proposal in reversed(self.store.with_status(("ready",)))]
        return [(proposal, plan) for proposal, plan in found if plan is not None]

    def owing(self) -> list[tuple[Proposal, Plan]]:
        """Those by which this node has still to pay."""
        return [(proposal, plan) for proposal, plan in self.ready() if self.unpaid(plan)]

    def execution(self) -> Execution:
        """The oldest plan with quorum, what this node pays by it, and whether the operator has agreed.

        Raises:
            SettlementHeldError: a restore has not been reconciled.
            SettlementNotReadyError: there is no such plan.
        """
        self.hold.check()
        mine = self.owing()
        if not mine:
            self._say_why_not()
        return self._execution(*mine[0])

    def approve(self, action_id: int) -> tuple[Action, Execution]:
        """The operator says yes to a plan, as long as that plan stands.

        Raises:
            SettlementHeldError: a restore has not been reconciled.
            NotFoundError, ActionClosedError, RefusedError: see `Actions.approve`.
            SettlementNotReadyError: another plan has taken its place.
        """
        self.hold.check()
        with self.store.store.atomic():
            action = self.actions.approve(action_id)
            named = (action.payload.get("proposal_id"), action.payload.get("plan_hash"))
            found = [pair for pair in self.ready() if (pair[0].proposal_id, pair[0].plan_hash) == named]
            if not found:
                raise SettlementNotReadyError(
                    f"the plan of action {action_id} does not stand any more; reject the action", reason="replaced"
                )
        return action, self._execution(*found[0])

    def _execution(self, proposal: Proposal, plan: Plan) -> Execution:
        action_id, approved = self.actions.answer(proposal)
        if not action_id:
            action_id = self.actions.queue(proposal, plan, self._me)
        offers = {line.to_peer_id: self._inputs.offer(line.to_peer_id) for line in plan.of_payer(self._me)}
        self.payments.open_period(proposal.proposal_id, plan, self._me, offers)
        return Execution(proposal, plan, plan.of_payer(self._me), action_id, approved)

    def unpaid(self, plan: Plan) -> list[Line]:
        """Payments of this node by a plan that are not known to have arrived."""
        paid = {entry.to_peer_id: entry.amount_sats for entry in self.payments.completed(plan.period, self._me)}
        return [line for line in plan.of_payer(self._me) if paid.get(line.to_peer_id) != line.amount_sats]

    def after_payments(self, proposal_id: str) -> bool:
        """Tell the others once everything this node owes by a proposal has arrived. Returns whether it has."""
        known = self.store.proposal(proposal_id)
        if known is not None and known.status == "completed":
            return True  # time was quicker than whoever paid
        found = next((pair for pair in self.ready() if pair[0].proposal_id == proposal_id), None)
        if found is None or self.unpaid(found[1]):
            return False
        proposal, plan = found
        due = plan.due().get(self._me, 0)
        if due and self._me not in self.store.executed(proposal_id):
            self._report(proposal, due)
        with self.store.store.atomic():
            self.close(proposal, plan)
        return True

    def reconcile(self, paid: Collection[str], unpaid: Collection[str]) -> Findings:
        """Compare with lightningd; see `Hold.reconcile`. Afterwards the others are told what turned out to be paid.

        Raises:
            UndecidedError: the operator decides about a payment that is under way.
        """
        plans = [plan_of(proposal) for proposal in self.store.with_status(OPEN)]
        owed = [(plan.period, line) for plan in plans if plan for line in plan.of_payer(self._me)]
        found = self.hold.reconcile(owed, paid, unpaid)
        decided = {*paid, *unpaid}
        if under_way := [entry for entry in found.undecided if entry["label"] in decided]:
            raise UndecidedError(
                f"{under_way[0]['label']} is under way in lightningd, which decides and not the operator",
                undecided=found.undecided,
            )
        for proposal, _ in self.ready():
            self.payments.mirror(proposal.period, self._me, self._now())
            self.after_payments(proposal.proposal_id)
        return found

    def ask_operator(self, proposal: Proposal, plan: Plan) -> None:
        """Queue the action once; a no of the operator stands."""
        if self.unpaid(plan) and not self.actions.asked(proposal):
            self.actions.queue(proposal, plan, self._me)

    def close(self, proposal: Proposal, plan: Plan) -> None:
        """Settle the period when every payer has reported what it owed."""
        if self.store.executed(proposal.proposal_id) != plan.due() or self.unpaid(plan):
            return
        now = self._now()
        self.store.settle(proposal, plan.total_sats, now)
        self.payments.close_period(proposal.period, now)
        self.actions.finish(proposal)
        self._counters.add("settlement_completed")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _report(self, proposal: Proposal, due: int) -> None:
        entries = self.payments.completed(proposal.period, self._me)
        payload = self._post.sign(
            wire.SETTLEMENT_EXECUTED,
            {
                "proposal_id": proposal.proposal_id,
                "executor_peer_id": self._me,
                "plan_hash": proposal.plan_hash,
                "total_sent_sats": due,
                "payment_hash": entries[0].payment_hash,
                "amount_paid_sats": due,
                "timestamp": self._now(),
            },
        )
        with self.store.store.atomic():
            self.store.put_execution(
                proposal.proposal_id,
                self._me,
                payload["payment_hash"],
                due,
                payload["timestamp"],
                payload["signature"],
                proposal.plan_hash,
            )
            self._post.reliable(self._membership.others(), wire.SETTLEMENT_EXECUTED, payload)
        self._deliver()

    def _say_why_not(self) -> None:
        period = previous(self._now())
        if self.store.is_settled(period):
            raise SettlementNotReadyError(f"{period} is settled already; nothing is paid again", reason="settled")
        if self.ready():
            raise SettlementNotReadyError(
                "this node owes nothing, or has paid all it owed; others have still to pay", reason="paid"
            )
        proposal = self.store.of_period(period)
        if proposal is None:
            raise SettlementNotReadyError(
                f"nobody has proposed a settlement of {period}; members do so once all have reported their fees",
                reason="no_proposal",
            )
        if proposal.status == "ready":
            raise SettlementNotReadyError(
                f"{period} was agreed on by an older installation, and this release comes to another plan; "
                "settle it by hand",
                reason="other_plan",
            )
        votes = len(self.store.voters(proposal.proposal_id))
        raise SettlementNotReadyError(
            f"the proposal for {period} is {proposal.status}: {votes} of {proposal.quorum} votes", reason="no_quorum"
        )
