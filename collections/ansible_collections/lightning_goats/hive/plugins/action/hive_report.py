# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_report: gathers what the run's tasks registered and writes the report. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _exercise_record,
    _judge,
    _plan_hosts,
    _plan_marker,
    _report,
    _report_files,
)

Json = dict[str, Any]

ARGUMENTS: Json = {
    "reports_dir": {"type": "str", "required": True},
    "fleet": {"type": "str", "default": ""},
    "goal": {"type": "str", "choices": ["stack", "previous", "nothing"], "default": "stack"},
    "final": {"type": "bool", "default": False},
    "evidence": {
        "type": "dict",
        "options": {
            "write": {"type": "bool", "default": True},
            "dir": {"type": "str", "required": True},
            "signing_key": {"type": "str", "default": ""},
            "allowed_signers": {"type": "str", "default": ""},
            "keys_dir": {"type": "str", "default": "var/keys"},
            "valid_days": {"type": "int", "default": 30},
            "registers_dir": {"type": "str", "default": "var/registers"},
        },
    },
}
WATCHED = (
    _plan_hosts.OBSERVED,
    _plan_hosts.STAGED,
    _plan_hosts.SWITCHED,
    _plan_hosts.PROBED,
    _plan_hosts.PROBED_AGAIN,
    _plan_hosts.CONFIRMED,
    _plan_hosts.REVERTED,
    _plan_hosts.ROLLED_BACK,
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_report.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        facts = gather(_plan_hosts.Hosts(variables), args)
        report = _report.build(facts)
        directory = _plan_hosts.project_path(variables, args["reports_dir"])
        result.update(changed=False, report=report, paths={}, msg=_report.summary(report), lines=[], evidence=[])
        if self._task.check_mode:
            return result
        try:
            result["paths"] = _report_files.write(report, directory)
        except OSError as error:
            raise AnsibleActionFail(_report_files.sentence(error, directory)) from error
        if report["result"] != "running":
            result["lines"] = [*_report.table(report), "", result["msg"], f"Report: {result['paths']['html']}"]
            if args["evidence"]:
                recorded = record(_plan_hosts.Hosts(variables), facts, report, args["evidence"], variables)
                result.update(evidence=recorded.evidence, incidents=recorded.incidents)
                result["lines"] += recorded.lines
            # A run that is refused because another one is under way must not take that one's note away.
            if report["result"] != "refused":
                _plan_marker.remove(_plan_marker.path_for(directory, args["fleet"]))
        return result


def record(
    hosts: _plan_hosts.Hosts, facts: _report.Facts, report: Json, given: Json, variables: Mapping[str, Any]
) -> _exercise_record.Recorded:
    """Write the evidence and the incidents of the run, where its inventory wants them."""
    evidence, registers, key_files = (
        _plan_hosts.project_path(variables, given[name]) for name in ("dir", "registers_dir", "keys_dir")
    )
    key, signers = (
        str(_plan_hosts.project_path(variables, given[name])) if given[name] else ""
        for name in ("signing_key", "allowed_signers")
    )
    run = (hosts.first(_plan_hosts.PLANNED) or {}).get("run") or {}
    manifests = [manifest for node in run.get("nodes", {}).values() for manifest in node["manifests"]]
    return _exercise_record.record(
        facts,
        report,
        {node: str(hosts.get(node, "hive_runtime") or "systemd") for node in report["nodes"]},
        {str(manifest["artifact"]["sha256"]): int(manifest["schema_version"]) for manifest in manifests},
        _exercise_record.Places(
            evidence, registers, key_files, key, signers, valid_days=given["valid_days"], wanted=given["write"]
        ),
    )


def gather(hosts: _plan_hosts.Hosts, args: Json) -> _report.Facts:
    """Everything that the tasks so far have registered."""
    planned = hosts.first(_plan_hosts.PLANNED)
    plan = planned.get("plan") if planned else None
    # The play of the waves knows only the nodes that change.
    names = sorted({*hosts.names, *(plan or {}).get("nodes", {})})
    failures = {node: reason for node in names if (reason := failure(hosts, node))}
    verdicts = {}
    for wave in (plan or {}).get("waves", []):
        for name in (_plan_hosts.JUDGED_AGAIN, _plan_hosts.JUDGED):
            verdict = hosts.result(wave["nodes"][0], name)
            if verdict is not None and "verdict" in verdict:
                verdicts[wave["name"]] = verdict
                break
    now = round(time.time(), 3)
    failed = bool(failures) or any(v["verdict"] != _judge.HEALTHY for v in verdicts.values())
    observed = {node: (hosts.result(node, _plan_hosts.OBSERVED) or {}).get("observed") for node in names}
    return _report.Facts(
        fleet=args["fleet"],
        rollout=(planned or {}).get("rollout") or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-refused",
        started_at=(planned or {}).get("started_at") or now,
        now=now,
        goal=args["goal"],
        final=args["final"] and not failed,
        failed=failed,
        resumed=bool((planned or {}).get("resumed")),
        plan=plan,
        nodes=names,
        observed={node: seen for node, seen in observed.items() if seen},
        switches=_results(hosts, names, _plan_hosts.SWITCHED) | _results(hosts, names, _plan_hosts.ROLLED_BACK),
        confirms=_results(hosts, names, _plan_hosts.CONFIRMED),
        reverts=_results(hosts, names, _plan_hosts.REVERTED),
        verdicts=verdicts,
        failures=failures,
    )


def _results(hosts: _plan_hosts.Hosts, names: list[str], name: str) -> dict[str, Json]:
    return {node: found for node in names if (found := hosts.result(node, name)) is not None}


def failure(hosts: _plan_hosts.Hosts, node: str) -> str:
    """The first thing that went wrong on the node, "" when nothing did."""
    for name in WATCHED:
        reason = _plan_hosts.trouble(node, hosts.result(node, name))
        if reason:
            return reason
    # Whatever other task failed: Ansible keeps its result for the rescue.
    return _plan_hosts.trouble(node, hosts.result(node, "ansible_failed_result"))
