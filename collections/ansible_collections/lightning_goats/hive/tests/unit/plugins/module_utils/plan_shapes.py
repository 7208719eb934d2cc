"""Observations and manifests in the recorded shape, for the tests of the pure parts."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
ORDER = {COMMS: 10, ARCHON: 20, HIVE: 40}


def digest_of(name: str, version: str) -> str:
    """A sha256-like name that differs per release and can be read in a failure."""
    text = f"{name}{version}".encode().hex()
    return (text * (64 // len(text) + 1))[:64]


def manifest(name: str = COMMS, version: str = "0.1.0", **changes: Any) -> Json:
    """A release manifest of schema 1."""
    result: Json = {
        "schema": 1,
        "name": name,
        "version": version,
        "artifact": {"file": f"{name}-{version}.pex", "sha256": digest_of(name, version), "size": 17_000_000},
        "python": {"requires": ">=3.11,<3.14", "tags": ["cp311"], "wheels": {"cp311-x86_64": ["x-1-py3-none-any.whl"]}},
        "start_order": ORDER.get(name, 50),
        "rpc_methods": [f"{name}-health"],
        "options": [
            {"name": f"{name}-mode", "type": "string", "default": "full", "dynamic": False, "description": "the mode"},
            {"name": f"{name}-limit", "type": "int", "default": 5, "dynamic": True, "description": "the limit"},
            {"name": f"{name}-enabled", "type": "bool", "default": True, "dynamic": True, "description": "on or off"},
            {"name": f"{name}-token", "type": "string", "default": "", "dynamic": False, "description": "a secret"},
        ],
        "schema_version": 1,
        "readable_by": "0.1.0",
        "requires": {"plugins": [COMMS] if name == ARCHON else [], "cln": "v25.02"},
        "conflicts": [],
        "health_rpc": f"{name}-health",
    }
    result.update(changes)
    return result


def item(name: str = COMMS, version: str = "0.1.0", **changes: Any) -> Json:
    """One entry of a resolved stack."""
    result: Json = {
        "name": name,
        "version": version,
        "digest": digest_of(name, version),
        "enabled": True,
        "options": {},
    }
    result.update(changes)
    return result


def observation(name: str = "alpha", stack: list[Json] | None = None, **changes: Any) -> Json:
    """What hive_observe says of a healthy node that runs `stack`."""
    stack = stack or []
    plugins = [
        {
            "path": f"/state/slots/{entry['name']}/{entry['digest'][:12]}/bin/{entry['name']}",
            "active": True,
            "dynamic": True,
            "ours": True,
            "name": entry["name"],
            "digest": entry["digest"],
            "health": {"status": "ok", "version": entry["version"]},
            "rss_bytes": 40_000_000,
            "pid": 100,
        }
        for entry in stack
        if entry["enabled"]
    ]
    result: Json = {
        "schema": 1,
        "name": name,
        "time": 1_700_000_000.0,
        "lightningd": {
            "running": True,
            "pid": 42,
            "started_at": 1_699_990_000.0,
            "version": "v25.12.1",
            "node_id": f"02{name}",
            "alias": name,
            "network": "regtest",
            "blockheight": 120,
            "synced": True,
            "warnings": [],
            "rpc_ms": 1.0,
            "ready": True,
        },
        "channels": [],
        "pending_htlcs": {"count": 0, "nearest_expiry": None},
        "value_at_risk_msat": 0,
        "plugins": plugins,
        "rpc_methods": {"getinfo": "builtin", **{f"{p['name']}-health": p["path"] for p in plugins}},
        "options": {},
        "slots": [
            {
                "name": entry["name"],
                "version": entry["version"],
                "digest": entry["digest"],
                "path": "",
                "entry": "",
                "complete": True,
            }
            for entry in stack
        ],
        "stack": stack,
        "managed_config": {
            "path": "/ln/hive.conf",
            "present": True,
            "included": True,
            "plugins": [],
            "options": {},
            "drift": False,
            "strays": [],
        },
        "databases": {},
        "backups": [],
        "transaction": None,
        "stable_stack": stack,
        "previous_stack": None,
        "lock": None,
        "disk": {"free_bytes": 10**10},
        "python": {"path": "/usr/bin/python3", "version": "3.11.2", "tag": "cp311"},
        "journal": {"length": 3, "head": "ab" * 32},
        "problems": [],
    }
    for key, value in changes.items():
        result[key] = {**result[key], **value} if key == "lightningd" else value
    return result
