"""One reading of a node within the window before a switch is confirmed."""

from __future__ import annotations

import time
from typing import Any

from .._slots import Slot
from . import channels as ch
from .errors import NodeDownError, RpcRefusedError, RpcTimeoutError
from .machine import Machine

HEALTH_SECONDS = 3.0
LOG_LINES = 20


def take_reading(machine: Machine, by_entry: dict[str, Slot], since: float) -> dict[str, Any]:
    """Return one reading of a soak.

    Args:
        by_entry: our slots, by the path lightningd knows them by.
        since: unix time; older log lines do not count.
    """
    rpc = machine.rpc
    who = machine.identity()
    reading: dict[str, Any] = {
        "time": round(time.time(), 3),
        "lightningd": {
            "running": False,
            "pid": 0,
            "started_at": 0.0,
            "synced": False,
            "blockheight": 0,
            "ready": False,
        },
        "plugins": [],
        "channels": [],
        "log": {"broken": [], "errors": [], "count": 0},
    }
    try:
        info = rpc.call("getinfo")
        listed = machine.plugins()
        channels = ch.channel_facts(rpc.call("listpeerchannels")["channels"])
        lines = [mark for mark in machine.log_marks() if float(mark["time"]) > since]
    except (NodeDownError, RpcTimeoutError, RpcRefusedError):
        return reading
    reading["lightningd"] = {
        "running": True,
        "pid": who.pid if who else 0,
        "started_at": who.started_at if who else 0.0,
        "synced": not any(key.endswith("_sync") for key in info if key.startswith("warning_")),
        "blockheight": int(info["blockheight"]),
        "ready": all(item["active"] for item in listed.values()),
    }
    for path, item in listed.items():
        slot = by_entry.get(path)
        if slot is not None:
            report = machine.health_of(slot.manifest, HEALTH_SECONDS) if item["active"] else None
            reading["plugins"].append(
                {
                    "name": slot.name,
                    "digest": slot.digest,
                    "path": path,
                    "active": bool(item["active"]),
                    "health": str(report["status"]) if report else "",
                }
            )
    reading["channels"] = [{"short_channel_id": c["short_channel_id"], "state": c["state"]} for c in channels]
    texts = [f"{mark['source']}: {mark['log']}"[:300] for mark in lines]
    reading["log"] = {
        "broken": texts[:LOG_LINES],
        "errors": [text for text in texts if text.startswith("plugin-")][:LOG_LINES],
        "count": len(texts),
    }
    return reading
