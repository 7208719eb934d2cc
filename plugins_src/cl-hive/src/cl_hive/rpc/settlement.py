"""hive-settlement-*, hive-distributed-settlement-*, hive-fee-reports, hive-report-period-costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_kit.app import Method
from hive_kit.errors import InvalidParamsError, NotFoundError
from hive_kit.params import NoParams, boolean, csv, integer, text

from cl_hive.app import HiveApplication
from cl_hive.errors import NotInHiveError
from cl_hive.protocol import fields
from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.settlement_plan import Plan
from cl_hive.services.hive import Hive
from cl_hive.services.settlement_execution import Execution
from cl_hive.services.settlement_payer import Outcome
from cl_hive.storage.settlements import Proposal

_JSON = dict[str, Any]
_NODE_ID = r"0[23][0-9a-f]{64}"
_NODE_ID_SHAPE = "a node id (66 hex characters beginning 02 or 03)"


@dataclass(frozen=True, kw_only=True)
class RegisterParams:
    """A member, and where to pay it."""

    peer_id: str = text(pattern=_NODE_ID, shape=_NODE_ID_SHAPE)
    bolt12_offer: str = text(max_length=wire.MAX_OFFER)


@dataclass(frozen=True, kw_only=True)
class ExecuteParams:
    """dry_run: only show."""

    dry_run: bool = boolean(default=True)


@dataclass(frozen=True, kw_only=True)
class LimitParams:
    """How many, newest first."""

    limit: int = integer(default=10, minimum=1, maximum=1000)


@dataclass(frozen=True, kw_only=True)
class PeriodIdParams:
    """The number that hive-settlement-history shows."""

    period_id: int = integer(minimum=1)


@dataclass(frozen=True, kw_only=True)
class StatusParams:
    """By default all."""

    status: str = text(default="", choices=("", "pending", "ready", "completed", "expired"))


@dataclass(frozen=True, kw_only=True)
class PeriodParams:
    """A week such as 2026-07; by default the last one."""

    period: str = text(default="", max_length=16)


@dataclass(frozen=True, kw_only=True)
class CostsParams:
    """Sats of the week that runs."""

    rebalance_costs_sats: int = integer(default=0, minimum=0, maximum=fields.MAX_SATS)


@dataclass(frozen=True, kw_only=True)
class ReconcileParams:
    """Labels of payments that the comparison could not decide about, as the operator knows them."""

    paid: tuple[str, ...] = csv(default=())
    unpaid: tuple[str, ...] = csv(default=())


def register_offer(app: HiveApplication, params: RegisterParams) -> _JSON:
    """Keep where to pay a member; the own offer is told to the others."""
    if problem := wire.offer(params.bolt12_offer):
        raise InvalidParamsError(f"Invalid BOLT12 offer format (must start with lno1): bolt12_offer {problem}")
    return app.command(lambda hive: _registered(hive, params.peer_id, params.bolt12_offer))


def generate_offer(app: HiveApplication, _: NoParams) -> _JSON:
    """Make an offer in the own lightningd, and tell it to the others."""

    def work(hive: Hive) -> _JSON:
        _require_hive(hive)
        return _registered(hive, hive.membership.me, hive.settlement.inputs.make_offer())

    return app.command(work)


def list_offers(app: HiveApplication, _: NoParams) -> _JSON:
    """Where members want to be paid."""
    return {"offers": app.hive.settlement.inputs.store.offers()}


def calculate(app: HiveApplication, _: NoParams) -> _JSON:
    """What the last week comes to by what this node knows. Changes nothing."""
    hive = app.hive
    _require_hive(hive)
    plan = hive.settlement.calculate(hive.settlement.last_period())
    silent = hive.settlement.inputs.silent(plan.period)
    offers = hive.settlement.inputs.store
    warnings = [f"{peer} has not reported its fees" for peer in silent]
    receivers = sorted({line.to_peer_id for line in plan.lines})
    warnings += [f"{peer} has announced no offer to pay to" for peer in receivers if not offers.offer(peer)]
    return {**_shown(plan), "warnings": warnings}


def execute(app: HiveApplication, params: ExecuteParams) -> _JSON:
    """Pay what this node owes by the plan the hive agreed on, once the operator has approved it."""
    if params.dry_run:
        return _dry_run(app)
    execution = app.command(lambda hive: hive.settlement.executions.execution())
    if not execution.approved:
        return {
            **_shown(execution.plan),
            **_outcome(Outcome()),
            "execution_status": "awaiting_approval",
            "action_id": execution.action_id,
            "period_id": app.hive.settlement.payments.period_id(execution.plan.period),
            "message": f"nothing was paid; hive-approve-action {execution.action_id} pays",
        }
    return pay(app, execution)


def pay(app: HiveApplication, execution: Execution) -> _JSON:
    """Pay by an approved plan: outside the hive's thread, which goes on meanwhile."""
    proposal = execution.proposal
    outcome = app.hive.payer.pay(proposal.proposal_id, proposal.period, execution.lines)
    done = app.command(lambda hive: hive.settlement.executions.after_payments(proposal.proposal_id))
    message = "all this node owes is paid" if done else "not all is paid; hive-settlement-execute goes on with the rest"
    return {
        **_shown(execution.plan),
        **_outcome(outcome),
        "execution_status": "completed" if done else "incomplete",
        "action_id": execution.action_id,
        "period_id": app.hive.settlement.payments.period_id(proposal.period),
        "message": message,
    }


