"""The monolith's database: where it is and what it holds."""

from __future__ import annotations

import pwd
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .._sqlite import open_read_only, quoted, tables
from . import containers
from .adoption_state import adopted_by
from .database_places import PLUGINS, Stray, find_strays, home_of
from .files import Owner
from .journal import Entry
from .machine import Machine
from .node import Node
from .processes import Identity
from .runtimes import DockerRuntime

if TYPE_CHECKING:
    import sqlite3

# What comms and archon own today and the monolith kept; versions before 2.10.0 had none of it.
MOVABLE = (
    "did_credentials",
    "did_reputation_cache",
    "liquidity_heartbeats",
    "liquidity_leases",
    "liquidity_offers",
    "management_credentials",
    "management_receipts",
    "marketplace_contracts",
    "marketplace_profiles",
    "marketplace_trials",
    "nostr_state",
)
# A table that every monolith has.
CORE = "hive_members"
# Of ours only: written in the transaction that makes or takes over a database.
KIT = "kit_migrations"
# The record of a file that our cl-hive goes on with after a monolith.
TAKEN, IN_PLACE = "kit_adoptions", "(in place)"
HIVE = "cl-hive"
PAYMENTS = "hive_settlement_journal"


def facts_of(path: Path, node: Node) -> dict[str, Any] | None:
    """Return what a database of a hive holds; None when there is none at that place.

    Returns:
        path, size, ours (whether our cl-hive has made it, and no monolith), layout (the first release that has these
        tables, "" when it is no hive's), tables: rows of those that belong to others today.
    """
    if not path.is_file():
        return None
    connection = open_read_only(path, node.owner)
    try:
        there = set(tables(connection))
        ours = KIT in there and not _taken(connection, there)
        rows = {
            name: int(connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0])
            for name in MOVABLE
            if name in there
        }
    finally:
        connection.close()
    log = path.with_name(path.name + "-wal")
    return {
        "path": str(path),
        "size": path.stat().st_size + (log.stat().st_size if log.is_file() else 0),
        "ours": ours,
        "layout": ("2.10.0" if rows else "2.2.1") if CORE in there else "",
        "tables": rows,
    }


def took(path: Path, node: Node) -> dict[str, dict[str, Any]]:
    """Return, per table of a monolith, what the owner of a database says it has taken over: rows and digest."""
    if not path.is_file():
        return {}
    connection = open_read_only(path, node.owner)
    try:
        if TAKEN not in tables(connection):
            return {}
        rows = connection.execute(f"SELECT table_name, source_rows, source_digest FROM {TAKEN}")
        return {str(name): {"rows": int(count), "digest": str(digest)} for name, count, digest in rows}
    finally:
        connection.close()


def _taken(connection: sqlite3.Connection, there: set[str]) -> bool:
    if TAKEN not in there:
        return False
    found = connection.execute(f"SELECT 1 FROM {TAKEN} WHERE table_name = ?", (IN_PLACE,)).fetchone()
    return found is not None


def open_payments(path: Path, owner: Owner) -> int:
    """Return how many settlement payments our cl-hive has begun whose end it does not know."""
    if not path.is_file():
        return 0
    connection = open_read_only(path, owner)
    try:
        if PAYMENTS not in tables(connection):
            return 0
        query = f"SELECT count(*) FROM {PAYMENTS} WHERE status = 'reserved'"
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def strays_of(machine: Machine, options: dict[str, dict[str, Any]]) -> list[Stray]:
    """Return the plugins' databases that lie outside the network directory.

    Args:
        options: the options that lightningd knows, each with `value`.
    """
    node, runtime = machine.node, machine.runtime
    mounts = None
    if isinstance(runtime, DockerRuntime):
        slots = (str(node.slots_dir), node.to_inside(node.slots_dir))
        mounts = containers.facts_of(runtime.inspect(), None, slots)["mounts"]
    return find_strays(node, machine.identity(), options, mounts)


def real_path(node: Node, who: Identity | None, value: str, name: str) -> Path:
    """Return a path that lightningd's plugins were told as this machine reaches it; links are followed.

    Args:
        who: lightningd, for its home directory.
        name: of the database in the network directory, where the path leads into a container's own layer: what is
            there is a link at most, left by an earlier move.
    """
    home = home_of(who) if who is not None else ""
    inside = PurePosixPath(f"{home}{value[1:]}" if value.startswith("~/") and home else value)
    path = node.to_outside(str(inside)) if inside.is_absolute() else node.network_dir / inside
    if node.runtime == "docker" and inside.is_absolute() and str(path) == str(inside):
        return node.network_dir / name
    return path.resolve()


def told_path(node: Node, value: str, name: str) -> Path:
    """Return the database that an option names; one that was moved is where the link at its old place leads.

    Args:
        name: of the database in the network directory, which it is when nothing is at the place in somebody's home.
    """
    path = node.to_outside(value)
    if value.startswith("~/"):
        path = Path(pwd.getpwuid(node.owner.uid).pw_dir) / value[2:]
    path = path if path.is_absolute() else node.network_dir / path
    if path.is_symlink() and path.resolve().parent == node.network_dir:
        return path.resolve()
    return node.network_dir / name if value.startswith("~/") and not path.is_file() else path


def observed(
    node: Node, who: Identity | None, options: dict[str, dict[str, Any]], entries: list[Entry]
) -> dict[str, Any]:
    """Return what a plan has to know of the monolith and of its adoption.

    Args:
        options: the options that lightningd knows, each with `value`.
        entries: the journal.
    """
    name, option = PLUGINS[HIVE]
    value = str(options.get(option, {}).get("value") or name)
    state = adopted_by(entries)
    path = Path(state.path) if state.plugins else real_path(node, who, value, name)
    return {
        "monolith": facts_of(path, node),
        "adopted": sorted(state.plugins),
        "since": state.since,
        "handed_over": state.handed,
        "finished": state.finished,
    }
