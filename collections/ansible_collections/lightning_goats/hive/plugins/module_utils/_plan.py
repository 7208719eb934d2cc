# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The plan: what a run will do to which node, in which order, and why not. A pure function; controller only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _plan_adoption,
    _plan_container,
    _plan_remarks,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_guards as guards
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_waves as orders
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import (
    Json,
    Refusal,
    Stack,
    same_stack,
    version_key,
)

SCHEMA = 2
# Letters of a fingerprint: 128 bits.
FINGERPRINT = 32
# What has become of a node of a rollout that goes on; one still to be done has its step instead.
STATES = {"soaking": "soaks", "soaked": "has soaked", "failed": "failed and went back", "left": "left out"}
# Whose values a plan never shows: it is printed, stored in reports and sent to approvers.
SECRET_WORDS = ("secret", "token", "password", "passphrase", "key", "seed", "rune")


def plan(
    desired: Mapping[str, Stack],
    observed: Mapping[str, Json | None],
    manifests: Mapping[str, Json],
    policy: Json,
    refusals: Sequence[Refusal] = (),
) -> Json:
    """What has to happen so that every node runs its desired stack.

    Args:
        desired: resolved stack per node; the nodes of the run.
        observed: observation per node, None for a node of which nothing is known.
        manifests: release manifests by artifact digest: all desired ones, and of the running ones those known.
        policy: ``fleet``, ``rollout``, ``waves``, ``separate_channel_peers``, ``min_free_bytes``,
            ``htlc_margin_blocks``, ``htlc_wait_seconds``, ``deadman_seconds``, ``timeouts``,
            ``allow_lightningd_restart``, ``break_lock``; ``left_out``, nodes of the fleet that are not in the run, and
            ``limited``, whether ``--limit`` is why; ``terms``, what an approval covers beside the steps, and ``spent``,
            the digests of plans that were given up; ``unreachable``, whether nodes that cannot be reached are to
            ``fail`` the run or to ``leave`` out of it.
        refusals: what was found wrong before (in the inventory or in a release).

    Returns:
        ``{schema, digest, fleet, terms, waves, nodes, refused, changes, left, spent, remarks, htlc_wait_seconds}``;
        with any refusal there are no waves. The digest covers what will run and nothing that changes by itself (times,
        heights, latencies).
    """
    refused = [*refusals, *guards.twins(observed)]
    left: dict[str, str] = {}
    nodes: Json = {}
    for node in sorted(desired):
        seen, after = observed.get(node), desired[node]
        if not guards.reachable(seen) or seen is None:
            if policy.get("unreachable") == "leave":
                left[node] = guards.guard(node, seen, [], [], manifests, policy)[0].message
            else:
                refused += guards.guard(node, seen, [], [], manifests, policy)
        elif not spoiled(node, refusals):
            nodes[node], found = node_step(node, seen, after, manifests, policy)
            refused += found
    if left and not nodes and not refused:
        refused += [Refusal(node, "unreachable", message) for node, message in left.items()]
    return _assemble(nodes, refused, observed, {**policy, "left": left})


def spoiled(node: str, refusals: Sequence[Refusal]) -> bool:
    """Whether the desired stack of a node cannot be planned with."""
    return any(refusal.node in (node, "") for refusal in refusals)


def node_step(
    node: str, seen: Json, after: Stack, manifests: Mapping[str, Json], policy: Json
) -> tuple[Json, list[Refusal]]:
    """What has to be done on one reachable node, and what forbids it."""
    step = node_plan(seen, after, manifests, policy)
    found: list[Refusal] = []
    if step["action"] != "none" or not seen["lightningd"]["running"]:
        found = guards.guard(node, seen, step["before"], after, manifests, policy)
    step["payments"] = _plan_remarks.payments(seen, after, policy)
    return step, found


def _assemble(nodes: Json, refused: list[Refusal], observed: Mapping[str, Json | None], policy: Json) -> Json:
    changing = [node for node, step in nodes.items() if step["action"] != "none"]
    unfinished = [node for node in changing if nodes[node]["action"] in ("resume", "revert")]
    waves: list[Json] = []
    try:
        waves = orders.waves(
            changing,
            unfinished,
            {node: observed[node] for node in nodes},
            policy.get("waves") or orders.DEFAULT_WAVES,
            policy.get("separate_channel_peers", True),
        )
    except orders.WavesError as error:
        refused.append(Refusal("", "bad-waves", str(error)))
    result: Json = {
        "schema": SCHEMA,
        "fleet": policy.get("fleet", ""),
        "terms": policy.get("terms") or {},
        "waves": [] if refused else waves,
        "nodes": nodes,
        "refused": [refusal.as_dict() for refusal in refused],
        "changes": len(changing),
        "left": policy["left"],
        "spent": sorted(policy.get("spent") or ()),
    }
    result["digest"] = digest(result, fingerprints(nodes), result["spent"])
    result["remarks"] = _plan_remarks.remarks(result, policy.get("left_out") or [], bool(policy.get("limited")))
    result["remarks"] += [f"left out: {why}" for why in result["left"].values()]
    result["htlc_wait_seconds"] = policy.get("htlc_wait_seconds") or 0
    return result


