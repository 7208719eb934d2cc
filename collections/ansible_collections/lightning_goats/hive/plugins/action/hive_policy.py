# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_policy: makes the stack that all nodes stand on the fleet's default. It never connects to a node."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts, _policy
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

ARGUMENTS: Json = {
    "fleet": {"type": "str", "required": True},
    "registers_dir": {"type": "str", "required": True},
    "stability_seconds": {"type": "float", "default": 1209600.0},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_policy.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(variables)
        everybody = [str(name) for name in (variables.get("groups") or {}).get("hive_nodes") or []]
        observed = {node: _observed(hosts, node) for node in hosts.names}
        absent = sorted(set(everybody) - set(hosts.names))
        policy, reasons = _policy.propose(str(args["fleet"]), observed, absent, time.time(), args["stability_seconds"])
        directory = _plan_hosts.project_path(variables, args["registers_dir"])
        try:
            before = _policy.read(directory, args["fleet"])
            changed = policy is not None and policy != before
            if policy is not None and changed and not self._task.check_mode:
                _policy.write(directory, policy)
        except ReleaseError as error:
            raise AnsibleActionFail(str(error)) from error
        except OSError as error:
            raise AnsibleActionFail(
                f"The policy cannot be written to {directory} ({error.strerror}): make it writable, or set "
                "hive_registers_dir to another directory, then run again."
            ) from error
        now = policy or before
        result.update(changed=changed, policy=now, reasons=reasons, msg=_said(policy, reasons))
        if self._task.diff:
            result["diff"] = {"before": before or {}, "after": now or {}}
        return result


def _observed(hosts: _plan_hosts.Hosts, node: str) -> Json | None:
    found = hosts.result(node, _plan_hosts.OBSERVED)
    seen: Json | None = None if found is None or _plan_hosts.trouble(node, found) else found.get("observed")
    return seen


def _said(policy: Json | None, reasons: list[str]) -> str:
    if policy is not None:
        return f"default: {_policy.sentence(policy)}"
    return "no stack is the fleet's default yet: " + "; ".join(reasons)
