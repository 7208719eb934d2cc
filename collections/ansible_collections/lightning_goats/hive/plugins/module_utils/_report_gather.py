# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a report is made of, out of everything that a run's tasks have registered. Controller only."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _judge,
    _plan_hosts,
    _plan_stage,
    _report,
    _report_soak,
)

Json = dict[str, Any]

GATES = "__hive_gates_result"
LOOK = "__hive_canary_look"
WATCHED = (
    _plan_hosts.OBSERVED,
    _plan_hosts.STAGED,
    _plan_hosts.SAMPLED,
    _plan_hosts.SOAK_JUDGED,
    _plan_hosts.SOAK_BACK,
    _plan_hosts.SOAK_NOTED,
    _plan_hosts.SWITCHED,
    _plan_hosts.PROBED,
    _plan_hosts.PROBED_AGAIN,
    _plan_hosts.PART,
    _plan_hosts.LAST_LOOK,
    _plan_hosts.CONFIRMED,
    _plan_hosts.REVERTED,
    _plan_hosts.FLEET_BACK,
    _plan_hosts.ROLLED_BACK,
)


def gather(hosts: _plan_hosts.Hosts, args: Json) -> _report.Facts:
    """Everything that the tasks so far have registered."""
    planned = hosts.first(_plan_hosts.PLANNED) or {}
    plan, run = planned.get("plan"), planned.get("run") or {}
    waves = (plan or {}).get("waves", [])
    # The play of the waves knows only the nodes that change.
    names = sorted({*hosts.names, *(plan or {}).get("nodes", {})})
    now = round(time.time(), 3)
    failures = {node: reason for node in names if (reason := failure(hosts, node))}
    verdicts = judged(hosts, waves)
    confirms = results(hosts, names, _plan_hosts.CONFIRMED)
    soaks = soaked(hosts, run, waves, confirms, now)
    failed = went_wrong(hosts, run, failures, verdicts) or any(soak["state"] in _report_soak.ENDED for soak in soaks)
    observed = {
        node: seen for node in names if (seen := (hosts.result(node, _plan_hosts.OBSERVED) or {}).get("observed"))
    }
    over = (hosts.first(_plan_hosts.SOAK_JUDGED) or {}).get("state") == _report_soak.SOAKED
    return _report.Facts(
        fleet=args["fleet"],
        rollout=planned.get("rollout") or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-refused",
        started_at=planned.get("started_at") or now,
        now=now,
        goal=args["goal"],
        final=args["final"] and not failed,
        failed=failed,
        resumed=bool(planned.get("resumed")),
        plan=plan,
        nodes=names,
        observed=observed,
        switches=results(hosts, names, _plan_hosts.SWITCHED) | results(hosts, names, _plan_hosts.ROLLED_BACK),
        confirms=confirms,
        reverts=results(hosts, names, _plan_hosts.REVERTED),
        backs=results(hosts, names, _plan_hosts.SOAK_BACK) | results(hosts, names, _plan_hosts.FLEET_BACK),
        verdicts=verdicts,
        failures=failures,
        gates=hosts.first(GATES),
        soaks=soaks,
        held=list(run.get("held") or []) if over else [],
        brakes=stops(hosts, observed, "brake"),
        pauses=stops(hosts, observed, "pause"),
    )


def went_wrong(hosts: _plan_hosts.Hosts, run: Json, failures: Mapping[str, str], verdicts: Mapping[str, Json]) -> bool:
    """Whether something failed that the failure budget of the fleet has no room for."""
    spared = set(_plan_stage.allowed_losses(run, hosts.result)) if run.get("waves") else set()
    bad = [verdict for verdict in verdicts.values() if verdict["verdict"] != _judge.HEALTHY]
    return bool(set(failures) - spared) or any(not spared & set(verdict.get("nodes") or []) for verdict in bad)


def results(hosts: _plan_hosts.Hosts, names: Sequence[str], name: str) -> dict[str, Json]:
    """What a task registered, per node on which it ran."""
    return {node: found for node in names if (found := hosts.result(node, name)) is not None}


def failure(hosts: _plan_hosts.Hosts, node: str) -> str:
    """The first thing that went wrong on the node, "" when nothing did."""
    for name in WATCHED:
        reason = _plan_hosts.trouble(node, hosts.result(node, name))
        if reason:
            return reason
    # Whatever other task failed: Ansible keeps its result for the rescue.
    return _plan_hosts.trouble(node, hosts.result(node, "ansible_failed_result"))


def judged(hosts: _plan_hosts.Hosts, waves: Sequence[Json]) -> dict[str, Json]:
    """The verdict after its switch, per stage that has one."""
    verdicts = {}
    for wave in waves:
        for name in (_plan_hosts.JUDGED_AGAIN, _plan_hosts.JUDGED):
            verdict = hosts.result(wave["nodes"][0], name)
            if verdict is not None and "verdict" in verdict:
                verdicts[wave["name"]] = verdict
                break
    return verdicts


def soaked(
    hosts: _plan_hosts.Hosts, run: Json, waves: Sequence[Json], confirms: Mapping[str, Json], now: float
) -> list[Json]:
    """The soaks of the stages: those that were judged, then those that began in this run."""
    stages = (hosts.first(_plan_hosts.SOAK_JUDGED) or {}).get("stages") or []
    found = [_report_soak.shaped(stage["name"], stage["number"], stage["nodes"], stage) for stage in stages]
    known = {soak["stage"] for soak in found}
    for number, wave in enumerate(waves):
        soak = (run.get("soaks") or {}).get(wave["name"]) or {}
        if wave["name"] in known or not soak.get("minutes") or not _kept(wave["nodes"], confirms):
            continue
        found.append(
            _report_soak.begun(wave["name"], number, wave["nodes"], soak, _since(wave["nodes"], confirms, now))
        )
    return found


def _kept(nodes: Sequence[str], confirms: Mapping[str, Json]) -> bool:
    found = [confirms.get(node) or {"failed": True} for node in nodes]
    return not any(one.get("failed") or one.get("unreachable") for one in found)


def _since(nodes: Sequence[str], confirms: Mapping[str, Json], now: float) -> float:
    """When the last node of a stage was confirmed, by its own clock."""
    entries = [entry for node in nodes for entry in confirms[node].get("journal") or []]
    return max((float(entry["time"]) for entry in entries if entry["event"] == "confirmed"), default=now)


def stops(hosts: _plan_hosts.Hosts, observed: Mapping[str, Json], kind: str) -> dict[str, str]:
    """The reason of each node on which a brake or a pause is set, as it was seen when it was looked for."""
    found = {node: str(seen[kind]) for node, seen in observed.items() if seen.get(kind)}
    for node in hosts.names:
        # Every batch looks at all nodes of the fleet.
        for look in (hosts.result(node, LOOK) or {}).get("results") or []:
            for line in look.get("stdout_lines") or []:
                word, _, reason = str(line).partition(": ")
                if word == kind:
                    found[str(look["item"]["node"])] = " ".join(reason.split()) or "no reason is given"
    return found
