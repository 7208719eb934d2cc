# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""hive_judge: the verdict over a batch, from what the modules of its nodes registered. It never connects to a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _judge,
    _plan_hosts,
    _plan_stage,
)

Json = dict[str, Any]

ARGUMENTS: Json = {
    "soak_seconds": {"type": "float", "required": True},
    "allow_lightningd_restart": {"type": "bool", "default": False},
    "whole": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints
    """See plugins/modules/hive_judge.py for what it takes and returns."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(argument_spec=ARGUMENTS)
        hosts = _plan_hosts.Hosts(task_vars or {})
        planned = hosts.first(_plan_hosts.PLANNED) or {}
        own = str((task_vars or {})["inventory_hostname"])
        # The batch as it was planned: Ansible's own list leaves out the nodes that have failed.
        batch: list[str] = list(_plan_stage.stage_of(planned["run"], own)["nodes"])
        if args["whole"]:
            batch = planned["run"]["hosts"]
        steps = planned["plan"]["nodes"]
        verdict = _judge.judge({node: subject(hosts, node, steps[node], args["whole"]) for node in batch}, args)
        result.update(changed=False, **verdict, nodes=batch, msg=_judge.sentence(verdict))
        return result


def subject(hosts: _plan_hosts.Hosts, node: str, step: Json, whole: bool = False) -> _judge.Subject:
    """What is known of one node: its switch, and the samples of its windows; of a whole fleet the last look at it."""
    switch = hosts.result(node, _plan_hosts.SWITCHED)
    names = (_plan_hosts.LAST_LOOK,) if whole else (_plan_hosts.PROBED, _plan_hosts.PROBED_AGAIN, _plan_hosts.PART)
    probes = [probe for name in names if (probe := hosts.result(node, name)) is not None]
    errors = [_plan_hosts.trouble(node, found) for found in (switch, *probes)]
    if switch is None:
        errors.append("its switch was not reached")
    # What was sampled in parts was kept beside the results, which hold only the last part.
    parts: list[Json] = [] if whole else hosts.get(node, _plan_hosts.PARTS, [])
    return _judge.Subject(
        before=(hosts.result(node, _plan_hosts.OBSERVED) or {})["observed"],
        switch=switch,
        samples=parts or [sample for probe in probes for sample in _samples(probe)],
        error=next((error for error in errors if error), ""),
        expected=step["after"],
    )


def _samples(probe: Json) -> list[Json]:
    """The samples of a window; of a window of no length the one look that was taken."""
    found: list[Json] = probe.get("samples") or []
    seen = probe.get("observed")
    if found or not seen:
        return found
    # An observation has the whole answer of the health RPC, a sample only its status.
    ours = [
        {**plugin, "health": (plugin.get("health") or {}).get("status", "")}
        for plugin in seen.get("plugins", [])
        if plugin.get("ours")
    ]
    return [{"time": seen["time"], "lightningd": seen["lightningd"], "plugins": ours, "channels": seen["channels"]}]
