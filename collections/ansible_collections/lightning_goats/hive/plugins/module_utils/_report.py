# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The report of a run, built from the plan, the verdicts and the nodes' own journals. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _report_gates,
    _report_plan,
    _report_soak,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import braked
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_notes import notes

Json = dict[str, Any]

SCHEMA = 2
# Option values never reach a report: it is kept, mailed and attached to tickets.
SHOWN_KEYS = ("name", "version", "digest", "enabled")


@dataclass
class Facts:
    """What the run knows when it reports.

    Attributes:
        fleet, rollout, goal: which fleet, which run, and what it was for (stack, previous, nothing).
        started_at, now: unix seconds.
        final: whether the run ended well; False for a report in the middle or after a failure.
        failed: whether the run is about to end because something failed.
        plan: what hive_plan answered, None when it was not reached.
        observed: observation per node.
        switches, confirms, reverts: results per node of what was called.
        verdicts: verdict per wave name.
        failures: per node a sentence for what went wrong, whichever task it was.
        backs: results per node of going back because a stage failed its soak, or the fleet was not kept as a whole.
        gates: what hive_gates answered, None when it was not asked.
        soaks: the soaks of stages, as ``_report_soak.shaped`` makes them, in the order of the stages.
        held: why no stage begins after those that have soaked.
        brakes, pauses: per node that says so, why everything stops at once, or why no further stage starts.
        incidents, evidence: what the run wrote into the registers, for people to review.
    """

    fleet: str
    rollout: str
    started_at: float
    now: float
    goal: str = "stack"
    final: bool = False
    failed: bool = False
    resumed: bool = False
    plan: Json | None = None
    nodes: Sequence[str] = ()
    observed: Mapping[str, Json] = field(default_factory=dict)
    switches: Mapping[str, Json] = field(default_factory=dict)
    confirms: Mapping[str, Json] = field(default_factory=dict)
    reverts: Mapping[str, Json] = field(default_factory=dict)
    verdicts: Mapping[str, Json] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    backs: Mapping[str, Json] = field(default_factory=dict)
    gates: Json | None = None
    soaks: Sequence[Json] = ()
    held: Sequence[str] = ()
    brakes: Mapping[str, str] = field(default_factory=dict)
    pauses: Mapping[str, str] = field(default_factory=dict)
    incidents: Sequence[Json] = ()
    evidence: Sequence[Json] = ()


def build(facts: Facts) -> Json:
    """The report as JSON data; docs/reference/report.md describes it, key by key."""
    nodes = {node: node_report(facts, node) for node in facts.nodes}
    plan = facts.plan or {}
    result = outcome(facts, nodes)
    return {
        "schema": SCHEMA,
        "fleet": facts.fleet,
        "rollout": facts.rollout,
        "resumed": facts.resumed,
        "goal": facts.goal,
        "result": result,
        "reasons": reasons(facts, result),
        "plan_digest": plan.get("digest", ""),
        "started_at": facts.started_at,
        "finished_at": None if result == "running" else facts.now,
        "stages": [stage_report(facts, wave) for wave in plan.get("waves", [])],
        "nodes": nodes,
        "gates": _report_gates.shaped(facts.gates),
        "soaks": list(facts.soaks),
        "plan_lines": _report_plan.shaped(facts.plan),
        "history": {node: list((facts.observed.get(node) or {}).get("history") or []) for node in facts.nodes},
        "brakes": dict(facts.brakes),
        "pauses": dict(facts.pauses),
        "incidents": list(facts.incidents),
        "evidence": list(facts.evidence),
    }


def outcome(facts: Facts, nodes: Mapping[str, Json]) -> str:
    """The one word for the whole run."""
    plan = facts.plan
    states = {soak["state"] for soak in facts.soaks}
    if plan is None:
        return "braked" if facts.brakes else "refused"
    if plan["refused"]:
        codes = {refusal["code"] for refusal in plan["refused"]}
        return "braked" if "brake" in codes else "paused" if codes == {"paused"} else "refused"
    if facts.failed:
        return _failed(facts, plan, states, {node["result"] for node in nodes.values()})
    if facts.held:
        return "paused"
    if not facts.final:
        return "running"
    if _report_soak.SOAKING in states:
        return "soaking"
    return "success" if plan["changes"] or states else "unchanged"


def _failed(facts: Facts, plan: Json, states: set[str], results: set[str]) -> str:
    """The word for a run that ended with an error."""
    if facts.brakes:
        return "braked"
    if _report_soak.FAILED in states:
        return "reverted" if "reverted" in results and not results & {"failed", "unreachable"} else "failed"
    if _report_soak.PAUSED in states or (facts.pauses and not results & {"failed", "unreachable", "reverted"}):
        return "paused"
    # What broke before the first switch changed nothing that runs.
    if plan["changes"] and not facts.switches:
        return "refused"
    return "reverted" if "reverted" in results and not results & {"failed", "unreachable"} else "failed"