def reconcile(app: HiveApplication, params: ReconcileParams) -> _JSON:
    """Compare with what lightningd has paid, write back what the database does not know, and end the hold."""
    found = app.command(lambda hive: hive.settlement.executions.reconcile(params.paid, params.unpaid))
    held = app.hive.settlement.hold.held
    return {
        "status": "undecided" if found.undecided else "reconciled",
        "held": held,
        "restore": app.hive.settlement.hold.restore(),
        **found.document(),
        "message": (
            "settlement stays held; decide about what is undecided"
            if held
            else "database and lightningd agree about what was paid"
        ),
    }


def history(app: HiveApplication, params: LimitParams) -> _JSON:
    """Periods this node has taken up."""
    return {"settlement_periods": app.hive.settlement.payments.history(params.limit)}


def period_details(app: HiveApplication, params: PeriodIdParams) -> _JSON:
    """Figures and payments of a period."""
    found = app.hive.settlement.payments.details(params.period_id)
    if found is None:
        raise NotFoundError("Period not found; hive-settlement-history lists them")
    return found


def distributed_status(app: HiveApplication, _: NoParams) -> _JSON:
    """Where settlement stands."""
    store = app.hive.settlement.store
    pending, ready = store.with_status(("pending",)), store.with_status(("ready",))
    settled = store.settled(10)
    return {
        "pending_proposals": len(pending),
        "ready_proposals": len(ready),
        "recent_settlements": len(settled),
        "pending": [_with_votes(app.hive, proposal) for proposal in pending],
        "ready": [_with_votes(app.hive, proposal) for proposal in ready],
        "settled_periods": settled,
        "hold": {"held": app.hive.settlement.hold.held, "restore": app.hive.settlement.hold.restore()},
    }


def distributed_proposals(app: HiveApplication, params: StatusParams) -> _JSON:
    """Proposals this node has taken."""
    store = app.hive.settlement.store
    found = [
        proposal
        for proposal in store.with_status(("pending", "ready", "completed", "expired"))
        if params.status in ("", proposal.status)
    ]
    return {"proposals": [_with_votes(app.hive, proposal) for proposal in found], "total": len(found)}


def report_costs(app: HiveApplication, params: CostsParams) -> _JSON:
    """Note what rebalancing has cost this node in the week that runs."""

    def work(hive: Hive) -> _JSON:
        _require_hive(hive)
        report = hive.settlement.inputs.report_costs(params.rebalance_costs_sats)
        return {"status": "recorded", "period": report.period, "rebalance_costs_sats": report.rebalance_costs_sats}

    return app.command(work)


