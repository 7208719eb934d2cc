"""What the tests of a restore share: a node with data in it, sets of it, and sets that were tampered with."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import (
    BackupRequest,
    describe,
    signed_text,
    take_backup,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.restore import RestoreRequest, restore
from faults.rig import NAME, TIMEOUTS, Rig

FILE = f"{NAME}/hive_fixture.db"


def database(rig: Rig) -> Path:
    return rig.node.network_dir / "hive_fixture.db"


def execute(rig: Rig, script: str) -> None:
    """Change the plugin's database under it; it has it open only while it starts."""
    with sqlite3.connect(database(rig)) as connection:
        connection.executescript(script)
    connection.close()


def mark(rig: Rig, text: str) -> None:
    """Write a row that tells which data is there."""
    execute(rig, f"INSERT INTO fixture_starts VALUES ('{text}', 0)")


def marks(rig: Rig) -> set[str]:
    connection = sqlite3.connect(f"{database(rig).as_uri()}?mode=ro", uri=True)
    try:
        return {str(row[0]) for row in connection.execute("SELECT version FROM fixture_starts WHERE at = 0")}
    finally:
        connection.close()


def backup(rig: Rig) -> str:
    return str(take_backup(rig.node, look(rig.machine, 10.0), BackupRequest("test", 50))["id"])


def call(rig: Rig, set_id: str, apply: bool, phrase: str = "", keep: int = 50, **more: Any) -> dict[str, Any]:
    request = rig.request(
        "restored",
        deadman_seconds=0.0,
        check_mode=not apply,
        timeouts=TIMEOUTS,
        backup_keep=keep,
        min_free_bytes=1 << 16,
    )
    try:
        return restore(rig.node, RestoreRequest(set_id, apply, phrase, request, **more))
    except HiveError as error:
        return {**error.data, "error": error.message, "code": error.code}


def look_at(rig: Rig, set_id: str = "", **more: Any) -> dict[str, Any]:
    """A dry run that must be possible."""
    outcome = call(rig, set_id, apply=False, **more)
    assert outcome["phase"] == "planned", outcome.get("error")
    return outcome


def phrase_of(rig: Rig, set_id: str) -> str:
    return f"restore {set_id} on {rig.node.name} and lose what came after"


def apply(rig: Rig, set_id: str, **more: Any) -> dict[str, Any]:
    return call(rig, set_id, apply=True, phrase=phrase_of(rig, set_id), **more)


def tamper(rig: Rig, set_id: str, change: Callable[[Path, dict[str, Any]], None]) -> None:
    """Change a set and let the node sign what came of it: somebody had its key, or its backup read bad pages."""
    folder = rig.node.backups_dir / set_id
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(folder, manifest)
    for name in manifest["files"]:
        manifest["files"][name] = describe(folder / name)
    content = canonical(manifest)
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_text(rig.call("signmessage", message=signed_text(content))["zbase"])


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
