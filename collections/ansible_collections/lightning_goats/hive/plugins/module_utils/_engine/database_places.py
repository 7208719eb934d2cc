"""Databases of the plugins that do not lie in lightningd's network directory, where they would survive."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .containers import covering
from .node import Node
from .processes import PROC, Identity

# Per plugin: its database in the network directory, and the option that may place it elsewhere.
PLUGINS = {
    "cl-hive-comms": ("cl_hive_comms.db", "hive-comms-db-path"),
    "cl-hive-archon": ("cl_hive_archon.db", "hive-archon-db-path"),
    "cl-hive": ("cl_hive.db", "hive-db-path"),
}
# What lies beside a database and belongs to it: without its key file the database cannot be read any more.
KEY_FILES = {"cl-hive-comms": ("comms.secrets",)}
COMPANIONS = ("-wal", "-shm", "-journal")
# Of the journal: a database was moved, and its old place is now a link.
EVENT, ASIDE_STEP = "database", "database-aside"


@dataclass(frozen=True)
class Stray:
    """One database in the wrong place.

    Attributes:
        inside: its path as lightningd sees it.
        path: its path as this machine reaches it; through lightningd's own root directory when it is in a container.
        size: bytes, with its write-ahead log.
        in_layer: whether it is lost when the container is made anew.
        newest: unix time of its last change.
    """

    plugin: str
    inside: str
    path: Path
    size: int
    in_layer: bool
    newest: float

    def as_dict(self) -> dict[str, Any]:
        """Return what is reported."""
        return {
            "plugin": self.plugin,
            "path": self.inside,
            "size": self.size,
            "in_layer": self.in_layer,
            "changed_at": round(self.newest, 3),
        }


def find_strays(
    node: Node, who: Identity | None, options: dict[str, dict[str, Any]], mounts: list[dict[str, Any]] | None
) -> list[Stray]:
    """Return the plugins' databases that lie outside the network directory.

    Looked for are the places that options name, and `~/.lightning`, where the field's plugins put theirs by default.

    Args:
        who: the running lightningd; without it nothing can be told.
        options: the options that lightningd knows, each with `value`.
        mounts: the container's mounts; None for other runtimes.
    """
    if who is None:
        return []
    home = home_of(who)
    network = PurePosixPath(node.to_inside(node.network_dir))
    found: dict[str, Stray] = {}
    for plugin, (name, option) in PLUGINS.items():
        value = str(options.get(option, {}).get("value") or "")
        places = [value] if value else []
        if home:
            places += [f"{home}/.lightning/{name}", f"{home}/.lightning/{node.network}/{name}"]
        for place in places:
            inside = PurePosixPath(f"{home}{place[1:]}" if place.startswith("~/") and home else place)
            if not inside.is_absolute():
                inside = network / inside
            stray = _stray(node, who, plugin, PurePosixPath(os.path.normpath(inside)), network, mounts)
            if stray is not None:
                found.setdefault(stray.inside, stray)
    return sorted(found.values(), key=lambda stray: stray.inside)


def _stray(
    node: Node,
    who: Identity,
    plugin: str,
    inside: PurePosixPath,
    network: PurePosixPath,
    mounts: list[dict[str, Any]] | None,
) -> Stray | None:
    if inside.parent == network:
        return None
    root = PROC / str(who.pid) / "root"
    path = reach(root, inside) if mounts is not None else Path(inside)
    # On the host the same directory may have another name; a link was left here by an earlier move.
    if path is None or not _is_file(path) or (mounts is None and path.resolve().parent == node.network_dir):
        return None
    family = [path, *(path.with_name(path.name + suffix) for suffix in COMPANIONS[:1])]
    facts = [entry.stat() for entry in family if _is_file(entry)]
    return Stray(
        plugin,
        str(inside),
        path,
        sum(entry.st_size for entry in facts),
        mounts is not None and covering(mounts, str(inside)) is None,
        max(entry.st_mtime for entry in facts),
    )


def reach(root: Path, inside: PurePosixPath) -> Path | None:
    """Return how this machine reaches a path of a container; None when a link is on the way, which leads elsewhere."""
    path = root
    for part in inside.parts[1:]:
        path = path / part
        if path.is_symlink():
            return None
    return path


def links(node: Node, entries: list[dict[str, Any]]) -> dict[str, str]:
    """Return the links that lead from where databases were to where they were moved, both as lightningd sees them.

    A container that is made anew needs them again: without, a plugin of the image would begin with an empty database.
    """
    found: dict[str, str] = {}
    for entry in entries:
        data = entry["data"]
        if entry["event"] != EVENT or data["step"] != ASIDE_STEP:
            continue
        old = PurePosixPath(data["inside"])
        for name in (old.name, *KEY_FILES.get(data["plugin"], ())):
            goal = node.network_dir / (PLUGINS[data["plugin"]][0] if name == old.name else name)
            if goal.exists():
                found[str(old.with_name(name))] = node.to_inside(goal)
    return found


def home_of(who: Identity) -> str:
    """Return lightningd's home directory as it sees it; "" when that cannot be told."""
    try:
        pairs = (PROC / str(who.pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    homes = [os.fsdecode(pair[5:]) for pair in pairs if pair.startswith(b"HOME=/")]
    return homes[-1].rstrip("/") if homes else ""


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
