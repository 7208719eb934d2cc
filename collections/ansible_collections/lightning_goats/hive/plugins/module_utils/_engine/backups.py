"""Backup sets: everything a plugin needs to come back, captured under one barrier, published whole or not at all."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._slots import Slot
from .._sqlite import capture, check_copy, data_version, refuse_strange
from . import backup_state
from .backup_digest import table_facts
from .backup_lightningd import keep_newest, seed_fingerprint
from .backup_list import MANIFEST, SIGNATURE, list_backups
from .backup_retention import prune
from .errors import HiveError, RpcRefusedError
from .files import Owner, canonical, disk_error, make_dir, read_bytes, read_json, remove_tree, sync_dir, write_atomic
from .guard import Look
from .journal import Journal, soak_of
from .machine import Machine
from .node import Node
from .observe import database_path, options_of
from .probe import settings_file
from .reserve import need_room
from .sealed import seal
from .soak import held_set
from .stacks import stack_digest
from .steps import failpoint

# What keeps a signature over a set from being one over anything else.
DOMAIN = "hive-backup-set"
# Readers that work side by side: a small node has two processors.
READERS = 2


class Part(enum.Enum):
    """The parts of making a set, and where fault tests end them."""

    BEGIN = "backup-begin"
    CAPTURE = "backup-capture"
    FILES = "backup-files"
    READ_BACK = "backup-read-back"
    MANIFEST = "backup-manifest"
    SIGN = "backup-sign"
    PUBLISH = "backup-publish"
    PRUNE = "backup-prune"


@dataclass(frozen=True)
class BackupRequest:
    """Why a set is made and how many are kept.

    Attributes:
        metrics_dir: where else metrics go; "" for where the probe's settings say.
        min_free_bytes: what has to stay free on the disk; 0 for whoever has looked before.
    """

    reason: str = ""
    keep: int = 10
    metrics_dir: str = ""
    min_free_bytes: int = 0


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
    """Return the newest verified set, if it is young enough, of exactly this stack, and still what was written."""
    wanted = stack_digest(seen.stack)
    for found in reversed(list_backups(node)):
        # A set from the future was made before a clock was put right: nobody knows how old it is.
        young = 0 <= time.time() - float(found["created_at"]) <= max_age
        path = node.backups_dir / str(found["id"])
        if found["verified"] and young and found["stack_digest"] == wanted and is_whole(path):
            return {**found, "path": str(path), "reused": True}
    return None


def take_backup(node: Node, seen: Look, request: BackupRequest) -> dict[str, Any]:
    """Make a set of all databases and key files of our plugins, of the managed include and of the stack.

    Raises:
        HiveError: something cannot be read, written or signed; earlier sets are untouched.
    """
    metrics_dir = request.metrics_dir or str((read_json(settings_file(node)) or {}).get("metrics_dir", ""))
    try:
        made = _make(node, seen, request)
    except HiveError as error:
        backup_state.failed(node, error, request.reason, metrics_dir)
        raise
    made["remarks"] += backup_state.succeeded(node, made, metrics_dir)
    return made


def journal_backup(journal: Journal, made: dict[str, Any], request: BackupRequest) -> None:
    """Let the journal say that a set was made outside of a switch."""
    facts = {key: made[key] for key in ("id", "bytes", "verified")}
    journal.append("backup", {**facts, "reason": request.reason})


def _make(node: Node, seen: Look, request: BackupRequest) -> dict[str, Any]:
    started = time.monotonic()
    owner = node.keeper
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{stack_digest(seen.stack)[:8]}-{os.urandom(2).hex()}"
    partial = node.backups_dir / f".partial-{name}"
    try:
        failpoint(Part.BEGIN)
        make_dir(partial, owner)
        manifest = _fill(node, seen, partial, request)
        manifest.update(schema=1, id=name, node=node.name, created_at=round(time.time(), 3))
        failpoint(Part.MANIFEST)
        content = canonical(manifest)
        write_atomic(partial / MANIFEST, content, owner)
        failpoint(Part.SIGN)
        write_atomic(partial / SIGNATURE, sign(node, content).encode(), owner)
        failpoint(Part.PUBLISH)
        partial.rename(node.backups_dir / name)
        sync_dir(node.backups_dir)
    except OSError as error:
        remove_tree(partial)
        raise disk_error(error, node.backups_dir) from error
    except HiveError:
        remove_tree(partial)
        raise
    failpoint(Part.PRUNE)
    try:
        prune(node, request.keep, name, is_whole, held_set(soak_of(node)))
    except OSError as error:
        # A set that was made is one: to fail now would make the timer take the next at once.
        told = disk_error(error, Path(str(error.filename or node.backups_dir)))
        manifest["remarks"].append(f"older sets could not be removed: {told.message}")
    return {
        "id": name,
        "path": str(node.backups_dir / name),
        "files": sorted(manifest["files"]),
        "bytes": manifest["bytes"],
        "created_at": manifest["created_at"],
        "stack_digest": manifest["stack_digest"],
        "verified": manifest["verified"],
        "remarks": list(manifest["remarks"]),
        "emergency_recover": manifest["emergency_recover"],
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
    size = sum(file.stat().st_size for path in present.values() for file in (path, _log_of(path)) if file.exists())
    need_room(node, node.backups_dir, size, request.min_free_bytes, "a backup set")
    targets = {}
    for name, path in present.items():
        make_dir(partial / name, owner)
        targets[name] = (path, partial / name / path.name)
    keys = _keys(node, chosen, databases)
    failpoint(Part.CAPTURE)
    captured = capture(targets, node.owner)
    failpoint(Part.FILES)
    if _keys(node, chosen, databases) != keys:
        raise HiveError(
            f"a key file of {node.name} was changed while its database was copied; run again", "backup-failed"
        )
    remarks = _write_keys(keys, partial, owner)
    include = read_bytes(node.include_file)
    if include is not None:
        write_atomic(partial / "hive.conf", include, owner)
    write_atomic(partial / "stack.json", canonical(seal(seen.stack)), owner)
    failpoint(Part.READ_BACK)
    files, facts = read_back(partial, targets)
    for name, found in facts.items():
        found.update(key_files=sorted(keys[name]), barrier=captured["barrier"])
    sound = all(item["check"] == "ok" for item in facts.values())
    fingerprint, recovery = seed_fingerprint(node), keep_newest(node)
    if fingerprint is None:
        remarks.append("the seed's fingerprint is not in it: only lightningd's user and root can read the seed")
    return {
        "reason": request.reason,
        "files": files,
        "bytes": sum(item["bytes"] for item in files.values()),
        "databases": facts,
        "stack": [{key: item[key] for key in ("name", "version", "digest")} for item in seen.stack],
        "stack_digest": stack_digest(seen.stack),
        "artifacts": {name: _artifact(slot) for name, slot in chosen.items()},
        "node_id": seen.info["id"],
        "network": seen.info["network"],
        "cln_version": seen.info["version"],
        "blockheight": int(seen.info["blockheight"]),
        "data_version": data_version(node.network_dir / "lightningd.sqlite3"),
        "hsm_fingerprint": fingerprint,
        "emergency_recover": recovery,
        "verified": sound and not any(None in keys[name].values() for name in facts),
        "remarks": remarks,
        **captured,
    }


def _log_of(path: Path) -> Path:
    """Return the write-ahead log of a database, whose pages go into a copy too."""
    return path.with_name(path.name + "-wal")


def _keys(node: Node, chosen: dict[str, Slot], databases: dict[str, Path]) -> dict[str, dict[str, bytes | None]]:
    """Return, by plugin, its key files and what they hold; None for one that is missing."""
    found: dict[str, dict[str, bytes | None]] = {}
    for name, slot in chosen.items():
        found[name] = {}
        for key_file in slot.manifest.get("key_files", []):
            path = databases[name].parent / key_file
            if path.is_symlink() or path.exists():
                refuse_strange(path, node.owner)
            found[name][key_file] = read_bytes(path)
    return found


def _write_keys(keys: dict[str, dict[str, bytes | None]], partial: Path, owner: Owner) -> list[str]:
    """Write the key files into the set; return a remark for each that belongs to a database and is missing."""
    remarks = []
    for name, files in keys.items():
        for key_file, content in files.items():
            if content is not None:
                make_dir(partial / name, owner)
                write_atomic(partial / name / key_file, content, owner, 0o400)
            elif (partial / name).is_dir():
                remarks.append(f"{key_file} of {name} is missing beside its database, so the set cannot be restored")
    return remarks


def _artifact(slot: Slot) -> dict[str, Any]:
    """Return what says exactly which code wrote the data, and which could read it."""
    manifest = slot.manifest
    facts = {key: manifest.get(key) for key in ("schema_version", "readable_by")}
    return {"version": slot.version, "digest": slot.digest, "tree_digest": slot.tree_digest, **facts}


def read_back(
    partial: Path, targets: dict[str, tuple[Path, Path]]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return what every file of a set is, and what every database in it holds, read from the copies."""
    paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(READERS) as readers:
        tables = {name: readers.submit(_tables, copy) for name, (_, copy) in targets.items()}
        checks = {name: readers.submit(check_copy, copy) for name, (_, copy) in targets.items()}
        described = {str(path.relative_to(partial)): readers.submit(describe, path) for path in paths}
        facts = {
            name: {
                "file": f"{name}/{copy.name}",
                "source": str(path),
                **checks[name].result(),
                "tables": tables[name].result(),
            }
            for name, (path, copy) in targets.items()
        }
        return {name: found.result() for name, found in described.items()}, facts


