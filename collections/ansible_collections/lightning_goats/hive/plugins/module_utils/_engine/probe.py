"""The probe: one small look at a node, kept in a ring on the node itself. It writes nothing of lightningd's.

python3 hive-engine.pyz probe --node STATE_DIR/probe.json                one look, as the timer does
python3 hive-engine.pyz probe --node STATE_DIR/probe.json --every 30     look for as long as that file stays the same

Only what a look needs is imported here: it is paid for every half minute, on a machine that has better things to do.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .files import read_json, write_atomic
from .machine import Machine
from .node import Node
from .probe_ring import Ring, Sample, last_sample
from .processes import Identity, alive, arguments, children, identity, rss_bytes

RPC_SECONDS = 3.0
TICK_SECONDS = 20.0
SLICE_SECONDS = 1.0
LINES = 20
LINE_LETTERS = 300
COUNTERS = tuple(
    f"{way}_{what}" for way in ("in", "out") for what in ("payments_offered", "payments_fulfilled", "fulfilled_msat")
)


def settings_file(node: Node) -> Path:
    """Return where the probe of a node is described; a probe without it ends."""
    return node.state_dir / "probe.json"


def ring_file(node: Node) -> Path:
    return node.state_dir / "probe.sqlite3"


def pid_file(node: Node) -> Path:
    """Return where a detached probe says who it is."""
    return node.state_dir / "probe.pid"


def main(argv: list[str] | None = None) -> int:
    """Look once, or again and again; 0 unless a look could not be kept."""
    parser = argparse.ArgumentParser(prog="hive-engine", description="One look at a node, kept on the node.")
    parser.add_argument("command", choices=("probe",))
    parser.add_argument("--node", type=Path, required=True)
    parser.add_argument("--every", type=float, default=0.0)
    options = parser.parse_args(argv)
    try:
        if options.every > 0:
            return stay(options.node, options.every)
        tick(load(options.node))
    except HiveError as error:
        sys.stderr.write(f"hive-engine: {error.message}\n")
        return 1
    return 0


def load(path: Path) -> dict[str, Any]:
    """Return the settings of a probe: node, engine, every, keep_seconds, max_bytes."""
    found = read_json(path)
    if not isinstance(found, dict) or "node" not in found:
        raise HiveError(f"{path} does not describe a probe; run rollout.yml, which installs it again", "no-probe")
    return found


def stay(path: Path, every: float) -> int:
    """Be a detached probe: look until the settings change or go, which is how it is told to end."""
    settings, mark = load(path), _mark(path)
    node = Node.from_params(settings["node"])
    who = identity(os.getpid())
    write_atomic(pid_file(node), f"{os.getpid()} {who.started if who else 0}\n".encode(), node.keeper)
    following = time.monotonic()
    while _mark(path) == mark:
        if time.monotonic() >= following:
            following = time.monotonic() + every
            try:
                tick(settings)
            except HiveError as error:
                sys.stderr.write(f"hive-engine: {error.message}\n")
        # Its rhythm; in slices, so that it ends soon after its settings have gone.
        time.sleep(max(0.0, min(SLICE_SECONDS, following - time.monotonic())))
    return 0


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def detached(node: Node) -> Identity | None:
    """Return the detached probe that runs, None when none does."""
    try:
        pid, started = (int(word) for word in pid_file(node).read_text().split())
    except (FileNotFoundError, ValueError):
        return None
    who = Identity(pid, started)
    return who if alive(who) else None


def tick(settings: dict[str, Any]) -> Sample | None:
    """Look once and keep the sample; None when another look is still under way."""
    node = Node.from_params(settings["node"])
    handle = os.open(node.state_dir / "probe.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        before = resource.getrusage(resource.RUSAGE_SELF)
        sample = look(node, last_sample(ring_file(node)))
        sample["deadman"] = watch_the_deadman(node)
        sample["backup"] = take_backups(node, settings)
        sample["cpu_ms"] = _cpu_ms(resource.getrusage(resource.RUSAGE_SELF), before)
        Ring(ring_file(node), float(settings["keep_seconds"]), int(settings["max_bytes"])).add(sample)
        return sample
    finally:
        os.close(handle)


def _cpu_ms(now: resource.struct_rusage, before: resource.struct_rusage) -> float:
    return round(1000 * (now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime), 1)


def watch_the_deadman(node: Node) -> dict[str, Any] | None:
    """Let an armed switch whose dead-man is gone (the machine started anew) be armed again; None when none is open."""
    if not (node.state_dir / "deadman.json").exists():
        return None
    from . import deadman

    return deadman.ensure(node)


def take_backups(node: Node, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Let a backup set be made when one is due; None when there is no timer. Nobody waits for it."""
    if not settings.get("backup_every"):
        return None
    from . import backup_timer

    facts = backup_timer.of_sample(node, settings)
    if facts is not None and facts["due"]:
        try:
            backup_timer.start(node, settings, settings_file(node))
        except HiveError as error:
            facts["failure"] = error.code
    return facts


