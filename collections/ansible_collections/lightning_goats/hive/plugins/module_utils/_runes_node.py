# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The node's side of runes: made, tried, kept in a file that only its owner can read, and taken back.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._engine.errors import HiveError, RpcRefusedError
from ._engine.files import canonical, disk_error, make_dir, read_bytes, read_json, sync_dir, write_atomic
from ._engine.lock import engine_lock
from ._engine.machine import Machine
from ._engine.node import Node
from ._rpc import Rpc
from ._runes import TAG, Role, calls, digest, foreign, label_of, restrictions

Json = dict[str, Any]

DIRECTORY = "runes"
LOCK_SECONDS = 60.0
NOT_PERMITTED = 1502
DAY = 86400.0


@dataclass
class Wanted:
    """What a node is asked for.

    Attributes:
        roles: every role that shall have a rune; runes of ours for others are taken back.
        refused: methods that every rune has to refuse unless its role allows them.
        takes_over: methods with which the holder of a rune is as good as the operator.
        rotate: make every rune anew.
        max_age_days: make those anew that are older; 0 never does.
    """

    roles: Sequence[Role]
    refused: Sequence[str] = ()
    takes_over: Sequence[str] = ()
    rotate: bool = False
    max_age_days: float = 0.0
    check_mode: bool = False


@dataclass
class _Work:
    """What came of it so far; `shown` is the list of `showrunes`."""

    node: Node
    rpc: Rpc
    wanted: Wanted
    shown: list[Json] = field(default_factory=list)
    revoked: list[Json] = field(default_factory=list)
    made: list[Json] = field(default_factory=list)


def keep(node: Node, wanted: Wanted) -> Json:
    """Give every wanted role its rune, take all others of ours back, and tell what each rune on the node could do.

    Returns:
        `changed`, `runes`, `revoked`, `foreign`, `commands`, the methods lightningd knows, and `running`, which of our
        plugins run from which slot. Never a rune.

    Raises:
        HiveError: lightningd can only be reached through lightning-cli, which would show the rune to everybody on
            the machine; or a file cannot be written.
    """
    machine = Machine(node)
    if machine.rpc.uses_cli:
        raise HiveError(
            f"runes of {node.name} would stand on the command line of lightning-cli, where everybody on the machine "
            "can read them; let hive_lightning_dir name the directory whose socket can be reached from here",
            "runes-socket",
        )
    if wanted.check_mode:
        return _kept(machine, wanted)
    with engine_lock(node, LOCK_SECONDS):
        make_dir(node.state_dir / DIRECTORY, node.keeper)
        return _kept(machine, wanted)


def _kept(machine: Machine, wanted: Wanted) -> Json:
    work = _Work(machine.node, machine.rpc, wanted)
    work.shown = _shown(work.rpc)
    for role in wanted.roles:
        work.made.append(_one(work, role))
    _tidy(work)
    return {
        "changed": bool(work.revoked) or any(entry["changed"] for entry in work.made),
        "runes": work.made,
        "revoked": work.revoked,
        "foreign": foreign(work.shown, wanted.takes_over),
        "commands": sorted(machine.methods()),
        "running": _running(machine),
    }


def _running(machine: Machine) -> list[Json]:
    """The plugins of ours that are active, each with its slot, which is called after its release's digest."""
    begin = machine.node.to_inside(machine.node.slots_dir) + "/"
    ours = [
        path[len(begin) :].split("/")
        for path, item in machine.plugins().items()
        if item["active"] and path.startswith(begin)
    ]
    return [{"name": parts[0], "slot": parts[1]} for parts in sorted(ours)]


def _shown(rpc: Rpc) -> list[Json]:
    return [dict(entry) for entry in rpc.call("showrunes")["runes"]]


def _paths(node: Node, label: str) -> tuple[Path, Path]:
    """Where the rune lies, and what is noted about it."""
    return node.state_dir / DIRECTORY / f"{label}.rune", node.state_dir / DIRECTORY / f"{label}.json"