def _tables(copy: Path) -> dict[str, dict[str, Any]]:
    import sqlite3  # imported late: most calls never open a database

    try:
        return table_facts(copy)
    except sqlite3.DatabaseError:
        # The check beside this one says what is wrong with the copy.
        return {}


def describe(path: Path) -> dict[str, Any]:
    """Return `sha256` and `bytes` of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


# The set as a whole


def signed_text(content: bytes) -> str:
    """Return what the node signs for a manifest with this content."""
    return f"{DOMAIN}|{hashlib.sha256(content).hexdigest()}"


def sign(node: Node, content: bytes) -> str:
    """Return the node's own signature over a manifest."""
    machine = Machine(node)
    try:
        return str(machine.rpc.call("signmessage", {"message": signed_text(content)})["zbase"])
    finally:
        machine.rpc.close()


def verify_set(path: Path) -> dict[str, Any]:
    """Return a set's manifest after checking every file of it.

    Raises:
        HiveError: it is not there, not whole, not what was written, or put together from several.
    """
    try:
        return _verified(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Not the shape of a manifest, or a name that no file can have: whoever wrote that, no backup did.
        raise damaged(path, MANIFEST) from error
    except PermissionError as error:
        raise HiveError(
            f"{error.filename} cannot be read ({error.strerror}); run as the user who owns it or as root "
            "(ansible_become)",
            "not-allowed",
        ) from error
    except OSError as error:
        raise damaged(path, Path(str(error.filename or MANIFEST)).name) from error


def _verified(path: Path) -> dict[str, Any]:
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict):
        raise HiveError(
            f"there is no backup set {path.name} in {path.parent}; list them with backup.yml -e "
            "hive_backup_state=listed",
            "no-set",
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("databases"), dict):
        raise damaged(path, MANIFEST)
    for name, facts in files.items():
        if not _inside(name) or not _plain(path / name) or describe(path / name) != facts:
            raise damaged(path, str(name))
    for file in path.rglob("*"):
        name = str(file.relative_to(path))
        if name not in (MANIFEST, SIGNATURE, *files) and (file.is_symlink() or not file.is_dir()):
            raise HiveError(
                f"{name} does not belong to backup set {path.name}; find out who put it there, or use another set",
                "set-damaged",
                file=name,
            )
    for name, facts in manifest["databases"].items():
        if facts["file"] not in files or any(f"{name}/{key}" not in files for key in _kept_keys(manifest, facts)):
            raise damaged(path, str(facts["file"]))
        # Sets made before this was written down have no name for the moment, nor has any database of theirs.
        if facts.get("barrier") != manifest.get("barrier"):
            raise HiveError(
                f"the databases of backup set {path.name} are not of one moment, so it was put together from "
                "several; use another set",
                "set-mixed",
                file=str(facts["file"]),
            )
    return manifest


