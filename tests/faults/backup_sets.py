"""What the tests of backup sets share: a node with two plugins, one of which has a key file, and sets of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import BackupRequest, take_backup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import list_backups
from faults.rig import NAME, Rig

KEY_FILE = "fixture.secrets"
DATABASE = "hive_fixture.db"


def prepare(rig: Rig) -> None:
    """Bring the node to two plugins, the first with a key file beside its database."""
    item = rig.item("0.1.0")
    marker = _slots.marker_path(rig.node, NAME, item["digest"])
    facts = json.loads(marker.read_bytes())
    facts["manifest"]["key_files"] = [KEY_FILE]
    write_atomic(marker, canonical(facts), rig.node.keeper)
    rig.settle([item, rig.second()])
    key_file(rig).write_bytes(b"the key\n")
    key_file(rig).chmod(0o400)


def key_file(rig: Rig) -> Path:
    return rig.node.network_dir / KEY_FILE


def database(rig: Rig) -> Path:
    return rig.node.network_dir / DATABASE


def fill(rig: Rig, rows: int) -> None:
    """Write rows into the plugin's database; it has it open only while it starts."""
    with closing(sqlite3.connect(database(rig))) as connection, connection:
        connection.executemany(
            "INSERT INTO fixture_starts VALUES (?, 0)", ((f"row {number} {'x' * 200}",) for number in range(rows))
        )


def backup(rig: Rig, keep: int = 20, **changes: Any) -> dict[str, Any]:
    """Take a set and return what `take_backup` says."""
    return take_backup(rig.node, look(rig.machine, 10.0), BackupRequest("test", keep, **changes))


def path_of(rig: Rig, made: dict[str, Any]) -> Path:
    return rig.node.backups_dir / str(made["id"])


def names(rig: Rig) -> list[str]:
    return [str(item["id"]) for item in list_backups(rig.node)]


def leftovers(rig: Rig) -> list[Path]:
    return list(rig.node.backups_dir.glob(".partial-*"))
