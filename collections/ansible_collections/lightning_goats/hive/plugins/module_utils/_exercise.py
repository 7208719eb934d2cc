# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a run has proven by doing it: one statement for each kind of exercise on each runtime. Pure, controller only.

A rollout that confirms is evidence that its releases can be installed or upgraded to; one that reverts is evidence that
the upgrade failed and, where the way back was proven healthy, that the rollback works.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _report, _report_adoption
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import version_key

Json = dict[str, Any]

INSTALL, UPGRADE, ROLLBACK = "install", "upgrade", "rollback"
UNINSTALL, ADOPTION, CARRY_BACK = "uninstall", "adoption", "carry-back"
KINDS = (INSTALL, UPGRADE, ROLLBACK, UNINSTALL, ADOPTION, CARRY_BACK)
# What is exercised is the stack that is left here, the one that is reached elsewhere.
LEAVING = frozenset((ROLLBACK, UNINSTALL, CARRY_BACK))
# Nothing was tried on such a node.
IDLE = frozenset(("unchanged", "untouched", "refused"))
PLAYBOOKS = {"stack": "rollout", "previous": "rollback", "nothing": "uninstall"}
DAY = 86400


@dataclass(frozen=True)
class Part:
    """What one node did.

    Attributes:
        left, reached: stacks as reports show them, without values of options.
        checks: (name, whether it holds or None where it could not be told, detail).
    """

    kind: str
    node: str
    runtime: str
    left: Sequence[Json]
    reached: Sequence[Json]
    checks: Sequence[tuple[str, bool | None, str]]
    facts: Json


