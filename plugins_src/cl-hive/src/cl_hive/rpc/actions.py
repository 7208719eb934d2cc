"""hive-pending-actions, hive-approve-action, hive-reject-action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_kit.app import Method
from hive_kit.errors import HiveError, InvalidParamsError
from hive_kit.params import NoParams, integer, text

from cl_hive.app import HiveApplication
from cl_hive.protocol import fields
from cl_hive.rpc import settlement
from cl_hive.services.hive import Hive
from cl_hive.storage.actions import Action

_JSON = dict[str, Any]
_ALL = "all"
_ID_SHAPE = "an integer or 'all'"


@dataclass(frozen=True, kw_only=True)
class ApproveParams:
    """Which action; `amount_sats` is for actions whose amount can be chosen."""

    action_id: str = text(default=_ALL, pattern=r"all|[1-9][0-9]{0,17}", shape=_ID_SHAPE)
    amount_sats: int = integer(default=0, minimum=0, maximum=fields.MAX_SATS)


@dataclass(frozen=True, kw_only=True)
class RejectParams:
    """Which action, and why."""

    action_id: str = text(default=_ALL, pattern=r"all|[1-9][0-9]{0,17}", shape=_ID_SHAPE)
    reason: str = text(default="", max_length=fields.MAX_REASON)


def pending(app: HiveApplication, _: NoParams) -> _JSON:
    """What waits for the operator."""
    found = app.command(lambda hive: [action.shown() for action in hive.settlement.actions.pending()])
    return {"count": len(found), "actions": found}


def approve(app: HiveApplication, params: ApproveParams) -> _JSON:
    """Say yes, and do it."""
    if params.amount_sats:
        raise InvalidParamsError(
            "amount_sats override not supported: a settlement pays what the hive agreed on; leave it out"
        )
    if params.action_id != _ALL:
        return _approve(app, int(params.action_id))
    approved: list[int] = []
    errors: list[_JSON] = []
    for action in _open(app):
        try:
            _approve(app, action.id)
        except HiveError as error:
            errors.append({"action_id": action.id, "error": error.message})
        else:
            approved.append(action.id)
    if not approved and not errors:
        return {"status": "no_actions", "message": "nothing waits for an answer"}
    return {
        "status": "approved_all",
        "approved_count": len(approved),
        "approved": approved,
        "errors": errors or None,
    }


def reject(app: HiveApplication, params: RejectParams) -> _JSON:
    """Say no."""

    def work(hive: Hive) -> list[Action]:
        actions = hive.settlement.actions
        numbers = [int(params.action_id)] if params.action_id != _ALL else [action.id for action in actions.pending()]
        return [actions.reject(number, params.reason) for number in numbers]

    rejected = app.command(work)
    if params.action_id == _ALL:
        return {
            "status": "rejected_all",
            "rejected_count": len(rejected),
            "rejected": [action.id for action in rejected],
        }
    (action,) = rejected
    return {"status": "rejected", "action_id": action.id, "action_type": action.action_type, "reason": params.reason}


def _open(app: HiveApplication) -> list[Action]:
    return app.command(lambda hive: hive.settlement.actions.pending())


def _approve(app: HiveApplication, action_id: int) -> _JSON:
    # Nothing is approved that could not be paid: the hold first, and the plan must be the one that waits.
    action, execution = app.command(lambda hive: hive.settlement.executions.approve(action_id))
    reply = settlement.pay(app, execution)
    return {
        "status": "executed" if reply["execution_status"] == "completed" else "approved",
        "action_id": action.id,
        "action_type": action.action_type,
        "note": reply["message"],
        **{name: reply[name] for name in ("period", "payments_executed", "payments_skipped", "payments_errors")},
    }


METHODS = (
    Method("hive-pending-actions", pending, NoParams, "List what waits for the operator's answer"),
    Method("hive-approve-action", approve, ApproveParams, "Approve an action and carry it out"),
    Method("hive-reject-action", reject, RejectParams, "Reject an action"),
)
