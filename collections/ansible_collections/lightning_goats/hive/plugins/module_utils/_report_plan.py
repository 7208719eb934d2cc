# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the plan says it does to each node, without the value of any option. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import version_key

Json = dict[str, Any]


def shaped(plan: Mapping[str, Any] | None) -> Json:
    """Per node that changes: ``{action, rollback, restart, lines, plugins}``.

    ``lines`` are the plan's own sentences; ``plugins`` compares the stacks, a row for each plugin of either.
    """
    nodes = (plan or {}).get("nodes") or {}
    return {node: _node(step) for node, step in nodes.items() if step["action"] != "none"}


def _node(step: Mapping[str, Any]) -> Json:
    return {
        "action": step["action"],
        "rollback": str(step.get("rollback") or ""),
        "restart": str(step.get("restart") or ""),
        "lines": [_line(str(line)) for line in step.get("steps") or []],
        "plugins": compared(step.get("before") or [], step.get("after") or []),
    }


def _line(sentence: str) -> str:
    """A sentence of the plan; where it tells the value of an option, only that it changes."""
    if not sentence.startswith("  "):
        return sentence
    return f"  {sentence.strip().partition(':')[0]} changes"


def compared(before: Any, after: Any) -> list[Json]:
    """A row for each plugin of two stacks, in the order of the second and then of the first."""
    old = {item["name"]: item for item in before}
    new = {item["name"]: item for item in after}
    return [_row(name, old.get(name), new.get(name)) for name in dict.fromkeys([*new, *old])]


def _row(name: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> Json:
    earlier, later = (was or {}).get("options") or {}, (now or {}).get("options") or {}
    options = sorted(key for key in {*earlier, *later} if earlier.get(key) != later.get(key))
    return {
        "name": name,
        "change": _change(was, now, bool(options)),
        "before": _release(was),
        "after": _release(now),
        "options": options,
    }


def _release(item: Mapping[str, Any] | None) -> Json | None:
    if item is None:
        return None
    return {
        "version": item["version"],
        "digest": item.get("digest") or "",
        "enabled": bool(item.get("enabled", True)),
    }


def _change(was: Mapping[str, Any] | None, now: Mapping[str, Any] | None, options: bool) -> str:
    if was is None:
        return "install"
    if now is None:
        return "remove"
    if was.get("digest") != now.get("digest"):
        return "downgrade" if version_key(now["version"]) < version_key(was["version"]) else "upgrade"
    if bool(was.get("enabled", True)) != bool(now.get("enabled", True)):
        return "enable" if now.get("enabled", True) else "disable"
    return "options" if options else "same"
