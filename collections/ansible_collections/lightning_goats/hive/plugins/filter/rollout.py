# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Filters that hold the plays of a run together.

Ansible's own means do not: a failure that was rescued and failed again is forgotten once an ``always`` section has run,
and ``max_fail_percentage`` then lets the next batch start. So every batch asks the results themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import fingerprint

Results = Mapping[str, Any]
# A pattern that matches no host and that Ansible does not warn about.
NOBODY = "all:!all"


def planned_run(hostvars: Mapping[str, Any]) -> Results:
    """What hive_plan handed on (RV run), from the first host that knows; nothing to run when no plan was made."""
    for node in hostvars:
        variables = hostvars[node]
        if _plan_hosts.PLANNED in variables and "run" in variables[_plan_hosts.PLANNED]:
            run: Results = variables[_plan_hosts.PLANNED]["run"]
            return run
    return {"hosts": [], "serial": [], "waves": [], "nodes": {}}


def planned_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes to change as a host pattern in the order of the plan; nobody when one of them is not staged."""
    return NOBODY if unstaged(hostvars) else ",".join(planned_run(hostvars)["hosts"]) or NOBODY


def planned_serial(hostvars: Mapping[str, Any]) -> list[int]:
    """The sizes of the batches, as the play keyword serial takes them."""
    return list(planned_run(hostvars)["serial"]) or [1]


def staging_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes that lack releases, as a host pattern."""
    return ",".join(node for node, step in planned_run(hostvars)["nodes"].items() if step["releases"]) or NOBODY


def inviting_hosts(hostvars: Mapping[str, Any]) -> str:
    """The node that founds the hive, as a host pattern; nobody when none is to be formed."""
    hive = planned_run(hostvars).get("hive") or {}
    return str(hive["nodes"][0]) if hive.get("forming") else NOBODY


def joining_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes of the hive, as a host pattern, when one of them is not yet a member; nobody otherwise."""
    hive = planned_run(hostvars).get("hive") or {}
    invited = hostvars[hive["nodes"][0]].get(_plan_hosts.INVITED) if hive.get("forming") else None
    return ",".join(hive["nodes"]) if isinstance(invited, Mapping) and invited.get("tickets") else NOBODY


def unstaged(hostvars: Mapping[str, Any]) -> list[str]:
    """The nodes of the plan that do not have the releases they need."""
    nodes = planned_run(hostvars)["nodes"]
    return [node for node, step in nodes.items() if step["releases"] and not _good(hostvars, node, _plan_hosts.STAGED)]


def unconfirmed(hostvars: Mapping[str, Any], node: str) -> list[str]:
    """The nodes in the stage of ``node`` that are not confirmed."""
    for wave in planned_run(hostvars)["waves"]:
        if node in wave["nodes"]:
            return [other for other in wave["nodes"] if not _good(hostvars, other, _plan_hosts.CONFIRMED)]
    return []


def unfinished_before(hostvars: Mapping[str, Any], node: str) -> list[str]:
    """The nodes of all stages before the one of ``node`` that are not confirmed: none, or ``node`` must not start."""
    found: list[str] = []
    for wave in planned_run(hostvars)["waves"]:
        if node in wave["nodes"]:
            return found
        found += unconfirmed(hostvars, wave["nodes"][0])
    return found


def unsealed(stack: Sequence[Mapping[str, Any]], wanted: Any) -> list[dict[str, Any]]:
    """``stack`` of the plan with the secret values of ``wanted`` (the node's hive_stack) in place of fingerprints.

    What is registered or printed holds fingerprints; values are put in where a node's own module takes them.
    """
    given = {item["name"]: item.get("options") or {} for item in wanted or [] if isinstance(item, Mapping)}
    result = []
    for item in _plan_hosts.plain(stack):
        known = {
            fingerprint(name, value): value
            for name, raw in _plan_hosts.plain(given.get(item["name"], {})).items()
            for value in (raw, str(raw))
        }
        result.append({**item, "options": {name: known.get(v, v) for name, v in item["options"].items()}})
    return result


def _good(hostvars: Mapping[str, Any], node: str, name: str) -> bool:
    """Whether the task that registered ``name`` ran on ``node`` and did not fail."""
    result = hostvars[node].get(name) if node in hostvars else None
    bad = ("failed", "unreachable", "skipped")
    return isinstance(result, Mapping) and not any(result.get(word) for word in bad)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "inviting_hosts": inviting_hosts,
            "joining_hosts": joining_hosts,
            "planned_hosts": planned_hosts,
            "planned_serial": planned_serial,
            "staging_hosts": staging_hosts,
            "unstaged": unstaged,
            "unconfirmed": unconfirmed,
            "unfinished_before": unfinished_before,
            "unsealed": unsealed,
        }
