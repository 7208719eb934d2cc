# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the plays after the plan work with: the order, the batches, the inputs of the modules. Pure, controller only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan, _plan_rollout
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_rollout import UnderWay
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Shelf, Stack

# Beside the two windows of samples that the dead-man has to outlive: the calls around them.
DEADMAN_MARGIN_SECONDS = 120
# Where a node keeps its files unless the inventory says otherwise; roles/hive_common has the same default.
STATE_DIR = "/var/lib/hive"
# How often a probe looks unless the inventory says otherwise; roles/hive_probe has the same default.
PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """Everything that a run is made of.

    Attributes:
        plan: of ``_plan.plan`` or ``_plan_rollout.carry_on``.
        rollout: the id of the rollout.
        going: the rollout that goes on, None when this is a new one.
        stacks: per node the desired stack, sealed.
        args: the arguments of hive_plan.
        state_dirs: per node of the fleet where it keeps its files.
        look_seconds: how often to look for a brake while a stage is watched.
    """

    plan: Json
    rollout: str
    going: UnderWay | None
    stacks: Mapping[str, Stack]
    args: Json
    shelf: Shelf
    observed: Mapping[str, Json | None]
    state_dirs: Mapping[str, str]
    look_seconds: float = PROBE_SECONDS

    @property
    def stages(self) -> list[Json]:
        """The stages that this run takes."""
        return stages(self.plan, self.args)

    @property
    def judged(self) -> list[Json]:
        """The stages whose soak is judged first."""
        if self.going is None or self.plan["refused"]:
            return []
        return _plan_rollout.to_judge(self.plan, self.going, self.args["failure_budget"])


def soaks(args: Json) -> dict[str, Json]:
    """How long the canary and every wave has to soak; only a rollout to the inventory's stack soaks at all."""
    if args["goal"] != "stack":
        return {"canary": _plan_rollout.NO_SOAK, "wave": _plan_rollout.NO_SOAK}
    return {"canary": dict(args["canary_soak"]), "wave": dict(args["wave_soak"])}


def stages(plan: Json, args: Json) -> list[Json]:
    """The stages that a run of this plan takes."""
    return [] if plan["refused"] else _plan_rollout.to_do(plan, soaks(args), args["commit"] == "fleet")


def deadman_seconds(plan: Json, args: Json) -> int:
    """After how long a switch undoes itself; the way back confirms itself and has nobody to wait for.

    Where nothing is kept before the whole fleet is switched, the first switch has to wait for the last stage.
    """
    if args["goal"] == "previous":
        return 0
    stage: int = math.ceil(2 * args["soak_seconds"]) + DEADMAN_MARGIN_SECONDS
    if args["commit"] == "fleet":
        return max(int(args["deadman_seconds"]), stage * (len(stages(plan, args)) + 1))
    return int(args["deadman_seconds"]) or stage


def manifests(shelf: Shelf) -> dict[str, Json]:
    """The manifests of the releases that can be had, by digest."""
    return {
        entry["manifest"]["artifact"]["sha256"]: entry["manifest"]
        for entry in shelf.entries.values()
        if "manifest" in entry
    }


def handed_on(run: Run, held: Sequence[str], nothing: bool) -> Json:
    """What hive_plan returns as ``run``.

    Args:
        run: the run.
        held: why no further stage begins, once those that soak are judged.
        nothing: whether nothing is to be run, because it was refused or only looked at.
    """
    nothing = nothing or bool(run.plan["refused"])
    taken = [] if nothing else run.stages
    judged = [] if nothing else run.judged
    nodes = {node: _node(run, stage, node) for stage in taken for node in stage["nodes"]}
    last = run.plan["waves"][-1]["name"] if run.plan["waves"] else ""
    ends = taken[-1]["name"] == last and taken[-1]["soak"]["minutes"] <= 0 if taken else True
    return {
        "hosts": [node for stage in taken for node in stage["nodes"]],
        "serial": [len(stage["nodes"]) for stage in taken],
        "waves": [{"name": stage["name"], "number": stage["number"], "nodes": stage["nodes"]} for stage in taken],
        "soaks": {stage["name"]: stage["soak"] for stage in taken},
        "total": len(run.plan["waves"]),
        "nodes": nodes,
        "hive": _hive(run, nothing),
        "deadman_seconds": deadman_seconds(run.plan, run.args),
        "soaking": [_soaking(run, stage) for stage in judged],
        "controls": _controls(run) if judged else [],
        "failed": dict(run.going.failed) if run.going else {},
        "failure_budget": run.args["failure_budget"],
        "held": list(held),
        "ends": ends,
        "commit": run.args["commit"],
        "watched": [] if nothing else _watched(run),
        "probe_seconds": run.look_seconds,
        "parts": parts(run.args["soak_seconds"], run.look_seconds),
        "windows": {key: run.args[f"maintenance_{key}"] for key in ("windows", "timezone")},
    }


