"""Room that is kept: for the way back, and for lightningd, which ends when it cannot write.

A disk that fills up during a switch must not keep the old stack from returning, and the way back has to write too: the
journal, the old include, and what the plugins themselves write when they start.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import HiveError
from .files import disk_error, sync_dir
from .node import Node
from .observe import free_bytes

RESERVE_BYTES = 512 * 1024


def reserve_file(node: Node) -> Path:
    return node.state_dir / "reserve"


def keep_reserve(node: Node) -> None:
    """Set room aside; kept room stays as it is.

    Raises:
        HiveError: there is none.
    """
    path = reserve_file(node)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(handle, 0, RESERVE_BYTES)
        finally:
            os.close(handle)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def spend_reserve(node: Node) -> None:
    """Give the room back, to whoever has to write now; nothing set aside is fine."""
    path = reserve_file(node)
    if path.exists():
        path.unlink()
        sync_dir(path.parent)


def need_room(node: Node, path: Path, needed: int, least: int, what: str) -> None:
    """Refuse to write what would leave others too little room.

    Args:
        path: where it will be written.
        needed: its size.
        least: what has to stay free after it (hive_min_free_bytes); 0 does not look.
        what: what is to be written, in the words of an operator.

    Raises:
        HiveError: there is too little room.
    """
    free = free_bytes(path)
    if least > 0 and free < needed + least:
        raise HiveError(
            f"{node.name} has {free // 1048576} MiB free at {path}; {what} and the hive_min_free_bytes that stay free "
            f"need {(needed + least) // 1048576} MiB; free some space and run again",
            "disk-full",
            free_bytes=free,
            needed_bytes=needed + least,
        )