def reasons(facts: Facts, result: str) -> list[str]:
    """Why the run ended as it did, one sentence each, for the operator to read first."""
    if facts.plan and facts.plan["refused"]:
        return list(dict.fromkeys(refusal["message"] for refusal in facts.plan["refused"]))
    if result not in ("refused", "reverted", "failed", "braked", "paused"):
        return []
    told = [braked(node, text) for node, text in facts.brakes.items()] if result == "braked" else []
    told += [
        *facts.held,
        *(text for soak in facts.soaks if soak["state"] in _report_soak.ENDED for text in grave(soak)),
    ]
    told += [reason for verdict in facts.verdicts.values() for reason in said(verdict)]
    # A node that went back with its batch repeats the verdict; only what is new is told.
    known = " ".join(told)
    own = [facts.failures[node] for node in facts.nodes if facts.failures.get(node)]
    told += [text for text in own if text not in known and not any(reason in text for reason in told)]
    return list(dict.fromkeys(told))


def said(verdict: Json) -> list[str]:
    """The reasons of a verdict as sentences with their node."""
    return [f"{r['node']}: {r['detail']}" if r["node"] else r["detail"] for r in verdict["reasons"]]


def grave(soak: Json) -> list[str]:
    """Those reasons of a soak that made its verdict what it is; all of them when none did."""
    own = [reason for reason in soak["reasons"] if reason["verdict"] == soak["verdict"]]
    return said({"reasons": own or soak["reasons"]})


def stage_report(facts: Facts, wave: Json) -> Json:
    """One stage: its nodes and the verdict; ``verdict.verdict`` is none when it was not reached."""
    verdict = facts.verdicts.get(wave["name"])
    touched = [node for node in wave["nodes"] if node in facts.switches]
    answer: Json = {"verdict": "none", "reasons": [], "samples": 0, "window_seconds": 0.0}
    if verdict is not None:
        answer = {key: verdict.get(key, answer[key]) for key in answer} | {"reasons": said(verdict)}
    elif touched and facts.failed:
        failed = [f"{node}: {facts.failures[node]}" for node in touched if facts.failures.get(node)]
        answer |= {"verdict": "failing", "reasons": failed}
    times = [time for node in touched for time in span(entries(facts, node))]
    return {
        "name": wave["name"],
        "nodes": wave["nodes"],
        "verdict": answer,
        "started_at": min(times, default=None),
        "finished_at": max(times, default=None),
        "soak": soak_state(facts, wave),
    }


def soak_state(facts: Facts, wave: Json) -> str | None:
    """How the soak of a stage stands, None of one that has none or was not reached."""
    for soak in facts.soaks:
        if soak["stage"] == wave["name"]:
            return str(soak["state"])
    seen = [(facts.observed.get(node) or {}).get("soak") or {} for node in wave["nodes"]]
    states = {str(soak["state"]) if soak.get("rollout") == facts.rollout else None for soak in seen}
    return states.pop() if len(states) == 1 else None


def node_report(facts: Facts, node: str) -> Json:
    """What became of one node."""
    step = (facts.plan or {}).get("nodes", {}).get(node)
    switch, confirm, revert = (
        found.get(node) for found in (facts.switches, facts.confirms, {**facts.backs, **facts.reverts})
    )
    observed = facts.observed.get(node) or {}
    # What this run has moved: forward, or back because the stage did not soak well.
    moved = switch or facts.backs.get(node) or {}
    result, reason = node_result(facts, node, step)
    before = step["before"] if step else observed.get("stack") or []
    after: list[Json] | None = before
    if result in ("confirmed", _report_soak.SOAKING, _report_soak.SOAKED):
        after = step["after"] if step else []
    elif result in ("failed", "unreachable", "switched"):
        after = (switch or {}).get("after")
    last = next((r for r in (revert, confirm, switch) if r and r.get("journal_head")), {})
    return {
        "result": result,
        "reason": reason,
        "action": step["action"] if step else "none",
        "before": shown(before),
        "after": None if after is None else shown(after),
        "downtime_ms": dict(moved.get("downtime_ms") or {}),
        "switch_ms": moved.get("switch_ms"),
        "lightningd_restarts": int(moved.get("lightningd_restarts") or 0),
        "backup": moved["backup"].get("id") if isinstance(moved.get("backup"), dict) else None,
        "adoption": moved.get("adoption"),
        "notes": notes(observed, moved, entries(facts, node), before, after),
        "journal_head": last.get("journal_head") or (observed.get("journal") or {}).get("head", ""),
        "timeline": timeline(entries(facts, node)),
        "lightningd": {
            key: (observed.get("lightningd") or {}).get(key) for key in ("version", "node_id", "network", "blockheight")
        },
        "value_at_risk_msat": observed.get("value_at_risk_msat"),
    }


