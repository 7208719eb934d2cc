"""What a node need not keep any more: slots, releases, replaced files and engines beyond what was asked for.

Never what runs, what ran before it, what an open switch is about, what is quarantined, or what a process uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._slots import SHORT, Slot, list_slots, marker_path, release_path
from .files import read_json, remove_tree, sync_dir
from .journal import Stack, State
from .node import Node
from .processes import in_use
from .soak import held

ENGINES_KEEP = 2


def needed(state: State, *stacks: Stack) -> set[str]:
    """Return the digests of releases that must stay: of every stack that can still be wanted, and quarantined ones."""
    txn = state.transaction
    wanted = [state.stable or [], state.previous or [], *held(state.soak), *stacks]
    wanted += [txn.target, txn.previous] if txn is not None else []
    return {str(item["digest"]) for stack in wanted for item in stack} | set(state.quarantine)


def prune(node: Node, keep: set[str], slots_keep: int, aside_keep: int, engine: str) -> dict[str, list[str]]:
    """Remove what is not needed.

    Args:
        keep: digests that stay whatever their age.
        slots_keep: how many further slots of each plugin stay, the newest.
        aside_keep: how many sets of replaced files stay.
        engine: digest of the engine that works now.

    Returns:
        What was removed, by kind: slots, releases, aside, engines.
    """
    removed: dict[str, list[str]] = {"slots": [], "releases": [], "aside": [], "engines": []}
    kept = set(keep)
    by_name: dict[str, list[Slot]] = {}
    for slot in list_slots(node):
        # One without a marker is half of one, or was installed by hand; staging sees to those.
        if slot.complete:
            by_name.setdefault(slot.name, []).append(slot)
    for slots in by_name.values():
        spare = sorted((slot for slot in slots if slot.digest not in keep), key=lambda s: _built(node, s), reverse=True)
        kept |= {slot.digest for slot in spare[:slots_keep]}
        for slot in spare[slots_keep:]:
            if in_use(node.to_inside(slot.path), slot.path):
                kept.add(slot.digest)
                continue
            _remove_slot(node, slot)
            removed["slots"].append(f"{slot.name} {slot.version} {slot.digest[:SHORT]}")
    removed["releases"] = _remove_releases(node, kept)
    removed["aside"] = _remove_oldest(node.state_dir / "aside", aside_keep, set())
    used = {engine, *_engines_in_use(node)}
    removed["engines"] = _remove_oldest(node.state_dir / "engine", ENGINES_KEEP, used)
    return {kind: names for kind, names in removed.items() if names}


def _built(node: Node, slot: Slot) -> float:
    marker = read_json(marker_path(node, slot.name, slot.digest))
    return float(marker.get("built_at", 0)) if isinstance(marker, dict) else 0.0


def _remove_slot(node: Node, slot: Slot) -> None:
    """Remove one slot: first what makes it one, so that being interrupted leaves half a slot and not a damaged one."""
    mark = marker_path(node, slot.name, slot.digest)
    mark.unlink(missing_ok=True)
    sync_dir(mark.parent)
    remove_tree(slot.path)


def _remove_releases(node: Node, kept: set[str]) -> list[str]:
    """Remove the releases whose slots went, and those that never had one and are older than all that stay."""
    if not node.releases_dir.is_dir():
        return []
    slots = {slot.digest for slot in list_slots(node) if slot.digest}
    found = [path for path in node.releases_dir.iterdir() if path.is_dir() and not path.name.startswith(".")]
    newest = max((path.stat().st_mtime for path in found), default=0.0)
    gone = []
    for path in sorted(found):
        # The newest may have been brought for a switch that is still to come.
        if path.name not in kept | slots and path.stat().st_mtime < newest:
            remove_tree(release_path(node, path.name))
            gone.append(path.name[:SHORT])
    return gone


def _remove_oldest(folder: Path, keep: int, used: set[str]) -> list[str]:
    """Remove the oldest directories beyond `keep`, but none that is used."""
    if not folder.is_dir():
        return []
    found = sorted((path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()), key=_age)
    gone = []
    for path in found[: max(0, len(found) - keep)]:
        if path.name not in used:
            remove_tree(path)
            gone.append(path.name)
    return gone


def _age(path: Path) -> tuple[float, str]:
    return (path.stat().st_mtime, path.name)


def _engines_in_use(node: Node) -> set[str]:
    """Return the digests of engines that somebody starts or will start: the dead-man, the probe, the unit at boot."""
    used: set[str] = set()
    for name in ("deadman.json", "probe.json"):
        facts: Any = read_json(node.state_dir / name)
        if isinstance(facts, dict):
            used |= {str(facts.get("engine", "")), Path(str(facts.get("archive", ""))).parent.name}
    link = node.state_dir / "engine" / "hive-engine.pyz"
    if link.is_symlink():
        used.add(link.readlink().parent.name)
    return used
