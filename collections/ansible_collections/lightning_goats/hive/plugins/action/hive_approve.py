# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_approve: shows the plan that waits under a digest and signs it as one approver. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _approvals, _evidence_all, _plan_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._registers import day

Json = dict[str, Any]

ARGUMENTS: Json = {
    "plan": {"type": "str", "required": True},
    "approver": {"type": "str", "default": ""},
    "key": {"type": "str", "default": "", "no_log": False},
    "approvers": {"type": "str", "required": True},
    "runner": {"type": "str", "default": ""},
    "valid_days": {"type": "float", "default": 7.0},
    "evidence_dir": {"type": "str", "required": True},
    "reports_dir": {"type": "str", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_approve.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        result.update(changed=False, lines=[], path="", expires_at=None)
        now = time.time()
        evidence = _plan_hosts.project_path(variables, args["evidence_dir"])
        try:
            plan = _approvals.read_plan(_plan_hosts.project_path(variables, args["reports_dir"]), args["plan"])
            result["lines"] = _approvals.lines(plan)
            if self._task.check_mode or not (args["approver"] and args["key"]):
                result["lines"] += [
                    "Nothing was signed: give -e hive_approver=<name> and -e hive_approval_key=<key>, without --check."
                ]
                return result
            digests = {item["digest"] for step in plan["nodes"].values() for item in step["after"]}
            rules = _approvals.Rules(
                1,
                _plan_hosts.project_path(variables, args["approvers"]),
                args["runner"],
                _evidence_all.keys_that_signed(evidence, digests),
            )
            key = _plan_hosts.project_path(variables, args["key"])
            path = _approvals.sign(evidence, plan, args["approver"], key, rules, now, args["valid_days"])
        except ReleaseError as error:
            return self._refused(result, error.code, str(error))
        except OSError as error:
            what = f"{error.filename or 'The disk'} cannot be used ({error.strerror or error})"
            return self._refused(result, "disk", f"{what}: correct its owner or make room, then sign again.")
        end = now + args["valid_days"] * 86400
        result["lines"] += [f"{_approvals.WORDS} by {args['approver']} until {day(end)}: {path}"]
        result.update(changed=True, path=str(path), expires_at=round(end, 3))
        return result

    @staticmethod
    def _refused(result: Json, code: str, message: str) -> Json:
        """What is printed of a plan that is not signed ends with why."""
        result["lines"] += [f"REFUSED ({code}) {message}"]
        result.update(failed=True, msg=message, code=code)
        return result
