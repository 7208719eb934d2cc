# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a plan does about the monolith: whose place is taken, which rows move, the way back. Pure, controller only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Refusal, Stack

# The plugin that goes on where the monolith was: what is replaced and is no sibling of the same name is replaced by it.
HIVE = "cl-hive"
# A copy to read from, the new databases, and what their transactions keep until they are done.
ROOM = 3

Finding = tuple[str, str]


def with_replaced(node: str, stack: Stack, wanted: Any, seen: Json | None) -> tuple[Stack, list[Refusal]]:
    """The resolved stack with the plugins, by path, whose place each of it takes.

    Whose place was taken before stays taken while the plugin is in the stack: else the next run without the variable
    would bring the monolith back beside it.

    Args:
        wanted: ``hive_replaces`` of the node, paths or file names.
    """
    if not isinstance(wanted, list) or not all(isinstance(word, str) and word for word in wanted):
        return stack, [Refusal(node, "bad-replaces", f"hive_replaces of {node} is not a list of paths: correct it.")]
    places = {str(item["name"]): list(item.get("replaces") or []) for item in (seen or {}).get("stack") or []}
    running = [plugin["path"] for plugin in (seen or {}).get("plugins") or [] if not plugin.get("ours")]
    known = [*running, *(path for paths in places.values() for path in paths)]
    enabled = [item["name"] for item in stack if item["enabled"]]
    refusals = []
    for word in wanted:
        paths = [path for path in known if word in (path, path.rpartition("/")[2])] or (
            [word] if word[0] == "/" else []
        )
        if not paths:
            refusals.append(
                Refusal(
                    node,
                    "replaces-nothing",
                    f"hive_replaces of {node} names {word}, and no plugin of that name runs there: write the path that "
                    "`lightning-cli plugin list` shows, or take it out.",
                )
            )
            continue
        if len(several := sorted(set(running).intersection(paths))) > 1:
            refusals.append(
                Refusal(
                    node,
                    "replaces-several",
                    f"hive_replaces of {node} names {word}, and {' and '.join(several)} run there: write the path of "
                    "the one that is to go.",
                )
            )
            continue
        for path in dict.fromkeys(paths):
            name = plugin_name(path) if plugin_name(path) in enabled else HIVE
            if name not in enabled:
                refusals.append(
                    Refusal(
                        node,
                        "replaces-nobody",
                        f"hive_replaces of {node} names {path}, whose place no plugin of hive_stack takes: add {name}, "
                        "or take the path out.",
                    )
                )
            elif path not in places.setdefault(name, []):
                places[name].append(path)
    result = []
    for item in stack:
        paths = places.get(item["name"], []) if item["enabled"] else []
        result.append({**item, "replaces": paths} if paths else item)
    return result, refusals


def plugin_name(path: str) -> str:
    """The name of a plugin whose file is called as the field calls it: ``cl_hive_comms.py`` is ``cl-hive-comms``."""
    return path.rpartition("/")[2].removesuffix(".py").replace("_", "-")


