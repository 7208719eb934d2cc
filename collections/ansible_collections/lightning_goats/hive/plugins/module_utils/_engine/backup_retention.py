"""How many backup sets stay: never is the last one removed from which the node could come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from .backup_list import list_backups
from .files import remove_tree
from .node import Node

Proof = Callable[[Path], bool]


def prune(node: Node, keep: int, made: str, whole: Proof) -> None:
    """Remove the oldest sets beyond `keep`, and leftovers of backups that died.

    Args:
        made: the set that was just made, which always stays, whatever the clock said when others were made.
        whole: whether a set on the disk still is what was written; asked before any verified one is removed.
    """
    for name in doomed(list_backups(node), keep, made, lambda name: whole(node.backups_dir / name)):
        remove_tree(node.backups_dir / name)
    for leftover in node.backups_dir.glob(".partial-*"):
        remove_tree(leftover)


def doomed(found: list[dict[str, Any]], keep: int, made: str, whole: Callable[[str], bool]) -> list[str]:
    """Return the names of the sets that may go; pure but for what `whole` looks at.

    That a set was verified when it was made says nothing of the disk since. So a verified set goes only when another
    verified one that stays has been read now and is whole; when there is none, no verified set goes.

    Args:
        found: all sets, oldest first.
        whole: whether the files of a set are what was written; asked from the newest on, until one is.
    """
    beyond = [item for item in found[: max(0, len(found) - max(1, keep))] if item["id"] != made]
    if not any(item["verified"] for item in beyond):
        return [str(item["id"]) for item in beyond]
    proven = next((str(item["id"]) for item in reversed(found) if item["verified"] and whole(str(item["id"]))), "")
    return [str(item["id"]) for item in beyond if str(item["id"]) != proven and (proven or not item["verified"])]