def look(node: Node, previous: Sample | None) -> Sample:
    """Return one sample; a lightningd that does not answer in time is a fact, not a failure.

    Args:
        previous: the sample before; log lines that it already counted are left out.
    """
    started = time.monotonic()
    machine = Machine(node, RPC_SECONDS)
    sample: Sample = {"schema": 1, "time": round(time.time(), 3), "lightningd": {"running": False, "pid": 0}}
    deadline = started + TICK_SECONDS
    try:
        info = machine.rpc.call("getinfo")
        rpc_ms = round((time.monotonic() - started) * 1000, 2)
        who = identity(machine.rpc.pid)
        listed = machine.plugins()
        sample["lightningd"] = {
            "running": True,
            "pid": who.pid if who else 0,
            "started_at": who.started_at if who else 0.0,
            "height": int(info["blockheight"]),
            "synced": not any(key.endswith("_sync") for key in info if key.startswith("warning_")),
            "ready": all(item["active"] for item in listed.values()),
            "rpc_ms": rpc_ms,
        }
        sample.update(of_channels(machine.rpc.call("listpeerchannels")["channels"]))
        sample["log"] = of_log(machine.log_marks(), float(previous["time"]) if previous else sample["time"])
        sample["plugins"] = of_plugins(machine, listed, who, deadline)
    except (NodeDownError, RpcTimeoutError, RpcRefusedError) as error:
        sample["trouble"] = {"code": error.code, "message": error.message[:LINE_LETTERS]}
    finally:
        machine.rpc.close()
    sample["took_ms"] = round((time.monotonic() - started) * 1000, 1)
    return sample


def of_channels(channels: list[dict[str, Any]]) -> dict[str, Any]:
    """Return channels by state, HTLCs in flight, and the payments that all channels carried so far; pure."""
    htlcs = [htlc for channel in channels for htlc in channel.get("htlcs") or []]
    expiries = [int(htlc["expiry"]) for htlc in htlcs if "expiry" in htlc]
    return {
        "channels": dict(sorted(Counter(str(channel.get("state", "")) for channel in channels).items())),
        "pending_htlcs": {"count": len(htlcs), "nearest_expiry": min(expiries) if expiries else None},
        "forwards": {name: sum(int(channel.get(name, 0)) for channel in channels) for name in COUNTERS},
    }


def of_log(marks: list[dict[str, str]], since: float) -> dict[str, Any]:
    """Return the lines at level BROKEN that are newer than `since`, and how many there are; pure."""
    texts = [f"{mark['source']}: {mark['log']}"[:LINE_LETTERS] for mark in marks if float(mark["time"]) > since]
    return {"broken": texts[-LINES:], "count": len(texts)}


def of_plugins(
    machine: Machine, listed: dict[str, dict[str, Any]], lightningd: Identity | None, deadline: float
) -> list[dict[str, Any]]:
    """Return each plugin that is not lightningd's own: whether it is active, its memory, and how fast ours answer."""
    from .._slots import load_slot

    node = machine.node
    slots = node.to_inside(node.slots_dir) + "/"
    memory = memory_of(lightningd.pid) if lightningd else {}
    found = []
    for path, item in listed.items():
        if "/c-lightning/plugins/" in path or "/" not in path:
            continue
        facts: dict[str, Any] = {"name": path.rpartition("/")[2], "path": path, "active": bool(item["active"])}
        facts["pid"], facts["rss_bytes"] = memory.get(path, (0, 0))
        if path.startswith(slots):
            slot = load_slot(node, *path[len(slots) :].split("/")[:2])
            facts["digest"] = slot.digest
            left = min(RPC_SECONDS, deadline - time.monotonic())
            if slot.complete and facts["active"] and left > 0:
                begun = time.monotonic()
                report = machine.health_of(slot.manifest, left)
                facts["health"] = str(report["status"]) if report else ""
                facts["rpc_ms"] = round((time.monotonic() - begun) * 1000, 2)
        found.append(facts)
    return found


def memory_of(lightningd: int) -> dict[str, tuple[int, int]]:
    """Return (pid, resident bytes) of the plugins of a lightningd, by the path each was started from."""
    found: dict[str, tuple[int, int]] = {}
    for pid in children(lightningd):
        for word in arguments(pid)[:4]:
            if word.startswith("/"):
                found.setdefault(word, (pid, rss_bytes(pid)))
    return found
