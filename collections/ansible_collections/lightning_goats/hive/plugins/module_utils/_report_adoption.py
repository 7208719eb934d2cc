# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the report says of rows that moved between the monolith and our plugins. Pure, controller only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
SHOWN = 5


def told(adoption: Mapping[str, Any] | None) -> list[str]:
    """Sentences about what one switch did, [] when it moved nothing.

    Args:
        adoption: as hive_switch returns it.
    """
    facts = adoption or {}
    return [*_taken_over(facts), *_carried_back(facts)]


def short(adoption: Mapping[str, Any] | None) -> str:
    """The same in a few words, for the line of the switch; "" when it moved nothing."""
    facts = adoption or {}
    if "adopted" in facts:
        return f"; {_adopted(facts):,} rows of the monolith taken over, {facts['delta_rows']} of them after it stopped"
    if "carried_back" in facts:
        return f"; {_changed(facts):,} rows carried back to the monolith"
    return ""


def _adopted(facts: Mapping[str, Any]) -> int:
    # What stays in its file has no digest: it did not move.
    return sum(table["adopted"] for table in _tables(facts["adopted"].values()) if table["digest"])


def _changed(facts: Mapping[str, Any]) -> int:
    keys = ("inserted", "updated", "deleted")
    return sum(int(table.get(key, 0)) for table in _tables(facts["carried_back"].values()) for key in keys)


def _tables(reports: Iterable[Json]) -> list[Json]:
    return [table for report in reports for table in report["tables"].values()]


def _taken_over(facts: Mapping[str, Any]) -> list[str]:
    if "adopted" not in facts:
        return []
    reports: Json = facts["adopted"]
    first = f" in {facts['first_ms']:.0f} ms while it worked and" if "first_ms" in facts else ""
    lines = [
        f"{_adopted(facts):,} rows of the monolith were taken over{first} in {facts['delta_ms']:.0f} ms after it had "
        f"stopped ({facts['delta_rows']} rows)"
    ]
    carried = [report["identity"] for report in reports.values() if report["identity"].get("action") == "carried"]
    lines += [f"the node keeps its Nostr identity {identity['pubkey'][:16]}" for identity in carried]
    for name, report in reports.items():
        aside = sum(table["quarantined"] for table in report["tables"].values())
        which = "; ".join(f"{one['table']} {one['key']}: {one['reason']}" for one in report["quarantine"][:SHOWN])
        if aside:
            lines.append(f"{name} put {aside} rows of the monolith aside ({which})")
    return lines


def _carried_back(facts: Mapping[str, Any]) -> list[str]:
    if "carried_back" not in facts:
        return []
    lines = [f"{_changed(facts):,} rows were carried back to the monolith in {facts['carry_back_ms']:.0f} ms"]
    for name, report in facts["carried_back"].items():
        lines += [
            f"{one['rows']} rows of {one['table']} stay with {name} and could not be carried back: {one['reason']}"
            for one in report["left"]
        ]
    return lines