def _one(work: _Work, role: Role) -> Json:
    """The rune of one role: the one that is there, when it still is what it should be, else a new one."""
    path, note_path = _paths(work.node, role.label)
    note = read_json(note_path)
    note = note if isinstance(note, dict) else {}
    reason = _stale(work, role, path, note)
    entry: Json = {
        "role": role.name,
        "subject": role.subject,
        "label": role.label,
        "restrictions": restrictions(role),
        "path": str(path),
        "changed": bool(reason),
        "reason": reason,
    }
    if not reason:
        rune = (read_bytes(path) or b"").decode("ascii").strip()
        tried = _try(work, role, rune)
        return {**entry, "id": str(note["id"]), "made_at": float(note["made_at"]), **tried}
    if work.wanted.check_mode:
        return {**entry, "id": str(note.get("id", "")), "made_at": None, "tried": 0, "failed": []}
    reply = work.rpc.call("createrune", {"restrictions": restrictions(role)})
    rune, number = str(reply["rune"]), str(reply["unique_id"])
    tried = _try(work, role, rune)
    if tried["failed"]:
        # It is good for more, or for less, than it should be: nobody gets it.
        _revoke(work, number, role.label, "a new one did not do what it should")
        return {**entry, "id": number, "made_at": None, **tried}
    made_at = round(time.time(), 3)
    write_atomic(path, f"{rune}\n".encode("ascii"), work.node.keeper)
    facts = {"id": number, "digest": digest(role), "made_at": made_at}
    write_atomic(note_path, canonical(facts), work.node.keeper)
    return {**entry, "id": number, "made_at": made_at, **tried}


def _stale(work: _Work, role: Role, path: Path, note: Json) -> str:
    """Why the rune that is there cannot stay; empty when it can."""
    content = read_bytes(path)
    if content is None or not note.get("id"):
        return "there was none"
    shown = _entry(work, str(note["id"]))
    if shown is None or shown.get("rune") != content.decode("ascii", "replace").strip():
        return "lightningd does not know it"
    if shown.get("blacklisted"):
        return "it was revoked"
    if note.get("digest") != digest(role):
        return "its role was changed"
    if path.stat().st_mode & 0o077:
        return "others could read its file"
    if work.wanted.rotate:
        return "rotation was asked for"
    age = time.time() - float(note.get("made_at", 0))
    if work.wanted.max_age_days and age > work.wanted.max_age_days * DAY:
        return f"it is {age / DAY:.0f} days old"
    return ""


def _entry(work: _Work, number: str) -> Json | None:
    return next((entry for entry in work.shown if str(entry.get("unique_id")) == number), None)


def _try(work: _Work, role: Role, rune: str) -> Json:
    """Ask lightningd about every call that the role may make, and about every one that it may not."""
    asked = calls(role, work.wanted.refused)
    failed = [
        f"{role.label}: {call.title}"
        for call in asked
        if _permits(work.rpc, rune, call.method, call.params) is not call.permitted
    ]
    return {"tried": len(asked), "failed": failed}


def _permits(rpc: Rpc, rune: str, method: str, params: Any) -> bool:
    try:
        return rpc.call("checkrune", {"rune": rune, "method": method, "params": params}).get("valid") is True
    except RpcRefusedError as error:
        if error.rpc_code == NOT_PERMITTED:
            return False
        raise


def _revoke(work: _Work, number: str, label: str, why: str) -> None:
    if not work.wanted.check_mode:
        work.rpc.call("blacklistrune", {"start": int(number)})
    work.revoked.append({"id": number, "label": label, "why": why})


def _tidy(work: _Work) -> None:
    """Take back every rune of ours that is not the one of a wanted role, also those that a killed run left."""
    current = {entry["label"]: entry["id"] for entry in work.made}
    # Only now, so that whoever uses the old one had the new one before.
    for shown in _shown(work.rpc):
        number, label = str(shown.get("unique_id")), label_of(shown.get("restrictions") or [])
        if not label or shown.get("blacklisted") or current.get(label) == number:
            continue
        _revoke(work, number, label, "there is a newer one" if label in current else "its role is not asked for")
    directory = work.node.state_dir / DIRECTORY
    gone = [path for path in sorted(directory.glob("*.rune")) if path.name[: -len(".rune")] not in current]
    if gone and not work.wanted.check_mode:
        for path in gone:
            path.unlink()
            # A run that was killed may have left the one without the other.
            path.with_suffix(".json").unlink(missing_ok=True)
        sync_dir(directory)


def hand_out(node: Node, labels: Sequence[str], into: Path) -> list[str]:
    """Lay copies of the runes where the login user can fetch them; their paths.

    Raises:
        HiveError: they cannot be written there.
    """
    made = []
    for label in labels:
        content = read_bytes(_paths(node, label)[0])
        if content is None:
            continue
        path = into / f"{TAG}-{label}"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                if os.geteuid() == 0:
                    home = into.stat()
                    os.fchown(handle, home.st_uid, home.st_gid)
                file.write(content)
        except OSError as error:
            raise disk_error(error, path) from error
        made.append(str(path))
    return made
