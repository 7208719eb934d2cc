# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What must hold on a node before anything is changed there. Pure, controller only.

The node checks the same again at the start of its switch; here it is checked for the whole fleet first, so that one
node that is not fit keeps all of them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_adoption, _plan_container
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import (
    Json,
    Refusal,
    Stack,
    cln_key,
    version_key,
)

# A slot takes the artifact, its unpacked copy and the scratch that unpacking needs.
SLOT_FACTOR = 5
# What observe reports and the rollout itself puts right.
REPAIRABLE = frozenset({"config-drift", "by-hand", "database-elsewhere"})

Finding = tuple[str, str]


def guard(
    node: str, seen: Json | None, before: Stack, after: Stack, manifests: Mapping[str, Json], policy: Json
) -> list[Refusal]:
    """Everything that forbids taking ``node`` from ``before`` to ``after``; ``manifests`` by digest.

    ``seen`` is the node's observation, None when there is none.
    """
    if seen is None:
        return [Refusal(node, "unreachable", f"{node} was not observed: look at its connection, then run again.")]
    # A stack that the node goes back to may be unknown here: the node has its manifests and checks them itself.
    targets = [manifests[item["digest"]] for item in after if item["enabled"] and item["digest"] in manifests]
    findings: list[Finding] = []
    for check in (_answers, _lock, _problems):
        findings += check(node, seen, policy)
    if not any(code in ("unreachable", "lightningd-down") for code, _ in findings):
        findings += _lightningd(node, seen, targets)
        findings += _htlcs(node, seen, policy)
        findings += _quarantine(node, seen, after, policy)
        # The names of our own plugin in half a slot look like somebody else's; that problem says what to do.
        if not any(code == "unknown-slot" for code, _ in findings):
            findings += _names(node, seen, targets, set(_plan_adoption.replaced(after)))
        findings += _disk(node, seen, after, manifests, policy)
        findings += _python(node, seen, targets)
        findings += _schemas(node, seen, targets, before, manifests)
        findings += _restart(node, seen, before, after, policy)
        findings += _plan_adoption.findings(node, seen, after, manifests, policy)
    return [
        Refusal(node, code, message)
        for code, message in dict(findings).items()
        if _plan_container.concerns(code, before, after)
    ]


def twins(observed: Mapping[str, Json | None]) -> list[Refusal]:
    """Nodes of the run that are one and the same: what is done twice to it undoes itself, a rollback first of all."""
    names: dict[str, str] = {}
    found = []
    for node in sorted(observed):
        node_id = ((observed[node] or {}).get("lightningd") or {}).get("node_id")
        other = names.setdefault(node_id, node) if node_id else node
        if other != node:
            found.append(
                Refusal(
                    node,
                    "same-node",
                    f"{other} and {node} are the same node ({node_id}): take one of the names out of the inventory, or "
                    "correct its hive_lightning_dir.",
                )
            )
    return found


def reachable(seen: Json | None) -> bool:
    """Whether the observation says anything about the node."""
    return seen is not None and not any(p["code"] == "unreachable" for p in seen.get("problems", []))


def _answers(node: str, seen: Json, policy: Json) -> Iterator[Finding]:
    unreachable = [p["message"] for p in seen.get("problems", []) if p["code"] == "unreachable"]
    if unreachable:
        yield "unreachable", unreachable[0]
    elif not seen["lightningd"]["running"]:
        yield "lightningd-down", f"lightningd of {node} does not answer: start it, then run again."


def _lock(node: str, seen: Json, policy: Json) -> Iterator[Finding]:
    lock = seen.get("lock")
    if not lock or lock.get("rollout") == policy.get("rollout"):
        return
    holder = f"rollout {lock.get('rollout')} of {lock.get('owner') or 'nobody'}"
    if not lock.get("stale"):
        yield (
            "locked",
            f"{node} is held by {holder}: wait for that run to end, or end it with playbooks/confirm.yml or "
            "playbooks/rollback.yml when you know that it is dead.",
        )
    elif not policy.get("break_lock"):
        yield (
            "stale-lock",
            f"{node} has the stale lock of {holder}: when you know that it is dead, run again with "
            "-e hive_break_lock=true.",
        )


def _problems(node: str, seen: Json, policy: Json) -> Iterator[Finding]:
    for problem in seen.get("problems", []):
        if problem["code"] not in REPAIRABLE | {"unreachable", "lightningd-down", "locked"}:
            told = str(problem["message"])
            yield problem["code"], told if told.startswith(f"{node} ") else f"{node}: {told}"


