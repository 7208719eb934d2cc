# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Writes down what a run that has ended leaves: signed evidence of what it exercised, and incidents. Controller only.

The run itself is over by then. So what cannot be written never changes how it ended: it becomes a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _evidence,
    _exercise,
    _incidents,
    _report,
    _report_soak,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

IDENTITY = "evidence@sandbox"
# What a node that went back by itself says of the gravest reasons, by the judge's check.
ALONE = {"lightningd": "lightningd died", "channels": "channels were lost"}


@dataclass(frozen=True)
class Places:
    """Where evidence and registers lie, and who signs. Paths are absolute; an empty ``key`` is the throw-away one."""

    evidence: Path
    registers: Path
    keys: Path
    key: str = ""
    allowed_signers: str = ""
    valid_days: int = 30
    wanted: bool = True


@dataclass
class Recorded:
    """What was written.

    Attributes:
        troubles: sentences about what could not be.
    """

    evidence: list[str] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The same for people."""
        return [
            *(f"Evidence: {path}" for path in self.evidence),
            *(f"Incident: {path}" for path in self.incidents),
            *self.troubles,
        ]


def record(
    facts: _report.Facts, report: Json, runtimes: Mapping[str, str], schemas: Mapping[str, int], places: Places
) -> Recorded:
    """Write the evidence and the incidents of a run that has ended; a run that goes on or was refused has none."""
    done = Recorded()
    if places.wanted:
        try:
            done.evidence = _write(facts, report, runtimes, schemas, places)
        except ReleaseError as error:
            done.troubles.append(f"No evidence of this run was written: {error}")
        except OSError as error:
            done.troubles.append(_unwritable("No evidence of this run was written", error, places.evidence, "evidence"))
    for failure in failures(facts, report, [Path(path).name for path in done.evidence]):
        _note(failure, places.registers, done)
    return done


def _note(failure: _incidents.Failure, registers: Path, done: Recorded) -> None:
    try:
        path = _incidents.write_incident(registers, failure)
    except ReleaseError as error:
        done.troubles.append(f"The incident of this run was not written: {error}")
    except OSError as error:
        said = "The incident of this run was not written"
        done.troubles.append(_unwritable(said, error, registers, "registers"))
    else:
        done.incidents += [str(path)] if path is not None else []


def _unwritable(what: str, error: OSError, directory: Path, word: str) -> str:
    return (
        f"{what}, because {directory} cannot be written ({error.strerror}): make room or make it writable, or set "
        f"hive_{word}_dir to another directory."
    )


def _write(
    facts: _report.Facts, report: Json, runtimes: Mapping[str, str], schemas: Mapping[str, int], places: Places
) -> list[str]:
    found = _exercise.exercises(facts, report, runtimes)
    if not found:
        return []
    signer = keys.find_signer(places.key, places.allowed_signers, places.keys, _evidence.NAMESPACE)
    if signer.throwaway:
        keys.create_throwaway(signer, IDENTITY)
    return [str(_once(exercise, facts, report, schemas, places, signer)) for exercise in found]


def _once(
    exercise: _exercise.Exercise,
    facts: _report.Facts,
    report: Json,
    schemas: Mapping[str, int],
    places: Places,
    signer: keys.Signer,
) -> Path:
    """The evidence of one exercise; a run that reports twice after its end has written it before."""
    made = _exercise.statement(exercise, facts, report, schemas, places.valid_days)
    known = _evidence.newest(places.evidence, exercise.kind, exercise.runtime, signer.allowed_signers)
    own = made["predicate"][_evidence.OWN]
    if known is not None and all(known.facts.get(key) == own[key] for key in ("rollout", "started_at", "nodes")):
        return known.path
    return _evidence.write(places.evidence, exercise.kind, exercise.runtime, made, signer)


# Incidents


def failures(facts: _report.Facts, report: Json, evidence: list[str]) -> list[_incidents.Failure]:
    """The stages of a run in which something went wrong, as the register of incidents takes them."""
    if report["result"] in ("running", "refused") or facts.plan is None:
        return []
    found = [_soak(facts, report, soak, evidence) for soak in facts.soaks if soak["state"] == _report_soak.FAILED]
    for stage in report["stages"]:
        nodes = [node for node in stage["nodes"] if node in facts.switches]
        if {report["nodes"][node]["result"] for node in nodes} & {"reverted", "failed", "unreachable"}:
            found.append(_failure(facts, report, stage, nodes, evidence))
    return found


def _soak(facts: _report.Facts, report: Json, soak: Json, evidence: list[str]) -> _incidents.Failure:
    """A stage that was confirmed in an earlier run and did not soak well."""
    reasons = [one for one in soak["reasons"] if one["verdict"] == "failing"]
    # A node that went back by itself has only words for why.
    undone = {str(one["node"]): str(one["detail"]) for one in reasons if one["check"] == "self-reverted"}
    words = " ".join(undone.values())
    alone = {check for check, word in ALONE.items() if word in words}
    return _incidents.Failure(
        rollout=facts.rollout,
        stage=soak["stage"],
        at=facts.now,
        # In this run nothing was done to it any more, and nobody judged it.
        results={
            node: "reverted" if node in undone else report["nodes"][node]["result"]
            for node in (*soak["nodes"], *sorted(undone))
            if node in report["nodes"]
        },
        reasons=_report.said(soak),
        checks=frozenset({*(str(one["check"]) for one in reasons), *alone}),
        evidence=[*evidence, f"{report['rollout']}.json"],
    )


def _failure(
    facts: _report.Facts, report: Json, stage: Json, nodes: list[str], evidence: list[str]
) -> _incidents.Failure:
    soak = next((soak for soak in facts.soaks if soak["stage"] == stage["name"]), {})
    verdict = facts.verdicts.get(stage["name"]) or soak
    calls = [
        found
        for node in nodes
        for results in (facts.switches, facts.confirms, facts.reverts, facts.backs)
        if (found := results.get(node)) is not None
    ]
    steps = (facts.plan or {}).get("nodes", {})
    return _incidents.Failure(
        rollout=facts.rollout,
        stage=stage["name"],
        at=facts.now,
        results={node: _result(facts, node, report["nodes"][node]["result"]) for node in nodes},
        reasons=report["reasons"],
        codes=frozenset(str(found["code"]) for found in calls if found.get("code")),
        checks=frozenset(str(r["check"]) for r in verdict.get("reasons", []) if r.get("verdict") == "failing"),
        restarts=sum(
            report["nodes"][node]["lightningd_restarts"] for node in nodes if not (steps.get(node) or {}).get("restart")
        ),
        evidence=[*evidence, f"{report['rollout']}.json"],
    )


def _result(facts: _report.Facts, node: str, result: str) -> str:
    """What became of a node; one whose switch was refused on it runs what it ran, untouched."""
    switch = facts.switches.get(node) or {}
    return "refused" if switch.get("phase") == "refused" else result
