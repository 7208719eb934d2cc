"""How many backup sets stay: never is the last one removed from which the node could come back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

from .backup_list import list_backups
from .files import remove_tree
from .node import Node
from .processes import PROC

# Then the number of the process that brings a set back.
FETCHED = ".partial-fetched-"
Proof = Callable[[Path], bool]


def prune(node: Node, keep: int, made: str, whole: Proof, held: str = "") -> None:
    """Remove the oldest sets beyond `keep`, and leftovers of backups that died.

    Args:
        made: the set that was just made, which always stays, whatever the clock said when others were made.
        whole: whether a set on the disk still is what was written; asked before any verified one is removed.
        held: a set that stays however many there are; "" for none.
    """
    found = [item for item in list_backups(node) if item["id"] != held]
    for name in doomed(found, keep, made, lambda name: whole(node.backups_dir / name)):
        remove_tree(node.backups_dir / name)
    for leftover in node.backups_dir.glob(".partial-*"):
        if not fetching(leftover):
            remove_tree(leftover)


def fetching(path: Path) -> bool:
    """Whether somebody who lives brings a set back there, of which the engine's lock says nothing."""
    found = re.fullmatch(rf"{re.escape(FETCHED)}([0-9]+)-.*", path.name)
    return found is not None and (PROC / found.group(1)).exists()


def doomed(found: list[dict[str, Any]], keep: int, made: str, whole: Callable[[str], bool]) -> list[str]:
    """Return the names of the sets that may go; pure but for what `whole` looks at.

    Unsound sets go before verified ones, the oldest first: while a database is damaged the timer makes one after the
    other, and they must not push out what the node could come back from.

    That a set was verified when it was made says nothing of the disk since. So a verified set goes only when another
    verified one of the same node that stays has been read now and is whole; when there is none, no verified set goes.

    Args:
        found: all sets, oldest first.
        made: one of them, of this node.
        whole: whether the files of a set are what was written; asked from the newest on, until one is.
    """
    others = sorted((item for item in found if item["id"] != made), key=lambda item: bool(item["verified"]))
    beyond = others[: max(0, len(found) - max(1, keep))]
    own = next((item["node_id"] for item in found if item["id"] == made), "")
    # A set of another node that was brought here brings nothing of this one back.
    good = [item for item in found if item["verified"] and item["node_id"] == own]
    kept = {str(item["id"]) for item in beyond if item in good}
    if kept:
        proven = next((str(item["id"]) for item in reversed(good) if whole(str(item["id"]))), "")
        kept &= {proven} if proven else kept
    return [str(item["id"]) for item in beyond if str(item["id"]) not in kept]
