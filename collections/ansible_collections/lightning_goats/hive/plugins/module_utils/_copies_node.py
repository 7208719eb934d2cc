"""The node's side of copies: which set leaves it, and how one that comes back is published."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

from ._copies_tar import tar_of, unpack
from ._engine.backup_lightningd import NEWEST
from ._engine.backup_list import SET_NAME, backup_of, list_backups
from ._engine.backup_retention import FETCHED
from ._engine.backups import is_whole, verify_set
from ._engine.errors import HiveError
from ._engine.files import disk_error, make_dir, read_bytes, remove_tree, sync_dir
from ._engine.journal import Journal
from ._engine.lock import engine_lock
from ._engine.node import Node
from ._engine.reserve import need_room

Json = dict[str, Any]

LOCK_SECONDS = 120.0
# Left by a run that died; one that is still being fetched is younger.
STALE_SECONDS = 3600.0
PACKED = "hive-set-"


def chosen_set(node: Node, wanted: str) -> Json | None:
    """Return the set called ``wanted``, or the newest verified one; None when the node has none of that kind.

    Raises:
        HiveError: the set that was named is not there, or is not verified.
    """
    found = list_backups(node)
    if wanted:
        named = next((item for item in found if item["id"] == wanted), None)
        if named is None:
            raise HiveError(
                f"there is no backup set {wanted} on {node.name}; list them with backup.yml -e "
                "hive_backup_state=listed",
                "no-set",
            )
        if not named["verified"]:
            raise HiveError(
                f"a database in backup set {wanted} is not sound, so no copy of it is kept; copy another set", "bad-set"
            )
        return named
    # One of another node that was brought here is no copy of this one's data, however new it is.
    return next((item for item in reversed(found) if item["verified"] and item["node"] in ("", node.name)), None)


def facts_of(node: Node, item: Json) -> Json:
    """What the controller is told about a set."""
    return {
        **{key: item[key] for key in ("id", "created_at", "bytes", "verified")},
        "path": str(node.backups_dir / item["id"]),
    }


def channel_backup(node: Node) -> Json | None:
    """What the backups keep of lightningd's channel backup: where, and what it hashes to; None when they keep none."""
    path = node.backups_dir / NEWEST
    content = read_bytes(path)
    if content is None:
        return None
    return {"path": str(path), "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def pack(node: Node, name: str, into: Path, min_free_bytes: int = 0) -> Json:
    """Write a set as one archive that the login user can fetch, and say where it is and what it hashes to."""
    for old in into.parent.glob(f"*/{PACKED}*"):
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            old.unlink()
    size = int(backup_of(node.backups_dir / name)["bytes"])
    need_room(node, into, size, min_free_bytes, f"packing backup set {name}")
    return _hand_out(into / f"{PACKED}{name}.tar", tar_of(node.backups_dir / name))


def pack_channels(node: Node, into: Path) -> Json:
    """The same for the channel backup; empty when there is none any more."""
    return _hand_out(into / f"{PACKED}channels", [read_bytes(node.backups_dir / NEWEST) or b""])


def _hand_out(path: Path, chunks: Iterable[bytes]) -> Json:
    digest, size = hashlib.sha256(), 0
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            if os.geteuid() == 0:
                home = path.parent.stat()
                os.fchown(handle, home.st_uid, home.st_gid)
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
    except OSError as error:
        raise disk_error(error, path) from error
    return {"path": str(path), "sha256": digest.hexdigest(), "bytes": size}


def take_in(node: Node, fill: Callable[[Path], Path], wanted: str, size: int = 0, min_free_bytes: int = 0) -> Json:
    """Publish a set that comes back; one that is there already and whole stays.

    Args:
        fill: writes the set below the directory it is given and returns the set's own.
        wanted: the set it has to be, "" for any.
        size: what it takes of the disk.
        min_free_bytes: what has to stay free there; 0 does not look.

    Raises:
        HiveError: there is no room for it, it is damaged or another set than ``wanted``; nothing was published.
    """
    need_room(node, node.backups_dir, size, min_free_bytes, "a backup set that comes back")
    node.prepare()
    # No list of sets shows it, and once we are dead the next backup removes it.
    room = node.backups_dir / f"{FETCHED}{os.getpid()}-{os.urandom(2).hex()}"
    make_dir(room, node.keeper)
    try:
        directory = fill(room)
        _own(directory, node)
        # Not before: what comes over a network takes its time, and a dead-man must not have to wait for that.
        with engine_lock(node, LOCK_SECONDS):
            return _publish(node, directory, wanted)
    except OSError as error:
        raise disk_error(error, room) from error
    finally:
        remove_tree(room)


def from_archive(archive: Path, node: Node) -> Callable[[Path], Path]:
    """How `take_in` fills its directory from an archive that `pack` has made."""

    def fill(room: Path) -> Path:
        with archive.open("rb") as stream:
            return unpack(stream, room, node.keeper)

    return fill


def present_whole(node: Node, name: str) -> Json | None:
    """Return the facts of a published set when every file of it is sound."""
    directory = node.backups_dir / name
    return facts_of(node, backup_of(directory)) if SET_NAME.fullmatch(name) and is_whole(directory) else None


def _publish(node: Node, directory: Path, wanted: str) -> Json:
    """Move a set that is whole to its place, and write down that it came from a copy."""
    name = directory.name
    if wanted and name != wanted:
        raise HiveError(
            f"the copy holds backup set {name}, not {wanted}; name the right copy or the right set", "no-set"
        )
    held = verify_set(directory)
    if held.get("id") != name or SET_NAME.fullmatch(name) is None:
        raise HiveError(f"the copy of backup set {name} holds another one under its name; do not use it", "set-damaged")
    there = present_whole(node, name)
    if there is None:
        target = node.backups_dir / name
        if target.exists():
            # It is damaged, and the copy is not.
            target.rename(directory.parent / f"{name}.damaged")
        directory.rename(target)
        sync_dir(node.backups_dir)
        Journal(node.journal_file, node.keeper).append("fetched", {"id": name})
    return {**facts_of(node, backup_of(node.backups_dir / name)), "new": there is None}


def _own(directory: Path, node: Node) -> None:
    """Give what another program wrote to the keeper, closed; a set has nothing but files and folders."""
    keeper = node.keeper
    for path in (directory, *sorted(directory.rglob("*"))):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise HiveError(f"{path.name} in the copy is neither a file nor a folder; do not use it", "set-damaged")
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, keeper.uid, keeper.gid)
