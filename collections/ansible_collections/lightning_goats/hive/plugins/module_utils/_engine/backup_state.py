"""How backups went, for people and for monitoring: a small file of the engine's, and Prometheus' textfile format."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from .backup_lightningd import channel_backup
from .backup_list import list_backups
from .errors import HiveError
from .files import canonical, make_dir, read_json, write_atomic
from .node import Node

FILE = "backup.json"
METRICS = "hive_backup.prom"
PREFIX = "lightning_hive_backup_"
# name, what it says; the value comes from `figures`.
GAUGES = {
    "last_success_timestamp_seconds": "Unix time of the newest verified backup set, 0 for none.",
    "last_success_bytes": "Size of the newest verified backup set.",
    "last_success_duration_seconds": "How long the last backup that succeeded took.",
    "sets": "Backup sets on the node.",
    "verified_sets": "Backup sets on the node that were verified when they were made.",
    "last_failure_timestamp_seconds": "Unix time of the last backup that failed, 0 when none has.",
    "channel_backup_timestamp_seconds": "Unix time of lightningd's own channel backup, 0 for none.",
}


def read(node: Node) -> dict[str, Any]:
    """Return `attempt` (unix time), `success` (id, at, bytes, duration_ms), `failure` (at, code, message, reason)."""
    found = read_json(node.state_dir / FILE)
    known = found if isinstance(found, dict) else {}
    return {"schema": 1, "attempt": 0.0, "success": None, "failure": None, **known}


def attempted(node: Node) -> None:
    """Write down that a backup is begun, so that one that dies is not begun again at once."""
    state = {**read(node), "attempt": round(time.time(), 3)}
    write_atomic(node.state_dir / FILE, canonical(state), node.keeper)


def succeeded(node: Node, made: dict[str, Any], metrics_dir: str) -> list[str]:
    """Write down a set that was made; return what could not be written, in sentences.

    A set that turned out unsound is a failure: the next one is due at once, and monitoring should say so.
    """
    state = read(node)
    if made["verified"]:
        keys = ("id", "bytes", "duration_ms")
        state["success"] = {**{key: made[key] for key in keys}, "at": made["created_at"]}
    else:
        why = made["remarks"][0] if made["remarks"] else "a database in it is damaged"
        unsound = HiveError(f"backup set {made['id']} is not sound: {why}; see docs/runbooks/backup.md", "unsound-set")
        state["failure"] = _failure(unsound, "")
    return _keep(node, state, metrics_dir)


def failed(node: Node, error: HiveError, reason: str, metrics_dir: str) -> None:
    """Write down why no set was made, as far as the disk still takes it."""
    _keep(node, {**read(node), "failure": _failure(error, reason)}, metrics_dir)


def failing(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return the failure after which no backup has succeeded; None when all is well. Pure."""
    failure, success = state["failure"], state["success"]
    if failure is None or (success is not None and float(success["at"]) >= float(failure["at"])):
        return None
    return dict(failure)


def _failure(error: HiveError, reason: str) -> dict[str, Any]:
    return {"at": round(time.time(), 3), "code": error.code, "message": error.message[:300], "reason": reason}


def _keep(node: Node, state: dict[str, Any], metrics_dir: str) -> list[str]:
    """Write the state and the metrics; return what could not be written. A set that nobody hears of is still a set."""
    text = exposition(node.name, figures(node, state)).encode()
    places = [(node.state_dir, FILE, canonical(state), 0o600), (node.state_dir / "metrics", METRICS, text, 0o644)]
    if metrics_dir:
        also = exposed_as(node, metrics_dir)
        places.append((also.parent, also.name, text, 0o644))
    return [remark for remark in (_put(node, *place) for place in places) if remark]


def exposed_as(node: Node, metrics_dir: str) -> Path:
    """Return where a node's metrics are written as well; several nodes may share a machine."""
    return Path(metrics_dir) / f"hive_backup_{re.sub(r'[^A-Za-z0-9_.-]', '-', node.name)}.prom"


def _put(node: Node, folder: Path, name: str, content: bytes, mode: int) -> str:
    try:
        make_dir(folder, node.keeper, 0o755)
        write_atomic(folder / name, content, node.keeper, mode)
    except HiveError as error:
        return f"monitoring does not hear of it: {error.message}"
    return ""


def figures(node: Node, state: dict[str, Any]) -> list[float]:
    """Return the values of `GAUGES`, in their order."""
    sets = list_backups(node)
    verified = [item for item in sets if item["verified"] and item["node"] in ("", node.name)]
    newest = verified[-1] if verified else {"created_at": 0.0, "bytes": 0}
    recovery = channel_backup(node)
    return [
        float(newest["created_at"]),
        float(newest["bytes"]),
        float((state["success"] or {}).get("duration_ms", 0.0)) / 1000,
        float(len(sets)),
        float(len(verified)),
        float((state["failure"] or {}).get("at", 0.0)),
        float(recovery["mtime"]) if recovery else 0.0,
    ]


def exposition(name: str, values: list[float]) -> str:
    """Return gauges as Prometheus reads them: times, not ages, so that they are true whenever they are read."""
    label = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for (gauge, words), value in zip(GAUGES.items(), values):
        name = PREFIX + gauge
        lines.append(f'# HELP {name} {words}\n# TYPE {name} gauge\n{name}{{node="{label}"}} {value:.15g}\n')
    return "".join(lines)
