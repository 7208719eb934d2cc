# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the report says of a node beside its result: waits, restarts, quarantine. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _report_adoption

Json = dict[str, Any]


def notes(
    observed: Json,
    switch: Mapping[str, Any],
    journal: Sequence[Json],
    before: Sequence[Json],
    after: Sequence[Json] | None,
) -> list[str]:
    """Sentences about one node, in the order in which things happened.

    Args:
        observed: the node before the run.
        switch: what hive_switch answered, {} when it was not reached.
        journal: the entries that the run caused on the node.
        before, after: the stacks; after is None when it is not known.
    """
    remarks = [str(remark) for remark in switch.get("remarks") or []]
    found = [*_waited(switch), *_journaled(journal), *_report_adoption.told(switch.get("adoption")), *remarks]
    return [*dict.fromkeys(found), *orphans(observed, before, after)]


def _waited(switch: Mapping[str, Any]) -> list[str]:
    drained = switch.get("drained") or {}
    seconds = float(drained.get("waited_seconds") or 0)
    return [f"waited {seconds:.0f} s for payments in flight before the switch"] if seconds >= 1 else []


def _journaled(journal: Sequence[Json]) -> list[str]:
    found = []
    for entry in journal:
        data = entry.get("data") or {}
        if entry["event"] == "done" and data.get("step") == "restart" and data.get("reason"):
            waited = float(data.get("waited_seconds") or 0)
            patience = f", after {waited:.0f} s for payments in flight" if waited >= 1 else ""
            found.append(f"lightningd was restarted: {data['reason']}{patience}")
        elif entry["event"] == "quarantined":
            found += [
                f"{item.get('plugin')} {item.get('version')} is quarantined: lightningd died with it; "
                "-e hive_lift_quarantine=true tries it again"
                for item in data.get("plugins") or []
            ]
        elif entry["event"] == "reverted" and data.get("by") not in (None, "controller", "engine"):
            found.append(f"it went back by itself ({data['by']}): {data.get('reason')}")
    return found


def orphans(observed: Json, before: Sequence[Json], after: Sequence[Json] | None) -> list[str]:
    """What to do where lightningd read options from its config that belong to a plugin which is gone now."""
    gone = {item["name"] for item in before} - {item["name"] for item in after or []}
    paths = {plugin.get("path") for plugin in observed.get("plugins") or [] if plugin.get("name") in gone}
    held = [
        name
        for name, option in (observed.get("options") or {}).items()
        # A file's source is path:line; what came with `plugin start` goes with the plugin.
        if option.get("plugin") in paths and ":" in str(option.get("source"))
    ]
    if after is None or not held:
        return []
    return [
        f"lightningd still holds {held[0]} of a plugin that is gone: restart it in a quiet hour; until then use no "
        "setconfig and no lightning-cli -k plugin start, which would kill it"
    ]
