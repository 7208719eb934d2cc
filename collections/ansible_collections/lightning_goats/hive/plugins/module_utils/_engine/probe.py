"""The probe: one small look at a node, kept in a ring on the node itself. It writes nothing of lightningd's.

python3 hive-engine.pyz probe --node STATE_DIR/probe.json                one look, as the timer does
python3 hive-engine.pyz probe --node STATE_DIR/probe.json --every 60     look for as long as that file stays the same

Only what a look needs is imported here: it is paid for every minute, on a machine that has better things to do.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from .errors import HiveError
from .files import read_json, write_atomic
from .node import Node
from .probe_look import look
from .probe_ring import Ring, Sample, carried
from .processes import Identity, alive, identity

SLICE_SECONDS = 1.0


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
        sample, remembered = look(node, carried(ring_file(node)))
        sample["soak"] = watch_the_soak(node, settings, sample, remembered)
        sample["deadman"] = watch_the_deadman(node)
        sample["backup"] = take_backups(node, settings)
        sample["cpu_ms"] = _cpu_ms(resource.getrusage(resource.RUSAGE_SELF), before)
        Ring(ring_file(node), float(settings["keep_seconds"]), int(settings["max_bytes"])).add(sample, remembered)
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


def watch_the_soak(
    node: Node, settings: dict[str, Any], sample: Sample, remembered: dict[str, Any]
) -> dict[str, Any] | None:
    """Let the node go back by itself when its stage fails while it soaks; None when nothing soaks."""
    if not node.journal_file.exists():
        return None
    from . import soak_guard

    facts = soak_guard.look(node, settings, sample, remembered.get("soak"))
    remembered["soak"] = facts
    return soak_guard.shown(facts)


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
