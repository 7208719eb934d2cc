"""Backups by the clock: the probe looks whether one is due, and starts a process of its own that takes it.

python3 hive-engine.pyz backup --node STATE_DIR/probe.json

It waits for nobody: while a switch is open, or another engine is at work, the next look of the probe asks again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import backup_state
from .backup_list import MANIFEST
from .errors import HiveError
from .lock import read_lock
from .node import Node

UNIT = "hive-backup"
READY_SECONDS = 60.0
# After one that failed or found nothing to do; a node in trouble is not helped by an attempt every half minute.
AGAIN_SECONDS = 900.0
SYSTEMCTL_SECONDS = 10.0
POLITENESS = 10
REASON = "the timer"

Settings = dict[str, Any]


def of_sample(node: Node, settings: Settings) -> dict[str, Any] | None:
    """Return what a look of the probe says of backups: `newest` (unix time), `failure` (code), `due`; None when off."""
    every = float(settings.get("backup_every", 0.0))
    if every <= 0:
        return None
    state = backup_state.read(node)
    failure = backup_state.failing(state)
    return {
        "newest": float(state["success"]["at"]) if state["success"] else 0.0,
        "failure": str(failure["code"]) if failure else "",
        "due": due(node, state, every, time.time()),
    }


def due(node: Node, state: dict[str, Any], every: float, now: float) -> bool:
    """Whether a set has to be made now.

    A set from the future was made before a clock was put right, and one that somebody has removed is none.
    """
    success = state["success"]
    fresh = success is not None and 0 <= now - float(success["at"]) < every
    if fresh and (node.backups_dir / str(success["id"]) / MANIFEST).is_file():
        return False
    if 0 <= now - float(state["attempt"]) < min(AGAIN_SECONDS, every):
        return False
    return not taken(node)


def taken(node: Node) -> bool:
    """Whether a switch is open or a rollout holds the node."""
    held = read_lock(node.state_dir / "lock.json")
    return (node.state_dir / "deadman.json").exists() or (held is not None and not held["stale"])


def start(node: Node, settings: Settings, settings_file: Path) -> None:
    """Start the process that takes a set: by its unit where the probe is a timer, else beside the probe.

    Raises:
        HiveError: it cannot be started.
    """
    if settings.get("kind") == "timer":
        argv = ["systemctl", "start", "--no-block", f"{unit_name(node.name)}.service"]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=SYSTEMCTL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HiveError(f"{' '.join(argv)} cannot be run ({error}); run it by hand", "systemd") from error
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip()[:200]
            raise HiveError(f"{' '.join(argv)} fails: {reason}; run rollout.yml, which installs it again", "systemd")
        return
    from .deadman import detach

    engine = node.state_dir / "engine" / str(settings["engine"]) / "hive-engine.pyz"
    detach(command(engine, settings_file), node.keeper)


def unit_name(name: str) -> str:
    """Return the name of the unit that takes a set, without the kind; several nodes may share a machine."""
    return f"{UNIT}-" + re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def command(engine: Path, settings_file: Path) -> list[str]:
    """Return the argv that takes a set."""
    return [sys.executable, "-S", str(engine), "backup", "--node", str(settings_file)]


def main(argv: list[str] | None = None) -> int:
    """Take a set unless somebody is at work on the node; 0 unless it was tried and failed."""
    parser = argparse.ArgumentParser(prog="hive-engine", description="Take a backup set, as the timer does.")
    parser.add_argument("command", choices=("backup",))
    parser.add_argument("--node", type=Path, required=True)
    options = parser.parse_args(argv)
    from .probe import load

    os.nice(POLITENESS)
    try:
        settings = load(options.node)
        made = scheduled(Node.from_params(settings["node"]), settings)
    except HiveError as error:
        sys.stderr.write(f"hive-engine: {error.message}\n")
        return 1
    if made is not None:
        sys.stdout.write(f"{made['id']}\n")
    return 0


def scheduled(node: Node, settings: Settings) -> dict[str, Any] | None:
    """Take a set; None when it is not the moment for one.

    Raises:
        HiveError: it was tried and failed; that is written down too.
    """
    from .lock import engine_lock

    try:
        with engine_lock(node, 0.0):
            return _take(node, settings)
    except HiveError as error:
        if error.code == "busy":
            return None
        raise


def _take(node: Node, settings: Settings) -> dict[str, Any] | None:
    from .backups import BackupRequest, journal_backup, sources, take_backup
    from .guard import look
    from .journal import Journal
    from .machine import Machine

    journal = Journal(node.journal_file, node.keeper)
    if journal.state().transaction is not None or taken(node):
        return None
    backup_state.attempted(node)
    wanted = BackupRequest(
        REASON,
        int(settings.get("backup_keep", 10)),
        str(settings.get("metrics_dir", "")),
        int(settings.get("min_free_bytes", 0)),
    )
    try:
        seen = look(Machine(node), READY_SECONDS)
    except HiveError as error:
        backup_state.failed(node, error, REASON, wanted.metrics_dir)
        raise
    if not sources(node, seen):
        return None
    made = take_backup(node, seen, wanted)
    journal_backup(journal, made, wanted)
    return made
