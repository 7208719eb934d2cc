# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Who runs what, and whether those who differ were tested beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_skew
from ansible_collections.lightning_goats.hive.plugins.module_utils._evidence import FAILED, PASSED, Evidence

Json = dict[str, Any]
NOW = 1_800_000_000.0
OLD, NEW = "a" * 64, "b" * 64


def node(digest: str, version: str, state: str = "ok") -> Json:
    return {"state": state, "stack": [{"name": "cl-hive", "version": version, "digest": digest, "enabled": True}]}


def evidence(name: str, *digests: str, result: str = PASSED, expires_at: float | None = None) -> Evidence:
    facts = {"finished_at": NOW - 7200, "expires_at": expires_at}
    return Evidence(Path(f"/e/{name}-20270115T000000000Z.json"), "me", result, facts, {d[:4]: d for d in digests})


def test_stacks_are_grouped_and_the_larger_comes_first() -> None:
    nodes = {
        "alpha": node(OLD, "1"),
        "bravo": node(NEW, "2"),
        "charlie": node(NEW, "2"),
        "delta": node(OLD, "1", "unreachable"),
    }
    found = _report_skew.skew(nodes, [evidence("matrix-hive", NEW)], NOW)
    assert [(entry["nodes"], entry["tested"]) for entry in found["stacks"]] == [
        (["bravo", "charlie"], True),
        (["alpha"], False),
    ]
    assert [(pair["stacks"], pair["tested"]) for pair in found["pairs"]] == [([0, 1], False)]
    lines = _report_skew.lines(found)
    assert lines[1] == "cl-hive 2  2: bravo, charlie  tested 2 h ago"
    assert lines[2] == "cl-hive 1  1: alpha           not tested: playbooks/matrix.yml"
    assert lines[3] == "the stacks of bravo and alpha beside each other: not tested: playbooks/matrix.yml"
    assert lines[4] == "last evidence: matrix-hive-20270115T000000000Z.json (PASSED, 2 h ago)"


def test_a_mixture_needs_evidence_about_both() -> None:
    nodes = {"alpha": node(OLD, "1"), "bravo": node(NEW, "2")}

    def tested(*found: Evidence) -> bool:
        return bool(_report_skew.skew(nodes, found, NOW)["pairs"][0]["tested"])

    assert tested(evidence("matrix-mixed", OLD, NEW))
    assert not tested(evidence("matrix-mixed", OLD))
    assert not tested(evidence("matrix-full", OLD, NEW))
    assert not tested(evidence("matrix-mixed", OLD, NEW, result=FAILED))
    assert not tested(evidence("matrix-mixed", OLD, NEW, expires_at=NOW - 1))


def test_a_fleet_that_agrees_has_no_pairs_and_one_without_plugins_nothing_to_test() -> None:
    found = _report_skew.skew({"alpha": node(OLD, "1"), "bravo": node(OLD, "1")}, [], NOW)
    assert found["pairs"] == []
    assert found["last_evidence"] is None
    bare = _report_skew.skew({"alpha": {"state": "ok", "stack": []}}, [], NOW)
    assert bare["stacks"][0]["words"] == "nothing to test"
