"""Files put aside instead of overwritten: what a restore replaces stays on the node, and can be put back.

Everything new is copied beside its place before anything stops; everything old gets a second name before anything is
replaced. What is left to do while plugins are away are renames, and the way back needs no room on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .errors import HiveError
from .files import Owner, canonical, disk_error, make_dir, read_json, remove_tree, sync_dir, write_atomic
from .node import Node

COMPANIONS = ("-wal", "-shm", "-journal")
FORBIDDEN = {"lightningd.sqlite3", "hsm_secret", "emergency.recover"}
LISTING = "files.json"
PLACED = "placed.json"
NOTE = ".restored"
CHUNK = 1 << 20


@dataclass(frozen=True)
class Swap:
    """One file that a restore brings: `source` of the set goes to `target`; `sha256` is what the set says of it."""

    source: Path
    target: Path
    mode: int
    database: bool
    sha256: str = ""


def aside_dir(node: Node, name: str) -> Path:
    """Return where the replaced files of one restore are kept."""
    return node.state_dir / "aside" / name


def fresh_path(target: Path) -> Path:
    """Return where the new content of a file waits, beside its place."""
    return target.with_name(f".{target.name}.hive-restore")


def stage(node: Node, name: str, swaps: list[Swap]) -> None:
    """Copy everything that is new beside its place, checked as it is copied; the plugins still run.

    Raises:
        HiveError: it is lightningd's own, a stranger's, not what the set says, or the disk has no room for it.
    """
    for item in swaps:
        if FORBIDDEN & set(item.target.parts):
            raise HiveError(f"{item.target} is lightningd's own and is never restored by this tool", "forbidden")
        if os.path.lexists(item.target) and not stat.S_ISREG(item.target.lstat().st_mode):
            raise HiveError(
                f"{item.target} is not a plain file; find out who put it there, and move it away", "strange-file"
            )
    folder = aside_dir(node, name)
    make_dir(folder, node.keeper)
    targets = [str(path) for item in swaps for path in family(item)]
    listing = {target: f"{number:03d}-{Path(target).name}" for number, target in enumerate(targets)}
    write_atomic(folder / LISTING, canonical(listing), node.keeper)
    for item in swaps:
        copy_durably(item.source, fresh_path(item.target), item.mode, node.owner, item.sha256)
        sync_dir(item.target.parent)


def swap(node: Node, name: str, swaps: list[Swap], note: dict[str, object] | None = None) -> None:
    """Put the present files aside, then the new ones in their place; may be called again after it was interrupted.

    Args:
        note: what the plugin is to know of the restore, beside its database before that is there.
    """
    folder = aside_dir(node, name)
    if read_json(folder / LISTING) is None:
        stage(node, name, swaps)
    if not (folder / PLACED).exists():
        for target, kept in read_json(folder / LISTING).items():
            if os.path.lexists(target) and not (folder / kept).exists():
                keep(Path(target), folder / kept, node)
        # From here on what stands at a place that had nothing to put aside was put there by us.
        write_atomic(folder / PLACED, b"{}", node.keeper)
    # A plugin with a key and no database refuses to start; one with neither makes itself a new identity.
    for item in sorted(swaps, key=lambda item: item.database):
        if item.database and note is not None:
            leave_note(node, item.target, note)
        place(item, node)


def family(item: Swap) -> list[Path]:
    """Return the file and what belongs to it."""
    names = [item.target.name + suffix for suffix in (*COMPANIONS, NOTE)] if item.database else []
    return [item.target, *(item.target.with_name(name) for name in names)]


def keep(path: Path, kept: Path, node: Node) -> None:
    """Give a file a second name, durably; on another file system a copy."""
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:
        partial = kept.with_name(f".{kept.name}.new")
        copy_durably(path, partial, path.lstat().st_mode & 0o777, node.keeper)
        partial.replace(kept)
    sync_dir(kept.parent)


def place(item: Swap, node: Node) -> None:
    """Put what was staged in place.

    The old database goes before its write-ahead log, and both before the new one comes: at no moment is a database
    beside a log that is not its own.
    """
    fresh = fresh_path(item.target)
    if not fresh.exists():
        copy_durably(item.source, fresh, item.mode, node.owner, item.sha256)
    if item.database:
        displace(item.target)
    fresh.replace(item.target)
    sync_dir(item.target.parent)


def displace(database: Path) -> None:
    """Remove a database that was put aside, then what belongs to it."""
    for path in (database, *(database.with_name(database.name + suffix) for suffix in COMPANIONS)):
        path.unlink(missing_ok=True)
        sync_dir(path.parent)


def copy_durably(source: Path, target: Path, mode: int, owner: Owner, sha256: str = "") -> None:
    """Copy a file and sync it; with a digest, prove that this is what was copied.

    Raises:
        HiveError: it cannot be written, or is not what the digest says.
    """
    digest = hashlib.sha256()
    try:
        target.unlink(missing_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as copy, source.open("rb", buffering=0) as original:
            while chunk := original.read(CHUNK):
                if sha256:
                    digest.update(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[copy.write(rest) :]
            os.fchmod(copy.fileno(), mode)
            if owner.foreign:
                os.fchown(copy.fileno(), owner.uid, owner.gid)
            os.fsync(copy.fileno())
    except OSError as error:
        raise disk_error(error, target) from error
    if sha256 and digest.hexdigest() != sha256:
        target.unlink()
        raise HiveError(f"{source} changed while it was read; look at that disk, and use another set", "set-damaged")


def put_back(node: Node, name: str) -> None:
    """Undo a swap, also one that was interrupted; does nothing twice and nothing when nothing was replaced."""
    folder = aside_dir(node, name)
    listing = read_json(folder / LISTING)
    if not isinstance(listing, dict):
        return
    files = {Path(target): folder / str(kept) for target, kept in listing.items()}
    if not (folder / PLACED).exists():
        for path, kept in files.items():
            # An older engine moved files away before it wrote that all of them were.
            if kept.exists() and not path.exists():
                _bring_back(kept, path, node)
        unstage(node, name)
        return
    databases = [path for path in files if path.with_name(path.name + COMPANIONS[0]) in files]
    belonging = {path.with_name(path.name + suffix) for path in databases for suffix in COMPANIONS}
    # What is back may have been written to since. The rest goes first: on a full disk its room is what is needed.
    pending = [path for path in databases if not _is_back(path, files[path])]
    for path in pending:
        displace(path)
    for path in [path for path in files if path not in belonging and path not in databases]:
        _return(files[path], path, node)
    for path in pending:
        for companion in [path.with_name(path.name + suffix) for suffix in COMPANIONS]:
            _return(files[companion], companion, node)
        _return(files[path], path, node)
        if not _is_back(path, files[path]):
            write_atomic(_mark(files[path]), b"", node.keeper)
    _clear_fresh(files)


def _mark(kept: Path) -> Path:
    return kept.with_name(f".back-{kept.name}")


def _is_back(path: Path, kept: Path) -> bool:
    """Whether a database stands in its place again: the very file that was put aside, or a copy that was finished."""
    return _mark(kept).exists() or (kept.exists() and path.exists() and path.samefile(kept))


def _return(kept: Path, path: Path, node: Node) -> None:
    """Put one file back as it was; one that was not there goes."""
    if kept.exists():
        _bring_back(kept, path, node)
    else:
        path.unlink(missing_ok=True)
    sync_dir(path.parent)


def _bring_back(kept: Path, path: Path, node: Node) -> None:
    """Give what was put aside its old name again, which needs no room; from another file system a copy."""
    fresh = fresh_path(path)
    fresh.unlink(missing_ok=True)
    try:
        os.link(kept, fresh)
    except OSError:
        copy_durably(kept, fresh, kept.stat().st_mode & 0o777, node.owner)
    fresh.replace(path)
    # Renaming one name of a file over another of the same file leaves both.
    fresh.unlink(missing_ok=True)


def unstage(node: Node, name: str) -> None:
    """Forget a restore that replaced nothing: no copy of a key stays behind."""
    folder = aside_dir(node, name)
    listing = read_json(folder / LISTING)
    if not isinstance(listing, dict) or (folder / PLACED).exists():
        return
    _clear_fresh([Path(target) for target in listing])
    remove_tree(folder)


def _clear_fresh(targets: list[Path] | dict[Path, Path]) -> None:
    for path in targets:
        fresh_path(path).unlink(missing_ok=True)


def leave_note(node: Node, database: Path, facts: dict[str, object]) -> None:
    """Tell the plugin, beside its database, that its data is older than the world, so that it holds back."""
    write_atomic(database.with_name(database.name + NOTE), json.dumps(facts, sort_keys=True).encode(), node.owner)