def fingerprints(nodes: Mapping[str, Json]) -> dict[str, str]:
    """A short name per node that changes for exactly what is done there: the action and the stacks before and after."""
    return {
        node: _sha256({key: step[key] for key in ("action", "before", "after")})[:FINGERPRINT]
        for node, step in nodes.items()
        if step["action"] != "none"
    }


def digest(plan_: Json, steps: Mapping[str, str], spent: Collection[str] = ()) -> str:
    """sha256 over what will run: the waves, the terms, and what is done to each node that changes.

    Args:
        plan_: has ``schema``, ``fleet``, ``terms`` and ``waves``.
        steps: the fingerprints of the nodes.
        spent: digests of plans that were given up. What was approved then is not approved now, so the same plan gets
            another name.
    """
    waves = [{"name": wave["name"], "nodes": wave["nodes"]} for wave in plan_["waves"]]
    runs = {key: plan_[key] for key in ("schema", "fleet", "terms")} | {"waves": waves, "nodes": dict(steps)}
    found = _sha256(runs)
    while found in spent:
        found = _sha256({**runs, "after": found})
    return found


def _sha256(value: Json) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def node_plan(seen: Json, after: Stack, manifests: Mapping[str, Json], policy: Json) -> Json:
    """The plan of one reachable node; the policy's ``rollout`` is the interrupted run that is taken up, "" for none."""
    rollout = str(policy.get("rollout") or "")
    before = normal(running_stack(seen))
    after = normal(after)
    transaction = seen.get("transaction")
    steps: list[str] = []
    if transaction:
        origin = normal(transaction.get("previous") or [])
        own = rollout != "" and transaction.get("rollout") == rollout
        forward = own and transaction.get("phase") in ("open", "switched")
        resumes = forward and same_stack(transaction.get("target") or [], after)
        action = "resume" if resumes else "revert"
        begun = f"switch {transaction['id']} of rollout {transaction.get('rollout')} ({transaction.get('phase')})"
        steps.append(f"go on with the {begun}" if resumes else f"undo the {begun}")
        before = origin
    else:
        action = kind(before, after)
        if action == "none" and drifted(seen):
            action = "change"
            steps.append("put hive.conf back to what was confirmed")
        elif action == "none" and guards.by_hand(seen):
            action = "take over"
        elif action == "none" and _plan_adoption.pending(seen, after, manifests, policy):
            action = "adopt"
        elif action == "none" and rollout and (seen.get("lock") or {}).get("rollout") == rollout:
            action = "resume"
            steps.append(f"give back the lock of rollout {rollout}")
    if action != "none":
        steps += _plan_container.mount_steps(seen, after)
        steps += sentences(before, after, seen)
        steps += _plan_adoption.sentences(seen, before, after, manifests, policy)
        steps += _plan_container.flag_notes(seen, after)
    return {
        "action": action,
        "before": before,
        "after": after,
        "stage": list(dict.fromkeys(guards.to_stage(seen, after) + guards.by_hand(seen))) if action != "none" else [],
        "steps": steps,
        "restart": guards.restart_reason(seen, before, after),
        "remake_container": action != "none" and _plan_container.mount_reason(seen, after) is not None,
        "rollback": guards.rollback_class(before, after, manifests),
    }


def running_stack(seen: Json) -> Stack:
    """What the node runs. Plugins that are installed but disabled are known only to the journal's stable stack."""
    active: Stack = seen.get("stack") or []
    stable: Stack = seen.get("stable_stack") or []
    return stable if same_stack([item for item in stable if item.get("enabled", True)], active) else active


def normal(stack: Sequence[Mapping[str, Any]]) -> Stack:
    """A resolved stack with exactly the keys of the wire form."""
    return [
        {
            "name": item["name"],
            "version": item["version"],
            "digest": item["digest"],
            "enabled": bool(item.get("enabled", True)),
            "options": dict(sorted((item.get("options") or {}).items())),
            **({"replaces": sorted(item["replaces"])} if item.get("replaces") else {}),
        }
        for item in stack
    ]


def drifted(seen: Json) -> bool:
    """Whether somebody changed the managed config since it was written."""
    managed = seen.get("managed_config") or {}
    return bool(managed.get("drift")) or bool(managed.get("strays"))