@dataclass(frozen=True)
class Exercise:
    """All parts of one kind on one runtime."""

    kind: str
    runtime: str
    parts: Sequence[Part] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Everything that was looked at holds, and something was."""
        found = [ok for part in self.parts for _, ok, _ in part.checks]
        return False not in found and True in found


def exercises(facts: _report.Facts, report: Json, runtimes: Mapping[str, str]) -> list[Exercise]:
    """The exercises of a run that has ended.

    Args:
        facts: what the run knows.
        report: as ``_report.build`` made it of them.
        runtimes: the runtime of each node.
    """
    if report["result"] in ("running", "refused"):
        return []
    found: dict[tuple[str, str], list[Part]] = {}
    for node, entry in report["nodes"].items():
        for part in _parts(facts, node, entry, runtimes.get(node, "")):
            found.setdefault((part.kind, part.runtime), []).append(part)
    return [Exercise(kind, runtime, found[kind, runtime]) for kind, runtime in sorted(found)]


def _parts(facts: _report.Facts, node: str, entry: Json, runtime: str) -> Iterator[Part]:
    switch, revert, back = facts.switches.get(node), facts.reverts.get(node), facts.backs.get(node)
    step = (facts.plan or {}).get("nodes", {}).get(node) or {}
    left, wanted = entry["before"], _report.shown(step.get("after") or [])
    shared = {
        "result": entry["result"],
        "downtime_ms": entry["downtime_ms"],
        "switch_ms": entry["switch_ms"],
        "lightningd": (entry["lightningd"] or {}).get("version") or "",
        "lightningd_restarts": entry["lightningd_restarts"],
        "backup": entry["backup"],
    }
    if back is not None and switch is None:
        yield from _soaked_badly(facts, node, runtime, left, wanted, shared)
        return
    if switch is None or entry["result"] in IDLE or switch.get("phase") == "refused":
        return
    kind = _kind(facts.goal, switch, left, wanted)
    if kind:
        checks = list(_checks(facts, node, entry, step, switch))
        yield Part(kind, node, runtime, left, wanted, checks, shared)
    if entry["result"] == "reverted" and _moved(switch, revert):
        yield Part(ROLLBACK, node, runtime, wanted, left, [_proof(True, "")], {**shared, "undone": True})


def _soaked_badly(
    facts: _report.Facts, node: str, runtime: str, left: Sequence[Json], wanted: Sequence[Json], shared: Json
) -> Iterator[Part]:
    """A node of a stage that did not soak well: what was confirmed in an earlier run is bad after all."""
    back = facts.backs[node]
    kind = _kind(facts.goal, {}, left, wanted)
    said = [text for soak in facts.soaks if node in soak["nodes"] for text in _report.said(soak)]
    if kind:
        checks = [("soaked well", False, "; ".join(said[:3]) or "its stage failed its soak")]
        yield Part(kind, node, runtime, left, wanted, checks, shared)
    good = not back.get("failed") and not back.get("unreachable")
    undone = _kind("previous", back, left, wanted)
    proof = _proof(good, str(back.get("msg") or "the node cannot be reached"))
    yield Part(undone, node, runtime, wanted, left, [proof], {**shared, "undone": True})


def _proof(good: bool, why: str) -> tuple[str, bool | None, str]:
    return "proven healthy", good, "what ran before runs again and was proven healthy" if good else why


def _kind(goal: str, switch: Json, left: Sequence[Json], wanted: Sequence[Json]) -> str:
    """What was exercised; "" for a change that is none of the kinds, such as another value of an option."""
    moved = switch.get("adoption") or {}
    if "carried_back" in moved:
        return CARRY_BACK
    if "adopted" in moved:
        return ADOPTION
    if goal == "previous":
        return ROLLBACK
    if goal == "nothing":
        return UNINSTALL
    if not left:
        return INSTALL
    known = {item["name"]: item for item in left}
    newer = [
        item
        for item in wanted
        if item["name"] in known and version_key(item["version"]) > version_key(known[item["name"]]["version"])
    ]
    return UPGRADE if newer else ""


def _moved(switch: Json, revert: Json | None) -> bool:
    """Whether the way back was really gone: the engine proves what it goes back to, and says when it did not work."""
    journal = [*(switch.get("journal") or []), *((revert or {}).get("journal") or [])]
    return any(entry["event"] == "reverted" for entry in journal)


def _checks(
    facts: _report.Facts, node: str, entry: Json, step: Json, switch: Json
) -> Iterator[tuple[str, bool | None, str]]:
    kept = entry["result"] == "confirmed"
    yield "confirmed", kept, "" if kept else entry["reason"] or f"the node is {entry['result']}"
    if facts.goal != "previous":
        yield _judged(facts, node)
    restarts = entry["lightningd_restarts"]
    if not restarts:
        yield "lightningd went on", True, "it is the process that it was"
    else:
        planned = str(step.get("restart") or "")
        yield "lightningd went on", None if planned else False, planned or f"it was restarted {restarts} times"
    told = _report_adoption.told(switch.get("adoption"))
    if told:
        yield "rows of the monolith", kept, told[0]


def _judged(facts: _report.Facts, node: str) -> tuple[str, bool | None, str]:
    for wave in (facts.plan or {}).get("waves", []):
        verdict = facts.verdicts.get(wave["name"]) if node in wave["nodes"] else None
        if verdict is not None:
            healthy = verdict["verdict"] == "healthy"
            said = f"{verdict.get('samples', 0)} samples over {verdict.get('window_seconds', 0.0):.1f} s"
            return "judged healthy", healthy, said if healthy else "; ".join(_report.said(verdict))
    return "judged healthy", None, "the run had no verdict"


# The statement


def statement(
    exercise: Exercise, facts: _report.Facts, report: Json, schemas: Mapping[str, int], valid_days: int
) -> Json:
    """An exercise as an in-toto statement about the artifacts that were exercised.

    Args:
        schemas: schema version by artifact digest, where it is known.
        valid_days: 0 is for ever.
    """
    leaving = exercise.kind in LEAVING
    left, reached = (_artifacts(part.left for part in exercise.parts), _artifacts(p.reached for p in exercise.parts))
    # Going back is something that both releases have to be able to: the one that is left, and the one that returns.
    subjects = {**left, **reached} if exercise.kind == ROLLBACK else left if leaving else reached
    other = {} if exercise.kind == ROLLBACK else reached if leaving else left
    titles: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for part in exercise.parts:
        for name, ok, _ in part.checks:
            titles[ok].append(f"{part.node} {name}")
    own = {
        "kind": exercise.kind,
        "label": exercise.runtime,
        "fleet": facts.fleet,
        "rollout": facts.rollout,
        "plan": report["plan_digest"],
        "started_at": facts.started_at,
        "finished_at": facts.now,
        "expires_at": facts.now + valid_days * DAY if valid_days else None,
        "nodes": {part.node: _node(part, schemas) for part in exercise.parts},
        "figures": _figures(exercise),
        "checks": [
            {"node": part.node, "name": name, "ok": ok, "detail": " ".join(detail.split())}
            for part in exercise.parts
            for name, ok, detail in part.checks
        ],
        "reason": next((detail for part in exercise.parts for _, ok, detail in part.checks if ok is False), ""),
        "verdicts": {stage["name"]: stage["verdict"]["verdict"] for stage in report["stages"]},
        "command": _command(exercise, facts.goal),
    }
    result = _evidence.PASSED if exercise.passed else _evidence.FAILED
    outcomes = _evidence.Outcomes(titles[True], titles[False], titles[None])
    return _evidence.statement(result, subjects, other, outcomes, own)


def _artifacts(stacks: Iterator[Sequence[Json]]) -> dict[str, str]:
    """Artifact name to sha256. What was installed by hand has a digest of ours too, under which the node keeps it."""
    return {f"{item['name']}-{item['version']}.pex": str(item["digest"]) for stack in stacks for item in stack}


def _node(part: Part, schemas: Mapping[str, int]) -> Json:
    stacks = {
        side: [
            {key: item.get(key) for key in ("name", "version", "digest", "enabled")}
            | {"schema_version": schemas.get(str(item["digest"]))}
            for item in stack
        ]
        for side, stack in (("before", part.left), ("after", part.reached))
    }
    return {**part.facts, **stacks}


def _figures(exercise: Exercise) -> Json:
    facts = [part.facts for part in exercise.parts]
    away = [float(ms) for fact in facts for ms in fact["downtime_ms"].values()]
    times = [float(fact["switch_ms"]) for fact in facts if fact["switch_ms"] is not None]
    return {
        "nodes": len(facts),
        "downtime_ms_max": max(away, default=None),
        "switch_ms_max": max(times, default=None),
        "lightningd_restarts": sum(fact["lightningd_restarts"] for fact in facts),
        "lightningd": sorted({fact["lightningd"] for fact in facts if fact["lightningd"]}),
    }


def _command(exercise: Exercise, goal: str) -> str:
    nodes = ",".join(sorted(part.node for part in exercise.parts))
    return f"ansible-playbook playbooks/{PLAYBOOKS[goal]}.yml --limit {nodes}"