def parts(seconds: float, at_most: float) -> list[float]:
    """The window of samples in equal parts between which somebody looks for a brake."""
    count = max(1, math.ceil(seconds / max(at_most, 1.0)))
    return [seconds / count] * count


def _node(run: Run, stage: Json, node: str) -> Json:
    """The inputs of one node that changes."""
    step = run.plan["nodes"][node]
    stacks = [*step["after"], *step["before"]]
    paths = {
        entry["manifest"]["artifact"]["sha256"]: entry["path"]
        for entry in run.shelf.entries.values()
        if "manifest" in entry
    }
    return {
        "wave": stage["name"],
        "revert_first": step["action"] == "revert",
        "remake_container": step["remake_container"],
        "stack": _plan.normal(run.stacks[node]),
        "releases": [
            {key: item[key] for key in ("name", "version", "digest")}
            # What was installed by hand may be known to its node alone, which has kept it.
            | {"path": paths.get(digest, f"{run.args['releases_dir']}/{item['name']}/{item['version']}")}
            for digest, item in {item["digest"]: item for item in stacks}.items()
            if digest in step["stage"]
        ],
        "manifests": _manifests_of(run, stacks),
        "stage": _stage(run, stage, step) if run.args["goal"] == "stack" else None,
    }


def _manifests_of(run: Run, stack: Stack) -> list[Json]:
    known = manifests(run.shelf)
    return [known[digest] for digest in dict.fromkeys(item["digest"] for item in stack) if digest in known]


def _stage(run: Run, stage: Json, step: Json) -> Json:
    """What a node writes down of its stage, from which the rollout goes on without anything else."""
    action = step["action"]
    if action in ("resume", "revert"):
        action = _plan.kind(step["before"], step["after"])
    return {
        "plan": run.plan["digest"],
        "name": stage["name"],
        "number": stage["number"],
        "waves": _waves(run),
        "action": action,
        "soak": {
            **stage["soak"],
            "self_revert": run.args["soak_self_revert"],
            "restarts_allowed": int(run.args["allow_lightningd_restart"]),
        },
    }


def _waves(run: Run) -> list[Json]:
    if run.going is not None:
        return [dict(wave) for wave in run.going.waves]
    steps = _plan.fingerprints(run.plan["nodes"])
    return [{**wave, "steps": [steps[node] for node in wave["nodes"]]} for wave in run.plan["waves"]]


def _soaking(run: Run, stage: Json) -> Json:
    """A stage to be judged, with what is needed for it and for the way back."""
    assert run.going is not None, "only a rollout that goes on has stages that soak"
    members = {}
    for node in [*stage["nodes"], *stage["failed"]]:
        step = run.plan["nodes"][node]
        record = run.going.records.get(node)
        members[node] = {
            "since": float(record["since"]) if record else 0.0,
            "since_height": int(record["since_height"]) if record else 0,
            "expected": step["after"] if record else [],
            "manifests": _manifests_of(run, [*step["after"], *step["before"]]),
        }
    about = {"plan": run.going.plan, "name": stage["name"], "number": stage["number"]}
    return {**stage, "members": members, "about": about}


def _controls(run: Run) -> list[str]:
    """The nodes that show what the time without a change was like: those that the rollout has not switched yet."""
    assert run.going is not None
    changed = set(run.going.records) | set(run.going.failed)
    return sorted(node for node in run.plan["nodes"] if node not in changed)


def _watched(run: Run) -> list[Json]:
    """The nodes on which to look for a brake: all of the fleet, but for those that are known not to answer."""
    places = run.state_dirs.items()
    return [{"node": node, "place": place} for node, place in places if node not in run.plan["left"]]


def _hive(run: Run, nothing: bool) -> Json:
    """The nodes that run cl-hive in the end, and their ids: those that can form a hive; and whether they shall."""
    steps = {} if nothing else run.plan["nodes"]
    nodes = [node for node, step in steps.items() if _runs_hive(step)]
    ids = {node: ((run.observed.get(node) or {}).get("lightningd") or {}).get("node_id") or "" for node in nodes}
    return {"nodes": nodes, "node_ids": ids, "forming": run.args["form_fleet"] and len(nodes) > 1}


def _runs_hive(step: Json) -> bool:
    return any(item["name"] == "cl-hive" and item["enabled"] for item in step["after"])
