# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What an approver should know of a plan beside its steps: payments in flight, and who is not in the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.drain import likely_blocks, worst_for
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request, Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Stack
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration


def payments(seen: Json, after: Stack, policy: Json) -> Json:
    """What the switch of one node may need at worst, and what the payments in flight leave it now.

    Returns:
        ``{"pending": number, "blocks_needed": blocks, "blocks_left": blocks or None}``. The node asks again right
        before its switch, and may then keep more blocks free, where lightningd's own ``cltv-delta`` does.
    """
    request = Request(
        state="switched",
        rollout="",
        deadman_seconds=float(policy.get("deadman_seconds") or 0),
        timeouts=Timeouts.from_params(policy.get("timeouts")),
        allow_lightningd_restart=bool(policy.get("allow_lightningd_restart")),
    )
    seconds = worst_for(request, max(len(after), len(seen.get("stack") or [])))
    flying = seen.get("pending_htlcs") or {}
    expiry, height = flying.get("nearest_expiry"), seen["lightningd"].get("blockheight")
    return {
        "pending": int(flying.get("count") or 0),
        "blocks_needed": likely_blocks(seconds) + int(policy.get("htlc_margin_blocks") or 0),
        "blocks_left": int(expiry) - int(height) if expiry and height else None,
    }


def payment_words(found: Json, wait_seconds: float) -> list[str]:
    """The line of a node that has payments in flight, [] for one that has none."""
    if found["blocks_left"] is None:
        return []
    line = f"{found['pending']} payments in flight, the nearest expires in {found['blocks_left']} blocks"
    if found["blocks_left"] >= found["blocks_needed"]:
        return [f"{line}: enough for this switch, which may need {found['blocks_needed']}"]
    wait = f"it waits up to {wait_seconds:g} s for them, then it" if wait_seconds else "it"
    return [f"{line}, and this switch may need {found['blocks_needed']}: {wait} stays as it is"]


def terms(agreed: Json) -> list[str]:
    """What an approval covers beside the steps, as sentences; [] for what is usual where nothing soaks."""
    found = []
    soaks = agreed.get("soaks") or {}
    for name, who in {"canary": "the canary", "wave": "every further stage"}.items():
        soak = soaks.get(name) or {"minutes": 0}
        if soak["minutes"] > 0:
            parts = [duration(60 * soak["minutes"])]
            parts += [f"{soak[what]} {what}" for what in ("blocks", "forwards") if soak[what]]
            found.append(f"{who} soaks for {', '.join(parts)} after it is confirmed; a later run goes on")
    if agreed.get("failure_budget"):
        found.append(f"{agreed['failure_budget']} nodes may fail, but not the canary (hive_failure_budget)")
    if agreed.get("commit") == "fleet":
        found.append("nothing is kept before every stage is switched and healthy (hive_commit is fleet)")
    return found


def remarks(plan: Json, left_out: Sequence[str], limited: bool) -> list[str]:
    """Sentences about the run as a whole.

    Args:
        plan: the plan, with its waves.
        left_out: nodes of the fleet that are not in this run.
        limited: whether that is because of ``--limit``.
    """
    found = []
    if left_out:
        who = ", ".join(sorted(left_out))
        found.append(f"not in this run{' (--limit)' if limited else ''}: {who}, unchanged")
    waves = plan["waves"]
    if len(waves) == 1 and waves[0]["name"] == "canary":
        nodes = waves[0]["nodes"]
        if len(nodes) > 1:
            found.append(
                f"all {len(nodes)} nodes are the canary (hive_waves): a bad release reaches every one of them before "
                "the first verdict"
            )
        elif len(plan["nodes"]) == 1:
            found.append(f"{nodes[0]} is the only node of this run: no canary before it shows whether a release is bad")
    if waves:
        found += terms(plan.get("terms") or {})
        most = max(plan["nodes"][node]["payments"]["blocks_needed"] for wave in waves for node in wave["nodes"])
        found.append(f"payments in flight: a switch may need {most} blocks at worst, there and back")
    return found
