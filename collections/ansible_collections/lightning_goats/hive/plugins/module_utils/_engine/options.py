"""Which values lightningd would hand a plugin by itself, and which must be said when it is started; pure.

lightningd keeps the values of its configuration files in memory and hands them to every start of the plugin that owns
them; values given with `plugin start` are forgotten at the plugin's stop. Giving any crashes lightningd (v25.02 to
v26.06.6) when it holds a configured option whose plugin is not loaded at that moment. So values are given only where
they differ, and only when all plugins of the stack are up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .journal import Entry, fold, stacks_at
from .processes import Identity
from .sealed import fingerprint, is_sealed

NOT_CONFIGURED = ("default", "pluginstart")
UNKNOWN = object()


def option_value(config: dict[str, Any]) -> Any:
    """Return the value of one entry of `listconfigs`; None when it has none."""
    for key in ("value_str", "value_int", "value_bool", "value_msat", "set", "values_str", "values_int", "values_bool"):
        if key in config:
            return config[key]
    return None


def equal_values(found: Any, wanted: Any) -> bool:
    """Whether a value of `listconfigs` is the one that was asked for; lightningd turns some into other types."""
    if isinstance(wanted, list):
        return isinstance(found, list) and [str(one) for one in found] == [str(one) for one in wanted]
    if isinstance(wanted, bool):
        return found is wanted or str(found).lower() == str(wanted).lower()
    if wanted is None:
        return found is None or found == ""
    return found == wanted or str(found) == str(wanted)


def known_equal(name: str, found: Any, wanted: Any) -> bool:
    """Whether a remembered value, which may be sealed or unknown, is the wanted one."""
    if found is UNKNOWN:
        return False
    return equal_values(found, wanted) or (is_sealed(found) and found == fingerprint(name, wanted))


@dataclass(frozen=True)
class Past:
    """What the journal knows of one life of lightningd.

    Attributes:
        stopped: configured options of plugins that were stopped in it.
        boot: options that it read from the managed include when it started; secret values are sealed.
    """

    stopped: frozenset[str] = frozenset()
    boot: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """All options it may hold in memory."""
        return set(self.stopped) | set(self.boot)


def past_of(entries: list[Entry], who: Identity | None) -> Past:
    """Return what the journal knows of the life of one lightningd."""
    if who is None:
        return Past()
    boot: dict[str, Any] = {}
    for stack in stacks_at(entries, who):
        for item in stack:
            for name, value in item["options"].items() if item["enabled"] else ():
                boot[name] = value if boot.get(name, value) == value else UNKNOWN
    return Past(frozenset(fold(entries).orphans.get(f"{who.pid}-{who.started}", ())), boot)


@dataclass(frozen=True)
class Memory:
    """What lightningd remembers of one plugin's options.

    Attributes:
        configured: names it has from files, command line or setconfig, and hands over at every start.
        given: names it had from `plugin start`, forgotten by now.
        values: the configured ones' values, where they are known.
        foreign: configured names that the operator set outside the managed include.
    """

    configured: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    values: dict[str, Any] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()


def remember(configs: dict[str, dict[str, Any]], path: str, include: str, past: Past) -> Memory:
    """Return what lightningd remembers of the plugin that runs from `path`.

    Args:
        include: the managed include as lightningd names it; values from other files are the operator's own.
        past: tells what stands behind a value given at the start, which `listconfigs` shows instead.
    """
    configured, given, foreign, values = set(), set(), set(), {}
    for name, config in configs.items():
        if config.get("plugin") != path:
            continue
        source = str(config.get("source") or (config.get("sources") or ["default"])[0])
        if source == "pluginstart":
            given.add(name)
            if name in past.names:
                configured.add(name)
                values[name] = past.boot.get(name, UNKNOWN)
        elif source not in NOT_CONFIGURED:
            configured.add(name)
            values[name] = option_value(config)
            if not source.startswith(f"{include}:"):
                foreign.add(name)
    return Memory(frozenset(configured), frozenset(given), values, frozenset(foreign))


def recalled(past: Past, manifest: dict[str, Any]) -> Memory:
    """Return what lightningd may remember of a plugin that does not run."""
    mine = {option["name"] for option in manifest["options"]}
    names = frozenset(past.names & mine)
    return Memory(names, values={name: past.boot.get(name, UNKNOWN) for name in names})


def members(options: dict[str, Any], manifest: dict[str, Any], memory: Memory) -> dict[str, Any]:
    """Return what must be said at `plugin start` for the plugin to get exactly the stack's values.

    Args:
        options: of the stack; what is missing there has its default, unless the operator configured it elsewhere.
    """
    result: dict[str, Any] = {}
    for option in manifest["options"]:
        name, default = option["name"], option.get("default")
        if name in options:
            wanted = options[name]
        elif name in memory.foreign:
            continue
        else:
            wanted = default
        found = memory.values.get(name, default) if name in memory.configured else default
        if known_equal(name, found, wanted) or wanted is None or (option["type"] == "flag" and wanted is not True):
            continue
        result[name] = wanted
    return result


def unsettable(options: dict[str, Any], manifest: dict[str, Any], memory: Memory) -> list[str]:
    """Return the options whose value would have to go, which lightningd cannot do while it runs."""
    stuck = []
    for option in manifest["options"]:
        name = option["name"]
        if name not in memory.configured or (name not in options and name in memory.foreign):
            continue
        wanted = options.get(name, option.get("default"))
        found = memory.values.get(name)
        if not known_equal(name, found, wanted) and (
            wanted is None or (option["type"] == "flag" and wanted is not True)
        ):
            stuck.append(name)
    return sorted(stuck)
