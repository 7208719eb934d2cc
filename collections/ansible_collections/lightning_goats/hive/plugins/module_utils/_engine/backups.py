"""Backup sets: everything a plugin needs to come back, captured under one barrier, published whole or not at all."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._slots import Slot
from .._sqlite import capture, check_copy, data_version
from .errors import HiveError
from .files import canonical, disk_error, make_dir, read_bytes, read_json, remove_tree, sync_dir, write_atomic
from .guard import Look
from .node import Node
from .observe import database_path, list_backups, options_of
from .sealed import seal
from .stacks import stack_digest

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class BackupRequest:
    """Why a set is made and how many are kept."""

    reason: str = ""
    keep: int = 10


def sources(node: Node, seen: Look) -> dict[str, Slot]:
    """Return, by plugin, the slot whose manifest says what belongs to it: the one that runs, else the newest."""
    running = {item["digest"] for item in seen.stack}
    chosen: dict[str, Slot] = {}
    for slot in sorted(
        seen.by_entry.values(), key=lambda slot: (slot.digest in running, int(slot.manifest.get("released_at", 0)))
    ):
        chosen[slot.name] = slot
    return chosen


def recent_backup(node: Node, seen: Look, max_age: float) -> dict[str, Any] | None:
    """Return the newest verified set, if it is young enough and of exactly this stack."""
    wanted = stack_digest(seen.stack)
    for found in reversed(list_backups(node)):
        # A set from the future was made before a clock was put right: nobody knows how old it is.
        young = 0 <= time.time() - float(found["created_at"]) <= max_age
        if found["verified"] and young and found["stack_digest"] == wanted:
            return {**found, "path": str(node.backups_dir / found["id"]), "reused": True}
    return None


def take_backup(node: Node, seen: Look, request: BackupRequest) -> dict[str, Any]:
    """Make a set of all databases and key files of our plugins, of the managed include and of the stack.

    Raises:
        HiveError: something cannot be read or written; earlier sets are untouched.
    """
    started = time.monotonic()
    owner = node.keeper
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{stack_digest(seen.stack)[:8]}-{os.urandom(2).hex()}"
    partial = node.backups_dir / f".partial-{name}"
    make_dir(partial, owner)
    try:
        manifest = _fill(node, seen, partial, request)
        manifest.update(schema=1, id=name, node=node.name, created_at=round(time.time(), 3))
        write_atomic(partial / MANIFEST, canonical(manifest), owner)
        partial.rename(node.backups_dir / name)
        sync_dir(node.backups_dir)
    except OSError as error:
        remove_tree(partial)
        raise disk_error(error, node.backups_dir) from error
    except HiveError:
        remove_tree(partial)
        raise
    _prune(node, request.keep, name)
    return {
        "id": name,
        "path": str(node.backups_dir / name),
        "files": sorted(manifest["files"]),
        "bytes": manifest["bytes"],
        "created_at": manifest["created_at"],
        "stack_digest": manifest["stack_digest"],
        "verified": manifest["verified"],
        "copy_ms": manifest["copy_ms"],
        "barrier_ms": manifest["barrier_ms"],
        "duration_ms": round((time.monotonic() - started) * 1000, 1),
        "reused": False,
    }


def _fill(node: Node, seen: Look, partial: Path, request: BackupRequest) -> dict[str, Any]:
    owner = node.keeper
    chosen = sources(node, seen)
    configs = options_of(seen.configs)
    databases = {name: database_path(node, slot.manifest, configs) for name, slot in chosen.items()}
    present = {name: path for name, path in databases.items() if path.is_file()}
    targets = {}
    for name, path in present.items():
        make_dir(partial / name, owner)
        targets[name] = (path, partial / name / path.name)
    captured = capture(targets, node.owner)
    facts: dict[str, Any] = {}
    for name, (path, copy) in targets.items():
        facts[name] = {"file": f"{name}/{copy.name}", "source": str(path), **check_copy(copy)}
    for name, slot in chosen.items():
        folder = databases[name].parent
        for key_file in slot.manifest.get("key_files", []):
            content = read_bytes(folder / key_file)
            if content is not None:
                make_dir(partial / name, owner)
                write_atomic(partial / name / key_file, content, owner, 0o400)
    include = read_bytes(node.include_file)
    if include is not None:
        write_atomic(partial / "hive.conf", include, owner)
    write_atomic(partial / "stack.json", canonical(seal(seen.stack)), owner)
    files = {str(path.relative_to(partial)): _describe(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    return {
        "reason": request.reason,
        "files": files,
        "bytes": sum(item["bytes"] for item in files.values()),
        "databases": facts,
        "stack": [{key: item[key] for key in ("name", "version", "digest")} for item in seen.stack],
        "stack_digest": stack_digest(seen.stack),
        "node_id": seen.info["id"],
        "network": seen.info["network"],
        "cln_version": seen.info["version"],
        "blockheight": int(seen.info["blockheight"]),
        "data_version": data_version(node.network_dir / "lightningd.sqlite3"),
        "verified": all(item["check"] == "ok" for item in facts.values()),
        **captured,
    }


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


def verify_set(path: Path) -> dict[str, Any]:
    """Return a set's manifest after checking every file of it.

    Raises:
        HiveError: it is not there, not whole, or not what was written.
    """
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict):
        raise HiveError(
            f"there is no backup set {path.name} in {path.parent}; list them with backup.yml -e "
            "hive_backup_state=listed",
            "no-set",
        )
    for name, facts in manifest["files"].items():
        file = path / name
        if not file.is_file() or _describe(file) != facts:
            raise HiveError(
                f"{name} of backup set {path.name} is missing or damaged; use another set", "set-damaged", file=name
            )
    return manifest


def _prune(node: Node, keep: int, made: str) -> None:
    """Remove the oldest sets beyond `keep`, and leftovers of backups that died.

    Never the newest verified set, and never the one that was just made, whatever the clock said when others were.
    """
    found = list_backups(node)
    newest_good = next((item["id"] for item in reversed(found) if item["verified"]), "")
    for item in found[: max(0, len(found) - max(1, keep))]:
        if item["id"] not in (newest_good, made):
            remove_tree(node.backups_dir / item["id"])
    for leftover in node.backups_dir.glob(".partial-*"):
        remove_tree(leftover)
