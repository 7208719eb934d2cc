# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Filters that hold the plays of a run together.

Ansible's own means do not: a failure that was rescued and failed again is forgotten once an ``always`` section has run,
and ``max_fail_percentage`` then lets the next batch start. So every batch asks the results themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan_hosts,
    _plan_rollout,
    _plan_stage,
    _plan_windows,
)
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


def _look(hostvars: Mapping[str, Any]) -> _plan_stage.Lookup:
    """What tasks registered, by node and name."""

    def look(node: str, name: str) -> Results | None:
        found = hostvars[node].get(name) if node in hostvars else None
        return found if isinstance(found, Mapping) and not found.get("skipped") else None

    return look


def _first(hostvars: Mapping[str, Any], name: str) -> Results | None:
    """What a task with run_once registered, from the first host that knows."""
    look = _look(hostvars)
    return next((found for node in hostvars if (found := look(str(node), name)) is not None), None)


def soaking_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes whose samples the judge of a soak needs, as a host pattern; nobody when no stage soaks."""
    run = planned_run(hostvars)
    members = [node for stage in run.get("soaking") or [] for node in [*stage["nodes"], *stage["failed"]]]
    return ",".join(dict.fromkeys([*members, *run.get("controls", [])])) or NOBODY


def going_on(hostvars: Mapping[str, Any]) -> bool:
    """Whether further stages may begin: nothing soaks, or what soaked is well, written down, and nothing else stops."""
    if not planned_run(hostvars).get("soaking"):
        return True
    verdict = _first(hostvars, _plan_hosts.SOAK_JUDGED)
    # The play of the judge has stopped then; that alone is not relied on.
    return verdict is not None and verdict.get("state") == _plan_rollout.SOAKED and not soak_stops(hostvars)


def not_back(hostvars: Mapping[str, Any]) -> list[str]:
    """The nodes of a stage whose soak failed that could not be taken back."""
    verdict = _first(hostvars, _plan_hosts.SOAK_JUDGED) or {}
    return [node for node in verdict.get("back") or [] if not _good(hostvars, node, _plan_hosts.SOAK_BACK)]


def soak_stops(hostvars: Mapping[str, Any]) -> list[str]:
    """Why the run ends here after the stages that soak were judged, as sentences; [] when it does not."""
    run, verdict = planned_run(hostvars), _first(hostvars, _plan_hosts.SOAK_JUDGED)
    if verdict is None or verdict.get("failed"):
        return ["The stage that soaks could not be judged, so nothing else begins."]
    found = [stage["msg"] for stage in verdict["stages"] if stage["state"] in ("failed", "paused")]
    stuck = not_back(hostvars)
    if stuck:
        found.append(f"{', '.join(stuck)} could not be taken back: run again, or use playbooks/rollback.yml.")
    unwritten = [node for node in verdict["soaked"] if not _good(hostvars, node, _plan_hosts.SOAK_NOTED)]
    if unwritten:
        found.append(f"{', '.join(unwritten)} could not write down that it has soaked: run again.")
    if not found and verdict["state"] == _plan_rollout.SOAKED and run.get("held"):
        found = [f"{verdict['msg']}. No further stage begins:", *run["held"]]
    return found


def planned_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes to change as a host pattern in the order of the plan; nobody when one of them is not staged."""
    if unstaged(hostvars) or not going_on(hostvars):
        return NOBODY
    return ",".join(planned_run(hostvars)["hosts"]) or NOBODY


def fleet_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes that were switched and wait for the whole fleet to be kept with them, as a host pattern."""
    run, look = planned_run(hostvars), _look(hostvars)
    if run.get("commit") != "fleet":
        return NOBODY
    return ",".join(node for node in run["hosts"] if look(node, _plan_hosts.SWITCHED) is not None) or NOBODY


def fleet_lost(hostvars: Mapping[str, Any]) -> list[str]:
    """The nodes of the run for whose sake nothing of it is kept."""
    run, look = planned_run(hostvars), _look(hostvars)
    return [node for wave in run["waves"] for node in _plan_stage.unkept(run, look, wave["nodes"][0])]


def planned_serial(hostvars: Mapping[str, Any]) -> list[int]:
    """The sizes of the batches, as the play keyword serial takes them."""
    return list(planned_run(hostvars)["serial"]) or [1]


def staging_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes that lack releases, as a host pattern."""
    if not going_on(hostvars):
        return NOBODY
    return ",".join(node for node, step in planned_run(hostvars)["nodes"].items() if step["releases"]) or NOBODY


def inviting_hosts(hostvars: Mapping[str, Any]) -> str:
    """The node that founds the hive, as a host pattern; nobody when none is to be formed."""
    return str(_forming(hostvars)[0]) if _forming(hostvars) else NOBODY


def _forming(hostvars: Mapping[str, Any]) -> Sequence[str]:
    """The nodes that shall form one hive, once the rollout is complete; [] before that, or when they shall not."""
    run = planned_run(hostvars)
    hive = run.get("hive") or {}
    complete = run.get("ends", True) and going_on(hostvars)
    return list(hive["nodes"]) if hive.get("forming") and complete else []


