# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Deletes the plugins' data of one node, and exactly what a backup set that was just taken holds. Runs on the node."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ._engine.aside import COMPANIONS, FORBIDDEN
from ._engine.backups import verify_set
from ._engine.database_places import PLUGINS
from ._engine.errors import HiveError
from ._engine.files import sync_dir
from ._engine.guard import look
from ._engine.journal import Journal
from ._engine.lock import engine_lock
from ._engine.machine import Machine
from ._engine.node import Node

Json = dict[str, Any]

# The set has to be of the data as it is now; the plugins are stopped, so nothing is written in between.
FRESH_SECONDS = 600.0
WAIT_SECONDS = 60.0


def purge(node: Node, set_id: str, check_mode: bool) -> Json:
    """Delete the databases and key files that backup set ``set_id`` holds; the set itself stays.

    Returns:
        ``{"changed", "deleted": [paths], "set"}``.

    Raises:
        HiveError: a plugin of ours still runs, a switch is open, or the set is not whole, not new or not of this node.
    """
    with engine_lock(node, WAIT_SECONDS):
        journal = Journal(node.journal_file, node.keeper)
        seen = look(Machine(node), WAIT_SECONDS)
        if seen.stack or journal.state().transaction is not None:
            raise HiveError(
                f"{node.name} still runs hive plugins or has an open switch; run playbooks/uninstall.yml to its "
                "end first",
                "in-use",
            )
        options = {option for _, option in PLUGINS.values()}
        users = {str(config.get("plugin")) for name, config in seen.configs.items() if name in options}
        for user in sorted(users & set(seen.listed)):
            # The monolith of the operator's own configuration, whose place ours had taken: it runs on this very data.
            raise HiveError(
                f"{user} of {node.name} works with this data; stop it and take it out of lightningd's configuration "
                "first",
                "in-use",
            )
        manifest = verify_set(node.backups_dir / set_id)
        if manifest["node_id"] != seen.info["id"] or not manifest["verified"]:
            raise HiveError(f"backup set {set_id} is not a sound set of {node.name}; take a new one first", "bad-set")
        # One from the future was taken before the clock was put right: nobody knows how old it is.
        if not 0 <= time.time() - float(manifest["created_at"]) <= FRESH_SECONDS:
            raise HiveError(
                f"backup set {set_id} is older than {FRESH_SECONDS:g} s; take a new one before deleting", "old-set"
            )
        doomed = [path for path in files(manifest) if path.is_file() and not path.is_symlink()]
        if not check_mode and doomed:
            journal.append("purged", {"set": set_id, "files": [str(path) for path in doomed]})
            for path in doomed:
                path.unlink()
            for folder in sorted({path.parent for path in doomed}):
                sync_dir(folder)
    return {"changed": bool(doomed), "deleted": [str(path) for path in doomed], "set": set_id}


def files(manifest: Json) -> list[Path]:
    """The files that a set's manifest says it was made of: databases with their companions, and key files beside them.

    Raises:
        HiveError: the set names a file of lightningd itself.
    """
    found: list[Path] = []
    for plugin, database in sorted(manifest["databases"].items()):
        source = Path(database["source"])
        found += [source, *(source.with_name(source.name + suffix) for suffix in COMPANIONS)]
        keys = [Path(name) for name in manifest["files"] if name.startswith(f"{plugin}/") and name != database["file"]]
        found += [source.parent / key.name for key in keys]
    if any(FORBIDDEN & set(path.parts) for path in found):
        raise HiveError(
            "the backup set names a file of lightningd itself, so nothing was deleted; look at it", "forbidden"
        )
    return found