def node_result(facts: Facts, node: str, step: Json | None) -> tuple[str, str]:
    """(result, reason): unchanged, confirmed, switched, reverted, failed, unreachable, refused or untouched."""
    failure = facts.failures.get(node, "")
    if facts.plan is None or facts.plan["refused"]:
        own = [r["message"] for r in (facts.plan or {"refused": []})["refused"] if r["node"] in (node, "")]
        return "refused", failure or " ".join(dict.fromkeys(own))
    if step is None or step["action"] == "none":
        return "unchanged", failure
    switch, confirm, revert = (found.get(node) for found in (facts.switches, facts.confirms, facts.reverts))
    if switch is None:
        return _untouched(facts, node, failure)
    if any((found or {}).get("unreachable") for found in (switch, confirm, revert)):
        return "unreachable", failure
    back = facts.backs.get(node) or {}
    if any(back.get(word) for word in ("unreachable", "failed", "changed")):
        # It was kept, and then taken back because the fleet was not.
        return _back(back), failure
    if (confirm is not None and not confirm.get("failed")) or (
        switch.get("phase") == "confirmed" and not switch.get("failed")
    ):
        return "confirmed", ""
    if switch.get("failed") and switch.get("reverted"):
        return "reverted", failure
    if revert is not None and not revert.get("failed"):
        return "reverted", failure
    if not facts.failed and not failure:
        return "switched", ""
    return "failed", failure


def _back(back: Json) -> str:
    """The word for a node that was to go back."""
    return "unreachable" if back.get("unreachable") else "failed" if back.get("failed") else "reverted"


def _untouched(facts: Facts, node: str, failure: str) -> tuple[str, str]:
    """The same of a node that this run does not switch: it may soak since an earlier run, or have gone back from it."""
    back, soak = facts.backs.get(node), (facts.observed.get(node) or {}).get("soak") or {}
    if back is not None:
        return _back(back), failure
    for stage in facts.soaks:
        if node in stage["nodes"] and stage["state"] != _report_soak.PAUSED:
            return stage["state"], failure
    if soak.get("rollout") == facts.rollout:
        return soak["state"], failure
    return "untouched", failure


def shown(stack: Sequence[Json]) -> list[Json]:
    """A stack as a report shows it: the names of the options that are set, not their values."""
    return [
        {**{key: item.get(key) for key in SHOWN_KEYS}, "options": sorted(item.get("options") or {})} for item in stack
    ]


def entries(facts: Facts, node: str) -> list[Json]:
    """The journal entries that this run caused on the node, oldest first."""
    found: dict[int, Json] = {}
    for results in (facts.switches, facts.confirms, facts.reverts, facts.backs):
        for entry in (results.get(node) or {}).get("journal") or []:
            found[entry["seq"]] = entry
    return [found[seq] for seq in sorted(found)]


def timeline(journal: Sequence[Json]) -> list[Json]:
    """When each event was journaled (unix seconds), without its data, which may name more than a report should."""
    return [
        {"time": entry["time"], "event": entry["event"], "step": str((entry.get("data") or {}).get("step") or "")}
        for entry in journal
    ]


def span(journal: Sequence[Json]) -> list[float]:
    """The first and the last time of a journal, [] of an empty one."""
    times = [float(entry["time"]) for entry in journal]
    return [min(times), max(times)] if times else []


def files(paths: Sequence[str]) -> list[Json]:
    """Files that the run has written, as the report names them."""
    return [{"name": path.rpartition("/")[2].rpartition(".")[0], "path": path} for path in paths]


def table(report: Json) -> list[str]:
    """The final table as lines: one row per node."""
    rows = [("NODE", "RESULT", "STACK", "DOWNTIME", "RESTARTS")]
    for node, entry in report["nodes"].items():
        down = max(entry["downtime_ms"].values(), default=0)
        rows.append(
            (
                node,
                entry["result"],
                stack_words(entry["after"]),
                f"{down:.0f} ms" if down else "-",
                str(entry["lightningd_restarts"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{node}: {note}" for node, entry in report["nodes"].items() for note in entry["notes"]]
    return [*lines, "", *notes] if notes else lines


def stack_words(stack: Sequence[Json] | None) -> str:
    """A stack in few words."""
    if stack is None:
        return "unknown"
    return ", ".join(f"{i['name']} {i['version']}{'' if i['enabled'] else ' (off)'}" for i in stack) or "no plugins"


def summary(report: Json) -> str:
    """The run in one sentence."""
    count = len(report["nodes"])
    changed = sum(node["result"] == "confirmed" for node in report["nodes"].values())
    words = {
        "success": f"{changed} of {count} nodes changed and confirmed" if changed else "every stage has soaked",
        "unchanged": f"nothing changed: {count} nodes already run what they should",
        "refused": "refused before anything changed",
        "reverted": "stopped: the batch that failed runs what it ran before",
        "failed": "stopped: look at the nodes below",
        "soaking": soaking(report),
        "paused": "paused: no further stage starts until somebody decides",
        "braked": "braked: everything stopped, no further switch begins",
        "running": "under way",
    }
    return f"Rollout {report['rollout']}: {words[report['result']]}."


def soaking(report: Json) -> str:
    """The stages that soak, and when there is something to do again."""
    now = report["finished_at"] or report["started_at"]
    return "; ".join(
        _report_soak.sentence(soak, now) for soak in report["soaks"] if soak["state"] == _report_soak.SOAKING
    )
