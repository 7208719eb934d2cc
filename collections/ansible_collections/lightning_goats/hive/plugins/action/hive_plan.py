# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_plan: works out in this process what a run will do. It never connects to a node."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan,
    _plan_approval,
    _plan_hosts,
    _plan_marker,
    _plan_rollout,
    _plan_run,
    _plan_shelf,
    _plan_windows,
    _policy,
    _report_files,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import seal
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
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

SOAK: Json = {
    "type": "dict",
    "default": {},
    "options": {
        "minutes": {"type": "float", "default": 0.0},
        "blocks": {"type": "int", "default": 0},
        "forwards": {"type": "int", "default": 0},
        "extend_minutes": {"type": "float", "default": 0.0},
    },
}
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
    "canary_soak": SOAK,
    "wave_soak": SOAK,
    "soak_self_revert": {"type": "bool", "default": True},
    "probe": {"type": "bool", "default": True},
    "failure_budget": {"type": "int", "default": 0},
    "commit": {"type": "str", "choices": ["stage", "fleet"], "default": "stage"},
    "unreachable": {"type": "str", "choices": ["fail", "leave"], "default": "fail"},
    "maintenance_windows": {"type": "list", "elements": "raw", "default": []},
    "maintenance_timezone": {"type": "str", "default": "UTC"},
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
    "approvals_needed": {"type": "int", "default": 0},
    "runner": {"type": "str", "default": ""},
    "approvers": {"type": "str", "default": "var/keys/approvers"},
    "evidence_dir": {"type": "str", "default": "var/evidence"},
    "preview": {"type": "bool", "default": False},
    "form_fleet": {"type": "bool", "default": False},
    "registers_dir": {"type": "str", "default": ""},
    "adopt": {"type": "str", "choices": ["auto", "no"], "default": "auto"},
}

