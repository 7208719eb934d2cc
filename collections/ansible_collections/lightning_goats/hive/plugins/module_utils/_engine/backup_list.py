"""Backup sets as they lie on the disk: their names, and what each says of itself."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from .files import read_json
from .node import Node

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
# Nothing else that lies beside them is taken for a backup set, nor ever removed as one.
SET_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}-[0-9a-f]{4}")


def backup_of(directory: Path) -> dict[str, Any]:
    """Return a set in short, going by its manifest alone; one that cannot be read is of time 0 and not verified."""
    manifest = read_json(directory / MANIFEST)
    try:
        return {
            "id": directory.name,
            "created_at": float(manifest["created_at"]),
            "stack_digest": str(manifest["stack_digest"]),
            "verified": bool(manifest["verified"]),
            "bytes": int(manifest["bytes"]),
            "signed": (directory / SIGNATURE).is_file(),
            "node": str(manifest.get("node", "")),
            "node_id": str(manifest.get("node_id", "")),
        }
    except (KeyError, TypeError, ValueError):
        return {
            "id": directory.name,
            "created_at": 0.0,
            "stack_digest": "",
            "verified": False,
            "bytes": 0,
            "signed": False,
            "node": "",
            "node_id": "",
        }


def list_backups(node: Node) -> list[dict[str, Any]]:
    """Return the published backup sets, oldest first; those from the future were made before a clock was put right.

    One whose manifest cannot be read is the oldest of all, and not verified.
    """
    if not node.backups_dir.is_dir():
        return []
    found = [backup_of(path) for path in sorted(node.backups_dir.iterdir()) if SET_NAME.fullmatch(path.name)]
    now = time.time()
    return sorted(
        found, key=lambda item: (float(item["created_at"]) <= now, float(item["created_at"]), str(item["id"]))
    )
