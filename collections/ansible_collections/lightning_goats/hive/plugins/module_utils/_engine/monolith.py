"""The monolith's database: where it is, what it holds, and whether it can be taken over where it lies."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from .._sqlite import open_read_only, quoted, tables
from . import containers
from .database_places import Stray, find_strays, home_of
from .errors import HiveError
from .guard import Look, Manifests
from .machine import Machine
from .node import Node
from .observe import options_of
from .options import NOT_CONFIGURED, option_value
from .runtimes import DockerRuntime
from .stacks import Item, Stack, active_items, replaced_by

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


def facts_of(path: Path, node: Node) -> dict[str, Any] | None:
    """Return what a database of a hive holds; None when there is none at that place.

    Returns:
        path, size, ours (whether our cl-hive has made it or taken it over), layout (the first release that has these
        tables, "" when it is no hive's), tables: rows of those that belong to others today.
    """
    if not path.is_file():
        return None
    connection = open_read_only(path, node.owner)
    try:
        there = set(tables(connection))
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
        "ours": KIT in there,
        "layout": ("2.10.0" if rows else "2.2.1") if CORE in there else "",
        "tables": rows,
    }


def adopters(stack: Stack, manifests: Manifests) -> Stack:
    """Return the enabled plugins that take rows of the monolith over."""
    return [item for item in active_items(stack) if manifests.get(item["digest"], {}).get("adopts")]


def in_place(stack: Stack, manifests: Manifests) -> Item | None:
    """Return the plugin that goes on with the monolith's very database; None when the stack has none."""
    found = [item for item in adopters(stack, manifests) if manifests[item["digest"]]["adopts"]["in_place"]]
    return found[0] if found else None


def strays_of(machine: Machine) -> list[Stray]:
    """Return the plugins' databases that lie outside the network directory."""
    node, runtime = machine.node, machine.runtime
    mounts = None
    if isinstance(runtime, DockerRuntime):
        slots = (str(node.slots_dir), node.to_inside(node.slots_dir))
        mounts = containers.facts_of(runtime.inspect(), None, slots)["mounts"]
    return find_strays(node, machine.identity(), options_of(machine.configs()), mounts)


class Place:
    """Where the rows are, and where our cl-hive would look for them.

    Attributes:
        ours: the database that the stack's cl-hive opens.
        source: the one that the monolith has now; the same unless somebody told them different things.
    """

    def __init__(self, machine: Machine, seen: Look, target: Stack, manifests: Manifests, hive: Item) -> None:
        self.machine = machine
        self.node = machine.node
        self.name = str(hive["name"])
        self.manifest = manifests[hive["digest"]]
        self._configs = seen.configs
        self._leaving = set(replaced_by(target)) | {
            path for path, slot in seen.by_entry.items() if path in seen.listed and slot.manifest.get("foreign")
        }
        self._foreign = next((slot for path, slot in seen.by_entry.items() if path in self._leaving), None)
        self.ours = self._ours(hive)
        self.source = self._source() or self.ours

    def _ours(self, hive: Item) -> Path:
        option = str(self.manifest["database_option"])
        config = self._configs.get(option, {})
        source = str(config.get("source", "default"))
        include = f"{self.node.to_inside(self.node.include_file)}:"
        value = hive["options"].get(option)
        if value is None and source not in NOT_CONFIGURED and not source.startswith(include):
            # The operator's own line; it counts for whoever has the option.
            value = option_value(config)
        return self._real(str(value or self.manifest["database"]))

    def _source(self) -> Path | None:
        """Return the database of the monolith that runs now; None when none does."""
        config = self._configs.get(str(self.manifest["database_option"]), {})
        if config.get("plugin") in self._leaving and config.get("plugin"):
            return self._real(str(option_value(config) or ""))
        if self._foreign is not None and self._foreign.name == self.name:
            return self._real(str(self._foreign.manifest["database"]))
        return None

    def _real(self, value: str) -> Path:
        """Return a path that lightningd's plugins were told as this machine reaches it; links are followed."""
        node, who = self.node, self.machine.identity()
        home = home_of(who) if who is not None else ""
        inside = PurePosixPath(f"{home}{value[1:]}" if value.startswith("~/") and home else value)
        path = node.to_outside(str(inside)) if inside.is_absolute() else node.network_dir / inside
        if node.runtime == "docker" and inside.is_absolute() and str(path) == str(inside):
            # In a container's own layer, with at most a link left of it by an earlier move.
            return node.network_dir / str(self.manifest["database"])
        return path.resolve()

    def refuse(self) -> None:
        """Refuse rows that cannot be taken over where they lie.

        Raises:
            HiveError: they would be lost with the container, or our cl-hive would begin with an empty database.
        """
        stray = next((stray for stray in strays_of(self.machine) if stray.plugin == self.name), None)
        if stray is not None:
            raise HiveError(
                f"the monolith's database is {stray.inside}, not in the network directory of {self.node.name}; move it "
                "there with playbooks/node.yml -e hive_move_databases="
                f"{self.node.name}, then run again",
                "adopt-elsewhere",
                path=stray.inside,
            )
        if self.source != self.ours and self.source.is_file():
            raise HiveError(
                f"{self.name} would open {self.ours}, and the monolith's rows are in {self.source}; set "
                f"{self.manifest['database_option']} of {self.name} to {self.node.to_inside(self.source)} in "
                "hive_stack, or leave the rows where they are with -e hive_adopt=no",
                "adopt-other-file",
                path=str(self.source),
            )
