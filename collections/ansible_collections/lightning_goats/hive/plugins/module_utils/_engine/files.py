"""Files that survive a power cut: written whole, synced, renamed; owned by whom they belong to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import HiveError


@dataclass(frozen=True)
class Owner:
    """User and group of what is written; applied only when the engine runs as root."""

    uid: int
    gid: int

    @property
    def foreign(self) -> bool:
        """Whether the engine is root and must give its files away."""
        return os.geteuid() == 0 and (self.uid != 0 or self.gid != 0)


def canonical(value: Any) -> bytes:
    """Return the one JSON form that digests are made of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sync_dir(path: Path) -> None:
    """Make renames and new names inside `path` durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_filesystem(path: Path) -> None:
    """Make everything written to the filesystem of `path` durable, without waiting for the other disks."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise disk_error(OSError(number, os.strerror(number)), path)
    finally:
        os.close(handle)


def make_dir(path: Path, owner: Owner, mode: int = 0o700) -> None:
    """Create `path` and what is missing above it; existing directories keep their mode."""
    if path.is_dir():
        return
    make_dir(path.parent, owner, mode)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    except OSError as error:
        raise disk_error(error, path) from error
    path.chmod(mode)
    if owner.foreign:
        os.chown(path, owner.uid, owner.gid)
    sync_dir(path.parent)


def write_atomic(path: Path, content: bytes, owner: Owner, mode: int = 0o600) -> None:
    """Replace `path` by `content`: a reader, or a machine after a power cut, sees the old or the new whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with_cleanup(temporary)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(handle, mode)
            if owner.foreign:
                os.fchown(handle, owner.uid, owner.gid)
            view = memoryview(content)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        temporary.replace(path)
    except OSError as error:
        # Where nothing can be written, nothing can be removed either: what counts is the first error.
        with contextlib.suppress(OSError):
            with_cleanup(temporary)
        raise disk_error(error, path) from error
    sync_dir(path.parent)


def with_cleanup(path: Path) -> None:
    """Remove a half-written file; it may never have come to exist."""
    try:
        path.unlink()
    except FileNotFoundError:
        return


def disk_error(error: OSError, path: Path) -> HiveError:
    """Say in one sentence what the operating system said about `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HiveError(
            f"the disk of {path.parent} is full; free some space and run again", "disk-full", path=str(path)
        )
    if error.errno == errno.EROFS:
        return HiveError(
            f"cannot write {path}, its filesystem is read-only; find out why, make it writable, and run again",
            "read-only",
            path=str(path),
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return HiveError(
            f"cannot write {path} ({error.strerror}); run as the user who owns it or as root (ansible_become)",
            "not-allowed",
        )
    return HiveError(f"cannot write {path}: {error.strerror}", "io-error", path=str(path))


def read_bytes(path: Path) -> bytes | None:
    """Return the content, or None when there is no such file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> Any:
    """Return the parsed file, or None when it is missing or no JSON (a torn write of an older engine)."""
    content = read_bytes(path)
    if content is None:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it, also what was made read-only."""

    def make_writable(_function: Any, name: str, _info: Any) -> None:
        target = Path(name)
        target.parent.chmod(0o700)
        if target.is_dir() and not target.is_symlink():
            target.chmod(0o700)
            shutil.rmtree(target)
        else:
            target.unlink()

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=make_writable)
