# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The controller's textfiles, read back with Prometheus' own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _metrics
from prometheus_client.parser import text_string_to_metric_families

Json = dict[str, Any]
Sample = tuple[str, tuple[tuple[str, str], ...]]

REPORT: Json = {
    "fleet": "north/1",
    "result": "reverted",
    "started_at": 100.0,
    "finished_at": 160.0,
    "nodes": {
        "alpha": {"result": "reverted", "downtime_ms": {"cl-hive": 250.0}},
        "bravo": {"result": "untouched", "downtime_ms": {}},
    },
    "soaks": [
        {"stage": "canary", "remaining_seconds": 30.0, "progress": {"minutes": [30, 60], "forwards": [9, 3]}},
        {"stage": "wave 1", "remaining_seconds": None, "progress": {"blocks": [1, 0]}},
    ],
}


def read(path: Path) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def value(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted({"fleet": "north/1", **labels}.items()))]


def test_a_run_is_counted_and_the_last_success_is_kept(tmp_path: Path) -> None:
    path = _metrics.rollout(REPORT, 50.0).write(tmp_path / "new", "rollout")
    assert path.name == "hive_rollout_north-1.prom"
    assert path.stat().st_mode & 0o777 == 0o644
    found = read(path)
    assert value(found, "hive_rollout_result", result="reverted") == 1.0
    assert value(found, "hive_rollout_result", result="success") == 0.0
    assert value(found, "hive_rollout_duration_seconds") == 60.0
    assert value(found, "hive_rollout_nodes", result="untouched") == 1.0
    assert value(found, "hive_rollout_plugin_downtime_seconds", node="alpha", plugin="cl-hive") == 0.25
    assert value(found, "hive_rollout_soak_ratio", stage="canary", measure="minutes") == 0.5
    assert value(found, "hive_rollout_soak_ratio", stage="canary", measure="forwards") == 1.0
    assert value(found, "hive_rollout_soak_ratio", stage="wave 1", measure="blocks") == 1.0
    assert value(found, "hive_rollout_soak_remaining_seconds", stage="canary") == 30.0
    assert _metrics.last_success(tmp_path / "new", "north/1") == 50.0
    _metrics.rollout({**REPORT, "result": "success"}, 50.0).write(tmp_path / "new", "rollout")
    assert _metrics.last_success(tmp_path / "new", "north/1") == 160.0
    assert [one.name for one in (tmp_path / "new").iterdir()] == [path.name]


def test_nothing_is_known_of_a_last_success_that_nobody_wrote(tmp_path: Path) -> None:
    assert _metrics.last_success(tmp_path, "north/1") is None
    (tmp_path / "hive_rollout_north-1.prom").write_bytes(b"\xff\xfe")
    assert _metrics.last_success(tmp_path, "north/1") is None
    _metrics.rollout(REPORT).write(tmp_path, "rollout")
    assert _metrics.last_success(tmp_path, "north/1") is None


def test_every_check_of_a_gate_has_exactly_one_state(tmp_path: Path) -> None:
    findings: list[Json] = [
        {"gate": "A", "check": "A1", "state": "pass", "expires_at": 900.0},
        {"gate": "C", "check": "C1", "state": "waived", "expires_at": None},
    ]
    found = read(_metrics.gates("north/1", "denied", findings, 10.0).write(tmp_path, "gates"))
    assert value(found, "hive_gates_allowed") == 0.0
    for check, gate, state in (("A1", "A", "pass"), ("C1", "C", "waived")):
        states = {one: value(found, "hive_gate_check", gate=gate, check=check, state=one) for one in _metrics.STATES}
        assert states == {one: float(one == state) for one in _metrics.STATES}
    assert value(found, "hive_gate_check_expires_timestamp_seconds", gate="A", check="A1") == 900.0


def test_the_nodes_tell_of_locks_brakes_soaks_and_what_they_run(tmp_path: Path) -> None:
    nodes: Json = {
        "alpha": {
            "state": "attention",
            "backup_age_seconds": 60.0,
            "probe_age_seconds": None,
            "drill": {"result": "PASSED", "age_seconds": 5.0},
            "lock": {"rollout": "R1"},
            "brake": "fees",
            "pause": "",
            "soak": {"stage": "canary", "since": 7.0},
            "stack": [{"name": "cl-hive", "version": "1", "digest": "d" * 64}],
        },
        "bravo": {"state": "unreachable", "stack": []},
    }
    found = read(_metrics.fleet_state("north/1", nodes, 10.0).write(tmp_path, "fleet"))
    assert value(found, "hive_node_up", node="alpha") == 1.0
    assert value(found, "hive_node_up", node="bravo") == 0.0
    assert value(found, "hive_node_locked", node="alpha", rollout="R1") == 1.0
    assert value(found, "hive_node_locked", node="bravo", rollout="") == 0.0
    assert value(found, "hive_node_brake", node="alpha") == 1.0
    assert value(found, "hive_node_pause", node="alpha") == 0.0
    assert value(found, "hive_node_drill_passed", node="alpha") == 1.0
    assert value(found, "hive_node_soak_since_timestamp_seconds", node="alpha", stage="canary") == 7.0
    assert value(found, "hive_node_plugin", node="alpha", plugin="cl-hive", version="1", digest="d" * 12) == 1.0
    assert not [key for key in found if key[0] == "hive_node_probe_age_seconds"]
