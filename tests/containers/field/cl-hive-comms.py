#!/usr/bin/python3
"""A plugin of the image's own: its identity lies in a database under the home directory unless an option says else."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPTION = "hive-comms-db-path"
DEFAULT = "~/.lightning/cl_hive_comms.db"
MANIFEST = {
    "options": [{"name": OPTION, "type": "string", "default": DEFAULT, "description": "where its data is"}],
    "rpcmethods": [
        {"name": "field-identity", "usage": "", "description": "who this is"},
        {"name": "field-write", "usage": "text", "description": "write a row"},
    ],
    "subscriptions": [],
    "hooks": [],
    "dynamic": True,
}


def requests() -> Iterator[dict[str, Any]]:
    text = ""
    for line in sys.stdin:
        text += line
        if line == "\n":
            if text.strip():
                yield json.loads(text)
            text = ""


def opened(place: Path) -> sqlite3.Connection:
    place.parent.mkdir(parents=True, exist_ok=True)
    secrets = place.with_name("comms.secrets")
    if not secrets.exists():
        secrets.write_bytes(os.urandom(32))
        secrets.chmod(0o400)
    database = sqlite3.connect(place, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE IF NOT EXISTS nostr_state (key TEXT PRIMARY KEY, value TEXT)")
    database.execute("INSERT OR IGNORE INTO nostr_state VALUES ('config:pubkey', hex(randomblob(32)))")
    return database


def answer(database: sqlite3.Connection, request: dict[str, Any]) -> dict[str, Any]:
    if request["method"] == "field-identity":
        row = database.execute("SELECT value FROM nostr_state WHERE key = 'config:pubkey'").fetchone()
        return {"pubkey": row[0], "rows": database.execute("SELECT count(*) FROM nostr_state").fetchone()[0]}
    params = request["params"]
    text = params[0] if isinstance(params, list) else params["text"]
    database.execute("INSERT OR REPLACE INTO nostr_state VALUES (?, ?)", (text, text))
    return {"written": text}


def main() -> None:
    database = sqlite3.connect(":memory:")
    for request in requests():
        if "id" not in request:
            continue
        result: dict[str, Any] = {}
        if request["method"] == "getmanifest":
            result = MANIFEST
        elif request["method"] == "init":
            place = request["params"]["options"].get(OPTION) or DEFAULT
            database = opened(Path(place).expanduser())
        else:
            result = answer(database, request)
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n\n")
        sys.stdout.flush()


main()
