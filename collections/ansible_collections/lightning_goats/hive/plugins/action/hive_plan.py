# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_plan: works out in this process what a run will do. It never connects to a node."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan,
    _plan_hosts,
    _plan_marker,
    _plan_shelf,
    _report_files,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import seal
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_adoption import with_replaced
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_container import with_flags
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import (
    Json,
    Refusal,
    Shelf,
    Stack,
    check_set,
    resolve,
)

ARGUMENTS: Json = {
    "goal": {"type": "str", "choices": ["stack", "previous", "nothing"], "default": "stack"},
    "fleet": {"type": "str", "default": ""},
    "releases_dir": {"type": "str", "required": True},
    "allowed_signers": {"type": "str", "required": True},
    "reports_dir": {"type": "str", "required": True},
    "versions": {"type": "dict", "default": {}},
    "waves": {"type": "list", "elements": "raw", "default": [1, "25%", "100%"]},
    "separate_channel_peers": {"type": "bool", "default": True},
    "soak_seconds": {"type": "float", "default": 600.0},
    "deadman_seconds": {"type": "int", "default": 0},
    "min_free_bytes": {"type": "int", "default": 0},
    "htlc_margin_blocks": {"type": "int", "default": 18},
    "htlc_wait_seconds": {"type": "int", "default": 600},
    "timeouts": {"type": "dict", "default": {}},
    "lift_quarantine": {"type": "bool", "default": False},
    "allow_lightningd_restart": {"type": "bool", "default": False},
    "break_lock": {"type": "bool", "default": False},
    "approval_required": {"type": "bool", "default": True},
    "approved_plan": {"type": "str", "default": ""},
    "preview": {"type": "bool", "default": False},
    "form_fleet": {"type": "bool", "default": False},
    "adopt": {"type": "str", "choices": ["auto", "no"], "default": "auto"},
}
# Beside the two soak windows that the dead-man has to outlive: the calls around them.
DEADMAN_MARGIN_SECONDS = 120


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_plan.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(variables)
        preview = bool(args["preview"]) or bool(self._task.check_mode)
        reports = _plan_hosts.project_path(variables, args["reports_dir"])
        marker = _plan_marker.path_for(reports, args["fleet"])
        refusals: list[Refusal] = []

        note = _plan_marker.read(marker)
        running = note is not None and _plan_marker.alive(note, os.getppid())
        if note and running:
            refusals.append(
                Refusal(
                    "",
                    "already-running",
                    f"Rollout {note['rollout']} of this fleet is under way here (process {note['pid']}): wait for it "
                    "to end, or stop it and run again.",
                )
            )
        adopted = note["rollout"] if note and not running else ""
        observed = {node: _observation(hosts, node) for node in hosts.names}
        desired, shelf, found = self._desired(args, hosts, observed, variables)
        fleet = [str(name) for name in (variables.get("groups") or {}).get("hive_nodes") or []]
        policy = {
            **args,
            "rollout": adopted,
            "deadman_seconds": _deadman_seconds(args),
            "left_out": sorted(set(fleet) - set(hosts.names)),
            "limited": bool(variables.get("ansible_limit")),
        }
        if args["goal"] == "previous":
            # Everybody goes back at once: what ran before needs no canary.
            policy.update(waves=["100%"], separate_channel_peers=False)
        # Observations hold fingerprints where options are secrets; so do the plan and every report. Only what is handed
        # to a node's own modules has the values.
        sealed = {node: seal(stack) for node, stack in desired.items()}
        plan = _plan.plan(sealed, observed, _manifests(shelf), policy, [*refusals, *found])
        for wave in plan["waves"] if args["goal"] == "previous" else []:
            wave["name"] = "all at once"
        if not plan["refused"]:
            digests = [digest for step in plan["nodes"].values() for digest in step["stage"]]
            plan = self._refuse(plan, _plan_shelf.check_artifacts(shelf, digests))
        rollout = adopted or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{plan['digest'][:8]}"
        if not preview:
            plan = self._refuse(plan, _approval(args, plan))
            # A run that could not say how it went must not begin.
            trouble = _report_files.trouble(reports) if plan["changes"] else ""
            plan = self._refuse(plan, [("reports-dir", trouble)] if trouble else [])
        result.update(
            changed=False,
            plan=plan,
            rollout=rollout,
            resumed=bool(adopted),
            started_at=round(time.time(), 3),
            lines=_plan.describe(plan),
            run=_run(plan, sealed, args, shelf, observed, nothing=preview),
        )
        if plan["refused"]:
            result["failed"] = True
            result["msg"] = " ".join(dict.fromkeys(refusal["message"] for refusal in plan["refused"]))
        elif plan["changes"] and not preview:
            _plan_marker.write(marker, rollout, os.getppid())
        return result

    @staticmethod
    def _refuse(plan: Json, problems: list[tuple[str, str]]) -> Json:
        """``plan`` with further refusals, which take its waves away but not its digest."""
        if not problems:
            return plan
        refused = [*plan["refused"], *(Refusal("", code, message).as_dict() for code, message in problems)]
        return {**plan, "refused": refused, "waves": []}

    def _desired(
        self, args: Json, hosts: _plan_hosts.Hosts, observed: Mapping[str, Json | None], variables: Mapping[str, Any]
    ) -> tuple[dict[str, Stack], Shelf, list[Refusal]]:
        """The resolved stack of each node, the releases it comes from, and what is wrong with it."""
        place = _plan_hosts.project_path(variables, args["releases_dir"])
        signers = _plan_hosts.project_path(variables, args["allowed_signers"])
        wanted: dict[str, Any] = {}
        refusals: list[Refusal] = []
        for node in hosts.names:
            try:
                wanted[node] = _wanted(args, hosts, node)
            except AnsibleError as error:
                refusals.append(Refusal(node, "bad-stack", f"hive_stack of {node} cannot be evaluated: {error}"))
        pairs = [
            (str(item["name"]), str(item["version"]))
            for stack in [*wanted.values(), *(_known(seen) for seen in observed.values())]
            if isinstance(stack, list)
            for item in stack
            if isinstance(item, Mapping) and item.get("name") and item.get("version")
        ]
        shelf = _plan_shelf.read_shelf(place, args["releases_dir"], pairs, signers, time.time())
        desired: dict[str, Stack] = {node: [] for node in wanted}
        for node, stack in wanted.items():
            if args["goal"] == "previous":
                desired[node], found = _previous(node, observed[node], shelf)
            elif stack is None:
                desired[node], found = [], [_no_stack(node)]
            else:
                stack, contradictions = with_flags(node, stack, observed[node])
                desired[node], found = resolve(node, stack, shelf)
                desired[node], strange = with_replaced(
                    node, desired[node], _replaces(args, hosts, node), observed[node]
                )
                found = [*contradictions, *found, *strange]
            refusals += found
        return desired, shelf, refusals


