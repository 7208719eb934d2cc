"""What must hold before anything is changed. Everything here only looks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _config
from .._slots import Slot, describe, find_slot, list_slots, verify_slot
from .._sqlite import user_version
from . import channels as ch
from . import loaders
from .builtins import BUILTIN
from .by_hand import names_of_options
from .drain import budget, refusal, worst_for
from .errors import HiveError
from .journal import Quarantine
from .machine import Machine, PluginList
from .observe import active_stack, database_path, free_bytes, is_read_only, options_of, strangers
from .options import Memory, Past, members, recalled, remember, unsettable
from .processes import Identity
from .quarantine import disabled_paths, refuse
from .request import Request
from .stacks import (
    Plan,
    Stack,
    active_items,
    check_clashes,
    check_matrix,
    check_options,
    option_kinds,
    plan_switch,
    replaced_by,
    same,
    version_key,
)
from .validate import ConfigFiles, validate

Manifests = dict[str, dict[str, Any]]
# Releases that are tried side by side: a small node has two processors.
RUNNERS = 2


@dataclass
class Look:
    """The node at one moment, as the engine needs it.

    Attributes:
        stack: what runs from our slots now.
        unhealthy: names of our running plugins that do not report ok or degraded.
        unowned: options in the configuration that belong to no loaded plugin at this moment.
        argv: how lightningd was started.
        quarantine: what the journal says is quarantined.
    """

    who: Identity
    argv: list[str]
    info: dict[str, Any]
    listed: PluginList
    methods: set[str]
    configs: dict[str, dict[str, Any]]
    channels: list[dict[str, Any]]
    by_entry: dict[str, Slot]
    stack: Stack
    unhealthy: set[str] = field(default_factory=set)
    unowned: set[str] = field(default_factory=set)
    quarantine: Quarantine = field(default_factory=dict)

    @property
    def channel_states(self) -> dict[str, str]:
        return {ch.key_of(channel): channel["state"] for channel in self.channels}


def look(machine: Machine, ready_seconds: float, quarantine: Quarantine | None = None) -> Look:
    """Look at a node once.

    Raises:
        NodeDownError: lightningd does not answer.
        HiveError: a plugin of it is still not active after `ready_seconds`.
    """
    info = machine.rpc.call("getinfo")
    who = machine.identity()
    if who is None:
        raise HiveError(
            f"lightningd of {machine.node.name} answers but its process cannot be found; run on its machine, or "
            "as root (ansible_become)",
            "no-process",
        )
    listed = machine.wait_ready(ready_seconds)
    by_entry = {slot.inside(machine.node): slot for slot in list_slots(machine.node) if slot.complete}
    include = _config.read_config(machine.node.include_file, {}) or ""
    _, options = _config.parse_include(include)
    active = {path for path, item in listed.items() if item["active"]}
    result = Look(
        who=who,
        argv=machine.runtime.lightningd_argv(who),
        info=info,
        listed=listed,
        methods=machine.methods(),
        configs=machine.configs(),
        channels=ch.channel_facts(machine.rpc.call("listpeerchannels")["channels"]),
        by_entry=by_entry,
        stack=active_stack(by_entry, active, options, _config.parse_replaced(include)),
        quarantine=quarantine or {},
    )
    result.unowned = configured_names(machine, result.argv) - set(result.configs)
    for path, slot in by_entry.items():
        if path in active:
            report = machine.health_of(slot.manifest, 3.0)
            if report is None or report["status"] == "failed":
                result.unhealthy.add(slot.name)
    return result


def ours_running(machine: Machine, listed: PluginList, name: str) -> list[str]:
    """Return the paths of running plugins that come from the slots of one plugin, complete or not."""
    prefix = machine.node.to_inside(machine.node.slots_dir / name) + "/"
    return [path for path in listed if path.startswith(prefix)]


class Guard:
    """The checks of one switch, in the order in which an operator would want to hear of them."""

    def __init__(self, machine: Machine, request: Request, seen: Look, target: Stack, manifests: Manifests) -> None:
        self.machine = machine
        self.node = machine.node
        self.request = request
        self.seen = seen
        self.target = target
        self.manifests = manifests

    def stack(self) -> None:
        """Refuse a stack that cannot stand by itself, or with which lightningd died."""
        if not self.request.lift_quarantine:
            refuse(self.seen.quarantine, self.target, self.node)
        for item in active_items(self.target):
            check_options(item, self.manifests[item["digest"]])
        check_matrix(self.target, self.manifests)
        check_clashes(self.target, self.manifests)

    def lightningd(self) -> None:
        """Refuse the wrong node, the wrong network, an old lightningd, one that is behind the chain."""
        info, node = self.seen.info, self.node
        for code, message in strangers(node, info):
            raise HiveError(message, code)
        behind = [
            str(value) for key, value in info.items() if key in ("warning_bitcoind_sync", "warning_lightningd_sync")
        ]
        if behind:
            raise HiveError(
                f"{node.name} is still syncing ({behind[0]}); wait until it has caught up and run again", "not-synced"
            )
        conf = _config.explicit_conf(self.seen.argv)
        if conf and Path(conf) != Path(node.to_inside(node.config_file)) and Path(conf).resolve() != node.config_file:
            raise HiveError(
                f"lightningd of {node.name} reads {conf}; set hive_config_file to that file", "wrong-config"
            )
        for item in active_items(self.target):
            needs = str(self.manifests[item["digest"]]["requires"].get("cln", ""))
            if needs and version_key(info["version"].split("-")[0]) < version_key(needs):
                raise HiveError(
                    f"{item['name']} {item['version']} needs lightningd {needs} or newer, {node.name} runs "
                    f"{info['version']}; upgrade it first",
                    "old-lightningd",
                )

    def loaders(self) -> None:
        """Refuse while somebody else's line loads a plugin of ours, or marks it as important."""
        node = self.node
        lines = _config.all_lines(node.config_file, node.network_dir, bool(_config.explicit_conf(self.seen.argv)), {})
        root = node.to_inside(node.slots_dir)
        loaders.refuse(loaders.foreign(lines, self.seen.argv, node.include_file, root))

    def window(self) -> None:
        """Refuse while a payment in flight could expire before we are done."""
        request = self.request
        seconds = worst_for(request, max(len(self.target), len(self.seen.stack)))
        facts = budget(self.machine, seconds, request.htlc_margin_blocks, self.seen.channels)
        if not facts["enough"]:
            raise refusal(self.machine, facts)

    def disk(self) -> None:
        """Refuse when the journal, the backup or lightningd itself could run out of room."""
        databases = sum(
            path.stat().st_size
            for path in (
                database_path(self.node, manifest, options_of(self.seen.configs))
                for manifest in self.manifests.values()
            )
            if path.is_file()
        )
        # The plugins write when they start: what they cannot write to, neither the new nor the old ones come up on.
        for path in (self.node.state_dir, self.node.config_file.parent, self.node.network_dir):
            if is_read_only(path):
                raise HiveError(
                    f"{path} of {self.node.name} is on a read-only filesystem; find out why, make it writable, and "
                    "run again",
                    "read-only",
                )
        free = free_bytes(self.node.network_dir)
        if free < self.request.min_free_bytes:
            raise HiveError(
                f"{self.node.name} has {free // 1048576} MiB free at {self.node.network_dir}, fewer than the "
                f"{self.request.min_free_bytes // 1048576} MiB that lightningd and its plugins are to have; free some "
                "space and run again",
                "disk-full",
                free_bytes=free,
            )
        needed = self.request.min_free_bytes + databases
        free = free_bytes(self.node.state_dir)
        if free < needed:
            raise HiveError(
                f"{self.node.name} has {free // 1048576} MiB free at {self.node.state_dir} and a switch with its "
                "backup needs "
                f"{needed // 1048576} MiB; free some space and run again",
                "disk-full",
                free_bytes=free,
                needed_bytes=needed,
            )

    def names(self) -> None:
        """Refuse a release that registers a name that is taken: by a plugin an error, by lightningd itself a crash."""
        mine: set[str] = set()
        for slot in list_slots(self.node):
            # Also of one that was made by hand, which only its kept release describes.
            if slot.manifest and slot.inside(self.node) in self.seen.listed:
                mine |= set(slot.manifest["rpc_methods"])
        taken = self.seen.methods - mine
        leaving = set(self.replaced)
        if leaving:
            # Nobody says which of the names are those of the plugin that goes; lightningd says it at the start.
            taken = set()
        options = {name: one for name, one in self.seen.configs.items() if one.get("plugin") not in leaving}
        slots_root = self.node.to_inside(self.node.slots_dir) + "/"
        for item in active_items(self.target):
            manifest = self.manifests[item["digest"]]
            # Commands of plugins that were switched off are no longer in `help`, but may come back: they count too.
            clash = sorted(set(manifest["rpc_methods"]) & (taken | BUILTIN))
            if clash:
                whose = "lightningd itself, which would crash" if clash[0] in BUILTIN else "another plugin of this node"
                raise HiveError(
                    f"{item['name']} {item['version']} registers the method {clash[0]}, which belongs to {whose}; "
                    "remove that plugin or build the release without the method",
                    "method-clash",
                    method=clash[0],
                    plugin=item["name"],
                )
            for option in manifest["options"]:
                config = options.get(option["name"])
                if config is not None and not str(config.get("plugin", "")).startswith(slots_root):
                    whose = f"the plugin {Path(config['plugin']).name}" if config.get("plugin") else "lightningd itself"
                    raise HiveError(
                        f"{item['name']} {item['version']} registers the option {option['name']}, which belongs "
                        f"to {whose}; "
                        "remove that plugin or build the release without the option",
                        "option-clash",
                        option=option["name"],
                        plugin=item["name"],
                    )

    @property
    def replaced(self) -> list[str]:
        """The plugins of the operator's own configuration that run now and whose place the stack takes."""
        return [path for path in replaced_by(self.target) if path in self.seen.listed]

    def by_hand(self) -> None:
        """Refuse to take the place of a plugin that lightningd would not let go."""
        marked = loaders.important(self.seen.configs)
        for path in self.replaced:
            if path in marked:
                raise HiveError(
                    f"{path} is marked as important, so lightningd of {self.node.name} would end with it; write "
                    "plugin= instead of important-plugin=, restart lightningd in a quiet hour, and run again",
                    "important-plugin",
                    path=path,
                )
            if not self.seen.listed[path].get("dynamic", True):
                raise HiveError(
                    f"{path} cannot be stopped while lightningd of {self.node.name} runs; take it out of lightningd's "
                    "configuration, restart lightningd in a quiet hour, and run again",
                    "plugin-static",
                    path=path,
                )

    def schemas(self) -> None:
        """Refuse a release that cannot read the database that is there."""
        for item in active_items(self.target):
            manifest = self.manifests[item["digest"]]
            path = database_path(self.node, manifest, options_of(self.seen.configs))
            there = user_version(path, self.node.owner)
            if there is None or there <= int(manifest["schema_version"]):
                continue
            writer = next(
                (
                    slot
                    for slot in self.seen.by_entry.values()
                    if slot.name == item["name"] and int(slot.manifest["schema_version"]) == there
                ),
                None,
            )
            readable_by = str(writer.manifest["readable_by"]) if writer else ""
            if not readable_by or version_key(item["version"]) < version_key(readable_by):
                raise HiveError(
                    f"{item['name']} {item['version']} cannot read the database {path} (schema {there}, it knows up to "
                    f"{manifest['schema_version']}); restore a backup set of its time first (restore.yml), or "
                    "stay on a newer release",
                    "schema-too-new",
                    plugin=item["name"],
                )

    def slots(self, warm: set[str]) -> None:
        """Prove that every slot is whole; run those in `warm` once, to find a broken one while the old one works."""
        proven = []
        for item in active_items(self.target):
            slot = find_slot(self.node, item["name"], item["digest"])
            verify_slot(slot)
            if item["name"] in warm:
                proven.append(slot)
        with ThreadPoolExecutor(RUNNERS) as pool:
            told = [
                pool.submit(describe, self.node, self.machine.runtime, slot.manifest, slot.inside(self.node))
                for slot in proven
            ]
        for slot, answer in zip(proven, told):
            described = answer.result()
            if described.get("version", slot.version) != slot.version:
                raise HiveError(
                    f"the slot {slot.path} runs version {described['version']}, not {slot.version}; stage it again",
                    "slot-changed",
                )

    def _ours(self, option: str) -> bool:
        """Whether an option belongs to a plugin from our slots."""
        root = self.node.to_inside(self.node.slots_dir) + "/"
        return str(self.seen.configs.get(option, {}).get("plugin", "")).startswith(root)

    def restart_reasons(self, plan: Plan, past: Past) -> list[str]:
        """Return why this switch cannot be done while lightningd runs; empty when it can.

        Args:
            past: what lightningd may hold in memory.
        """
        reasons = []
        include = self.node.to_inside(self.node.include_file)
        held = past.names | (self.seen.unowned - set(self.seen.configs))
        needed: set[str] = set()
        for change in [*plan.removals, *plan.changes]:
            paths = ours_running(self.machine, self.seen.listed, change.name)
            memory = remember(self.seen.configs, paths[0], include, past) if paths else Memory()
            held |= memory.configured
            if change.after is None:
                continue
            manifest = self.manifests[change.after["digest"]]
            if not paths:
                memory = recalled(past, manifest)
            stuck = unsettable(change.after["options"], manifest, memory)
            reasons += [f"lightningd cannot take back the value of {name} while it runs" for name in stuck]
            needed |= set(members(change.after["options"], manifest, memory))
        # Values are given when all plugins of the stack are up; what is still without an owner then would crash it.
        owned = set(self.seen.configs) - {name for name in held if self._ours(name)}
        for item in active_items(self.target):
            owned |= {option["name"] for option in self.manifests[item["digest"]]["options"]}
        if needed and held - owned:
            reasons.append(
                f"lightningd would crash if {sorted(needed)[0]} were given now, because it holds "
                f"{sorted(held - owned)[0]} of a plugin that is not loaded"
            )
        for change in [*plan.removals, *plan.changes]:
            paths = ours_running(self.machine, self.seen.listed, change.name)
            if not all(self.seen.listed[path].get("dynamic", True) for path in paths):
                reasons.append(f"{change.name} is not dynamic, so lightningd cannot stop it")
        return reasons


