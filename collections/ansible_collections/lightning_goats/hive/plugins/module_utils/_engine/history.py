"""What a node has been through, out of its own journal: its last transactions, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Entry = dict[str, Any]
Facts = dict[str, Any]

SHOWN = 10
# What ends a transaction, and the word for it.
ENDINGS = ("confirmed", "reverted", "refused")


def history(entries: Sequence[Entry], count: int = SHOWN) -> list[Facts]:
    """The last transactions of a journal.

    Args:
        entries: the journal, oldest first.
        count: how many at most.

    Returns:
        Newest first ``{rollout, kind, stage, begun_at, ended_at, result, by, reason, before, after, downtime_ms,
        restarts, soak}``. Of a stack only names and versions: a report shows it, and options are none of its business.
    """
    found: dict[str, Facts] = {}
    for entry in entries:
        txn, event, data = entry["txn"], entry["event"], entry["data"]
        if event == "begin":
            found[txn] = _begun(entry)
        elif txn in found:
            _apply(found[txn], event, data, float(entry["time"]))
    return list(reversed(list(found.values())))[:count]


def _begun(entry: Entry) -> Facts:
    data = entry["data"]
    return {
        "rollout": entry["rollout"],
        "kind": str(data.get("kind") or "switch"),
        "stage": str((data.get("stage") or {}).get("name") or ""),
        "begun_at": float(entry["time"]),
        "ended_at": None,
        "result": "open",
        "by": "",
        "reason": "",
        "before": _names(data["previous"]),
        "after": _names(data["target"]),
        "downtime_ms": {},
        "restarts": 0,
        "soak": "",
    }


def _apply(facts: Facts, event: str, data: dict[str, Any], moment: float) -> None:
    if event in ENDINGS:
        facts["result"], facts["ended_at"] = event, moment
        facts["by"], facts["reason"] = str(data.get("by") or ""), str(data.get("reason") or "")
        facts["restarts"] = int(data.get("restarts") or 0)
    elif event == "switched":
        facts["result"] = event
        facts["downtime_ms"] = {str(name): float(ms) for name, ms in (data.get("downtime_ms") or {}).items()}
    elif event in ("reverting", "revert-failed"):
        facts["result"], facts["reason"] = event, str(data.get("reason") or "")
    elif event == "soaked":
        facts["soak"] = str(data.get("verdict") or event)


def _names(stack: Sequence[Entry]) -> list[Facts]:
    return [
        {"name": item["name"], "version": item["version"], "enabled": bool(item.get("enabled", True))} for item in stack
    ]