def _observation(hosts: _plan_hosts.Hosts, node: str) -> Json | None:
    result = hosts.result(node, _plan_hosts.OBSERVED)
    problem = _plan_hosts.trouble(node, result)
    if problem:
        return {"problems": [{"code": "unreachable", "message": problem}]}
    return result.get("observed") if result else None


def _wanted(args: Json, hosts: _plan_hosts.Hosts, node: str) -> Any:
    """hive_stack of the node, with the versions that the command line asks for; None when there is none."""
    if args["goal"] != "stack":
        return []
    stack = hosts.get(node, "hive_stack")
    if not isinstance(stack, list):
        return stack
    versions = args["versions"]
    return [
        {**item, "version": str(versions[item["name"]])}
        if isinstance(item, dict) and item.get("name") in versions
        else item
        for item in stack
    ]


def _replaces(args: Json, hosts: _plan_hosts.Hosts, node: str) -> Any:
    """hive_replaces of the node; what leaves nothing takes nobody's place."""
    return (hosts.get(node, "hive_replaces") or []) if args["goal"] == "stack" else []


def _no_stack(node: str) -> Refusal:
    return Refusal(
        node,
        "no-stack",
        f"hive_stack of {node} is not set: list the plugins and versions it has to run in group_vars (see "
        "inventories/example-production), or use playbooks/uninstall.yml to remove them.",
    )


def _known(seen: Json | None) -> Stack:
    """The stacks that a node's own journal speaks of."""
    if not seen:
        return []
    return [*(seen.get("stack") or []), *(seen.get("previous_stack") or []), *(seen.get("stable_stack") or [])]


