"""The hive settles a week: somebody proposes, everybody checks and votes, each payer pays once its operator agrees."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS, MessageSpec
from cl_hive.protocol.settlement_plan import Contribution, Plan, bounds, make_plan, previous
from cl_hive.services.dispatcher import Handler
from cl_hive.services.limits import Counters
from cl_hive.services.membership import Membership
from cl_hive.services.post import Post
from cl_hive.services.settlement_execution import Executions, plan_of
from cl_hive.services.settlement_inputs import MAX_AGE_SECONDS, Inputs
from cl_hive.storage.settlements import Proposal

TICK_SECONDS: Final = 600
ANNOUNCE_SECONDS: Final = 3600
PROPOSAL_SECONDS: Final = 24 * 3600
# Each member waits an hour longer than the one before it, so that one of them proposes and not all at once.
TURN_SECONDS: Final = 3600
# Who has not reported by then has earned nothing.
PATIENCE_SECONDS: Final = 24 * 3600
OPEN: Final = ("pending", "ready")


class _RefusalError(Exception):
    """A message is not taken; the word is counted. `again`: it may be taken later."""

    def __init__(self, reason: str, text: str, *, again: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.again = again


class Settlement:
    """Proposals and what follows from them. Nothing in here pays: that is the payer's work."""

    def __init__(
        self,
        membership: Membership,
        inputs: Inputs,
        executions: Executions,
        post: Post,
        counters: Counters,
        now: Callable[[], int],
        deliver: Callable[[], None],
    ) -> None:
        """Args: deliver: sends what was queued now instead of soon."""
        self.store = executions.store
        self.inputs = inputs
        self.executions = executions
        self.payments = executions.payments
        self.actions = executions.actions
        self.hold = executions.hold
        self._membership = membership
        self._me = membership.me
        self._post = post
        self._counters = counters
        self._now = now
        self._deliver = deliver
        self._due: dict[str, int] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """What to do with each message of settlement."""
        return {
            "SETTLEMENT_OFFER": self.inputs.on_offer,
            "FEE_REPORT": self.inputs.on_report,
            "SETTLEMENT_PROPOSE": lambda peer, payload: self._take(
                peer, wire.SETTLEMENT_PROPOSE, payload, self._on_propose
            ),
            "SETTLEMENT_READY": lambda peer, payload: self._take(peer, wire.SETTLEMENT_READY, payload, self._on_ready),
            "SETTLEMENT_EXECUTED": lambda peer, payload: self._take(
                peer, wire.SETTLEMENT_EXECUTED, payload, self._on_executed
            ),
        }

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """What time brings: figures of the last week, a proposal, actions for the operator.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        if self._membership.own() is None or not self._is_due("tick", TICK_SECONDS):
            return
        now = self._now()
        self.store.expire(now)
        self.actions.store.expire(now)
        counted = self.inputs.close_week()
        if self._is_due("announce", ANNOUNCE_SECONDS) or counted:
            self.inputs.announce(self._membership.others())
        if self.hold.held:
            return
        self._propose_in_turn(previous(now))
        for proposal, plan in self.executions.ready():
            self.executions.after_payments(proposal.proposal_id)
            self.executions.ask_operator(proposal, plan)

    def greet(self, peer_id: str) -> None:
        """Tell a member that was just connected where to pay this node, and what it earned."""
        self.inputs.announce([peer_id])

    def last_period(self) -> str:
        """The last week that is over."""
        return previous(self._now())

    def summary(self) -> dict[str, Any]:
        """For hive-status: whether payments are held, and what is open."""
        return {
            "held": self.hold.held,
            "restore": self.hold.restore(),
            "pending": len(self.store.with_status(("pending",))),
            "ready": len(self.store.with_status(("ready",))),
            "payments_without_known_end": len(self.payments.reserved()),
        }

    # -- proposing and voting -----------------------------------------------------------------------------------------

    def calculate(self, period: str) -> Plan:
        """The plan this node would propose for a period."""
        return make_plan(period, self.inputs.contributions(period))

    def is_open(self, period: str) -> bool:
        """Whether a period's figures may still change."""
        known = self.store.of_period(period)
        return not self.store.is_settled(period) and (known is None or known.status == "expired")

    def propose(self, period: str) -> Proposal | None:
        """Propose a plan for a period; None when there is nothing to pay, or it has a proposal."""
        if not self.is_open(period):
            return None
        plan = self.calculate(period)
        if not plan.lines:
            return None
        now = self._now()
        proposal = Proposal(
            proposal_id=secrets.token_hex(16),
            period=period,
            proposer_peer_id=self._me,
            proposed_at=now,
            expires_at=now + PROPOSAL_SECONDS,
            status="pending",
            data_hash=plan.data_hash,
            plan_hash=plan.plan_hash,
            total_fees_sats=plan.total_fees_sats,
            member_count=len(plan.shares),
            contributions=tuple(share.contribution.document() for share in plan.shares),
        )
        payload = self._post.sign(
            wire.SETTLEMENT_PROPOSE,
            {
                "proposal_id": proposal.proposal_id,
                "period": period,
                "proposer_peer_id": self._me,
                "data_hash": plan.data_hash,
                "plan_hash": plan.plan_hash,
                "total_fees_sats": plan.total_fees_sats,
                "member_count": proposal.member_count,
                "contributions": list(proposal.contributions),
                "timestamp": now,
            },
        )
        with self.store.store.atomic():
            self.store.put(proposal)
            self._post.reliable(self._membership.others(), wire.SETTLEMENT_PROPOSE, payload)
            self._vote(proposal)
        self._counters.add("settlement_proposed")
        self._deliver()
        return proposal

    def _propose_in_turn(self, period: str) -> None:
        members = sorted(member.peer_id for member in self._membership.members.all())
        waited = self._now() - bounds(period)[1]
        patient = waited < PATIENCE_SECONDS and self.inputs.silent(period)
        if len(members) > 1 and not patient and waited >= members.index(self._me) * TURN_SECONDS:
            self.propose(period)

    def _vote(self, proposal: Proposal) -> None:
        payload = self._post.sign(
            wire.SETTLEMENT_READY,
            {
                "proposal_id": proposal.proposal_id,
                "voter_peer_id": self._me,
                "data_hash": proposal.data_hash,
                "timestamp": self._now(),
            },
        )
        with self.store.store.atomic():
            self.store.vote(
                proposal.proposal_id, self._me, proposal.data_hash, payload["timestamp"], payload["signature"]
            )
            self._post.reliable(self._membership.others(), wire.SETTLEMENT_READY, payload)
            self._count_votes(proposal)

    def _count_votes(self, proposal: Proposal) -> None:
        parties = {entry["peer_id"] for entry in proposal.contributions}
        if len(self.store.voters(proposal.proposal_id) & parties) < proposal.quorum:
            return
        if self.store.set_status(proposal.proposal_id, "pending", "ready"):
            self._counters.add("settlement_ready")
            self.actions.supersede(proposal)
            plan = plan_of(proposal)
            if plan is not None and not self.hold.held:
                self.executions.ask_operator(proposal, plan)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _take(
        self, peer_id: str, spec: MessageSpec, payload: dict[str, Any], work: Callable[[str, dict[str, Any]], None]
    ) -> None:
        message_id = spec.event_id(payload)
        try:
            work(peer_id, payload)
        except _RefusalError as error:
            self._counters.add(f"settlement_refused_{error.reason}")
            self._post.acknowledge(peer_id, message_id, "retry_later" if error.again else "invalid", str(error))
        else:
            self._post.acknowledge(peer_id, message_id)

    def _on_propose(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Vote for a proposal whose hashes and figures this node comes to as well."""
        period, now = payload["period"], self._now()
        begin, end = bounds(period)
        if end > now + FUTURE_SKEW_SECONDS or begin < now - MAX_AGE_SECONDS:
            raise _RefusalError("period", "the period is not over, or long gone")
        if self.store.is_settled(period):
            raise _RefusalError("settled", "the period is settled")
        if self.hold.held:
            raise _RefusalError("held", "settlement is held here after a restore", again=True)
        claimed = {entry["peer_id"]: Contribution.of(entry) for entry in payload["contributions"]}
        plan = self._honest_plan(payload, claimed)
        known = self.store.of_period(period)
        if known is not None and self._stands_against(known, payload):
            return
        if difference := self.inputs.difference(period, claimed):
            raise _RefusalError("differs", difference, again=True)
        proposal = Proposal(
            proposal_id=payload["proposal_id"],
            period=period,
            proposer_peer_id=peer_id,
            proposed_at=payload["timestamp"],
            expires_at=payload["timestamp"] + PROPOSAL_SECONDS,
            status="pending",
            data_hash=plan.data_hash,
            plan_hash=plan.plan_hash,
            total_fees_sats=plan.total_fees_sats,
            member_count=len(plan.shares),
            contributions=tuple(share.contribution.document() for share in plan.shares),
        )
        with self.store.store.atomic():
            self.store.put(proposal)
            self._vote(proposal)
        self._deliver()

    def _honest_plan(self, payload: dict[str, Any], claimed: Mapping[str, Contribution]) -> Plan:
        """The plan that follows from a proposal's figures, when it is the one the proposal claims."""
        if len(claimed) != len(payload["contributions"]) or self._me not in claimed:
            raise _RefusalError("forged", "it counts a member twice, or leaves this node out")
        plan = make_plan(payload["period"], list(claimed.values()))
        ours = (plan.data_hash, plan.plan_hash, plan.total_fees_sats, len(plan.shares))
        names = ("data_hash", "plan_hash", "total_fees_sats", "member_count")
        if ours != tuple(payload[name] for name in names):
            raise _RefusalError("forged", "its hashes or sums do not follow from its figures")
        if not plan.lines:
            raise _RefusalError("empty", "there is nothing to pay")
        return plan

    def _stands_against(self, known: Proposal, payload: dict[str, Any]) -> bool:
        """Whether the proposal this node has voted for stays. True when it is this very one.

        A vote binds: until it expires this node votes for no other plan of the period, so two plans can never both have
        a majority. Of two proposals of the same plan everybody takes the one with the smaller id, also when the other
        has its quorum: what was paid by it is in the journal under the period, and is not paid again.
        """
        same_plan = (known.data_hash, known.plan_hash) == (payload["data_hash"], payload["plan_hash"])
        if known.proposal_id == payload["proposal_id"]:
            if not same_plan or known.proposer_peer_id != payload["proposer_peer_id"]:
                raise _RefusalError("forged", "another proposal with this id is known")
            return True
        if known.status == "expired":
            return False
        if not same_plan:
            raise _RefusalError("other_plan", "this node has voted for another plan", again=known.status == "pending")
        if known.proposal_id < payload["proposal_id"]:
            raise _RefusalError("other_proposal", "another proposal of the same plan is preferred")
        return False

    def _on_ready(self, peer_id: str, payload: dict[str, Any]) -> None:
        proposal = self._named(payload)
        if payload["data_hash"] != proposal.data_hash:
            raise _RefusalError("vote", "the vote is about other figures")
        if peer_id not in {entry["peer_id"] for entry in proposal.contributions}:
            raise _RefusalError("vote", "the voter is no party of the proposal")
        if proposal.status == "expired":
            raise _RefusalError("expired", "the proposal has expired")
        with self.store.store.atomic():
            self.store.vote(
                proposal.proposal_id, peer_id, payload["data_hash"], payload["timestamp"], payload["signature"]
            )
            self._count_votes(proposal)

    def _on_executed(self, peer_id: str, payload: dict[str, Any]) -> None:
        proposal = self._named(payload)
        if proposal.status == "completed":
            return
        if proposal.status != "ready":
            raise _RefusalError("early", "the proposal has no quorum here", again=proposal.status == "pending")
        plan = plan_of(proposal)
        due = plan.due().get(peer_id, 0) if plan else 0
        if plan is None or (payload.get("plan_hash"), payload.get("amount_paid_sats")) != (plan.plan_hash, due):
            raise _RefusalError("amount", f"the plan asks {due} sats of the payer")
        with self.store.store.atomic():
            self.store.put_execution(
                proposal.proposal_id,
                peer_id,
                payload.get("payment_hash") or "",
                due,
                payload["timestamp"],
                payload["signature"],
                proposal.plan_hash,
            )
            self.executions.close(proposal, plan)

    def _named(self, payload: dict[str, Any]) -> Proposal:
        proposal = self.store.proposal(payload["proposal_id"])
        if proposal is None:
            raise _RefusalError("unknown_proposal", "the proposal has not come", again=True)
        return proposal

    def _is_due(self, name: str, seconds: int) -> bool:
        now = self._now()
        last = self._due.get(name)
        if last is not None and 0 <= now - last < seconds:
            return False
        self._due[name] = now
        return True
