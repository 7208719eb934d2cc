# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""How far a stage's soak is, and what its judge says, in the shape of a report and in words. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration, local

Json = dict[str, Any]

SOAKING, SOAKED, FAILED, PAUSED = "soaking", "soaked", "failed", "paused"
# The words for a stage that does not go on by itself.
ENDED = (FAILED, PAUSED)
STRONGEST = 3
# In the order in which they are told.
MEASURES = {"minutes": "min", "blocks": "blocks", "forwards": "forwards"}
REASON_KEYS = ("node", "check", "verdict", "detail", "command")


def shaped(stage: str, number: int, nodes: Sequence[str], answer: Mapping[str, Any]) -> Json:
    """One soak as the report keeps it.

    Args:
        stage: name of the stage.
        number: its place in the rollout, 0 for the canary.
        nodes: its nodes.
        answer: what the judge of soaks answered.
    """
    progress = answer.get("progress") or {}
    return {
        "stage": stage,
        "number": number,
        "nodes": list(nodes),
        "state": str(answer.get("state") or SOAKING),
        "verdict": str(answer.get("verdict") or "none"),
        "reasons": [
            {key: str(reason.get(key) or "") for key in REASON_KEYS} | {"figures": dict(reason.get("figures") or {})}
            for reason in answer.get("reasons") or []
        ],
        "progress": {name: [float(value) for value in progress[name]] for name in MEASURES if name in progress},
        "remaining_seconds": float(answer.get("remaining_seconds") or 0),
        "come_back_at": answer.get("come_back_at"),
        "samples": int(answer.get("samples") or 0),
        "plots": {str(node): dict(plots) for node, plots in (answer.get("plots") or {}).items()},
    }


def begun(stage: str, number: int, nodes: Sequence[str], soak: Mapping[str, Any], since: float) -> Json:
    """The soak of a stage that was confirmed just now: nothing of it has passed.

    Args:
        stage, number, nodes: as of ``shaped``.
        soak: how much it needs: ``minutes``, ``blocks``, ``forwards``.
        since: when it was confirmed, unix seconds.
    """
    seconds = 60 * float(soak.get("minutes") or 0)
    answer = {
        "state": SOAKING,
        "progress": {name: [0, soak.get(name) or 0] for name in MEASURES},
        "remaining_seconds": seconds,
        "come_back_at": since + seconds,
    }
    return shaped(stage, number, nodes, answer)


def percent(soak: Mapping[str, Any]) -> int:
    """How much of the soak has passed: its slowest measure decides, and only what has passed is 100."""
    shares = [have / need for have, need in soak["progress"].values() if need > 0]
    if soak["state"] == SOAKED:
        return 100
    return min(99, int(100 * min(min(shares), 1.0))) if shares else 0


def measures(soak: Mapping[str, Any]) -> list[str]:
    """What has passed of what is needed: ``12 h 5 min of 3 d``, ``80 of 432 blocks``, ``3 of 20 forwards``."""
    told = []
    for name, (have, need) in soak["progress"].items():
        if need <= 0:
            continue
        if name == "minutes":
            told.append(f"{duration(60 * min(have, need))} of {duration(60 * need)}")
        else:
            told.append(f"{have:g} of {need:g} {MEASURES[name]}")
    return told


def come_back(soak: Mapping[str, Any], now: float) -> str:
    """When the next run has something to do, "" when nothing is to be waited for."""
    at = soak["come_back_at"]
    if soak["state"] != SOAKING or at is None:
        return ""
    if at <= now:
        return "come back now"
    return f"come back after {local(at)} (in {duration(at - now)})"


def sentence(soak: Mapping[str, Any], now: float) -> str:
    """The soak in one line."""
    stage, told = soak["stage"], ", ".join(measures(soak))
    if soak["state"] == SOAKING:
        return "; ".join(
            part for part in (f"{stage} soaks: {told}" if told else f"{stage} soaks", come_back(soak, now)) if part
        )
    if soak["state"] == SOAKED:
        return f"{stage} has soaked{': ' + told if told else ''}"
    reasons = "; ".join(strongest(soak))
    if soak["state"] == PAUSED:
        return (
            f"{stage} is paused, its soak tells nothing: {reasons or told}. Keep it with "
            f"-e 'hive_soak_accept={stage}', or give the rollout up with playbooks/abort.yml"
        )
    return f"{stage} failed its soak: {reasons or told}"


def lines(soaks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each soak with its bar and the judge's reasons, for a terminal."""
    told = []
    for soak in soaks:
        told.append(f"{soak['stage']}: {soak['state']}  [{bar(percent(soak))}]  {', '.join(measures(soak))}".rstrip())
        told += [f"  {reason}" for reason in strongest(soak) if soak["state"] != SOAKED]
    return told


def strongest(soak: Mapping[str, Any]) -> list[str]:
    """The strongest reasons of the judge as sentences."""
    return [f"{r['node']}: {r['detail']}" if r["node"] else r["detail"] for r in soak["reasons"][:STRONGEST]]


def bar(share: int, cells: int = 20) -> str:
    """A bar of characters that every terminal has."""
    full = round(cells * min(max(share, 0), 100) / 100)
    return "#" * full + "-" * (cells - full)
