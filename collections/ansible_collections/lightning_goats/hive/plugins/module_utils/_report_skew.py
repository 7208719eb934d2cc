# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The skew of a fleet: who runs what, and whether those who differ were tested together. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import PASSED, Evidence
from ansible_collections.lightning_goats.hive.plugins.module_utils._report import stack_words
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_status import age_words

Json = dict[str, Any]
# What evidence of a combination is called; the mixture of two releases has one of its own.
MATRIX, MIXED = "matrix-", "matrix-mixed"


def skew(nodes: Mapping[str, Json], found: Sequence[Evidence], now: float) -> Json:
    """The stacks of a fleet and the pairs of them.

    Args:
        nodes: what status says of each node.
        found: all evidence that verifies, of any kind.
        now: unix seconds.

    Returns:
        ``stacks``: list of ``stack`` (words), ``digests``, ``nodes``, ``tested``, ``words`` (a sentence); ``pairs``:
        list of ``stacks`` (two numbers of the list before), ``tested``, ``words``; ``last_evidence``: null or ``name``,
        ``result``, ``age_seconds``.
        Stacks with most nodes come first. Nodes that do not answer are in none.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    words: dict[tuple[str, ...], str] = {}
    for name in sorted(nodes):
        entry = nodes[name]
        if entry["state"] == "unreachable":
            continue
        running = [item for item in entry["stack"] if item.get("enabled", True)]
        key = tuple(sorted(str(item["digest"]) for item in running))
        groups.setdefault(key, []).append(name)
        words[key] = stack_words(running)
    matrix = [
        one for one in found if one.path.name.startswith(MATRIX) and one.result == PASSED and not one.expired(now)
    ]
    ordered = sorted(groups, key=lambda key: (-len(groups[key]), groups[key]))
    stacks = [
        {"stack": words[key], "digests": list(key), "nodes": groups[key], **_tested(matrix, set(key), MATRIX, now)}
        for key in ordered
    ]
    pairs = [
        {"stacks": [one, other], **_tested(matrix, set(ordered[one]) | set(ordered[other]), MIXED, now)}
        for one, other in combinations(range(len(ordered)), 2)
        if ordered[one] and ordered[other]
    ]
    last = max(found, key=lambda one: one.finished_at, default=None)
    return {
        "stacks": stacks,
        "pairs": pairs,
        "last_evidence": None
        if last is None
        else {"name": last.path.name, "result": last.result, "age_seconds": round(now - last.finished_at, 1)},
    }


def _tested(matrix: Sequence[Evidence], digests: set[str], kind: str, now: float) -> Json:
    """Whether evidence of a kind is about all of ``digests``, and in words when."""
    if not digests:
        return {"tested": True, "words": "nothing to test"}
    fitting = [one for one in matrix if one.path.name.startswith(kind) and digests <= set(one.subjects.values())]
    if not fitting:
        return {"tested": False, "words": "not tested: playbooks/matrix.yml"}
    best = max(fitting, key=lambda one: one.finished_at)
    return {"tested": True, "words": f"tested {age_words(now - best.finished_at)} ago"}


def lines(found: Json) -> list[str]:
    """The skew for people: a row per stack, then the pairs when there are several."""
    rows = [("RUNS", "NODES", "TESTED")]
    rows += [
        (entry["stack"], f"{len(entry['nodes'])}: {', '.join(entry['nodes'])}", entry["words"])
        for entry in found["stacks"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for pair in found["pairs"]:
        one, other = (found["stacks"][number]["nodes"][0] for number in pair["stacks"])
        told.append(f"the stacks of {one} and {other} beside each other: {pair['words']}")
    last = found["last_evidence"]
    if last is not None:
        told.append(f"last evidence: {last['name']} ({last['result']}, {age_words(last['age_seconds'])} ago)")
    return told