def kind(before: Stack, after: Stack) -> str:
    """The one word for going from ``before`` to ``after``: none, install, upgrade, downgrade, change or remove.

    Mixed changes are named after what asks for most care: downgrade, then upgrade, install, remove, change.
    """
    if same_stack(before, after):
        return "none"
    old = {item["name"]: item for item in before}
    new = {item["name"]: item for item in after}
    moves = set()
    for name, item in new.items():
        if name not in old:
            moves.add("install")
        elif old[name]["digest"] != item["digest"]:
            older = version_key(item["version"]) < version_key(old[name]["version"])
            moves.add("downgrade" if older else "upgrade")
    if set(old) - set(new):
        moves.add("remove")
    return next((word for word in ("downgrade", "upgrade", "install", "remove") if word in moves), "change")


def sentences(before: Stack, after: Stack, seen: Json) -> list[str]:
    """What will be done, one sentence per act, in the order of the acts."""
    old = {item["name"]: item for item in before}
    new = {item["name"]: item for item in after}
    taken = set(guards.by_hand(seen))
    lines = [f"take over {label(item)}, installed by hand" for item in before if item["digest"] in taken]
    staged = set(guards.to_stage(seen, after)) - taken
    lines += [f"stage {label(item)}" for item in after if item["digest"] in staged]
    touched = [item for item in before if not same_item(item, new.get(item["name"]))]
    if touched:
        lines.append("back up the data of " + ", ".join(item["name"] for item in touched))
    lines += [f"stop {label(item)}" for item in reversed(touched) if item["enabled"]]
    for item in after:
        was = old.get(item["name"])
        if was is not None and same_item(was, item):
            continue
        if not item["enabled"]:
            lines.append(f"keep {label(item)} disabled")
            continue
        lines.append(f"start {label(item)}")
        earlier = was["options"] if was else {}
        lines += [
            f"  {name}: {shown(name, earlier.get(name))} -> {shown(name, item['options'].get(name))}"
            for name in sorted(set(earlier) | set(item["options"]))
            if earlier.get(name) != item["options"].get(name)
        ]
    return lines


def same_item(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether one plugin stays as it is."""
    return other is not None and same_stack([one], [other])


def label(item: Mapping[str, Any]) -> str:
    """A release for people: name, version and the digest it is known by."""
    return f"{item['name']} {item['version']} ({item['digest'][:12]})"


def shown(option: str, value: Any) -> str:
    """An option's value as the plan may show it."""
    if value is None:
        return "default"
    if any(word in option.split("-") for word in SECRET_WORDS):
        return "(hidden)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe(plan_: Json) -> list[str]:
    """The plan as lines to print."""
    lines = []
    nodes: dict[tuple[str, str], list[str]] = {}
    for refusal in plan_["refused"]:
        nodes.setdefault((refusal["code"], refusal["message"]), []).append(refusal["node"])
    for (code, message), where in nodes.items():
        names = ", ".join(node for node in where if node and node not in message)
        lines.append(f"REFUSED ({code}) {names + ': ' if names else ''}{message}")
    if plan_["refused"]:
        return lines
    if not plan_["changes"]:
        lines.append(f"Nothing to change: {len(plan_['nodes'])} nodes run what they should.")
        lines += plan_["remarks"]
        return lines
    told: dict[str, str] = {}
    if "under_way" in plan_:
        lines.append(f"going on with rollout {plan_['under_way']['rollout']}")
    for wave in plan_["waves"]:
        lines.append(f"{wave['name']}: {', '.join(wave['nodes'])}")
        for node in wave["nodes"]:
            state = STATES.get((plan_.get("states") or {}).get(node, ""))
            if state:
                lines.append(f"  {node}: {state}")
                continue
            step = plan_["nodes"][node]
            facts = [step["action"], f"code rollback {step['rollback']}"]
            if step["restart"]:
                facts.append(f"lightningd restarts: {step['restart']}")
            lines.append(f"  {node}: {', '.join(facts)}")
            lines += [
                f"    {line}" for line in _plan_remarks.payment_words(step["payments"], plan_["htlc_wait_seconds"])
            ]
            model = told.setdefault("\n".join(step["steps"]), node)
            lines += [f"    {sentence}" for sentence in (step["steps"] if model == node else [f"as {model}"])]
    planned = {node for wave in plan_["waves"] for node in wave["nodes"]} | set(plan_.get("later") or [])
    idle = sorted(set(plan_["nodes"]) - planned)
    if idle:
        lines.append(f"unchanged: {', '.join(idle)}")
    lines += plan_["remarks"]
    lines += [f"the next stage waits: {refusal['message']}" for refusal in plan_.get("held") or []]
    lines.append(f"plan digest: {plan_['digest']}")
    return lines
