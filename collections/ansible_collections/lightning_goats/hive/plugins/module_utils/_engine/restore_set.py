"""Which backup set is restored, and whether it is whole, of one piece, and of whom it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backup_list import MANIFEST
from .backups import damaged, verify_set, verify_signature
from .errors import HiveError
from .machine import Machine
from .node import Node
from .observe import list_backups

Manifest = dict[str, Any]
# What a restore goes by; every set has it, of whatever release.
KEYS = {"verified", "node_id", "network", "created_at", "data_version", "stack", "blockheight", "cln_version"}


@dataclass(frozen=True)
class RestoreSet:
    """A set that was checked.

    Attributes:
        signed: whether the node that its manifest names has signed it.
        foreign: whether that is another node than this one.
        passed_over: newer sets that were not taken, and why.
    """

    path: Path
    manifest: Manifest
    signed: bool
    foreign: bool
    passed_over: tuple[dict[str, str], ...] = ()

    @property
    def id(self) -> str:
        """Its name."""
        return self.path.name


def named(node: Node, machine: Machine, set_id: str, node_id: str, unsigned: bool) -> RestoreSet:
    """Return the set of that name.

    Raises:
        HiveError: there is none, it is damaged, mixed or forged, or not signed and that was not allowed.
    """
    if "/" in set_id or set_id.startswith("."):
        raise HiveError(f"{set_id!r} is not the name of a backup set; list them with backup.yml", "no-set")
    return _examine(node.backups_dir / set_id, machine, node_id, unsigned)


def newest(node: Node, machine: Machine, node_id: str, unsigned: bool, foreign: bool) -> RestoreSet:
    """Return the newest set that holds when it is looked at, whatever is written about it.

    Args:
        foreign: take one of another node.

    Raises:
        HiveError: there is none; it says why each that there is was not taken.
    """
    passed: list[dict[str, str]] = []
    for item in reversed(list_backups(node)):
        try:
            found = _examine(node.backups_dir / str(item["id"]), machine, node_id, unsigned)
        except HiveError as error:
            passed.append({"id": str(item["id"]), "reason": error.message})
            continue
        if found.foreign and not foreign:
            passed.append({"id": found.id, "reason": f"it is of node {found.manifest['node_id']}"})
            continue
        return RestoreSet(found.path, found.manifest, found.signed, found.foreign, tuple(passed))
    why = f" ({passed[0]['id']}: {passed[0]['reason']})" if passed else ""
    raise HiveError(
        f"{node.name} has no backup set that can be restored{why}; take one with backup.yml", "no-set", passed=passed
    )


def _examine(path: Path, machine: Machine, node_id: str, unsigned: bool) -> RestoreSet:
    manifest = verify_set(path)
    if not manifest.keys() >= KEYS:
        raise damaged(path, MANIFEST)
    if not manifest["verified"]:
        raise HiveError(
            f"set {path.name} holds a database that was not sound when it was made; use another", "set-damaged"
        )
    if manifest.get("id") != path.name:
        raise HiveError(
            f"{path} holds set {manifest.get('id')}; give the directory its own name again, or use another set",
            "set-mixed",
        )
    signed = True
    try:
        verify_signature(path, manifest, machine)
    except HiveError as error:
        if error.code != "set-unsigned" or not unsigned:
            raise
        signed = False
    return RestoreSet(path, manifest, signed, manifest["node_id"] != node_id)