def fee_reports(app: HiveApplication, params: PeriodParams) -> _JSON:
    """What members reported for a period."""
    period = params.period or app.hive.settlement.last_period()
    if problem := wire.period(period):
        raise InvalidParamsError(f"period: {period!r} {problem}")
    reports = [vars(report) for report in app.hive.settlement.inputs.store.reports(period)]
    return {
        "period": period,
        "reports": reports,
        "total_fees_sats": sum(report["fees_earned_sats"] for report in reports),
        "total_forwards": sum(report["forward_count"] for report in reports),
        "report_count": len(reports),
    }


def _dry_run(app: HiveApplication) -> _JSON:
    hive = app.hive
    _require_hive(hive)
    ready = hive.settlement.executions.owing()
    plan = ready[0][1] if ready else hive.settlement.calculate(hive.settlement.last_period())
    return {
        **_shown(plan),
        **_outcome(Outcome()),
        "execution_status": "dry_run",
        "period_id": hive.settlement.payments.period_id(plan.period),
        "message": "nothing was paid; " + ("the plan has its quorum" if ready else "the plan has no quorum"),
    }


def _registered(hive: Hive, peer_id: str, offer: str) -> _JSON:
    told = hive.settlement.inputs.register_offer(peer_id, offer)
    row = next(row for row in hive.settlement.inputs.store.offers() if row["peer_id"] == peer_id)
    return {
        "status": "registered",
        "peer_id": peer_id,
        "offer": offer,
        "registered_at": row["registered_at"],
        "broadcast_count": told,
    }


def _require_hive(hive: Hive) -> None:
    if hive.membership.own() is None:
        raise NotInHiveError("this node belongs to no hive; found one (hive-genesis) or join one")


def _with_votes(hive: Hive, proposal: Proposal) -> _JSON:
    return {**proposal.shown(), "votes": len(hive.settlement.store.voters(proposal.proposal_id))}


def _outcome(outcome: Outcome) -> _JSON:
    return {
        "payments_executed": outcome.executed,
        "payments_skipped": outcome.skipped,
        "payments_errors": outcome.errors,
    }


def _shown(plan: Plan) -> _JSON:
    return {
        "period": plan.period,
        "total_members": len(plan.shares),
        "total_fees_sats": plan.total_fees_sats,
        "fair_shares": [
            {
                **share.contribution.document(),
                "net_profit_sats": share.contribution.net_profit_sats,
                "fair_share_sats": share.fair_share_sats,
                "balance_sats": share.balance_sats,
            }
            for share in plan.shares
        ],
        "payments_required": [line.document() for line in plan.lines],
        "min_payment_sats": plan.minimum_sats,
        "data_hash": plan.data_hash,
        "plan_hash": plan.plan_hash,
    }


METHODS = (
    Method("hive-settlement-register-offer", register_offer, RegisterParams, "Keep where a member wants to be paid"),
    Method(
        "hive-settlement-generate-offer", generate_offer, NoParams, "Make this node's offer and tell it to the hive"
    ),
    Method("hive-settlement-list-offers", list_offers, NoParams, "List where members want to be paid"),
    Method("hive-settlement-calculate", calculate, NoParams, "Show what the last week comes to"),
    Method("hive-settlement-execute", execute, ExecuteParams, "Pay what this node owes by the plan the hive agreed on"),
    Method(
        "hive-settlement-reconcile",
        reconcile,
        ReconcileParams,
        "After a restore: compare with what lightningd has paid",
    ),
    Method("hive-settlement-history", history, LimitParams, "List the periods this node has taken up"),
    Method("hive-settlement-period-details", period_details, PeriodIdParams, "Show figures and payments of a period"),
    Method("hive-distributed-settlement-status", distributed_status, NoParams, "Show where settlement stands"),
    Method("hive-distributed-settlement-proposals", distributed_proposals, StatusParams, "List settlement proposals"),
    Method("hive-report-period-costs", report_costs, CostsParams, "Note the rebalancing costs of the week that runs"),
    Method("hive-fee-reports", fee_reports, PeriodParams, "List what members earned in a week"),
)