def config_files(machine: Machine, seen: Look, target: Stack, manifests: Manifests) -> ConfigFiles:
    """Return what a stack makes of the configuration files.

    Values that `setconfig` persisted are cleared when their plugin is not in the stack, because lightningd would refuse
    to start with them, and when the stack sets that option itself.
    """
    node = machine.node
    top = _config.read_config(node.config_file, {}) or ""
    path = _config.setconfig_file(node.config_file, node.network_dir, bool(_config.explicit_conf(seen.argv)))
    persisted = _config.read_config(path, {})
    known = {option["name"] for slot in seen.by_entry.values() for option in slot.manifest["options"]}
    kept: set[str] = set()
    managed: set[str] = set()
    for item in active_items(target):
        kept |= {option["name"] for option in manifests[item["digest"]]["options"]}
        managed |= set(item["options"])
    # What the operator's own plugin has persisted is its own again when it comes back.
    kept |= names_of_options(node, set(replaced_by(seen.stack)) - set(replaced_by(target)))
    cleared: dict[int, str] = {}
    if persisted is not None:
        persisted, cleared = _config.clear_options(persisted, (known - kept) | managed)
    running = active_items(target)
    if not running:
        return ConfigFiles(None, _config.drop_include(top), persisted, cleared)
    entries = {item["name"]: find_slot(node, item["name"], item["digest"]).inside(node) for item in running}
    disabled = disabled_paths(seen.quarantine, target)
    include = _config.render(target, entries, option_kinds(manifests, target), disabled)
    return ConfigFiles(include, _config.add_include(top), persisted, cleared)


