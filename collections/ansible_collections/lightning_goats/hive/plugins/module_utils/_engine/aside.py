"""Files put aside instead of overwritten: what a restore replaces stays on the node, and can be put back."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .errors import HiveError
from .files import Owner, canonical, disk_error, make_dir, read_json, sync_dir, write_atomic
from .node import Node

COMPANIONS = ("-wal", "-shm", "-journal")
FORBIDDEN = {"lightningd.sqlite3", "hsm_secret", "emergency.recover"}
LISTING = "files.json"
PLACED = "placed.json"


@dataclass(frozen=True)
class Swap:
    """One file that a restore brings: `source` of the set goes to `target`."""

    source: Path
    target: Path
    mode: int
    database: bool


def aside_dir(node: Node, name: str) -> Path:
    """Return where the replaced files of one restore are kept."""
    return node.state_dir / "aside" / name


def swap(node: Node, name: str, swaps: list[Swap]) -> None:
    """Put the present files aside, then the set's in their place; may be called again after it was interrupted.

    A database goes together with its write-ahead log: the old one's log beside the new one would corrupt it.
    """
    for item in swaps:
        if FORBIDDEN & set(item.target.parts):
            raise HiveError(f"{item.target} is lightningd's own and is never restored by this tool", "forbidden")
    folder = aside_dir(node, name)
    make_dir(folder, node.keeper)
    if read_json(folder / LISTING) is None:
        targets = [str(path) for item in swaps for path in family(item)]
        listing = {target: f"{number:03d}-{Path(target).name}" for number, target in enumerate(targets)}
        write_atomic(folder / LISTING, canonical(listing), node.keeper)
    if not (folder / PLACED).exists():
        for target, kept in read_json(folder / LISTING).items():
            if Path(target).exists() and not (folder / kept).exists():
                move(Path(target), folder / kept, node)
        # From here on what stands at a place that had nothing to put aside was put there by us.
        write_atomic(folder / PLACED, b"{}", node.keeper)
    for item in swaps:
        place(item, node)


def family(item: Swap) -> list[Path]:
    """Return the file and what belongs to it."""
    names = [item.target.name + suffix for suffix in COMPANIONS] if item.database else []
    return [item.target, *(item.target.with_name(name) for name in names)]


def move(path: Path, kept: Path, node: Node) -> None:
    """Move a file, durably, also to another file system."""
    try:
        path.rename(kept)
    except OSError:
        copy_durably(path, kept, path.stat().st_mode & 0o777, node.keeper)
        path.unlink()
    sync_dir(kept.parent)
    sync_dir(path.parent)


def place(item: Swap, node: Node) -> None:
    """Put the set's file in place in one rename, with the companions of the old one gone."""
    for path in family(item)[1:]:
        if path.exists():
            path.unlink()
    fresh = item.target.with_name(f".{item.target.name}.hive-restore")
    copy_durably(item.source, fresh, item.mode, node.owner)
    fresh.replace(item.target)
    sync_dir(item.target.parent)


def copy_durably(source: Path, target: Path, mode: int, owner: Owner) -> None:
    """Copy a file and sync it."""
    try:
        if target.exists():
            target.unlink()
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fchmod(copy.fileno(), mode)
            if owner.foreign:
                os.fchown(copy.fileno(), owner.uid, owner.gid)
            os.fsync(copy.fileno())
    except OSError as error:
        raise disk_error(error, target) from error


def put_back(node: Node, name: str) -> None:
    """Undo a swap, also one that was interrupted; does nothing twice and nothing when nothing was put aside."""
    folder = aside_dir(node, name)
    listing = read_json(folder / LISTING)
    if not isinstance(listing, dict):
        return
    for target, kept_name in listing.items():
        path, kept = Path(target), folder / str(kept_name)
        if kept.exists():
            # A copy, so that being interrupted here and called again finds the same thing to do.
            fresh = path.with_name(f".{path.name}.hive-restore")
            copy_durably(kept, fresh, kept.stat().st_mode & 0o777, node.owner)
            fresh.replace(path)
        elif (folder / PLACED).exists() and path.exists():
            path.unlink()
        sync_dir(path.parent)


def leave_note(node: Node, database: Path, facts: dict[str, object]) -> None:
    """Tell the plugin, beside its database, that its data is older than the world, so that it holds back."""
    write_atomic(
        database.with_name(database.name + ".restored"), json.dumps(facts, sort_keys=True).encode(), node.owner
    )
