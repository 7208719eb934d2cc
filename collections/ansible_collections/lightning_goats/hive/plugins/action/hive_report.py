# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_report: gathers what the run's tasks registered and writes the report. It never connects to a node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _exercise_record,
    _metrics,
    _notify,
    _plan_hosts,
    _plan_marker,
    _report,
    _report_files,
    _report_gather,
    _report_soak,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

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
    "tell": {
        "type": "dict",
        "options": {
            "metrics_dir": {"type": "str", "default": ""},
            "webhooks": {"type": "list", "elements": "dict", "default": [], "no_log": True},
        },
    },
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_report.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(variables)
        try:
            # Before the first node is changed: a run that could not tell anybody must not find that out at its end.
            receivers = _notify.hooks((args["tell"] or {}).get("webhooks") or [])
        except ReleaseError as error:
            raise AnsibleActionFail(str(error)) from error
        facts = _report_gather.gather(hosts, args)
        report = _report.build(facts)
        directory = _plan_hosts.project_path(variables, args["reports_dir"])
        result.update(changed=False, report=report, paths={}, msg=_report.summary(report), lines=[], evidence=[])
        if self._task.check_mode:
            return result
        ended = report["result"] != "running"
        recorded = _exercise_record.Recorded()
        if ended and args["evidence"]:
            recorded = record(hosts, facts, report, args["evidence"], variables)
            result.update(evidence=recorded.evidence, incidents=recorded.incidents)
            report["evidence"], report["incidents"] = (
                _report.files(recorded.evidence),
                _report.files(recorded.incidents),
            )
        told_before = _report_files.ended_before(report, directory)
        try:
            result["paths"] = _report_files.write(report, directory)
        except OSError as error:
            raise AnsibleActionFail(_report_files.sentence(error, directory)) from error
        if ended:
            begun = [soak for soak in report["soaks"] if not soak["samples"]]
            told = [*_report.table(report), "", *_report_soak.lines(begun), result["msg"]]
            told.append(f"Report: {result['paths']['html']}")
            result["lines"] = [*told, *recorded.lines]
            if not told_before:
                sentence = _notify.message(report, result["msg"], result["paths"]["html"])
                result["lines"] += _notify.send(receivers, sentence)
            place = (args["tell"] or {}).get("metrics_dir")
            if place:
                result["lines"] += count(report, _plan_hosts.project_path(variables, place))
            # A run that is refused because another one is under way must not take that one's note away.
            if report["result"] != "refused":
                _plan_marker.remove(_plan_marker.path_for(directory, args["fleet"]))
        return result


def count(report: Json, directory: Path) -> list[str]:
    """Write the run's metrics; a line when that was not possible, because a run does not fail for them."""
    try:
        before = _metrics.last_success(directory, str(report["fleet"]))
        _metrics.rollout(report, before).write(directory, "rollout")
    except OSError as error:
        return [_metrics.sentence(error, directory)]
    return []


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
