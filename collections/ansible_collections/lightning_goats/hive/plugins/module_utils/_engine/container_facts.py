"""The container of a docker node as observe reports it, with what an operator should know about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import _config
from . import containers
from .database_places import PLUGINS, Stray, find_strays
from .errors import HiveError
from .journal import Journal
from .node import Node
from .processes import PROC, Identity
from .recreation import Work, latest
from .runtimes import DockerRuntime, Runtime

Problem = tuple[str, str]

# What a plugin's database holds that nothing else does.
WORTH = {
    "cl-hive-comms": "this node's Nostr identity, the advisors' tokens and the receipts",
    "cl-hive-archon": "this node's DID, its credentials and its vault",
    "cl-hive": "membership, settlements and everything the hive has agreed on",
}


def places(
    node: Node, runtime: Runtime, facts: dict[str, Any], who: Identity | None
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the container, the databases that lie where they may be lost, and what an operator should know of both.

    Args:
        facts: of the observation so far: lightningd, options, plugins.
    """
    container, problems, mounts = container_facts(node, runtime, who)
    strays = find_strays(node, who, facts["options"], mounts) if facts["lightningd"]["running"] else []
    if container is not None:
        container["databases_in_layer"] = [stray.inside for stray in strays if stray.in_layer]
    ours = {str(item["path"]) for item in facts["plugins"] if item["ours"]}
    problems += stray_problems(node, strays, facts["options"], ours)
    return {"container": container, "stray_databases": [stray.as_dict() for stray in strays]}, problems


def container_facts(
    node: Node, runtime: Runtime, who: Identity | None
) -> tuple[dict[str, Any] | None, list[Problem], list[dict[str, Any]] | None]:
    """Return the facts of lightningd's container, its problems (code, sentence) and its mounts.

    Both facts and mounts are None for other runtimes; mounts are empty where the container cannot be inspected.
    """
    if not isinstance(runtime, DockerRuntime):
        return None, [], None
    work = latest(node, Journal(node.journal_file, node.keeper))
    opened = _open_problem(node, work)
    try:
        document = runtime.inspect()
        image = runtime.image(str(document.get("Image", "")))
    except HiveError as error:
        return None, opened or [(error.code, error.message)], []
    facts = containers.facts_of(document, image, (str(node.slots_dir), node.to_inside(node.slots_dir)))
    facts["kept"] = work.aside if work is not None and work.phase == "done" else ""
    argv = runtime.lightningd_argv(who)
    problems = [
        *opened,
        *_mount_problems(node, facts),
        *_config_problem(node, document, who, argv),
        *_owner_problem(node, who),
    ]
    return facts, problems, facts["mounts"]


def stray_problems(
    node: Node, strays: list[Stray], options: dict[str, dict[str, Any]], ours: set[str]
) -> list[Problem]:
    """Say which databases lie where they may be lost, and what would be lost with them.

    Args:
        options: the options that lightningd knows, with value and plugin.
        ours: real paths of the running plugins that are ours.
    """
    found = []
    for stray in strays:
        size = f"{stray.size / 2**20:.1f} MiB" if stray.size >= 2**20 else f"{stray.size / 1024:.0f} KiB"
        cure = f"run playbooks/node.yml with -e hive_move_databases={node.name}"
        if stray.in_layer:
            found.append(
                (
                    "database-in-layer",
                    f"{stray.plugin} keeps {stray.inside} ({size}) in the container's own layer: when the container is "
                    f"made anew, {WORTH[stray.plugin]} are lost; {cure}",
                )
            )
        elif options.get(PLUGINS[stray.plugin][1], {}).get("plugin") in ours:
            found.append(
                (
                    "database-elsewhere",
                    f"{stray.plugin} keeps {stray.inside} ({size}) outside lightningd's network directory; {cure}, or "
                    "take the option out of hive_stack afterwards",
                )
            )
        else:
            found.append(
                (
                    "database-left",
                    f"{stray.inside} ({size}) lies outside lightningd's network directory, so {stray.plugin} of the "
                    f"stack would start without it ({WORTH[stray.plugin]}); {cure}, or move the file away",
                )
            )
    return found


def _open_problem(node: Node, work: Work | None) -> list[Problem]:
    if work is None or work.phase != "open":
        return []
    return [
        (
            "recreation-open",
            f"the container of {node.name} was being made anew and that was interrupted; its watcher brings the old "
            "one back within a minute, else playbooks/node.yml goes on with it",
        )
    ]


def _mount_problems(node: Node, facts: dict[str, Any]) -> list[Problem]:
    name, found = facts["name"], []
    for what, outside in (("lightningd's directory", node.lightning_dir), ("network directory", node.network_dir)):
        inside = node.to_inside(outside)
        mount = containers.covering(facts["mounts"], inside)
        if mount is None:
            found.append(
                (
                    "data-in-layer",
                    f"the {what} {inside} of container {name} is on no volume, so it is lost with the container; "
                    "stop lightningd, copy it to a volume, and mount that there",
                )
            )
            break
        if Path(containers.place_outside(mount, inside)).resolve() != outside:
            found.append(
                (
                    "other-directory",
                    f"container {name} has {mount['source']} at {mount['destination']}, so its {what} is not "
                    f"{outside}; "
                    f"set hive_lightning_dir to {containers.place_outside(mount, node.to_inside(node.lightning_dir))}",
                )
            )
            break
    inside = node.to_inside(node.slots_dir)
    slots = containers.covering(facts["mounts"], inside)
    if slots is not None and slots["rw"] and containers.place_outside(slots, inside) == str(node.slots_dir):
        found.append(
            (
                "slots-writable",
                f"container {name} may write to {inside}, so a plugin could change another one's code; mount it "
                "read-only (`:ro`)",
            )
        )
    return found


def _config_problem(node: Node, document: dict[str, Any], who: Identity | None, argv: list[str]) -> list[Problem]:
    """Say when the line that names our include would be gone after the container's next start."""
    try:
        written = node.config_file.stat().st_mtime
    except OSError:
        return []
    lightningd = who.started_at if who else 0.0
    if not containers.written_at_start(written, containers.started_at(document), lightningd):
        return []
    if _config.explicit_conf(argv):
        cure = "let it start lightningd without --conf, so that lightningd reads the network's own config file as well"
    else:
        cure = f"set hive_config_file to {node.network_dir / 'config'}, which lightningd reads as well"
    return [
        (
            "config-regenerated",
            f"the entrypoint of container {str(document['Name']).lstrip('/')} writes {node.config_file} anew at every "
            f"start, so the plugins would be gone after the next one; {cure}",
        )
    ]


def _owner_problem(node: Node, who: Identity | None) -> list[Problem]:
    """Say when lightningd runs as another user than its files are written for."""
    if who is None:
        return []
    try:
        text = (PROC / str(who.pid) / "status").read_text()
        uid = next(int(line.split()[2]) for line in text.splitlines() if line.startswith("Uid:"))
        owner = node.owner.uid
    except (OSError, StopIteration, HiveError):
        return []
    if uid == owner:
        return []
    name = "root" if uid == 0 else f"the user with id {uid}"
    return [
        (
            "owner-differs",
            f"lightningd of {node.name} runs as {name} and its directory belongs to id {owner}; set hive_user to "
            "the user that lightningd runs as",
        )
    ]
