"""The container of a docker node as observe reports it, with what an operator should know about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import _config
from . import containers
from .database_places import Stray
from .errors import HiveError
from .node import Node
from .processes import PROC, Identity
from .runtimes import DockerRuntime, Runtime

Problem = tuple[str, str]


def container_facts(
    node: Node, runtime: Runtime, who: Identity | None, strays: list[Stray]
) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the facts of lightningd's container, None for other runtimes, and its problems (code, sentence).

    Args:
        strays: databases that lie outside the network directory.
    """
    if not isinstance(runtime, DockerRuntime):
        return None, []
    try:
        document = runtime.inspect()
        image = runtime.image(str(document.get("Image", "")))
    except HiveError as error:
        return None, [(error.code, error.message)]
    facts = containers.facts_of(document, image, (str(node.slots_dir), node.to_inside(node.slots_dir)))
    facts["databases_in_layer"] = [stray.inside for stray in strays if stray.in_layer]
    argv = runtime.lightningd_argv(who)
    return facts, [
        *_mount_problems(node, facts),
        *_config_problem(node, document, who, argv),
        *_owner_problem(node, who),
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
