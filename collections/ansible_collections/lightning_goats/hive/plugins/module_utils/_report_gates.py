# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The gates' findings in the shape of a report and as a table. Pure, controller only."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration

Json = dict[str, Any]

PASS, BLOCK, WAIVED = "pass", "block", "waived"
# What keeps a rollout from starting is read first.
ORDER = {BLOCK: 0, WAIVED: 1, PASS: 2}
TEXTS = ("check", "gate", "title", "state", "detail", "command")
WAIVER = ("owner", "reason", "control", "expires_at")
NARROW = 40


def shaped(answer: Mapping[str, Any] | None) -> Json | None:
    """What hive_gates answered as the report keeps it, None when the gates were not asked."""
    if answer is None or "findings" not in answer:
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


def table(gates: Mapping[str, Any], width: int, states: Sequence[str] = (BLOCK, WAIVED, PASS)) -> list[str]:
    """The findings as lines of at most ``width`` characters; a detail that is longer goes on below itself."""
    rows = [
        (found["check"], found["state"], age(found), found["detail"] or found["title"])
        for found in gates["findings"]
        if found["state"] in states
    ]
    if not rows:
        return []
    rows.insert(0, ("CHECK", "STATE", "AGE", "DETAIL"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    left = sum(widths) + 6
    room = max(width - left, NARROW)
    lines = []
    for row in rows:
        begin = "  ".join(cell.ljust(size) for cell, size in zip(row[:3], widths, strict=True))
        for number, part in enumerate(textwrap.wrap(row[3], room) or [""]):
            lines.append(f"{begin if number == 0 else ' ' * (left - 2)}  {part}".rstrip())
    return lines
