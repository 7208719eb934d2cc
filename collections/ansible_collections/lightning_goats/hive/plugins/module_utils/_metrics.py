# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Metrics of the controller, as textfiles for Prometheus' node_exporter: runs, soaks, gates, and what status saw.

One file a subject, written whole or not at all: ``hive_rollout_<fleet>.prom``, ``hive_gates_<fleet>.prom``,
``hive_fleet_<fleet>.prom``. Backups have a file of their own on each node. Names and units are those of
https://prometheus.io/docs/practices/naming; what they mean: docs/reference/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._notify import RESULTS

Json = dict[str, Any]
Labels = tuple[str, ...]

STATES = ("pass", "waived", "block")
SUCCESS = "hive_rollout_success_timestamp_seconds"


class Page:
    """Gauges on their way into one textfile; every one of them has the label ``fleet``."""

    def __init__(self, fleet: str) -> None:
        # Imported here: whoever writes no metrics does not pay for it.
        from prometheus_client import CollectorRegistry

        self.fleet = fleet
        self.registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}

    def put(self, name: str, text: str, value: float | None, **labels: str) -> None:
        """Add one value; None is left out, because nothing is known."""
        from prometheus_client import Gauge

        if value is None:
            return
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(name, text, ["fleet", *labels], registry=self.registry)
            self._gauges[name] = gauge
        gauge.labels(self.fleet, *labels.values()).set(float(value))

    def write(self, directory: Path, subject: str) -> Path:
        """Publish the file, readable for the exporter; where it is. Raises OSError."""
        from prometheus_client import write_to_textfile

        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"hive_{subject}_{re.sub(r'[^A-Za-z0-9_.-]', '-', self.fleet)}.prom"
        write_to_textfile(str(path), self.registry)
        path.chmod(0o644)
        return path


def rollout(report: Mapping[str, Any], previous_success: float | None = None) -> Page:
    """A run, from its report: how it ended, when, and what soaks.

    Args:
        report: schema 2, ended.
        previous_success: when a run of this fleet last ended well, of what the file said before.
    """
    page = Page(str(report["fleet"]))
    result, finished = str(report["result"]), float(report["finished_at"] or 0)
    for word in RESULTS:
        page.put(
            "hive_rollout_result",
            "How the last run ended: 1 for its result, 0 for the others.",
            float(word == result),
            result=word,
        )
    page.put("hive_rollout_finished_timestamp_seconds", "When the last run ended.", finished)
    page.put("hive_rollout_duration_seconds", "How long the last run took.", finished - float(report["started_at"]))
    page.put(
        SUCCESS,
        "When a run last ended well.",
        finished if result in ("success", "unchanged") else previous_success,
    )
    outcomes = [str(node["result"]) for node in report["nodes"].values()]
    for word in sorted(set(outcomes)):
        page.put(
            "hive_rollout_nodes", "Nodes of the last run, by what became of them.", outcomes.count(word), result=word
        )
    for name, node in sorted(report["nodes"].items()):
        for plugin, milliseconds in sorted((node.get("downtime_ms") or {}).items()):
            page.put(
                "hive_rollout_plugin_downtime_seconds",
                "How long the last run had a plugin away.",
                float(milliseconds) / 1000,
                node=name,
                plugin=plugin,
            )
    for soak in report.get("soaks") or []:
        stage = str(soak["stage"])
        page.put(
            "hive_rollout_soak_remaining_seconds",
            "How long a stage has to soak yet.",
            soak.get("remaining_seconds"),
            stage=stage,
        )
        for measure, (have, need) in sorted((soak.get("progress") or {}).items()):
            share = 1.0 if not need else min(1.0, float(have) / float(need))
            page.put(
                "hive_rollout_soak_ratio", "How much of a soak has passed, of 1.", share, stage=stage, measure=measure
            )
    return page


def gates(fleet: str, decision: str, findings: Sequence[Mapping[str, Any]], now: float) -> Page:
    """The gates: what each check says, and until when."""
    page = Page(fleet)
    page.put("hive_gates_allowed", "Whether all gates let a rollout begin.", float(decision == "allowed"))
    page.put("hive_gates_asked_timestamp_seconds", "When the gates were asked.", now)
    for finding in findings:
        labels = {"gate": str(finding["gate"]), "check": str(finding["check"])}
        for state in STATES:
            page.put(
                "hive_gate_check",
                "A check of a gate: 1 for its state, 0 for the others.",
                float(finding["state"] == state),
                **labels,
                state=state,
            )
        page.put(
            "hive_gate_check_expires_timestamp_seconds",
            "When what a check stands on ends to count.",
            finding.get("expires_at"),
            **labels,
        )
    return page


def fleet_state(fleet: str, nodes: Mapping[str, Mapping[str, Any]], now: float) -> Page:
    """The nodes, from what status.yml says of them."""
    page = Page(fleet)
    page.put("hive_fleet_seen_timestamp_seconds", "When status.yml last looked at the fleet.", now)
    for name, entry in sorted(nodes.items()):
        page.put(
            "hive_node_up",
            "Whether the node and its lightningd answer.",
            float(entry["state"] not in ("down", "unreachable")),
            node=name,
        )
        page.put(
            "hive_node_attention",
            "Whether somebody should read what status.yml says of the node.",
            float(entry["state"] != "ok"),
            node=name,
        )
        page.put(
            "hive_node_backup_age_seconds",
            "Age of the newest sound backup set.",
            entry.get("backup_age_seconds"),
            node=name,
        )
        page.put(
            "hive_node_probe_age_seconds",
            "Age of the probe's newest sample.",
            entry.get("probe_age_seconds"),
            node=name,
        )
        drill = entry.get("drill") or {}
        page.put("hive_node_drill_age_seconds", "Age of the last drill.", drill.get("age_seconds"), node=name)
        page.put(
            "hive_node_drill_passed",
            "Whether the last drill passed.",
            float(drill["result"] == "PASSED") if drill else None,
            node=name,
        )
        lock = entry.get("lock") or {}
        page.put(
            "hive_node_locked",
            "Whether a rollout holds the node, and which.",
            float(bool(lock)) if lock else 0.0,
            node=name,
            rollout=str(lock.get("rollout") or ""),
        )
        for kind in ("brake", "pause"):
            page.put(
                f"hive_node_{kind}", f"Whether a {kind} is set on the node.", float(bool(entry.get(kind))), node=name
            )
        soak = entry.get("soak") or {}
        page.put(
            "hive_node_soak_since_timestamp_seconds",
            "Since when the node soaks.",
            soak.get("since"),
            node=name,
            stage=str(soak.get("stage") or ""),
        )
        for plugin in entry.get("stack") or []:
            page.put(
                "hive_node_plugin",
                "What a node runs.",
                1.0,
                node=name,
                plugin=str(plugin["name"]),
                version=str(plugin["version"]),
                digest=str(plugin["digest"])[:12],
            )
    return page


def sentence(error: OSError, directory: Path) -> str:
    """What the operating system said about the directory of the metrics, and what to do."""
    return (
        f"Metrics cannot be written to {directory} ({error.strerror}): make it writable, or set "
        "hive_controller_metrics_dir to another directory or to nothing."
    )


def last_success(directory: Path, fleet: str) -> float | None:
    """When a run last ended well, of the textfile that is there; None when it does not say."""
    path = directory / f"hive_rollout_{re.sub(r'[^A-Za-z0-9_.-]', '-', fleet)}.prom"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(rf"^{SUCCESS}{{[^}}]*}} ([0-9.e+]+)$", text, re.MULTILINE)
    return float(found[1]) if found else None