def configured_names(machine: Machine, argv: list[str]) -> set[str]:
    """Return the names of all options in the configuration files and on the command line."""
    node = machine.node
    lines = _config.all_lines(node.config_file, node.network_dir, bool(_config.explicit_conf(argv)), {})
    names = {line.key for line in lines if line.key and not _config.include_target(line.text)}
    names |= {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    return names - set(_config.LOADERS)


def check(guard: Guard, plan: Plan, files: ConfigFiles, past: Past) -> list[str]:
    """Run every check; the cheap ones first, lightningd's own parser last.

    Returns:
        Why lightningd has to be restarted, which the operator has allowed; empty when it has not.

    Raises:
        HiveError: the first that does not hold.
    """
    guard.stack()
    guard.lightningd()
    guard.loaders()
    guard.window()
    guard.disk()
    guard.by_hand()
    guard.names()
    guard.slots({change.name for change in plan.changes})
    guard.schemas()
    reasons = guard.restart_reasons(plan, past)
    if reasons and not guard.request.allow_lightningd_restart:
        raise HiveError(
            f"{reasons[0]}; allow it with -e hive_allow_lightningd_restart=true", "needs-restart", reasons=reasons
        )
    validate(guard.machine, files, guard.seen.argv, guard.request.timeouts.validate)
    return reasons


def plan_from(seen: Look, target: Stack, manifests: Manifests, restart: set[str]) -> Plan:
    """Return the plan from what runs now to the target; plugins in `restart` count as changed in any case."""
    before = [item for item in seen.stack if item["name"] not in restart]
    plan = plan_switch(before, target, manifests)
    old = {item["name"]: item for item in seen.stack}
    changes = [
        change
        if change.before is not None or change.name not in old
        else type(change)(change.name, old[change.name], change.after)
        for change in plan.changes
    ]
    gone = plan_switch([item for item in seen.stack if item["name"] in restart], target, manifests).removals
    return Plan([*plan.removals, *gone], changes, plan.stop_first)


def unchanged(seen: Look, target: Stack, stable: Stack | None, files: ConfigFiles, machine: Machine) -> bool:
    """Whether the node already is, confirmed and healthy, what it should become."""
    node = machine.node
    return (
        same(seen.stack, target)
        and (same(stable, target) or (stable is None and not active_items(target)))
        and not seen.unhealthy
        and (_config.read_config(node.include_file, {}) == files.include)
        and ((_config.read_config(node.config_file, {}) or "") == files.top)
        and not files.cleared
    )
