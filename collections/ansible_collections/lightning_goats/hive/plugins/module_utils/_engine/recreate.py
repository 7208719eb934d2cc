"""The calls of hive_container: a container made anew, confirmed or taken back, and the watcher that outlives it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._waiting import wait_for
from .bundle import engine_archive
from .database_places import find_strays
from .deadman import detach, install_engine
from .errors import HiveError, NodeDownError, RpcTimeoutError
from .files import canonical, make_dir, read_json, write_atomic
from .journal import Journal
from .lock import engine_lock, release_lock, take_lock
from .node import Node
from .observe import options_of
from .processes import Identity, alive, identity
from .recreation import Recreation, Work, latest, record_file
from .request import Timeouts

POLL_SECONDS = 0.5
WATCHER_SECONDS = 10.0
WATCHER_TRIES = 20


@dataclass(frozen=True)
class ContainerRequest:
    """One call of hive_container.

    Attributes:
        state: `mounted`, `confirmed` or `reverted`.
        allow_restart: whether lightningd may be restarted for it.
        wait_seconds: how long to wait for payments in flight.
        margin: blocks that must be left to them.
    """

    state: str
    rollout: str
    owner: str = ""
    allow_restart: bool = False
    wait_seconds: float = 600.0
    margin: int = 18
    lock_ttl_seconds: float = 3600.0
    break_lock: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    check_mode: bool = False


def container(node: Node, request: ContainerRequest) -> dict[str, Any]:
    """Run one request; the function the module calls."""
    if request.check_mode:
        return _run(node, request)
    with engine_lock(node, request.timeouts.engine):
        return _run(node, request)


def _run(node: Node, request: ContainerRequest) -> dict[str, Any]:
    recreation = Recreation(node, request.timeouts, request.wait_seconds, request.margin)
    work = latest(node, recreation.journal)
    act = {"mounted": _mounted, "confirmed": _confirmed, "reverted": _reverted}
    return act[request.state](recreation, work, request)


def _mounted(recreation: Recreation, work: Work | None, request: ContainerRequest) -> dict[str, Any]:
    node = recreation.node
    if work is not None and work.phase == "open":
        if request.check_mode:
            return _result(recreation, True, "planned", work, f"go on with the re-creation {work.id}")
        _take(node, recreation.journal, request)
        return _carry_on(recreation, work, request)
    document, facts = recreation.look()
    if facts["slots_mounted"]:
        return _result(recreation, False, "mounted", work, "")
    refuse_unfit(recreation, document, facts)
    if not request.allow_restart:
        raise HiveError(
            f"container {facts['name']} of {node.name} does not see {node.slots_dir}, so it has to be made anew, which "
            "restarts lightningd; run again with -e hive_allow_lightningd_restart=true in a quiet hour",
            "needs-restart",
        )
    if request.check_mode:
        return _result(recreation, True, "planned", None, f"make container {facts['name']} anew")
    _take(node, recreation.journal, request)
    node.prepare()
    try:
        work = recreation.begin(document, facts, request.rollout)
    except HiveError:
        release_lock(node.state_dir / "lock.json", request.rollout)
        raise
    return _carry_on(recreation, work, request)


def _carry_on(recreation: Recreation, work: Work, request: ContainerRequest) -> dict[str, Any]:
    """Go forward, watched; what fails is taken back at once."""
    watch(recreation, work)
    try:
        recreation.forward(work)
    except HiveError as error:
        recreation.undo(work, error.message)
        release_lock(recreation.node.state_dir / "lock.json", request.rollout)
        told = HiveError(f"{error.message}; the old container runs again", error.code, **error.data)
        told.data.update(_result(recreation, True, "undone", work, error.message))
        raise told from error
    return _result(recreation, True, "mounted", work, "")


def _confirmed(recreation: Recreation, work: Work | None, request: ContainerRequest) -> dict[str, Any]:
    if work is None:
        return _result(recreation, False, "confirmed", None, "")
    if work.phase == "open":
        raise HiveError(
            f"the container of {recreation.node.name} is being made anew and that was interrupted; run again with the "
            "same playbook first, which goes on with it",
            "recreation-open",
        )
    if not request.check_mode:
        recreation.confirm(work)
        release_lock(recreation.node.state_dir / "lock.json", request.rollout)
    return _result(recreation, True, "confirmed", work, "")


def _reverted(recreation: Recreation, work: Work | None, request: ContainerRequest) -> dict[str, Any]:
    if work is None:
        return _result(recreation, False, "unchanged", None, "")
    if not request.check_mode:
        _take(recreation.node, recreation.journal, request)
        recreation.undo(work, "it was asked for")
        release_lock(recreation.node.state_dir / "lock.json", request.rollout)
    return _result(recreation, True, "undone", work, "it was asked for")


def refuse_unfit(recreation: Recreation, document: dict[str, Any], facts: dict[str, Any]) -> None:
    """Refuse to throw away a container that holds what nobody has anywhere else, or that cannot be stopped well."""
    node, machine = recreation.node, recreation.machine
    open_ = recreation.journal.state().transaction
    if open_ is not None:
        raise HiveError(
            f"rollout {open_.rollout} has an open switch on {node.name}; confirm or revert it first", "unconfirmed"
        )
    who = machine.identity()
    try:
        options = options_of(machine.configs())
    except (NodeDownError, RpcTimeoutError):
        who = None
        options = {}
    if who is None:
        raise HiveError(
            f"lightningd of {node.name} does not answer, so nobody can say what its container holds; start it, then "
            "run again",
            "lightningd-down",
        )
    strays = [stray for stray in find_strays(node, who, options, facts["mounts"]) if stray.in_layer]
    if strays:
        raise HiveError(
            f"{', '.join(stray.inside for stray in strays)} of {node.name} would be lost with its container; move it "
            f"first: run again with -e hive_move_databases={node.name}",
            "database-in-layer",
        )
    if (document.get("HostConfig") or {}).get("AutoRemove"):
        raise HiveError(
            f"container {facts['name']} removes itself when it stops (--rm), so it could not be kept; start it without "
            "--rm first",
            "auto-remove",
        )


def _take(node: Node, journal: Journal, request: ContainerRequest) -> None:
    broken = take_lock(
        node.state_dir / "lock.json",
        node.keeper,
        request.owner or request.rollout,
        request.rollout,
        request.lock_ttl_seconds,
        request.break_lock,
    )
    if broken is not None:
        journal.append("lock-broken", broken, "", request.rollout)


def _result(recreation: Recreation, changed: bool, phase: str, work: Work | None, reason: str) -> dict[str, Any]:
    return {
        "changed": changed,
        "phase": phase,
        "transaction": work.id if work else "",
        "kept": work.aside if work and work.phase == "done" else "",
        "reason": reason,
        "remarks": list(recreation.notes),
        "diff": {
            "before_header": "container",
            "after_header": "container",
            "before": "",
            "after": f"{recreation.node.slots_dir} mounted read-only\n" if changed and phase != "undone" else "",
        },
    }


# The watcher


def watch(recreation: Recreation, work: Work) -> None:
    """Start what brings the old container back when this process dies on the way.

    Raises:
        HiveError: it did not come up, so nothing was changed.
    """
    node = recreation.node
    archive, digest = engine_archive()
    path = install_engine(node, archive, digest)
    me = identity(os.getpid())
    facts = {
        "node": node.as_params(),
        "transaction": work.id,
        "pid": os.getpid(),
        "started": me.started if me else 0,
        "watcher": 0,
    }
    file = record_file(node, "watch")
    make_dir(file.parent, node.keeper)
    write_atomic(file, canonical(facts), node.keeper)
    argv = [sys.executable, str(path), "container", "--state-dir", str(node.state_dir), "--transaction", work.id]
    scheduler = recreation.runtime.deadman_scheduler()
    if scheduler:
        unit = f"hive-container-{work.id}-{int(time.time())}"
        done = subprocess.run(
            [*scheduler, f"--unit={unit}", "--collect", "--quiet", *argv],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip()[:200]
            raise HiveError(f"systemd-run cannot start the watcher ({reason}), so nothing was changed", "deadman")
    else:
        detach(argv, node.keeper)
    if wait_for(lambda: (read_json(file) or {}).get("watcher") or None, WATCHER_SECONDS) is None:
        raise HiveError(
            f"the watcher of {node.name} did not start within {WATCHER_SECONDS:g} s, so nothing was changed", "deadman"
        )


def be_watcher(state_dir: Path, transaction: str) -> int:
    """Wait until a re-creation has ended, or its engine has died; then bring the old container back."""
    facts = read_json(state_dir / "container" / "watch.json")
    if not isinstance(facts, dict) or facts.get("transaction") != transaction:
        return 0
    node = Node.from_params(facts["node"])
    facts["watcher"] = os.getpid()
    write_atomic(record_file(node, "watch"), canonical(facts), node.keeper)
    engine = Identity(int(facts["pid"]), int(facts["started"]))
    while alive(engine):
        if not _is_open(node, transaction):
            return 0
        # Waiting is its work: a process that is not its child cannot be waited for otherwise.
        time.sleep(POLL_SECONDS)
    for _ in range(WATCHER_TRIES):
        if _brought_back(node, transaction):
            return 0
        # What refused may settle by itself: the docker engine, or another engine of ours at work.
        time.sleep(POLL_SECONDS)
    return 1


def _brought_back(node: Node, transaction: str) -> bool:
    try:
        with engine_lock(node, Timeouts().engine):
            work = latest(node, Journal(node.journal_file, node.keeper))
            if work is not None and work.id == transaction and work.phase == "open":
                Recreation(node, Timeouts()).undo(work, "the engine was killed while it made the container anew")
                release_lock(node.state_dir / "lock.json", work.rollout)
    except HiveError as error:
        sys.stderr.write(f"hive-engine: {error.message}\n")
        return False
    return True


def _is_open(node: Node, transaction: str) -> bool:
    try:
        work = latest(node, Journal(node.journal_file, node.keeper))
    except HiveError:
        return True
    return work is not None and work.id == transaction and work.phase == "open"


def main(arguments: list[str] | None = None) -> int:
    """Be the watcher of one re-creation; run from the engine's archive."""
    parser = argparse.ArgumentParser(prog="hive-engine container")
    parser.add_argument("command", choices=("container",))
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--transaction", required=True)
    options = parser.parse_args(arguments)
    return be_watcher(Path(options.state_dir), options.transaction)
