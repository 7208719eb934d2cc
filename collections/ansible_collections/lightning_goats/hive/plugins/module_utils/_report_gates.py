# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The gates' findings in the shape of a report and as a table. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _gates_lines
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration

Json = dict[str, Any]

PASS, BLOCK, WAIVED = "pass", "block", "waived"
# What keeps a rollout from starting is read first.
ORDER = {BLOCK: 0, WAIVED: 1, PASS: 2}
TEXTS = ("check", "gate", "title", "state", "detail", "command")
WAIVER = ("owner", "reason", "control", "expires_at")


def shaped(answer: Mapping[str, Any] | None) -> Json | None:
    """What hive_gates answered as the report keeps it, None when no check was asked."""
    if answer is None or not answer.get("findings"):
        return None
    findings = [_finding(found) for found in answer["findings"]]
    return {
        "decision": str(answer.get("decision") or "denied"),
        "findings": sorted(findings, key=lambda f: ORDER.get(f["state"], 0)),
        "path": str(answer.get("path") or ""),
    }


def _finding(found: Mapping[str, Any]) -> Json:
    waiver = found.get("waiver")
    return {
        **{key: str(found.get(key) or "") for key in TEXTS},
        "evidence": [str(name) for name in found.get("evidence") or []],
        "age_seconds": found.get("age_seconds"),
        "expires_at": found.get("expires_at"),
        "figures": dict(found.get("figures") or {}),
        "waiver": {key: waiver.get(key) for key in WAIVER} if waiver else None,
    }


def count(gates: Mapping[str, Any]) -> str:
    """How the checks stand: ``2 block, 1 waived, 15 pass``."""
    states = [found["state"] for found in gates["findings"]]
    return ", ".join(f"{states.count(state)} {state}" for state in ORDER if state in states) or "no checks"


def age(finding: Mapping[str, Any]) -> str:
    """How old the evidence of a check is."""
    return "-" if finding["age_seconds"] is None else duration(float(finding["age_seconds"]))


def left(finding: Mapping[str, Any], now: float) -> str:
    """For how long the evidence of a check still counts."""
    return duration(float(finding["expires_at"]) - now)


def lines(answer: Mapping[str, Any], width: int, full: bool) -> list[str]:
    """What a terminal of this width shows of the gates.

    Args:
        answer: what hive_gates answered.
        width: characters in a line.
        full: whether checks that pass are shown although nothing blocks.
    """
    gates = shaped(answer)
    if gates is None:
        return [str(line) for line in answer.get("lines") or []]
    blocked = any(found["state"] == BLOCK for found in gates["findings"])
    rows = [
        (found["gate"], found["check"], found["state"], _gates_lines.age_words(found["age_seconds"]), _words(found))
        for found in (_finding(found) for found in answer["findings"])
        if full or blocked or found["state"] != PASS
    ]
    told = [str(line) for line in answer.get("advice") or []]
    return [*(_gates_lines.table(rows, width) if rows else []), *told, f"gates: {count(gates)}"]


def _words(found: Mapping[str, Any]) -> str:
    return str(found["detail"] or found["title"])
