#!/usr/bin/python3
"""A plugin of the image's own: its identity lies in a database under the home directory unless an option says else."""

import json
import os
import sqlite3
import sys
from pathlib import Path

OPTION = "hive-comms-db-path"
DEFAULT = "~/.lightning/cl_hive_comms.db"


def answer(request, result):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}) + "\n\n")
    sys.stdout.flush()


def requests():
    text = ""
    for line in sys.stdin:
        text += line
        if line == "\n":
            if text.strip():
                yield json.loads(text)
            text = ""


database = None
for request in requests():
    method = request["method"]
    if "id" not in request:
        continue
    if method == "getmanifest":
        option = {"name": OPTION, "type": "string", "default": DEFAULT, "description": "where its data is"}
        commands = [{"name": "field-identity", "usage": "", "description": "who this is"}]
        commands.append({"name": "field-write", "usage": "text", "description": "write a row"})
        answer(
            request, {"options": [option], "rpcmethods": commands, "subscriptions": [], "hooks": [], "dynamic": True}
        )
    elif method == "init":
        place = Path(request["params"]["options"].get(OPTION) or DEFAULT).expanduser()
        place.parent.mkdir(parents=True, exist_ok=True)
        secrets = place.with_name("comms.secrets")
        if not secrets.exists():
            secrets.write_bytes(os.urandom(32))
            secrets.chmod(0o400)
        database = sqlite3.connect(place, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS nostr_state (key TEXT PRIMARY KEY, value TEXT)")
        database.execute("INSERT OR IGNORE INTO nostr_state VALUES ('config:pubkey', hex(randomblob(32)))")
        answer(request, {})
    elif method == "field-identity":
        rows = database.execute("SELECT value FROM nostr_state WHERE key = 'config:pubkey'").fetchall()
        count = database.execute("SELECT count(*) FROM nostr_state").fetchone()[0]
        answer(request, {"pubkey": rows[0][0], "rows": count})
    elif method == "field-write":
        params = request["params"]
        text = params[0] if isinstance(params, list) else params["text"]
        database.execute("INSERT OR REPLACE INTO nostr_state VALUES (?, ?)", (text, text))
        answer(request, {"written": text})
