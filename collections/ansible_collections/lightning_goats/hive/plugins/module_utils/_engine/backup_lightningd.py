"""What a backup set says of lightningd's own files: a fingerprint of its seed, and how fresh its channel backup is.

Both are only ever opened for reading. What is kept of the channel backup is a file of our own beside the sets, the
newest and no other, for copies off the node; nothing here, and nobody else of ours, ever puts it back.
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import os
import stat
import time
from pathlib import Path
from typing import Any

from .files import make_dir, read_bytes, write_atomic
from .node import Node

SEED = "hsm_secret"
RECOVERY = "emergency.recover"
NEWEST = "emergency.recover.newest"
LABEL = b"lightning hive rollout: fingerprint of a seed"
MOST_BYTES = 1 << 26
# lightningd writes its channel backup anew when a channel enters one of these.
WRITTEN_AT = ("CHANNELD_AWAITING_LOCKIN", "DUALOPEND_AWAITING_LOCKIN", "CLOSED")
# It does so after the change, and a busy machine takes its time.
GRACE_SECONDS = 120.0


def seed_fingerprint(node: Node) -> str | None:
    """Return what tells one seed from another and nothing about either; None where this user cannot read it."""
    found = _read(node.network_dir / SEED)
    return None if found is None else hmac.new(LABEL, found[0], hashlib.sha256).hexdigest()


def channel_backup(node: Node) -> dict[str, Any] | None:
    """Return `sha256`, `mtime` and `size` of lightningd's channel backup; None where this user cannot read one."""
    found = _channel_backup(node)
    return None if found is None else found[0]


def keep_newest(node: Node) -> dict[str, Any] | None:
    """Keep a copy of lightningd's channel backup beside the sets, in place of an older one; return as above.

    Raises:
        HiveError: the copy cannot be written.
    """
    found = _channel_backup(node)
    if found is None:
        return None
    facts, content = found
    if read_bytes(node.backups_dir / NEWEST) != content:
        make_dir(node.backups_dir, node.keeper)
        write_atomic(node.backups_dir / NEWEST, content, node.keeper, 0o400)
    return facts


def freshness(node: Node, channels: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how fresh lightningd's channel backup is, and our copy of it.

    Args:
        channels: `listpeerchannels`; a lightningd that answers with the changes of their states lets one tell whether
            the file is older than the newest change that belongs in it.

    Returns:
        `mtime`, `age_seconds`, `copied` (whether ours is the same), `channels_changed_at` (unix time, None where
        lightningd does not tell), `stale` (it is older than that); None where there is none that can be read.
    """
    facts = channel_backup(node)
    if facts is None:
        return None
    changed = newest_change(channels)
    kept = read_bytes(node.backups_dir / NEWEST)
    return {
        "mtime": facts["mtime"],
        "age_seconds": round(time.time() - float(facts["mtime"]), 1),
        "copied": kept is not None and hashlib.sha256(kept).hexdigest() == facts["sha256"],
        "channels_changed_at": changed,
        "stale": changed is not None and float(facts["mtime"]) + GRACE_SECONDS < changed,
    }


def newest_change(channels: list[dict[str, Any]]) -> float | None:
    """Return when a channel last entered a state that belongs in the channel backup; pure."""
    times = [
        _unix(str(change.get("timestamp", "")))
        for channel in channels
        for change in channel.get("state_changes") or []
        if change.get("new_state") in WRITTEN_AT
    ]
    known = [when for when in times if when is not None]
    return max(known) if known else None


def _unix(stamp: str) -> float | None:
    """Return the unix time of lightningd's `2026-11-28T13:30:23.000Z`; None for anything else."""
    try:
        return float(calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None


def _channel_backup(node: Node) -> tuple[dict[str, Any], bytes] | None:
    found = _read(node.network_dir / RECOVERY)
    if found is None:
        return None
    content, mtime = found
    return {"sha256": hashlib.sha256(content).hexdigest(), "mtime": round(mtime, 3), "size": len(content)}, content


def _read(path: Path) -> tuple[bytes, float] | None:
    """Return content and time of a plain file; None when there is none, it is none, or this user may not read it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        return (file.read(MOST_BYTES), facts.st_mtime) if stat.S_ISREG(facts.st_mode) else None