def _lightningd(node: str, seen: Json, targets: list[Json]) -> Iterator[Finding]:
    lightningd = seen["lightningd"]
    if not lightningd.get("ready", True):
        yield "not-ready", f"lightningd of {node} is still starting its plugins: run again when it is done."
    if not lightningd.get("synced", False):
        warning = next(iter(lightningd.get("warnings") or []), "it gives no reason")
        yield (
            "syncing",
            f"{node} is still syncing at height {lightningd.get('blockheight')} ({warning}): run again when it has "
            "caught up.",
        )
    for manifest in targets:
        least = manifest["requires"]["cln"]
        if cln_key(str(lightningd.get("version", ""))) < cln_key(least):
            yield (
                "cln-too-old",
                f"{manifest['name']} {manifest['version']} needs lightningd {least}, {node} runs "
                f"{lightningd.get('version')}: upgrade lightningd first, or choose an earlier release.",
            )


def _htlcs(node: str, seen: Json, policy: Json) -> Iterator[Finding]:
    expiry = (seen.get("pending_htlcs") or {}).get("nearest_expiry")
    height = seen["lightningd"].get("blockheight")
    margin = policy.get("htlc_margin_blocks", 0)
    if policy.get("htlc_wait_seconds"):
        # A payment in flight now says little about the moment of the switch: the node itself waits, then refuses.
        return
    if expiry and height is not None and expiry - height < margin:
        yield (
            "htlc-expiring",
            f"A payment through {node} expires in {expiry - height} blocks, fewer than the {margin} of "
            "hive_htlc_margin_blocks: run again when it is settled.",
        )


def _quarantine(node: str, seen: Json, after: Stack, policy: Json) -> Iterator[Finding]:
    held = {entry["digest"]: entry for entry in seen.get("quarantine") or []}
    for item in after:
        entry = held.get(item["digest"])
        if item["enabled"] and entry is not None and not policy.get("lift_quarantine"):
            yield (
                "quarantined",
                f"{item['name']} {item['version']} is quarantined on {node} ({entry['reason']}): choose another "
                "release, or try this one again with -e hive_lift_quarantine=true.",
            )


def _names(node: str, seen: Json, targets: list[Json], leaving: set[str]) -> Iterator[Finding]:
    """Names that are taken; ``leaving`` are the paths of plugins that the stack takes the place of."""
    ours = {plugin["path"] for plugin in seen.get("plugins", []) if plugin.get("ours")} | leaving
    # Nobody tells which methods a plugin that is not ours has: when one leaves, those without an owner may be its own.
    vague = any(plugin["path"] in leaving for plugin in seen.get("plugins", []))
    hint = _plan_adoption.advice(seen, [str(manifest["name"]) for manifest in targets])
    methods = seen.get("rpc_methods") or {}
    options = seen.get("options") or {}
    for manifest in targets:
        what = f"{manifest['name']} {manifest['version']}"
        for method in manifest["rpc_methods"]:
            owner = methods.get(method)
            # A name without a known owner is taken all the same; a clash with a built-in one kills lightningd.
            if owner is None or owner in ours or (vague and not owner):
                continue
            by = "lightningd itself" if owner == "builtin" else owner or "another plugin"
            yield (
                "rpc-collision",
                f"{what} brings the RPC method {method}, which {node} already has from {by}: take that plugin out "
                f"of lightningd's config and stop it, or leave this one out of hive_stack.{hint}",
            )
            break
        for option in manifest["options"]:
            holder = options.get(option["name"])
            owner = (holder or {}).get("plugin") or ("" if holder is None else "lightningd itself")
            if holder is not None and owner and owner not in ours:
                yield (
                    "option-collision",
                    f"{what} brings the option {option['name']}, which {node} already has from {owner}: take that "
                    "plugin out of lightningd's config and stop it, or leave this one out of hive_stack.",
                )
                break


def to_stage(seen: Json, after: Stack) -> list[str]:
    """The digests of ``after`` for which the node has no complete slot, in start order."""
    complete = {slot["digest"] for slot in seen.get("slots", []) if slot.get("complete")}
    return [item["digest"] for item in after if item["digest"] not in complete]


def by_hand(seen: Json) -> list[str]:
    """The digests of what runs from slots that were made by hand: the next rollout takes them over."""
    complete = {slot["digest"] for slot in seen.get("slots", []) if slot.get("complete")}
    return [item["digest"] for item in seen.get("stack") or [] if item["digest"] not in complete]


