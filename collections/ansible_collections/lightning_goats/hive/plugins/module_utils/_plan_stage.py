# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""How the stages of a run went, from what their tasks registered: who is kept, who is lost, whether that is allowed.

Ansible's own counters do not tell: a failure that was rescued is forgotten. Pure, controller only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts as names

Json = dict[str, Any]
Run = Mapping[str, Any]
# What a task registered on a node under a name; None when it did not run there or was skipped.
Lookup = Callable[[str, str], Mapping[str, Any] | None]

WORK = (names.SWITCHED, names.PROBED, names.PROBED_AGAIN, names.PART, names.CONFIRMED)


def bad(result: Mapping[str, Any] | None) -> bool:
    """Whether a task ran and did not work."""
    return bool(result) and any(bool((result or {}).get(word)) for word in ("failed", "unreachable"))


def good(result: Mapping[str, Any] | None) -> bool:
    """Whether a task ran and worked."""
    return bool(result) and not bad(result)


def stage_of(run: Run, node: str) -> Mapping[str, Any]:
    """The stage of this run that a node is in; one without nodes when it is in none."""
    return next((wave for wave in run["waves"] if node in wave["nodes"]), {"name": "", "number": 0, "nodes": []})


def verdict_of(look: Lookup, stage: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The last verdict over a stage, None when it was not judged."""
    for name in (names.JUDGED_AGAIN, names.JUDGED):
        for node in stage["nodes"]:
            found = look(node, name)
            if found is not None and "verdict" in found:
                return found
    return None


def lost(look: Lookup, stage: Mapping[str, Any]) -> list[str]:
    """The nodes of a stage that failed: their switch, their samples, their verdict or their confirmation."""
    verdict = verdict_of(look, stage) or {"reasons": []}
    failing = {reason["node"] for reason in verdict["reasons"] if reason["verdict"] == "failing"}
    return [node for node in stage["nodes"] if node in failing or any(bad(look(node, name)) for name in WORK)]


def within_budget(run: Run, look: Lookup, node: str) -> bool:
    """Whether the failures in the stage of a node are so few that the rollout goes on without the nodes that failed.

    Never for the canary, and never when a verdict cannot say which node it means.
    """
    stage = stage_of(run, node)
    own = lost(look, stage)
    if not own or not stage["number"] or run.get("commit") == "fleet":
        return False
    verdict = verdict_of(look, stage)
    if verdict is not None and any(reason["node"] not in own for reason in verdict["reasons"]):
        return False
    everybody = set(run.get("failed") or {})
    for wave in run["waves"]:
        everybody.update(lost(look, wave))
    return len(everybody) <= int(run.get("failure_budget") or 0)


def spared(run: Run, look: Lookup, node: str) -> bool:
    """Whether a node of a stage that is not healthy is kept all the same: others failed, and they may."""
    return within_budget(run, look, node) and node not in lost(look, stage_of(run, node))


def unkept(run: Run, look: Lookup, node: str) -> list[str]:
    """The nodes in the stage of ``node`` that are not as the next stage needs them, and are not allowed to be so."""
    stage = stage_of(run, node)
    if run.get("commit") == "fleet":
        verdict = verdict_of(look, stage)
        healthy = verdict is not None and verdict["verdict"] == "healthy"
        return [other for other in stage["nodes"] if not healthy or not good(look(other, names.SWITCHED))]
    missing = [other for other in stage["nodes"] if not good(look(other, names.CONFIRMED))]
    return [] if missing and within_budget(run, look, node) else missing


def unfinished_before(run: Run, look: Lookup, node: str) -> list[str]:
    """The nodes of all stages before the one of ``node`` that are not as they have to be: none, or it may not start."""
    found: list[str] = []
    for wave in run["waves"]:
        if node in wave["nodes"]:
            break
        found += unkept(run, look, wave["nodes"][0])
    return found


def allowed_losses(run: Run, look: Lookup) -> list[str]:
    """The nodes that failed in this run within the budget."""
    return [node for wave in run["waves"] if within_budget(run, look, wave["nodes"][0]) for node in lost(look, wave)]
