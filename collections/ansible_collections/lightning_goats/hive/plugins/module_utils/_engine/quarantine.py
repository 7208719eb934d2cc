"""Releases with which lightningd died: kept out until another one took their place, or somebody wants to try again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .._slots import find_slot
from .clock import boot
from .errors import HiveError
from .journal import Quarantine, Stack, Transaction, still_held
from .node import Node
from .steps import Step


def disabled_paths(quarantine: Quarantine, stack: Stack) -> list[str]:
    """Return what `disable-plugin` names beside a stack: the entries that stay quarantined while it runs."""
    return sorted(str(entry["path"]) for entry in still_held(quarantine, stack).values())


def refuse(quarantine: Quarantine, stack: Stack, node: Node) -> None:
    """Refuse a stack that holds a quarantined release.

    Raises:
        HiveError: it does; with the reason and the way out.
    """
    for item in stack:
        entry = quarantine.get(item["digest"]) if item["enabled"] else None
        if entry is not None:
            raise HiveError(
                f"{item['name']} {item['version']} is quarantined on {node.name}, because {entry['reason']}; choose "
                "another release, or try this one again with -e hive_lift_quarantine=true",
                "quarantined",
                plugin=item["name"],
                digest=item["digest"],
            )


def suspects(txn: Transaction, node: Node, held: Iterable[str]) -> list[dict[str, Any]]:
    """Return the releases that came with a switch in which lightningd died, as far as they had been started.

    None when it did not die of itself: the machine was started anew, or a planned restart was cut short.

    Args:
        held: digests that are quarantined already.
    """
    if txn.data["lightningd"].get("boot", boot()) != boot() or _restart_cut_short(txn):
        return []
    old = {item["name"]: item["digest"] for item in txn.previous if item["enabled"]}
    found = []
    for item in txn.target:
        if not item["enabled"] or item["digest"] in {*old.values(), *held} or not _started(txn, item["name"]):
            continue
        found.append(
            {
                "plugin": item["name"],
                "version": item["version"],
                "digest": item["digest"],
                "path": find_slot(node, item["name"], item["digest"]).inside(node),
                "fallback": old.get(item["name"], ""),
                "reason": "lightningd died in the switch that started it",
            }
        )
    return found


def _started(txn: Transaction, name: str) -> bool:
    """Whether a plugin was, or was about to be, started by a transaction."""
    steps = [entry["data"] for entry in txn.entries if entry["event"] == "intent"]
    named = any(data.get("step") == Step.START.value and data.get("plugin") == name for data in steps)
    return named or any(data.get("step") == Step.RESTART.value for data in steps)


def _restart_cut_short(txn: Transaction) -> bool:
    steps = [entry["event"] for entry in txn.entries if entry["data"].get("step") == Step.RESTART.value]
    return bool(steps) and steps[-1] == "intent"


def crash_log(network_dir: Path, txn: Transaction) -> str:
    """Return the name of the newest trace that a crashing lightningd left since a switch began; "" for none."""
    begun = min((float(entry["time"]) for entry in txn.entries), default=0.0)
    found = [path for path in network_dir.glob("crash.log.*") if path.stat().st_mtime >= begun - 1.0]
    return max(found, key=lambda path: path.stat().st_mtime).name if found else ""