def _disk(node: str, seen: Json, after: Stack, manifests: Mapping[str, Json], policy: Json) -> Iterator[Finding]:
    free = (seen.get("disk") or {}).get("free_bytes")
    slots = sum(
        manifests[digest]["artifact"]["size"] * SLOT_FACTOR for digest in to_stage(seen, after) if digest in manifests
    )
    data = sum(database.get("size") or 0 for database in (seen.get("databases") or {}).values())
    need = policy.get("min_free_bytes", 0) + slots + data
    if free is not None and free < need:
        yield (
            "disk-full",
            f"{node} has {mib(free)} free where hive_state_dir is, this needs {mib(need)} (new slots {mib(slots)}, a "
            f"backup {mib(data)}, and hive_min_free_bytes): make room, then run again.",
        )
    free, need = (seen.get("disk") or {}).get("lightning_free_bytes"), policy.get("min_free_bytes", 0)
    if free is not None and free < need:
        yield (
            "disk-full",
            f"{node} has {mib(free)} free where lightningd and its plugins write, hive_min_free_bytes are "
            f"{mib(need)}: make room, then run again.",
        )


def mib(size: int) -> str:
    """``size`` bytes for people."""
    return f"{size / 2**20:.0f} MiB"


def _python(node: str, seen: Json, targets: list[Json]) -> Iterator[Finding]:
    python = seen.get("python") or {}
    for manifest in targets:
        if python.get("tag") and python["tag"] not in manifest["python"]["tags"]:
            yield (
                "python-unsupported",
                f"{manifest['name']} {manifest['version']} runs on {', '.join(manifest['python']['tags'])}, "
                f"{python.get('path')} of {node} is {python['tag']}: set hive_python to one of those.",
            )
            return


def _schemas(
    node: str, seen: Json, targets: list[Json], before: Stack, manifests: Mapping[str, Json]
) -> Iterator[Finding]:
    by_name = {m["name"]: m for m in targets}
    running = {item["name"]: manifests.get(item["digest"]) for item in before}
    for name, database in (seen.get("databases") or {}).items():
        target = by_name.get(name)
        if target is None or (database.get("user_version") or 0) <= target["schema_version"]:
            continue
        now = running.get(name)
        if now is not None and version_key(target["version"]) >= version_key(now["readable_by"]):
            continue
        yield (
            "schema-too-new",
            f"The data of {name} on {node} has schema {database['user_version']}, {target['version']} knows "
            f"{target['schema_version']}: choose a release that knows it, or restore a backup of the older schema with "
            "playbooks/restore.yml first.",
        )


def restart_reason(seen: Json, before: Stack, after: Stack) -> str | None:
    """Why lightningd would have to be restarted for this change, None when it need not be."""
    changed = {item["name"] for item in before if item not in after}
    for plugin in seen.get("plugins", []):
        if plugin.get("ours") and plugin.get("name") in changed and plugin.get("dynamic") is False:
            return f"{plugin['name']} ({plugin['path']}) cannot be stopped while lightningd runs"
    return _plan_container.mount_reason(seen, after)


def _restart(node: str, seen: Json, before: Stack, after: Stack, policy: Json) -> Iterator[Finding]:
    reason = restart_reason(seen, before, after)
    if reason and not policy.get("allow_lightningd_restart"):
        yield (
            "needs-restart",
            f"lightningd of {node} would have to restart because {reason}: run again with -e "
            "hive_allow_lightningd_restart=true in a quiet hour.",
        )


def rollback_class(before: Stack, after: Stack, manifests: Mapping[str, Any]) -> str:
    """How the way back looks once ``after`` has run: ``safe``, ``needs-restore`` or ``impossible``.

    Safe when each earlier release can read the schema that the new one leaves; plugins that are new or only removed
    leave nothing that anybody else reads. Impossible when an earlier release is unknown.
    """
    new = {item["name"]: item for item in after}
    result = "safe"
    for item in before:
        successor = new.get(item["name"])
        if successor is None or successor["digest"] == item["digest"]:
            continue
        old, fresh = manifests.get(item["digest"]), manifests.get(successor["digest"])
        if old is None or fresh is None:
            return "impossible"
        readable = version_key(old["version"]) >= version_key(fresh["readable_by"])
        if fresh["schema_version"] > old["schema_version"] and not readable:
            result = "needs-restore"
    return result
