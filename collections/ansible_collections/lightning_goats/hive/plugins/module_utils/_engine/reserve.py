"""Room that is kept for the way back: a disk that fills up during a switch must not keep the old stack from returning.

The way back has to write too: the journal, the old include, and what the plugins themselves write when they start.
"""

from __future__ import annotations

import os
from pathlib import Path

from .files import disk_error, sync_dir
from .node import Node

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
