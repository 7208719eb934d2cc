"""What a controller lets a node write down of a rollout beside its switches: a soak that ended, a plan that is dead."""

from __future__ import annotations

from typing import Any

from .brake import plain
from .errors import HiveError
from .journal import State
from .node import Node
from .soak import SELF_REVERTED, SOAKED, SOAKING, about, stage_of
from .switch_base import Call, Result

VERDICTS = ("healthy", "accepted")


def wanted_stage(call: Call) -> dict[str, Any]:
    """Return the stage that a call is about.

    Raises:
        HiveError: it names none.
    """
    stage = stage_of(call.request.stage)
    if stage is None:
        raise HiveError("give the stage with the digest of its plan and its name", "bad-stage")
    return stage


def refuse_abandoned(node: Node, state: State, stage: dict[str, Any] | None) -> None:
    """Refuse a plan that was given up.

    Raises:
        HiveError: it was.
    """
    if stage is not None and stage["plan"] in state.abandoned:
        raise HiveError(
            f"the plan {stage['plan'][:16]} was given up on {node.name} (abort.yml), so nothing of it is switched any "
            "more; plan again and approve that plan",
            "abandoned-plan",
            plan=stage["plan"],
        )


def end_soak(call: Call) -> Result:
    """Write down that the stage a node soaks in has soaked; once is enough.

    Raises:
        HiveError: the node does not soak in that stage, or undid it by itself.
    """
    stage, soak, stable = wanted_stage(call), call.state.soak, call.state.stable or []
    call.before = stable
    if soak is None or not about(soak, stage):
        raise HiveError(
            f"{call.node.name} does not soak in stage {stage['name']} of the plan {stage['plan'][:16]}; run "
            "rollout.yml, which looks at what runs",
            "not-soaking",
        )
    if soak["state"] == SELF_REVERTED:
        raise HiveError(
            f"{call.node.name} has undone stage {stage['name']} by itself: {soak['reason']}; run rollout.yml, which "
            "reports it",
            "not-soaking",
        )
    if soak["state"] == SOAKED:
        return call.result(False, "soaked", stable)
    assert soak["state"] == SOAKING, soak["state"]
    if call.request.check_mode:
        return call.result(True, "planned", stable, steps=[{"step": "soaked"}])
    data = {
        "plan": stage["plan"],
        "stage": stage["name"],
        "verdict": call.request.verdict,
        "summary": plain(call.request.summary),
    }
    call.journal.append("soaked", data, soak["transaction"], call.request.rollout)
    return call.result(True, "soaked", stable)


def abandon(call: Call) -> Result:
    """Write down that a plan is dead, so that no later run takes it up again; once is enough."""
    stage, stable = wanted_stage(call), call.state.stable or []
    call.before = stable
    if stage["plan"] in call.state.abandoned:
        return call.result(False, "abandoned", stable)
    if call.request.check_mode:
        return call.result(True, "planned", stable, steps=[{"step": "abandoned"}])
    data = {"plan": stage["plan"], "summary": plain(call.request.summary)}
    call.journal.append("abandoned", data, "", call.request.rollout)
    return call.result(True, "abandoned", stable)
