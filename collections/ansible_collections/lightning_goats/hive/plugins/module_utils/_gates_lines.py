# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""A decision as lines to print: a table, and for each block the command that makes what is missing. Pure."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence

from ansible_collections.lightning_goats.hive.plugins.module_utils._gates import BLOCK, Decision, Finding

HEAD = ("GATE", "CHECK", "STATE", "AGE", "DETAIL")
WIDTH = 150
# What a detail gets on a terminal that is narrower than the table.
LEAST = 40
Row = tuple[str, str, str, str, str]


def age_words(seconds: float | None) -> str:
    """An age for people; - for what has none."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def lines(decision: Decision) -> list[str]:
    """The table, the remarks, and what to do about each block."""
    return [*table([_row(finding) for finding in decision.findings]), *advice(decision)]


def table(rows: Sequence[Row], width: int = WIDTH) -> list[str]:
    """Findings as lines of at most ``width`` characters; a detail that is longer goes on below itself."""
    rows = [HEAD, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    left = sum(widths) + 2 * len(widths)
    told = []
    for row in rows:
        begin = "  ".join(cell.ljust(size) for cell, size in zip(row[:4], widths, strict=True))
        for number, part in enumerate(textwrap.wrap(row[4], max(width - left, LEAST), break_on_hyphens=False) or [""]):
            told.append(f"{begin if number == 0 else ' ' * (left - 2)}  {part}".rstrip())
    return told


def advice(decision: Decision) -> list[str]:
    """The remarks, and what to do about each block."""
    blocked = [finding for finding in decision.findings if finding.state == BLOCK]
    if not blocked:
        return [*decision.remarks, "All gates are open."]
    told = [*decision.remarks, f"{len(blocked)} of {len(decision.findings)} checks block:"]
    return [*told, *commands(blocked)]


def commands(blocked: Sequence[Finding]) -> list[str]:
    """For each block the command that makes what is missing; checks with the same command share a line."""
    by_command: dict[str, list[str]] = {}
    for finding in blocked:
        for command in {gap.command: None for gap in finding.gaps} or {"": None}:
            by_command.setdefault(command or f"mend what it says: {finding.title}", []).append(finding.check)
    return [f"  {', '.join(dict.fromkeys(checks))}: {command}" for command, checks in by_command.items()]


def with_inventory(told: Sequence[str], inventories: Sequence[str]) -> list[str]:
    """The same lines, their commands for the inventories that were given: without, Ansible takes the sandbox's."""
    given = "".join(f" -i {shlex.quote(inventory)}" for inventory in inventories)
    return [line.replace("ansible-playbook playbooks/", f"ansible-playbook{given} playbooks/") for line in told]


def refusal(decision: Decision) -> tuple[str, str]:
    """The code and the sentence with which a rollout is refused; two empty texts when all gates are open."""
    blocked = [finding for finding in decision.findings if finding.state == BLOCK]
    if not blocked:
        return "", ""
    told = "; ".join(f"{finding.check} {finding.title}: {finding.detail}" for finding in blocked)
    return (
        "gates",
        f"The gates do not let this rollout start ({told}): make what is missing (playbooks/gates.yml says how), then "
        "run again.",
    )


def _row(finding: Finding) -> Row:
    return (finding.gate, finding.check, finding.state, age_words(finding.age_seconds), finding.detail or finding.title)
