"""Everything known of a node, in one look that changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import _config
from .._slots import Slot, list_slots
from .._sqlite import user_version
from . import backup_state
from . import channels as ch
from .backup_lightningd import freshness
from .backup_list import list_backups as list_backups
from .brake import read_brake, read_pause
from .builtins import BUILTIN
from .by_hand import options_of_others
from .container_facts import places
from .deadman import watching
from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .files import read_json
from .history import history
from .journal import Journal, State
from .loaders import LOADERS, foreign, sentence
from .lock import read_lock
from .machine import Machine
from .monolith import observed, told_path
from .node import Node
from .options import option_value
from .probe import ring_file, settings_file
from .probe_ring import read as read_ring
from .processes import Identity, plugin_processes, rss_bytes
from .reading import HEALTH_SECONDS, take_reading
from .sealed import seal, seal_options
from .soak import SHOWN_PLANS, shown


class Observer:
    """Collects facts about one node; what cannot be had becomes a problem, not a failure."""

    def __init__(self, node: Node, machine: Machine | None = None) -> None:
        self.node = node
        self.machine = machine or Machine(node)
        self.problems: list[dict[str, str]] = []
        self.raw_channels: list[dict[str, Any]] = []
        self.slots = list_slots(node)
        self.by_entry = {slot.inside(node): slot for slot in self.slots if slot.manifest}

    def problem(self, code: str, message: str) -> None:
        self.problems.append({"code": code, "message": message})

    def everything(self) -> dict[str, Any]:
        """Return the contract's `observed`."""
        node = self.node
        facts: dict[str, Any] = {"schema": 1, "name": node.name, "time": round(time.time(), 3)}
        who = self.machine.identity()
        try:
            facts.update(self._live(who))
        except (NodeDownError, RpcTimeoutError, RpcRefusedError) as error:
            self.problem(error.code, error.message)
            facts.update(dead(who))
        state, journal = self._journal()
        facts["slots"] = [self._slot(slot) for slot in self.slots]
        facts["managed_config"] = self._config(facts, who)
        facts["stack"] = self._stack(facts)
        facts["databases"] = self._databases(facts)
        found, problems = places(self.node, self.machine.runtime, facts, who)
        facts.update(found)
        self.problems += [{"code": code, "message": message} for code, message in problems]
        facts["backups"] = list_backups(node)
        facts["adoption"] = self._adoption(facts, who, journal)
        facts["backup"] = self._backup(facts)
        facts["transaction"] = self._transaction(state)
        facts["quarantine"] = [
            {key: entry[key] for key in ("plugin", "version", "digest", "since", "reason")}
            for entry in state.quarantine.values()
        ]
        facts["deadman"] = self._deadman()
        facts["soak"], facts["abandoned"] = shown(state.soak), state.abandoned[-SHOWN_PLANS:]
        facts["brake"], facts["pause"] = read_brake(node), read_pause(node)
        facts["stable_stack"], facts["previous_stack"] = state.stable, state.previous
        facts["lock"] = read_lock(node.state_dir / "lock.json")
        facts["watermarks"] = state.watermarks
        facts["disk"] = {
            "free_bytes": free_bytes(node.state_dir),
            "lightning_free_bytes": free_bytes(node.network_dir),
        }
        for path in (node.state_dir, node.config_file.parent, node.network_dir):
            if is_read_only(path):
                self.problem("read-only", f"{path} is on a read-only filesystem; find out why and make it writable")
        facts["python"] = {
            "path": sys.executable,
            "version": ".".join(map(str, sys.version_info[:3])),
            "tag": f"cp{sys.version_info[0]}{sys.version_info[1]}",
        }
        facts["journal"] = {"length": state.length, "head": state.head, "torn": bool(journal and journal.torn)}
        facts["history"] = history(journal.entries) if journal else []
        facts["probe"] = probe_facts(node)
        facts["problems"] = self.problems
        return facts

    def _live(self, who: Identity | None) -> dict[str, Any]:
        rpc = self.machine.rpc
        started = time.monotonic()
        info = rpc.call("getinfo")
        rpc_ms = round((time.monotonic() - started) * 1000, 2)
        listed = self.machine.plugins()
        methods = self.machine.methods()
        self.raw_channels = rpc.call("listpeerchannels")["channels"]
        channels = ch.channel_facts(self.raw_channels)
        configs = self.machine.configs()
        warnings = sorted(str(value) for key, value in info.items() if key.startswith("warning_"))
        ready = all(item["active"] for item in listed.values())
        for code, message in strangers(self.node, info):
            self.problem(code, message)
        if not ready:
            waiting = [Path(name).name for name, item in listed.items() if not item["active"]]
            self.problem("not-ready", f"plugins that are not active yet: {', '.join(sorted(waiting))}")
        ours = {
            method: path
            for path, slot in self.by_entry.items()
            if path in listed
            for method in slot.manifest["rpc_methods"]
        }
        return {
            "lightningd": {
                "running": True,
                "pid": who.pid if who else 0,
                "started_at": who.started_at if who else 0.0,
                "version": info["version"],
                "node_id": info["id"],
                "alias": info.get("alias", ""),
                "network": info["network"],
                "blockheight": int(info["blockheight"]),
                "synced": not any(key.endswith("_sync") for key in info if key.startswith("warning_")),
                "warnings": warnings,
                "rpc_ms": rpc_ms,
                "ready": ready,
            },
            "channels": channels,
            "pending_htlcs": ch.pending(channels),
            "value_at_risk_msat": ch.value_at_risk(channels),
            "plugins": [self._plugin(path, item, who) for path, item in listed.items()],
            "rpc_methods": {
                method: ours.get(method, "builtin" if method in BUILTIN else "") for method in sorted(methods)
            },
            "options": options_of(configs),
        }

    def _plugin(self, path: str, item: dict[str, Any], who: Identity | None) -> dict[str, Any]:
        slot = self.by_entry.get(path)
        ours = slot is not None or path.startswith(self.node.to_inside(self.node.slots_dir) + "/")
        facts: dict[str, Any] = {
            "path": path,
            "active": bool(item["active"]),
            "dynamic": bool(item.get("dynamic")),
            "ours": ours,
            "name": slot.name if slot else Path(path).name,
            "digest": slot.digest if slot else self._digest_from(path) if ours else "",
            "health": None,
            "rss_bytes": 0,
            "pid": 0,
        }
        if slot is not None:
            if not slot.complete:
                self.problem(
                    "by-hand",
                    f"{slot.name} {slot.version} was installed by hand; run rollout.yml, which takes it over and "
                    "stops nothing",
                )
            if item["active"]:
                facts["health"] = self.machine.health_of(slot.manifest, HEALTH_SECONDS)
            pids = plugin_processes(who.pid, self.node.to_inside(slot.path)) if who else []
            facts["pid"] = pids[0] if pids else 0
            facts["rss_bytes"] = sum(rss_bytes(pid) for pid in pids)
        elif ours:
            self.problem(
                "unknown-slot",
                f"{path} runs from a slot that is not complete; stop it (lightning-cli plugin stop {path}), "
                "then run rollout.yml, which puts a whole one in its place",
            )
        return facts

    def _digest_from(self, path: str) -> str:
        """Return the digest of the release that an unmarked slot was made from, going by its directory's name."""
        short = self.node.to_outside(path).parent.parent.name
        releases = self.node.releases_dir
        names = [found.name for found in releases.glob(f"{short}*")] if releases.is_dir() else []
        return names[0] if len(names) == 1 else ""

    def _journal(self) -> tuple[State, Journal | None]:
        try:
            journal = Journal(self.node.journal_file, self.node.keeper)
        except HiveError as error:
            self.problem(error.code, error.message)
            return State(), None
        return journal.state(), journal

    def _slot(self, slot: Slot) -> dict[str, Any]:
        return {
            "name": slot.name,
            "version": slot.version,
            "digest": slot.digest,
            "path": str(slot.path),
            "entry": slot.inside(self.node),
            "complete": slot.complete,
        }

    def _config(self, facts: dict[str, Any], who: Identity | None) -> dict[str, Any]:
        node = self.node
        text = _config.read_config(node.include_file, {})
        top = _config.read_config(node.config_file, {}) or ""
        plugins, options = _config.parse_include(text or "")
        argv = self.machine.runtime.lightningd_argv(who)
        lines = _config.all_lines(node.config_file, node.network_dir, bool(_config.explicit_conf(argv)), {})
        names = {option["name"] for slot in self.by_entry.values() for option in slot.manifest["options"]}
        names -= options_of_others(node, facts["options"])
        strays = _config.find_strays(lines, names, node.include_file, (node.to_inside(node.slots_dir) + "/",))
        running = [item["path"] for item in facts["plugins"] if item["ours"]]
        drift = facts["lightningd"]["running"] and sorted(plugins) != sorted(running)
        missing = ", ".join(sorted(Path(path).name for path in plugins if path not in running))
        if drift and missing:
            self.problem("config-drift", f"{missing} should run and does not; run rollout.yml, which starts it again")
        elif drift:
            self.problem(
                "config-drift", f"a plugin of ours runs that {node.include_file} does not name; run rollout.yml"
            )
        loading = foreign(lines, argv, node.include_file, node.to_inside(node.slots_dir))
        for where, option, path in loading:
            self.problem(option if option == "important-plugin" else "stray-plugin", sentence(where, option, path))
        for line in strays:
            if line.key in LOADERS:
                continue
            self.problem(
                "stray-option",
                f"{line.file} line {line.number} sets {line.key} outside the managed include; move it to the "
                "stack's options",
            )
        return {
            "path": str(node.include_file),
            "present": text is not None,
            "included": _config.has_include(top),
            "plugins": plugins,
            "options": seal_options(options),
            "drift": bool(drift),
            "strays": [{"file": str(line.file), "line": line.number, "option": line.key} for line in strays],
        }

    def _stack(self, facts: dict[str, Any]) -> list[dict[str, Any]]:
        active = {item["path"] for item in facts["plugins"] if item["active"]}
        replaced = _config.parse_replaced(_config.read_config(self.node.include_file, {}) or "")
        return seal(active_stack(self.by_entry, active, facts["managed_config"]["options"], replaced))

    def _databases(self, facts: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for slot in self.by_entry.values():
            path = database_path(self.node, slot.manifest, facts["options"])
            size = path.stat().st_size if path.is_file() else None
            if size is not None:
                found[slot.name] = {
                    "path": str(path),
                    "size": size,
                    "user_version": user_version(path, self.node.owner),
                }
        return found

    def _backup(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return how often the timer takes a set, how the last one failed, and how fresh lightningd's own backup is."""
        settings = read_json(settings_file(self.node)) or {}
        return {
            "every": float(settings.get("backup_every", 0.0)),
            "failure": backup_state.failing(backup_state.read(self.node)),
            "emergency_recover": freshness(self.node, self.raw_channels) if facts["lightningd"]["running"] else None,
        }

    def _adoption(self, facts: dict[str, Any], who: Identity | None, journal: Journal | None) -> dict[str, Any] | None:
        try:
            return observed(self.node, who, facts["options"], journal.entries if journal else [])
        except HiveError as error:
            self.problem(error.code, error.message)
            return None

    def _transaction(self, state: State) -> dict[str, Any] | None:
        txn = state.transaction
        if txn is None:
            return None
        guard = watching(self.node)
        armed = bool(guard and guard.get("transaction") == txn.id and guard["alive"])
        if txn.phase == "switched" and not armed:
            self.problem(
                "unconfirmed",
                f"rollout {txn.rollout} was never confirmed and no dead-man watches; run confirm.yml or rollback.yml",
            )
        elif txn.phase == "revert-failed":
            self.problem(
                "revert-failed", f"rollout {txn.rollout} could not be undone by itself; see docs/runbooks/rollback.md"
            )
        stage = txn.data.get("stage")
        return {
            "id": txn.id,
            "rollout": txn.rollout,
            "phase": txn.phase,
            "target": txn.target,
            "previous": txn.previous,
            "deadline": txn.deadline,
            "armed": armed,
            "stage": {key: stage[key] for key in ("plan", "name", "number")} if stage else None,
        }

    def _deadman(self) -> dict[str, Any] | None:
        """Return who watches over an open switch; None when nobody has to."""
        armed = watching(self.node)
        return {"alive": armed["alive"], "deadline": armed["deadline"]} if armed else None

    def sample(self, since: float) -> dict[str, Any]:
        """Return one reading of the window before a switch is confirmed; see `take_reading`."""
        return take_reading(self.machine, self.by_entry, since)


def strangers(node: Node, info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (code, sentence) for each way in which the lightningd that answers is not the one of the inventory."""
    if node.node_id and info["id"] != node.node_id:
        yield (
            "wrong-node",
            f"{node.name} answers as node {info['id']}, the inventory expects {node.node_id}; correct hive_node_id or "
            "hive_lightning_dir",
        )
    network = "bitcoin" if node.network == "mainnet" else node.network
    if info["network"] != network:
        yield (
            "wrong-network",
            f"{node.name} runs on {info['network']}, the inventory says {node.network}; correct hive_network",
        )


def dead(who: Identity | None) -> dict[str, Any]:
    """Return the live part of the facts of a node whose lightningd does not answer."""
    return {
        "lightningd": {
            "running": False,
            "pid": who.pid if who else 0,
            "started_at": who.started_at if who else 0.0,
            "version": "",
            "node_id": "",
            "alias": "",
            "network": "",
            "blockheight": 0,
            "synced": False,
            "warnings": [],
            "rpc_ms": 0.0,
            "ready": False,
        },
        "channels": [],
        "pending_htlcs": {"count": 0, "nearest_expiry": None},
        "value_at_risk_msat": 0,
        "plugins": [],
        "rpc_methods": {},
        "options": {},
    }


def options_of(configs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, of all options of plugins, value, source and plugin. lightningd's own may hold secrets and stay out."""
    found = {}
    for name, config in configs.items():
        if "plugin" in config:
            found[name] = {
                "value": seal_options({name: option_value(config)})[name],
                "source": config.get("source", ""),
                "plugin": config["plugin"],
            }
    return found


def typed_options(manifest: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of one plugin out of an include, with the types its manifest gives them."""
    result: dict[str, Any] = {}
    for option in manifest["options"]:
        name, kind = option["name"], option["type"]
        if name not in options:
            continue
        text = options[name]
        if kind == "int" and isinstance(text, str) and text.lstrip("-").isdigit():
            result[name] = int(text)
        elif kind in ("bool", "flag"):
            result[name] = text is True or str(text).lower() in ("true", "1", "yes", "on")
        else:
            result[name] = text
    return result


def active_stack(
    by_entry: dict[str, Slot], active: set[str], options: dict[str, Any], replaced: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Return the stack that runs now: active plugins from our slots with what the managed include says of them."""
    slots = sorted(
        ((path, slot) for path, slot in by_entry.items() if path in active),
        key=lambda pair: (pair[1].manifest["start_order"], pair[1].name),
    )
    return [
        {
            "name": slot.name,
            "version": slot.version,
            "digest": slot.digest,
            "enabled": True,
            "options": typed_options(slot.manifest, options),
            **({"replaces": replaced[path]} if path in replaced else {}),
        }
        for path, slot in slots
    ]


def probe_facts(node: Node) -> dict[str, Any] | None:
    """Return how the probe is set up and when it last looked; None when there is none."""
    settings = read_json(settings_file(node))
    if not isinstance(settings, dict):
        return None
    times = read_ring(ring_file(node), "SELECT max(time), count(*) FROM samples")
    last, samples = times[0] if times else (None, 0)
    keys = ["engine", "every", "keep_seconds", "max_bytes", "kind", "backup_every", "backup_keep", "metrics_dir"]
    shown = {key: settings.get(key) for key in (*keys, "min_free_bytes")}
    return {**shown, "same_node": settings.get("node") == node.as_params(), "last_at": last, "samples": samples}


def database_path(node: Node, manifest: dict[str, Any], options: dict[str, dict[str, Any]]) -> Path:
    """Return where a plugin's database is: where its own option says, else in the network directory."""
    value = options.get(str(manifest.get("database_option", "")), {}).get("value")
    if isinstance(value, str) and value:
        return told_path(node, value, str(manifest["database"]))
    return node.network_dir / str(manifest["database"])


def free_bytes(path: Path) -> int:
    """Return the free space where `path` is or will be."""
    return shutil.disk_usage(_existing(path)).free


def is_read_only(path: Path) -> bool:
    """Whether nothing can be written where `path` is or will be."""
    return bool(os.statvfs(_existing(path)).f_flag & os.ST_RDONLY)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