# What is known before there is a plan: no stage.
NO_PLAN: Json = {"refused": [], "waves": [], "nodes": {}}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_plan.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if args["goal"] != "stack":
            # What goes away is kept stage by stage: nothing speaks for waiting with it.
            args["commit"] = "stage"
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
        try:
            default = _default_stack(args, variables)
        except ReleaseError as error:
            default = None
            refusals.append(Refusal("", error.code, str(error)))
        desired, shelf, found = self._desired(args, hosts, observed, variables, default)
        fleet = [str(name) for name in (variables.get("groups") or {}).get("hive_nodes") or []]
        spent = _plan_rollout.abandoned(observed)
        policy = {
            **args,
            "rollout": adopted,
            "terms": _terms(args),
            "spent": spent,
            "left_out": sorted(set(fleet) - set(hosts.names)),
            "fleet_nodes": fleet,
            "limited": bool(variables.get("ansible_limit")),
        }
        if args["goal"] == "previous":
            # Everybody goes back at once: what ran before needs no canary.
            policy.update(waves=["100%"], separate_channel_peers=False)
        # Observations hold fingerprints where options are secrets; so do the plan and every report. Only what is handed
        # to a node's own modules has the values.
        sealed = {node: seal(stack) for node, stack in desired.items()}
        refusals += [*found, *_settings(args)]
        plan, going = _planned(sealed, observed, _plan_run.manifests(shelf), policy, refusals)
        for wave in plan["waves"] if args["goal"] == "previous" else []:
            wave["name"] = "all at once"
        damaged: list[tuple[str, str]] = []
        if not plan["refused"]:
            digests = [digest for step in plan["nodes"].values() for digest in step["stage"]]
            damaged = _plan_shelf.check_artifacts(shelf, digests)
        rollout = (going.rollout if going else adopted) or (
            f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{plan['digest'][:8]}"
        )
        places = {node: str(hosts.get(node, "hive_state_dir") or _plan_run.STATE_DIR) for node in fleet}
        intervals = [hosts.get(node, "hive_probe_interval_seconds") or _plan_run.PROBE_SECONDS for node in fleet]
        looks = min(map(float, intervals))
        run = _plan_run.Run(plan, rollout, going, sealed, args, shelf, observed, places, looks)
        # What forbids further stages keeps nobody from judging one that soaks.
        forbid = self._hold if run.judged else self._refuse
        plan = forbid(plan, damaged)
        if not preview and not damaged:
            held = [
                *_stopped(args, observed, run.stages),
                *(_approval(args, plan, spent, variables) if run.stages else []),
            ]
            gates = str((hosts.first(_plan_hosts.GATES) or {}).get("hold") or "")
            held += [("gates", gates)] if gates and run.stages else []
            # A run that could not say how it went must not begin.
            trouble = _report_files.trouble(reports) if plan["changes"] else ""
            plan = self._refuse(plan, [("reports-dir", trouble)] if trouble else [])
            plan = forbid(plan, held)
        run = replace(run, plan=plan)
        waiting = [refusal["message"] for refusal in plan.get("held") or []]
        result.update(
            changed=False,
            plan=plan,
            rollout=rollout,
            resumed=bool(adopted) and going is None,
            started_at=round(time.time(), 3),
            lines=_plan.describe(plan),
            run=_plan_run.handed_on(run, waiting, nothing=preview),
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

    @staticmethod
    def _hold(plan: Json, problems: list[tuple[str, str]]) -> Json:
        """``plan`` with further reasons why no stage begins after those that soak are judged."""
        held = [*plan["held"], *(Refusal("", code, message).as_dict() for code, message in problems)]
        return {**plan, "held": held}

    def _desired(
        self,
        args: Json,
        hosts: _plan_hosts.Hosts,
        observed: Mapping[str, Json | None],
        variables: Mapping[str, Any],
        default: list[Json] | None,
    ) -> tuple[dict[str, Stack], Shelf, list[Refusal]]:
        """The resolved stack of each node, the releases it comes from, and what is wrong with it."""
        place = _plan_hosts.project_path(variables, args["releases_dir"])
        signers = _plan_hosts.project_path(variables, args["allowed_signers"])
        wanted: dict[str, Any] = {}
        refusals: list[Refusal] = []
        for node in hosts.names:
            try:
                wanted[node] = _wanted(args, hosts, node, default)
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


def _default_stack(args: Json, variables: Mapping[str, Any]) -> list[Json] | None:
    """What nodes without a stack of their own run, None before the fleet has stood on anything. Raises ReleaseError."""
    if not args["registers_dir"] or args["goal"] != "stack":
        return None
    policy = _policy.read(_plan_hosts.project_path(variables, args["registers_dir"]), args["fleet"])
    return None if policy is None else policy["stack"]


def _wanted(args: Json, hosts: _plan_hosts.Hosts, node: str, default: list[Json] | None) -> Any:
    """hive_stack of the node or of the fleet, with the versions of the command line; None when there is none."""
    if args["goal"] != "stack":
        return []
    stack = hosts.get(node, "hive_stack")
    if stack is None:
        stack = default
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
        f"hive_stack of {node} is not set, and the fleet has no default yet: list the plugins and versions it has to "
        "run in group_vars (see inventories/example-production), or use playbooks/uninstall.yml to remove them.",
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
    by_digest = _plan_run.manifests(shelf)
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


def _terms(args: Json) -> Json:
    """What an approval covers beside what is done to each node: how far a rollout goes, and how fast."""
    if args["goal"] != "stack":
        return {}
    return {
        "soaks": _plan_run.soaks(args),
        "failure_budget": args["failure_budget"],
        "commit": args["commit"],
    }


def _planned(
    sealed: Mapping[str, Stack],
    observed: Mapping[str, Json | None],
    manifests: Mapping[str, Json],
    policy: Json,
    refusals: list[Refusal],
) -> tuple[Json, _plan_rollout.UnderWay | None]:
    """The plan, and the rollout that it goes on with; a new plan says why it is not that one."""
    going = _plan_rollout.under_way(observed) if policy["goal"] == "stack" else None
    why = ""
    if going is not None and not going.complete():
        try:
            rest = going
            return _timed(
                lambda timed: _plan_rollout.carry_on(rest, sealed, observed, manifests, timed, refusals), policy
            ), going
        except _plan_rollout.AnotherPlanError as error:
            why = f"a new plan: rollout {going.rollout} does not go on, because {error}"
    plan = _timed(lambda timed: _plan.plan(sealed, observed, manifests, timed, refusals), policy)
    if why and plan["changes"]:
        plan["remarks"] = [why, *_plan_rollout.unjudged(plan, observed), *plan["remarks"]]
    return plan, None


def _timed(make: Callable[[Json], Json], policy: Json) -> Json:
    """The plan with the dead-man's time in it, which follows from the number of stages where all are kept at once."""
    plan = make({**policy, "deadman_seconds": _plan_run.deadman_seconds(NO_PLAN, policy)})
    if policy["commit"] != "fleet":
        return plan
    seconds = _plan_run.deadman_seconds(plan, policy)
    plan = make({**policy, "deadman_seconds": seconds})
    return ActionModule._refuse(plan, _too_long(plan, seconds))


def _too_long(plan: Json, seconds: float) -> list[tuple[str, str]]:
    """Nodes on which a payment in flight may expire before the whole fleet is kept or back."""
    found = []
    for wave in plan["waves"]:
        for node in wave["nodes"]:
            flying = (plan["nodes"].get(node) or {}).get("payments") or {"blocks_left": None}
            if flying["blocks_left"] is not None and flying["blocks_left"] < flying["blocks_needed"]:
                found.append(
                    (
                        "htlc-budget",
                        f"A payment through {node} expires in {flying['blocks_left']} blocks, and hive_commit=fleet "
                        f"keeps nothing for up to {seconds:g} s, which may be {flying['blocks_needed']} blocks: run "
                        "again when it is settled, or with hive_commit=stage.",
                    )
                )
    return found


def _settings(args: Json) -> list[Refusal]:
    """What is wrong with how a rollout was asked for."""
    if args["goal"] == "previous":
        return []
    found = []
    try:
        _plan_windows.opening(args["maintenance_windows"], args["maintenance_timezone"], time.time())
    except _plan_windows.WindowsError as error:
        found.append(Refusal("", "bad-windows", str(error)))
    soaks = [soak["minutes"] for soak in _plan_run.soaks(args).values()]
    if any(soaks) and not args["probe"]:
        found.append(
            Refusal(
                "",
                "soak-without-probe",
                "A stage soaks by what the probes of the nodes see, and hive_probe is off: set it to true, or "
                "hive_canary_soak_minutes and hive_wave_soak_minutes to 0.",
            )
        )
    return found


def _stopped(args: Json, observed: Mapping[str, Json | None], stages: list[Json]) -> list[tuple[str, str]]:
    """Why no stage may begin now, however good the plan is: a brake, a pause, a window that is shut."""
    if args["goal"] == "previous" or not stages:
        return []
    found = []
    for node, seen in observed.items():
        if (seen or {}).get("brake"):
            found.append(("brake", f"{_plan_hosts.braked(node, str((seen or {})['brake']))}"))
        if (seen or {}).get("pause"):
            found.append(("paused", f"{_plan_hosts.paused(node, str((seen or {})['pause']))}"))
    opens = _plan_windows.opening(args["maintenance_windows"], args["maintenance_timezone"], time.time())
    if opens is not None:
        when = _plan_windows.words(opens, args["maintenance_timezone"])
        found.append(("outside-window", f"No stage begins outside hive_maintenance_windows: run again after {when}."))
    return found


def _approval(args: Json, plan: Json, spent: Collection[str], variables: Mapping[str, Any]) -> list[tuple[str, str]]:
    # The way back is always open: what the node ran before was approved then.
    if args["goal"] == "previous" or not args["approval_required"] or plan["refused"] or not plan["changes"]:
        return []
    places = (_plan_hosts.project_path(variables, args[name]) for name in ("approvers", "evidence_dir", "reports_dir"))
    desk = _plan_approval.Desk(args["approvals_needed"], args["runner"], *places)
    return _plan_approval.problems(plan, spent, args["approved_plan"], desk, time.time())
