# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Whether a plan may run: by the signatures of its approvers, or by the digest that was passed. Controller only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _approvals, _evidence_all
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

# How long ssh-keygen may take for all approvals of a plan.
SECONDS = 20.0


@dataclass(frozen=True)
class Desk:
    """Where approvals lie and by which rules they count. ``needed`` 0 takes the digest that was passed alone."""

    needed: int
    runner: str
    approvers: Path
    evidence: Path
    reports: Path


def problems(plan: Json, spent: Collection[str], passed: str, desk: Desk, now: float) -> list[tuple[str, str]]:
    """(code, message) when the plan is not approved; a plan that waits for signatures is kept for those who sign.

    Args:
        plan: with its waves.
        spent: digests of plans that were given up.
        passed: the digest that was passed as approved, "" for none.
    """
    digest = str(plan["digest"])
    if passed and passed != digest:
        return [
            (
                "other-plan",
                f"What was approved ({passed[:12]}) is not what would run now ({digest[:12]}): read the new plan, then "
                f"run again with -e hive_approved_plan={digest}",
            )
        ]
    if desk.needed > 0:
        return _unsigned(plan, spent, desk, now)
    if passed:
        return []
    return [
        (
            "not-approved",
            f"This plan needs an approval: read it, then run again with -e hive_approved_plan={digest}",
        )
    ]


def _unsigned(plan: Json, spent: Collection[str], desk: Desk, now: float) -> list[tuple[str, str]]:
    """Why the signatures are not enough."""
    digest = str(plan["digest"])
    releases = {str(item["digest"]) for step in plan["nodes"].values() for item in step["after"]}
    rules = _approvals.Rules(
        desk.needed, desk.approvers, desk.runner, _evidence_all.keys_that_signed(desk.evidence, releases)
    )
    try:
        _approvals.write_plan(desk.reports, plan, spent, now)
        there = _approvals.look(desk.evidence, digest, str(plan["fleet"]), rules, now, SECONDS)
    except ReleaseError as error:
        return [("not-approved", f"This plan cannot be approved: {error}")]
    except OSError as error:
        what = f"{error.filename or desk.reports} cannot be written ({error.strerror})"
        return [("reports-dir", f"{what}: the plan cannot be kept for those who approve it, make room there.")]
    wrong = _approvals.problem(digest, desk.needed, there)
    return [("not-approved", f"{wrong}")] if wrong else []