def replaced(stack: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths of all plugins whose place a stack takes."""
    return [path for item in stack if item.get("enabled", True) for path in item.get("replaces") or []]


def pending(seen: Json, after: Stack, manifests: Mapping[str, Json], policy: Json) -> list[str]:
    """The plugins of ``after`` that will take rows of the monolith over."""
    facts = seen.get("adoption") or {}
    monolith = facts.get("monolith")
    adopting = [item for item in after if item["enabled"] and manifests.get(item["digest"], {}).get("adopts")]
    in_place = [item for item in adopting if manifests[item["digest"]]["adopts"]["in_place"]]
    if policy.get("adopt", "auto") == "no" or not in_place or not monolith or not monolith["layout"]:
        return []
    if not monolith["tables"] and (monolith["ours"] or facts.get("finished")):
        return []
    return [str(item["name"]) for item in adopting if item["name"] not in facts.get("adopted", [])]


def returning(seen: Json, after: Stack, manifests: Mapping[str, Json]) -> bool:
    """Whether the monolith comes back: as a foreign release, or from the operator's own configuration."""
    if any(manifests.get(item["digest"], {}).get("adopts", {}).get("in_place") for item in after if item["enabled"]):
        return False
    names = {item["name"] for item in seen.get("stack") or []}
    foreign = [
        item
        for item in after
        if item["enabled"] and "foreign" in manifests.get(item["digest"], {}) and item["name"] in names
    ]
    freed = set(replaced(seen.get("stack") or [])) - set(replaced(after))
    return bool(foreign or freed)


def findings(node: str, seen: Json, after: Stack, manifests: Mapping[str, Json], policy: Json) -> Iterator[Finding]:
    """What forbids this plan, as (code, sentence)."""
    facts = seen.get("adoption") or {}
    # Where all is removed, the node itself sees whether a line of its configuration would load the monolith again.
    if facts.get("handed_over") and policy.get("goal") != "nothing" and returning(seen, after, manifests):
        when = time.strftime("%Y-%m-%d", time.gmtime(float(facts["handed_over"])))
        yield (
            "handed-over",
            f"The monolith of {node} gave its tables up on {when} (finalize.yml), so it cannot run again: choose "
            "releases of the three plugins.",
        )
    if not pending(seen, after, manifests, policy):
        return
    size, free = int(facts["monolith"]["size"]), (seen.get("disk") or {}).get("lightning_free_bytes")
    need = ROOM * size + int(policy.get("min_free_bytes") or 0)
    if free is not None and free < need:
        yield (
            "disk-full",
            f"{node} has {free / 2**20:.0f} MiB free where lightningd and its plugins write, and to take over a "
            f"monolith of {size / 2**20:.0f} MiB needs {need / 2**20:.0f} MiB: make room, then run again.",
        )


def sentences(seen: Json, before: Stack, after: Stack, manifests: Mapping[str, Json], policy: Json) -> list[str]:
    """What will be done about the monolith, one sentence per act."""
    lines = [
        f"stop {path} and keep it off from hive.conf with disable-plugin: your own configuration is not edited"
        for path in replaced(after)
        if path not in replaced(before)
    ]
    facts = seen.get("adoption") or {}
    names = pending(seen, after, manifests, policy)
    by_name = {item["name"]: manifests[item["digest"]]["adopts"] for item in after if item["name"] in names}
    monolith = facts.get("monolith") or {}
    for name in names:
        tables = {table: monolith["tables"][table] for table in by_name[name]["tables"] if table in monolith["tables"]}
        if by_name[name]["in_place"]:
            lines.append(f"let {name} go on with {monolith['path']} ({monolith['layout']}), its rows stay as they are")
        elif tables:
            rows = ", ".join(f"{count} of {table}" for table, count in sorted(tables.items()) if count) or "no rows"
            lines.append(f"let {name} take over {rows}, first while the monolith works, then what came meanwhile")
        else:
            lines.append(f"let {name} begin empty: this monolith keeps nothing of it")
    if names:
        lines.append("the monolith's own tables stay untouched until finalize.yml, and rollback.yml leads back to them")
    if returning(seen, after, manifests) and not facts.get("handed_over"):
        if facts.get("adopted"):
            lines.append("carry back to the monolith what was written since; what has no place there is reported")
        lines += [f"start {path} again" for path in replaced(before) if path not in replaced(after)]
    return lines


def advice(seen: Json, names: Sequence[str]) -> str:
    """How a plugin that stands in the way can be replaced, "" when none has the name of one of ours."""
    paths = [
        plugin["path"]
        for plugin in seen.get("plugins") or []
        if not plugin.get("ours") and plugin_name(plugin["path"]) in names
    ]
    return f' To let this stack take its place, run with -e \'{{"hive_replaces": ["{paths[0]}"]}}\'.' if paths else ""
