"""The soak of a stage as the journal tells it: what a node runs on trial, since when, and what it goes back to; pure.

A switch that was asked for with a `stage` soaks from its confirmation on, for hours or days and without any run. There
is no other record of a rollout than these on its nodes, so a controller that is lost loses nothing.
"""

from __future__ import annotations

from typing import Any

from .errors import HiveError
from .stacks import Stack, same

SOAKING, SOAKED, SELF_REVERTED = "soaking", "soaked", "self-reverted"
# What a switch is that a node makes by itself.
SELF_REVERT = "self-revert"
# Tries that were begun and did not get there, because they were killed or undone; more would be a loop.
TRIES = 3
# A plan that was given up and is not shown would be planned again, and refused by the node.
SHOWN_PLANS = 1000

Entry = dict[str, Any]
Soak = dict[str, Any]


def stage_of(given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a stage in its one form; None when none was given.

    Raises:
        HiveError: it lacks its plan or its name, or its windows are no numbers.
    """
    if not given:
        return None
    if not given.get("plan") or not given.get("name"):
        raise HiveError("the stage has no plan digest or no name; take both from what hive_plan returned", "bad-stage")
    soak = given.get("soak") or {}
    try:
        windows = {name: float(soak.get(name) or 0) for name in ("minutes", "blocks", "forwards", "extend_minutes")}
        number, restarts = int(given.get("number") or 0), int(soak.get("restarts_allowed") or 0)
    except (TypeError, ValueError):
        raise HiveError("a window of the stage is no number; correct the variables of the soak", "bad-stage") from None
    return {
        "plan": str(given["plan"]),
        "name": str(given["name"]),
        "number": number,
        "waves": list(given.get("waves") or []),
        "action": str(given.get("action") or ""),
        "soak": {
            **{name: int(value) if value.is_integer() else value for name, value in windows.items()},
            "self_revert": bool(soak.get("self_revert", True)),
            "restarts_allowed": restarts,
        },
    }


def confirmed(before: Soak | None, running: Stack | None, begin: dict[str, Any], entry: Entry) -> Soak | None:
    """Return the soak that follows from a confirmed transaction.

    Args:
        before: the soak until now.
        running: the stack that was confirmed until now.
        begin: what was written when the transaction began.
        entry: the entry that confirms it.
    """
    kind, target, stage = begin.get("kind"), begin["target"], begin.get("stage")
    if kind == SELF_REVERT:
        return None if before is None else {**before, "state": SELF_REVERTED, "reason": str(begin.get("reason", ""))}
    if kind == "restore":
        # It brings data back; the code that soaks stays the one that soaks.
        return before
    on = before is not None and before["state"] != SELF_REVERTED and same(before["target"], target)
    # What somebody repairs, or switches again on the way to the same stack, goes on soaking for what it was begun.
    on = on and same(running, target)
    if stage is None or kind == "rollback":
        return before if on else None
    if on and before is not None and before["plan"] == stage["plan"] and before["stage"] == stage["name"]:
        return before
    data = entry["data"]
    return {
        "rollout": entry["rollout"],
        "plan": stage["plan"],
        "stage": stage["name"],
        "number": stage["number"],
        "waves": stage["waves"],
        "action": stage["action"],
        "soak": stage["soak"],
        "since": float(entry["time"]),
        "since_height": int(data.get("height", 0)),
        # The way back of a stack that is already there is still the one to what ran before it.
        "previous": before["previous"] if on and before is not None else begin["previous"],
        "target": target,
        "state": SOAKING if stage["soak"]["minutes"] > 0 else SOAKED,
        "reason": "",
        "backup": str(data.get("backup", "")),
        "unhealthy": list(begin.get("unhealthy", [])),
        "found": [str(item["name"]) for item in begin.get("found", [])],
        "channels": dict(begin.get("channels", {})),
        "transaction": entry["txn"],
        "tries": 0,
        "self_revert_failed": "",
        "told": False,
    }


def noted(soak: Soak | None, entry: Entry) -> Soak | None:
    """Return the soak after an entry that is about it; any other leaves it as it is."""
    if soak is None:
        return None
    event, data = entry["event"], entry["data"]
    if event == "begin":
        return {**soak, "tries": soak["tries"] + 1} if data.get("kind") == SELF_REVERT else soak
    if event not in ("soaked", "self-reverted", "self-revert-failed") or not about(soak, data):
        return soak
    if event == "soaked":
        return {**soak, "state": SOAKED} if soak["state"] == SOAKING else soak
    if event == "self-revert-failed":
        return {**soak, "self_revert_failed": str(data["reason"])}
    return {**soak, "told": True}


def about(soak: Soak, stage: dict[str, Any]) -> bool:
    """Whether a plan and the name of a stage are those of a soak."""
    return bool(soak["plan"] == stage.get("plan") and soak["stage"] == stage.get("stage", stage.get("name")))


def shown(soak: Soak | None) -> dict[str, Any] | None:
    """Return what an observation says of a soak; None when there is none."""
    if soak is None:
        return None
    keys = ("rollout", "plan", "stage", "number", "waves", "action", "soak", "since", "since_height")
    more = ("previous", "target", "state", "reason", "self_revert_failed")
    return {key: soak[key] for key in (*keys, *more)}


def held(soak: Soak | None) -> list[Stack]:
    """Return the stacks whose slots have to stay while a soak may still end with a way back."""
    return [] if soak is None else [soak["previous"], soak["target"]]


def held_set(soak: Soak | None) -> str:
    """Return the id of the backup set that has to stay: the one from before a stage that soaks; "" for none."""
    return str(soak["backup"]) if soak is not None and soak["state"] == SOAKING else ""
