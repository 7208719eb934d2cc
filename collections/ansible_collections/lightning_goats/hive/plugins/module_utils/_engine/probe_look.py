"""One look at lightningd and its plugins. Each answer is waited for a little; one that is missing costs no other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .brake import read_brake, read_pause
from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .machine import Machine
from .node import Node
from .probe_facts import of_channels, of_log, of_lost, of_restarts
from .probe_forwards import look_at_forwards
from .probe_ring import Sample
from .processes import Identity, arguments, children, identity, rss_bytes

RPC_SECONDS = 3.0
TICK_SECONDS = 20.0
TROUBLE_LETTERS = 300
# It says which members of the hive are connected.
PEERS_METHOD = "hive-status"

Carried = dict[str, Any]
Slots = dict[str, Any]


def look(node: Node, before: Carried) -> tuple[Sample, Carried]:
    """Return one sample, and what the next look has to know; a lightningd that does not answer in time is a fact.

    Args:
        before: what the look before has left; what has been counted already is left out of the sample.
    """
    started = time.monotonic()
    machine = Machine(node, RPC_SECONDS)
    sample: Sample = {"schema": 2, "time": round(time.time(), 3), "lightningd": {"running": False, "pid": 0}}
    # What cannot be looked at now is counted from where it was.
    remembered = dict(before)
    try:
        info = machine.rpc.call("getinfo")
        rpc_ms = round((time.monotonic() - started) * 1000, 2)
        who = identity(machine.rpc.pid)
        sample["lightningd"] = {
            "running": True,
            "pid": who.pid if who else 0,
            "started_at": who.started_at if who else 0.0,
            "height": int(info["blockheight"]),
            "synced": not any(key.endswith("_sync") for key in info if key.startswith("warning_")),
            "rpc_ms": rpc_ms,
        }
        listed = machine.plugins()
        slots = slots_of(node, listed, before.get("slots") or {})
        remembered["slots"] = {path: facts for path, facts in slots.items() if facts["complete"]}
        sample["lightningd"]["ready"] = all(item["active"] for item in listed.values())
        sample["plugins"] = of_plugins(listed, slots, who)
        life = [who.pid, who.started] if who else [0, 0]
        sample["lightningd"]["restarts"], remembered["lives"] = of_restarts(
            sample["plugins"], life, before.get("lives")
        )
        _look_further(machine, slots, sample, remembered, started + TICK_SECONDS)
    except (NodeDownError, RpcTimeoutError, RpcRefusedError) as error:
        _note(sample, error)
    finally:
        machine.rpc.close()
    sample["brake"], sample["pause"] = read_brake(node), read_pause(node)
    sample["took_ms"] = round((time.monotonic() - started) * 1000, 1)
    return sample, remembered


def _look_further(machine: Machine, slots: Slots, sample: Sample, remembered: Carried, deadline: float) -> None:
    """Add what lightningd and the plugins say; a part that is not answered in time is missing, and costs no other.

    Raises:
        NodeDownError: lightningd is gone.
    """

    def channels() -> None:
        found = machine.rpc.call("listpeerchannels")["channels"]
        sample.update(of_channels(found))
        sample["lost"], remembered["live"] = of_lost(found, remembered.get("live"))

    def log() -> None:
        sample["log"], remembered["log"] = of_log(machine.log_marks(), remembered.get("log"))

    def forwards() -> None:
        cursor = remembered.get("forwards")
        sample["forwards"], remembered["forwards"] = look_at_forwards(machine.rpc, cursor, RPC_SECONDS)

    def plugins() -> None:
        sample["hive_peers"] = ask_plugins(machine, slots, sample["plugins"], deadline)

    for part in (channels, log, forwards, plugins):
        if time.monotonic() < deadline:
            try:
                part()
            except (RpcTimeoutError, RpcRefusedError) as error:
                _note(sample, error)


def _note(sample: Sample, error: HiveError) -> None:
    sample.setdefault("trouble", {"code": error.code, "message": error.message[:TROUBLE_LETTERS]})


def slots_of(node: Node, listed: Mapping[str, Any], known: Slots) -> Slots:
    """Return what is asked of the slots of the plugins that are ours, by the path of each.

    Args:
        known: what the look before found. Nothing in a slot is ever edited, and reading one needs half of the engine.
    """
    begin = node.to_inside(node.slots_dir) + "/"
    ours = {path: known.get(path) for path in listed if path.startswith(begin)}
    if None in ours.values():
        from .._slots import load_slot

        for path in [path for path, facts in ours.items() if facts is None]:
            slot = load_slot(node, *path[len(begin) :].split("/")[:2])
            methods = slot.manifest.get("rpc_methods", [])
            asked = {name: slot.manifest.get(name) for name in ("health_rpc", "foreign")}
            ours[path] = {"digest": slot.digest, "complete": slot.complete, "peers": PEERS_METHOD in methods, **asked}
    return ours


def of_plugins(listed: Mapping[str, dict[str, Any]], slots: Slots, lightningd: Identity | None) -> list[dict[str, Any]]:
    """Return each plugin that is not lightningd's own: whether it is active, and its memory."""
    memory = memory_of(lightningd.pid) if lightningd else {}
    found = []
    for path, item in listed.items():
        if "/c-lightning/plugins/" in path or "/" not in path:
            continue
        facts: dict[str, Any] = {"name": path.rpartition("/")[2], "path": path, "active": bool(item["active"])}
        facts["pid"], facts["rss_bytes"] = memory.get(path, (0, 0))
        if path in slots:
            facts["digest"] = slots[path]["digest"]
        found.append(facts)
    return found


def ask_plugins(machine: Machine, slots: Slots, plugins: list[dict[str, Any]], deadline: float) -> int | None:
    """Set how ours are and how fast they answer.

    Returns:
        How many members of the hive are connected; None when no plugin says so.
    """
    peers = None
    for facts in plugins:
        slot = slots.get(facts["path"])
        left = min(RPC_SECONDS, deadline - time.monotonic())
        if slot is None or not slot["complete"] or not facts["active"] or left <= 0:
            continue
        begun = time.monotonic()
        report = machine.health_of(slot, left)
        facts["health"] = str(report["status"]) if report else ""
        facts["rpc_ms"] = round((time.monotonic() - begun) * 1000, 2)
        left = min(RPC_SECONDS, deadline - time.monotonic())
        # One that does not say how it is would not say this either.
        if report and left > 0 and slot["peers"]:
            peers = hive_peers(machine, left)
    return peers


def hive_peers(machine: Machine, seconds: float) -> int | None:
    """Return how many members of the hive are connected; None when the plugin does not say, as the monolith does."""
    report = machine.health(PEERS_METHOD, seconds)
    members = ((report or {}).get("sync") or {}).get("connected_members")
    return len(members) if isinstance(members, dict) else None


def memory_of(lightningd: int) -> dict[str, tuple[int, int]]:
    """Return (pid, resident bytes) of the plugins of a lightningd, by the path each was started from."""
    found: dict[str, tuple[int, int]] = {}
    for pid in children(lightningd):
        for word in arguments(pid)[:4]:
            if word.startswith("/"):
                found.setdefault(word, (pid, rss_bytes(pid)))
    return found
