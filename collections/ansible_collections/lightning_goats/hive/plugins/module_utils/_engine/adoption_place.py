"""Whether the monolith's rows can be taken over where they lie, and by whom."""

from __future__ import annotations

from pathlib import Path

from .database_places import PLUGINS
from .errors import HiveError
from .guard import Look, Manifests
from .machine import Machine
from .monolith import real_path, strays_of
from .observe import options_of
from .options import NOT_CONFIGURED, option_value
from .stacks import Item, Stack, active_items, replaced_by


def adopters(stack: Stack, manifests: Manifests) -> Stack:
    """Return the enabled plugins that take rows of the monolith over."""
    return [item for item in active_items(stack) if manifests.get(item["digest"], {}).get("adopts")]


def in_place(stack: Stack, manifests: Manifests) -> Item | None:
    """Return the plugin that goes on with the monolith's very database; None when the stack has none."""
    found = [item for item in adopters(stack, manifests) if manifests[item["digest"]]["adopts"]["in_place"]]
    return found[0] if found else None


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
        return real_path(self.node, self.machine.identity(), value, str(self.manifest["database"]))

    def refuse(self) -> None:
        """Refuse rows that cannot be taken over where they lie.

        Raises:
            HiveError: they would be lost with the container, or our cl-hive would begin with an empty database.
        """
        self.refuse_strays()
        if self.source != self.ours and self.source.is_file():
            raise HiveError(
                f"{self.name} would open {self.ours}, and the monolith's rows are in {self.source}; set "
                f"{self.manifest['database_option']} of {self.name} to {self.node.to_inside(self.source)} in "
                "hive_stack, or leave the rows where they are with -e hive_adopt=no",
                "adopt-other-file",
                path=str(self.source),
            )

    def refuse_strays(self, in_layer: bool = False) -> None:
        """Refuse a database outside the network directory.

        Args:
            in_layer: only one that is lost with its container.

        Raises:
            HiveError: there is one.
        """
        strays = [
            stray for stray in strays_of(self.machine, options_of(self._configs)) if stray.in_layer or not in_layer
        ]
        option = str(self.manifest["database_option"])
        stray = next((stray for stray in strays if PLUGINS[stray.plugin][1] == option), None)
        if stray is not None:
            raise HiveError(
                f"the monolith's database is {stray.inside}, not in the network directory of {self.node.name}; move it "
                "there with playbooks/node.yml -e hive_move_databases="
                f"{self.node.name}, then run again",
                "adopt-elsewhere",
                path=stray.inside,
            )