def _previous(node: str, seen: Json | None, shelf: Shelf) -> tuple[Stack, list[Refusal]]:
    """The stack before the running one, if the node still has everything that it needs."""
    if seen is None or "lightningd" not in seen:
        return [], []
    if seen.get("transaction"):
        # An open switch is undone; nothing further back is meant.
        return seen["transaction"].get("previous") or [], []
    stack = seen.get("previous_stack")
    if stack is None:
        return [], [
            Refusal(
                node,
                "no-previous",
                f"{node} has no previous stack in its journal: there is nothing to go back to; use "
                "playbooks/uninstall.yml to remove the plugins.",
            )
        ]
    slots = {slot["digest"] for slot in seen.get("slots", []) if slot.get("complete")}
    by_digest = _manifests(shelf)
    missing = [item for item in stack if item["digest"] not in slots]
    lost = [item for item in missing if item["digest"] not in by_digest]
    if lost:
        return [], [
            Refusal(
                node,
                "slot-missing",
                f"{node} no longer has {_plan.label(lost[0])}, nor is it in the releases directory: put that "
                "release there, then run again.",
            )
        ]
    manifests = {item["name"]: by_digest[item["digest"]] for item in stack if item["digest"] in by_digest}
    if len(manifests) == len(stack):
        return stack, [Refusal(node, code, message) for code, message in check_set(stack, manifests)]
    return stack, []


def _manifests(shelf: Shelf) -> dict[str, Json]:
    return {
        entry["manifest"]["artifact"]["sha256"]: entry["manifest"]
        for entry in shelf.entries.values()
        if "manifest" in entry
    }


def _deadman_seconds(args: Json) -> int:
    """After how long a switch undoes itself; the way back confirms itself and has nobody to wait for."""
    if args["goal"] == "previous":
        return 0
    return int(args["deadman_seconds"]) or math.ceil(2 * args["soak_seconds"]) + DEADMAN_MARGIN_SECONDS


def _approval(args: Json, plan: Json) -> list[tuple[str, str]]:
    # The way back is always open: what the node ran before was approved then.
    if args["goal"] == "previous" or not args["approval_required"] or plan["refused"] or not plan["changes"]:
        return []
    if args["approved_plan"] == plan["digest"]:
        return []
    if args["approved_plan"]:
        return [
            (
                "other-plan",
                f"What was approved ({args['approved_plan'][:12]}) is not what would run now ({plan['digest'][:12]}): "
                f"read the new plan, then run again with -e hive_approved_plan={plan['digest']}",
            )
        ]
    return [
        (
            "not-approved",
            f"This plan needs an approval: read it, then run again with -e hive_approved_plan={plan['digest']}",
        )
    ]


def _hive(plan: Json, observed: Mapping[str, Json | None], nothing: bool, wanted: bool) -> Json:
    """The nodes that run cl-hive in the end, and their ids: those that can form a hive; and whether they shall."""
    nodes = [] if nothing or plan["refused"] else [node for node, step in plan["nodes"].items() if _runs_hive(step)]
    ids = {node: ((observed.get(node) or {}).get("lightningd") or {}).get("node_id") or "" for node in nodes}
    return {"nodes": nodes, "node_ids": ids, "forming": wanted and len(nodes) > 1}


def _runs_hive(step: Json) -> bool:
    return any(item["name"] == "cl-hive" and item["enabled"] for item in step["after"])


def _run(
    plan: Json,
    sealed: Mapping[str, Stack],
    args: Json,
    shelf: Shelf,
    observed: Mapping[str, Json | None],
    nothing: bool,
) -> Json:
    """What the plays after this one work with: the order, the batches, and the inputs of each node's modules."""
    waves = [] if nothing or plan["refused"] else plan["waves"]
    by_digest = _manifests(shelf)
    paths = {
        entry["manifest"]["artifact"]["sha256"]: entry["path"]
        for entry in shelf.entries.values()
        if "manifest" in entry
    }
    nodes = {}
    for wave in waves:
        for node in wave["nodes"]:
            step = plan["nodes"][node]
            stacks = [*step["after"], *step["before"]]
            nodes[node] = {
                "wave": wave["name"],
                "revert_first": step["action"] == "revert",
                "remake_container": step["remake_container"],
                "stack": _plan.normal(sealed[node]),
                "releases": [
                    {key: item[key] for key in ("name", "version", "digest")}
                    # What was installed by hand may be known to its node alone, which has kept it.
                    | {"path": paths.get(digest, f"{args['releases_dir']}/{item['name']}/{item['version']}")}
                    for digest, item in {item["digest"]: item for item in stacks}.items()
                    if digest in step["stage"]
                ],
                "manifests": [by_digest[d] for d in dict.fromkeys(i["digest"] for i in stacks) if d in by_digest],
            }
    return {
        "hosts": [node for wave in waves for node in wave["nodes"]],
        "serial": [len(wave["nodes"]) for wave in waves],
        "waves": waves,
        "nodes": nodes,
        "hive": _hive(plan, observed, nothing, args["form_fleet"]),
        "deadman_seconds": _deadman_seconds(args),
    }