def joining_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes of the hive, as a host pattern, when one of them is not yet a member; nobody otherwise."""
    nodes = _forming(hostvars)
    invited = hostvars[nodes[0]].get(_plan_hosts.INVITED) if nodes else None
    return ",".join(nodes) if isinstance(invited, Mapping) and invited.get("tickets") else NOBODY


def unstaged(hostvars: Mapping[str, Any]) -> list[str]:
    """The nodes of the plan that do not have the releases they need."""
    nodes = planned_run(hostvars)["nodes"]
    return [node for node, step in nodes.items() if step["releases"] and not _good(hostvars, node, _plan_hosts.STAGED)]


def unconfirmed(hostvars: Mapping[str, Any], node: str) -> list[str]:
    """The nodes in the stage of ``node`` that are not kept, unless so few that the failure budget has room for them."""
    return _plan_stage.unkept(planned_run(hostvars), _look(hostvars), node)


def unfinished_before(hostvars: Mapping[str, Any], node: str) -> list[str]:
    """The nodes of all stages before the one of ``node`` that are not kept: none, or ``node`` must not start."""
    return _plan_stage.unfinished_before(planned_run(hostvars), _look(hostvars), node)


def spared(hostvars: Mapping[str, Any], node: str) -> bool:
    """Whether ``node`` is kept though its stage is not healthy, because only others failed and they may."""
    return _plan_stage.spared(planned_run(hostvars), _look(hostvars), node)


def within_budget(hostvars: Mapping[str, Any], node: str) -> bool:
    """Whether the rollout goes on without the nodes that failed in the stage of ``node``."""
    return _plan_stage.within_budget(planned_run(hostvars), _look(hostvars), node)


def stopped(batch: Sequence[str], hostvars: Mapping[str, Any], beginning: bool) -> list[str]:
    """Why the run stops here: a brake, and before a stage begins also a pause or a window that has shut.

    Args:
        batch: the nodes that have looked, each at its share of the fleet. What one registered has a result for each
            node it looked at, with a line ``brake: why`` or ``pause: why`` for each file that it found.
        hostvars: for what they registered, and for the windows.
        beginning: whether a stage is about to begin.
    """
    found = []
    look = _look(hostvars)
    for result in [one for node in batch for one in (look(str(node), _plan_hosts.LOOKED) or {}).get("results") or []]:
        node = str(result["item"]["node"])
        for line in result.get("stdout_lines") or []:
            kind, _, reason = str(line).partition(": ")
            reason = " ".join(reason.split()) or "no reason is given"
            if kind == "brake":
                found.append(_plan_hosts.braked(node, reason))
            elif kind == "pause" and beginning:
                found.append(_plan_hosts.paused(node, reason))
    windows = planned_run(hostvars).get("windows") or {"windows": []}
    if beginning and windows["windows"]:
        zone = str(windows["timezone"])
        opens = _plan_windows.opening(_plan_hosts.plain(windows["windows"]), zone, time.time())
        if opens is not None:
            found.append(f"The maintenance window has shut: run again after {_plan_windows.words(opens, zone)}.")
    return found


def _observed(hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """What was seen of each node, {} of one that was not looked at."""
    look = _look(hostvars)
    results = {str(node): look(str(node), _plan_hosts.OBSERVED) or {} for node in hostvars}
    return {node: _plan_hosts.plain(result.get("observed") or {}) for node, result in results.items()}


def given_up(hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """The rollout under way, to give it up: its id, what each of its nodes needs for that, and words about it."""
    return _plan_rollout.given_up(_observed(hostvars))


def given_up_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes of the rollout to give up, as a host pattern."""
    return ",".join(given_up(hostvars)["nodes"]) or NOBODY


def soaking_stages(hostvars: Mapping[str, Any]) -> list[str]:
    """The stages that soak, by what the nodes that were looked at say: "canary (alpha)"."""
    look = _look(hostvars)
    observed = {
        str(node): dict((look(str(node), _plan_hosts.OBSERVED) or {}).get("observed") or {}) for node in hostvars
    }
    going = _plan_rollout.under_way(_plan_hosts.plain(observed))
    if going is None or going.complete():
        return []
    found = []
    for wave in going.waves:
        nodes = [n for n in wave["nodes"] if (going.records.get(n) or {}).get("state") == _plan_rollout.SOAKING]
        found += [f"{wave['name']} ({', '.join(nodes)})"] if nodes else []
    return found


def fleet_unconfirmed(hostvars: Mapping[str, Any]) -> list[str]:
    """The nodes of the run that could not be confirmed, where all are to be kept at once."""
    return [n for n in planned_run(hostvars)["hosts"] if not _good(hostvars, n, _plan_hosts.CONFIRMED)]


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
            "fleet_hosts": fleet_hosts,
            "fleet_lost": fleet_lost,
            "fleet_unconfirmed": fleet_unconfirmed,
            "given_up": given_up,
            "given_up_hosts": given_up_hosts,
            "inviting_hosts": inviting_hosts,
            "joining_hosts": joining_hosts,
            "not_back": not_back,
            "planned_hosts": planned_hosts,
            "planned_serial": planned_serial,
            "soak_stops": soak_stops,
            "soaking_hosts": soaking_hosts,
            "soaking_stages": soaking_stages,
            "spared": spared,
            "staging_hosts": staging_hosts,
            "stopped": stopped,
            "unstaged": unstaged,
            "unconfirmed": unconfirmed,
            "unfinished_before": unfinished_before,
            "unsealed": unsealed,
            "within_budget": within_budget,
        }
