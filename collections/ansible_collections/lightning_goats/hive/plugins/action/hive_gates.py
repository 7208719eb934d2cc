# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_gates: asks every gate whether what the plan would roll out may be rolled out. It never connects to a node."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.constants import DEFAULT_HOST_LIST
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _approvals,
    _evidence,
    _gates,
    _gates_checks,
    _gates_decision,
    _gates_gather,
    _gates_lines,
    _metrics,
    _plan_hosts,
    _plan_shelf,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

ALWAYS, CHANGES = "always", "changes"
ARGUMENTS: Json = {
    "plan": {"type": "dict", "required": True},
    "enforce": {"type": "str", "choices": [ALWAYS, CHANGES], "default": ALWAYS},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": ""},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys"},
    "registers_dir": {"type": "str", "required": True},
    "reviewed_dir": {"type": "str", "default": ""},
    "approvers": {"type": "str", "required": True},
    "approvals_needed": {"type": "int", "default": 1},
    "runner": {"type": "str", "default": ""},
    "incident_free_days": {"type": "float", "default": 14.0},
    "suite_days": {"type": "float", "default": 30.0},
    "exercise_days": {"type": "float", "default": 30.0},
    "drill_days": {"type": "float", "default": 30.0},
    "security_days": {"type": "float", "default": 7.0},
    "matrix_days": {"type": "float", "default": 30.0},
    "deadline_seconds": {"type": "float", "default": _gates_checks.DEADLINE_SECONDS},
    "metrics_dir": {"type": "str", "default": ""},
    "github_url": {"type": "str", "default": "https://api.github.com"},
    "github_token": {"type": "str", "default": "", "no_log": True},
    "github_repositories": {"type": "list", "elements": "str", "default": []},
    "github_label": {"type": "str", "default": "high-priority"},
}
REVIEWED = Path(_gates.__file__).with_name("_reviewed")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_gates.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(variables)
        result.update(changed=False, decision=_gates.DENIED, findings=[], lines=[], advice=[], path="", hold="")
        planned = self._planned(args["plan"], variables)
        plan = planned.get("plan") or {"nodes": {}, "refused": [], "changes": 0, "digest": "", "fleet": ""}
        if args["enforce"] == CHANGES and (plan["refused"] or not planned.get("plan")):
            # The task that plans says why, in its own words.
            return result
        try:
            seen, places, signer = self._context(args, plan, hosts, variables)
        except ReleaseError as error:
            result.update(failed=True, msg=str(error), code=error.code)
            return result
        decision = _gates.decide(_gates_checks.CHECKS, seen)
        told = [f"The plan is refused: {refusal['message']}" for refusal in plan["refused"]]
        decision = _gates.Decision(decision.findings, [*decision.remarks, *dict.fromkeys(told)])
        result.update(
            decision=decision.word,
            findings=_plan_hosts.plain([finding.as_dict() for finding in decision.findings]),
            lines=_gates_lines.with_inventory(_gates_lines.lines(decision), inventories()),
            advice=_gates_lines.with_inventory(_gates_lines.advice(decision), inventories()),
            msg=_gates_lines.refusal(decision)[1],
        )
        if not self._task.check_mode:
            try:
                result["path"] = str(_gates_decision.write(decision, seen, places.evidence, signer) or "")
                self._offer(args, plan, variables)
            except (ReleaseError, OSError) as error:
                result["lines"] = [*result["lines"], f"The decision could not be written: {error}"]
            result["lines"] = [*result["lines"], *_counted(args, seen.fleet, result, variables)]
        self._enforce(result, args, plan, hosts, decision)
        return result

    def _enforce(
        self, result: Json, args: Json, plan: Json, hosts: _plan_hosts.Hosts, decision: _gates.Decision
    ) -> None:
        """Let a denied rollout fail, hold it when a stage still soaks, or only say so."""
        if decision.allowed:
            return
        code, _ = _gates_lines.refusal(decision)
        if args["enforce"] == ALWAYS:
            result.update(failed=True, code=code)
        elif plan["changes"] and not self._task.check_mode:
            # A stage that soaks is judged, and goes back if it has to, whatever the gates say; only nothing new begins.
            if soaking(hosts):
                result["hold"] = result["msg"]
            else:
                result.update(failed=True, code=code)

    def _planned(self, arguments: Json, variables: Mapping[str, Any]) -> Json:
        """What hive_plan would say now, as a preview."""
        task = self._task.copy()
        task.args = {**arguments, "preview": True}
        action = self._shared_loader_obj.action_loader.get(
            "lightning_goats.hive.hive_plan",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        planned: Json = action.run(task_vars=variables)
        return planned

    def _context(
        self, args: Json, plan: Json, hosts: _plan_hosts.Hosts, variables: Mapping[str, Any]
    ) -> tuple[_gates.Context, _gates_gather.Places, keys.Signer]:
        def place(name: str) -> Path:
            return _plan_hosts.project_path(variables, args[name])

        key, signers = (str(place(name)) if args[name] else "" for name in ("signing_key", "allowed_signers"))
        signer = _signer(key, signers, place("keys_dir"))
        places = _gates_gather.Places(
            place("evidence_dir"),
            signer.allowed_signers,
            place("registers_dir"),
            place("approvers"),
            REVIEWED,
            place("reviewed_dir") if args["reviewed_dir"] else None,
        )
        now = time.time()
        fleet = [str(name) for name in (variables.get("groups") or {}).get("hive_nodes") or hosts.names]
        asked = _gates_gather.Asked(
            fleet=str(plan.get("fleet") or args["plan"].get("fleet") or ""),
            plan=str(plan["digest"]) if not plan["refused"] else "",
            releases=_releases(args["plan"], plan, variables, now),
            nodes=hosts.names,
            runtimes=sorted({str(hosts.get(node, "hive_runtime") or "systemd") for node in fleet}),
            runner=args["runner"],
            needed=args["approvals_needed"],
            approved=str(args["plan"].get("approved_plan") or ""),
            throwaway=signer.throwaway and boolean(args["plan"].get("approval_required", True)),
            days=_gates.Days(
                suite=args["suite_days"],
                exercise=args["exercise_days"],
                drill=args["drill_days"],
                security=args["security_days"],
                matrix=args["matrix_days"],
                incident_free=args["incident_free_days"],
            ),
            deadline_seconds=args["deadline_seconds"],
        )
        github = _gates_gather.GitHub(
            args["github_url"], args["github_token"], args["github_repositories"], args["github_label"]
        )
        return _gates_gather.gather(places, asked, github, now), places, signer

    def _offer(self, args: Json, plan: Json, variables: Mapping[str, Any]) -> None:
        """Keep the plan where approvers find it."""
        if plan["changes"] and not plan["refused"] and args["approvals_needed"] > 0:
            reports = _plan_hosts.project_path(variables, str(args["plan"]["reports_dir"]))
            _approvals.write_plan(reports, plan, plan.get("spent") or (), time.time())


def _counted(args: Json, fleet: str, result: Json, variables: Mapping[str, Any]) -> list[str]:
    """Write the metrics of the gates; a line when that was not possible."""
    if not args["metrics_dir"]:
        return []
    place = _plan_hosts.project_path(variables, args["metrics_dir"])
    try:
        _metrics.gates(fleet, result["decision"], result["findings"], time.time()).write(place, "gates")
    except OSError as error:
        return [_metrics.sentence(error, place)]
    return []


def _signer(key: str, signers: str, directory: Path) -> keys.Signer:
    """Whose evidence counts, and who signs the decision; whoever only looks does not need to have that key."""
    if key and signers and not Path(key).is_file():
        return keys.Signer(Path(key), Path(signers), throwaway=False, namespace=_evidence.NAMESPACE)
    return keys.find_signer(key, signers, directory, _evidence.NAMESPACE)


def inventories() -> list[str]:
    """The inventories that were given with -i, as seen from where Ansible was called when they lie below it."""
    given = [str(path) for path in context.CLIARGS.get("inventory") or () if str(path) not in DEFAULT_HOST_LIST]
    return [os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path for path in given]


def soaking(hosts: _plan_hosts.Hosts) -> bool:
    """Whether a stage of an earlier run soaks on one of the nodes."""
    seen = [(hosts.result(node, _plan_hosts.OBSERVED) or {}).get("observed") or {} for node in hosts.names]
    return any((one.get("soak") or {}).get("state") in ("soaking", "self-reverted") for one in seen)


def _releases(plan_args: Json, plan: Json, variables: Mapping[str, Any], now: float) -> list[_gates.Release]:
    """The artifacts that the nodes shall run."""
    stacks = {node: step["after"] for node, step in plan["nodes"].items()}
    pairs = {(str(item["name"]), str(item["version"])) for stack in stacks.values() for item in stack}
    shelf = _plan_shelf.read_shelf(
        _plan_hosts.project_path(variables, str(plan_args["releases_dir"])),
        str(plan_args["releases_dir"]),
        pairs,
        _plan_hosts.project_path(variables, str(plan_args["allowed_signers"])),
        now,
    )
    manifests = [entry["manifest"] for entry in shelf.entries.values() if "manifest" in entry]
    return _gates_checks.releases(stacks, {manifest["artifact"]["sha256"]: manifest for manifest in manifests})