def _kept_keys(manifest: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Return the key files that a sound set holds beside a database; one that is not sound says what it lacks."""
    return list(facts.get("key_files", [])) if manifest.get("verified") else []


def _inside(name: object) -> bool:
    return (
        isinstance(name, str) and name not in ("", MANIFEST, SIGNATURE) and {"", ".", ".."}.isdisjoint(name.split("/"))
    )


def _plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def damaged(path: Path, name: str) -> HiveError:
    """Return the refusal of a set that is not as it was written."""
    return HiveError(
        f"{name} of backup set {path.name} is missing or damaged; use another set", "set-damaged", file=name
    )


def is_whole(path: Path) -> bool:
    """Whether every file of a set is there and is what was written."""
    try:
        verify_set(path)
    except HiveError:
        return False
    return True


def verify_signature(path: Path, manifest: dict[str, Any], machine: Machine) -> None:
    """Refuse a set that was not signed by the node whose data it says it holds.

    Args:
        path: the set.
        manifest: what `verify_set` returned.
        machine: any running lightningd; it need not be the one that signed.

    Raises:
        HiveError: the set is not signed (`set-unsigned`), or by another key or over another manifest (`set-forged`).
        NodeDownError: nobody can tell.
    """
    content, signature = read_bytes(path / MANIFEST), read_bytes(path / SIGNATURE)
    if not signature:
        raise HiveError(
            f"backup set {path.name} is not signed, so nobody can say who made it; use a set that is", "set-unsigned"
        )
    asked = {
        "message": signed_text(content or b""),
        "zbase": signature.decode("ascii", "replace").strip(),
        "pubkey": str(manifest.get("node_id", "")),
    }
    try:
        answer = machine.rpc.call("checkmessage", asked)
    except RpcRefusedError:
        # No signature at all, or no key of a node.
        answer = {}
    if not answer.get("verified") or content is None or json.loads(content) != manifest:
        raise HiveError(
            f"backup set {path.name} was not signed by node {manifest.get('node_id')}: its manifest was changed or "
            "made by somebody else; use another set and find out where this one came from",
            "set-forged",
        )
