# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the in-process actions take out of Ansible's variables, as plain Python data. Controller only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Registered by the roles, per node.
OBSERVED = "__hive_preflight_result"
PLANNED = "__hive_gate_result"
GATES = "__hive_gates_result"
STAGED = "__hive_stage_result"
SWITCHED = "__hive_canary_switch"
PROBED = "__hive_canary_probe"
PROBED_AGAIN = "__hive_canary_probe_again"
PART = "__hive_canary_part"
PARTS = "__hive_canary_samples"
JUDGED = "__hive_canary_verdict"
JUDGED_AGAIN = "__hive_canary_verdict_again"
CONFIRMED = "__hive_canary_confirm"
LOOKED = "__hive_canary_look"
REVERTED = "__hive_canary_revert"
ROLLED_BACK = "__hive_rollback_result"
INVITED = "__hive_fleet_invitation"
SAMPLED = "__hive_soak_samples"
SOAK_JUDGED = "__hive_soak_verdict"
SOAK_BACK = "__hive_soak_back"
SOAK_NOTED = "__hive_soak_noted"
LAST_LOOK = "__hive_canary_last_look"
FLEET_JUDGED = "__hive_canary_fleet_verdict"
FLEET_BACK = "__hive_canary_back"


def plain(value: Any) -> Any:
    """``value`` without Ansible's own types: what json can write and a worker can hand back."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    return str(value)


class Hosts:
    """The variables of the play's hosts, read once each.

    Args:
        task_vars: what an action plugin gets.
    """

    def __init__(self, task_vars: Mapping[str, Any]) -> None:
        self._hostvars = task_vars["hostvars"]
        self._cache: dict[str, Any] = {}
        self.names: list[str] = [str(name) for name in task_vars["ansible_play_hosts_all"]]

    def get(self, node: str, name: str, default: Any = None) -> Any:
        """Variable ``name`` of ``node`` as plain data, ``default`` when it is not set.

        Raises:
            ansible.errors.AnsibleError: the variable's own template cannot be evaluated.
        """
        if node not in self._cache:
            self._cache[node] = self._hostvars[node]
        variables = self._cache[node]
        return plain(variables[name]) if name in variables else default

    def result(self, node: str, name: str) -> Json | None:
        """A registered result of ``node``, None when the task did not run there or was skipped."""
        found = self.get(node, name)
        if not isinstance(found, dict) or found.get("skipped"):
            return None
        return found

    def first(self, name: str) -> Json | None:
        """A result that a task with run_once registered for every host; None when it did not run."""
        for node in self.names:
            found = self.result(node, name)
            if found is not None:
                return found
        return None


def trouble(node: str, result: Json | None) -> str:
    """Why a node's task did not work, as a sentence; "" when it did or was not run."""
    if result is None:
        return ""
    if result.get("unreachable"):
        why = str(result.get("msg") or result.get("skip_reason") or "").strip().splitlines() or ["no answer"]
        return f"{node} cannot be reached ({why[0].rstrip('.')}): look at its connection, then run again."
    if result.get("failed"):
        return str(result.get("msg") or "it failed and gave no reason").strip()
    return ""


def braked(node: str, reason: str) -> str:
    """What a brake means, as a sentence."""
    return (
        f"The brake of {node} is set ({reason}): nothing is switched until it is released, with playbooks/brake.yml "
        "-e hive_brake_state=absent, when it is safe to go on."
    )


def paused(node: str, reason: str) -> str:
    """What a pause means, as a sentence."""
    return f"{node} is paused ({reason}): no further stage begins until playbooks/resume.yml, then run again."


def project_path(task_vars: Mapping[str, Any], path: str) -> Path:
    """``path`` as an absolute one; relative ones start at the folder above the playbooks."""
    return (Path(str(task_vars["playbook_dir"])).parent / Path(path).expanduser()).resolve()
