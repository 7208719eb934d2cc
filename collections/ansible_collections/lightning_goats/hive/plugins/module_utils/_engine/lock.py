"""Who may change a node: flock among processes of the node, lock.json among rollouts."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._waiting import wait_for
from .errors import HiveError
from .files import Owner, canonical, disk_error, read_json, sync_dir, write_atomic
from .node import Node

LockFacts = dict[str, Any]


@contextmanager
def engine_lock(node: Node, seconds: float) -> Iterator[None]:
    """Let one engine work at a time; the kernel frees it when the process ends, however it ends.

    Raises:
        HiveError: another engine still works after `seconds`.
    """
    node.prepare()
    path = node.state_dir / "engine.flock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise disk_error(error, path) from error
    try:
        if wait_for(lambda: _locked(handle), seconds, 0.02) is None:
            raise HiveError(
                f"another engine has been at work in {node.state_dir} for {seconds:g} s; wait until it has finished "
                "and run again",
                "busy",
            )
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool | None:
    """Take the lock if it is free; None when it is not."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def read_lock(path: Path) -> LockFacts | None:
    """Return who holds the node, with `stale` worked out; None when it is free."""
    facts = read_json(path)
    if not isinstance(facts, dict):
        return None
    expires = float(facts.get("expires_at", 0))
    return {
        "owner": str(facts.get("owner", "")),
        "rollout": str(facts.get("rollout", "")),
        "since": float(facts.get("since", 0)),
        "expires_at": expires,
        "stale": time.time() >= expires,
    }


def take_lock(
    path: Path, file_owner: Owner, owner: str, rollout: str, ttl: float, break_lock: bool
) -> LockFacts | None:
    """Take the node for a rollout, or prolong what it already holds.

    Returns:
        The stale lock that was broken, if one was.

    Raises:
        HiveError: another rollout holds it.
    """
    held = read_lock(path)
    broken = None
    if held is not None and held["rollout"] != rollout:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held["since"]))
        if not held["stale"]:
            until = time.strftime("%H:%M:%S UTC", time.gmtime(held["expires_at"]))
            raise HiveError(
                f"rollout {held['rollout']} of {held['owner']} holds this node since {since}; wait for it (its "
                f"lock ends at {until}) "
                "or finish it first",
                "locked",
                lock=held,
            )
        if not break_lock:
            raise HiveError(
                f"rollout {held['rollout']} of {held['owner']} left a stale lock here ({since}); when it is "
                "surely dead, "
                "run again with -e hive_break_lock=true",
                "stale-lock",
                lock=held,
            )
        broken = held
    since_time = held["since"] if held is not None and held["rollout"] == rollout else time.time()
    facts = {
        "owner": owner,
        "rollout": rollout,
        "since": round(since_time, 3),
        "expires_at": round(time.time() + ttl, 3),
    }
    write_atomic(path, canonical(facts), file_owner)
    return broken


def release_lock(path: Path, rollout: str) -> None:
    """Free the node, if this rollout holds it."""
    held = read_lock(path)
    if held is not None and held["rollout"] == rollout:
        path.unlink()
        sync_dir(path.parent)
