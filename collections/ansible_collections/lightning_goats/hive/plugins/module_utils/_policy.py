# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The default-enable policy: which stack a node of the fleet runs when its inventory names none. Controller only.

Before a fleet has stood on one stack for its whole stability window there is no default, and a node without
``hive_stack`` is refused. ``finalize.yml`` writes the policy once there is one; people review it in git beside the
registers, and take it back by removing the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plain_files
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

SCHEMA = 1
FILE = "policy.yml"
MAX_BYTES = 64 * 1024
HEAD = (
    "# What a node of this fleet runs when its inventory has no hive_stack.\n"
    "# Written by playbooks/finalize.yml; remove it, and every node has to name its stack again.\n"
)


def propose(
    fleet: str, observed: Mapping[str, Json | None], absent: Sequence[str], now: float, stability_seconds: float
) -> tuple[Json | None, list[str]]:
    """The policy that what the nodes run allows, and why there is none.

    Args:
        observed: observation per node, None for one that does not answer.
        absent: nodes of the fleet that are not in this run.
        now: unix seconds.
        stability_seconds: how long each node must have stood on the stack since it was confirmed.

    Returns:
        ``({schema, fleet, stack: [{name, version}], rollout}, [])``, or ``(None, reasons)``. Options are each node's
        own and may be secret: they are no part of it.
    """
    reasons = [f"{node} is not in this run" for node in absent]
    stacks: dict[tuple[tuple[str, str], ...], list[str]] = {}
    rollout = ""
    for node in sorted(observed):
        seen = observed[node]
        problem = _problem(seen, now, stability_seconds)
        if seen is None or problem:
            reasons.append(f"{node} {problem}")
            continue
        stack = tuple((str(i["name"]), str(i["version"])) for i in seen["stable_stack"] if i.get("enabled", True))
        stacks.setdefault(stack, []).append(node)
        rollout = rollout or str(_confirmed(seen)["rollout"])
    if len(stacks) > 1:
        words = (f"{nodes[0]} runs {_words(stack)}" for stack, nodes in sorted(stacks.items(), key=lambda one: one[1]))
        reasons.append("the nodes differ: " + "; ".join(words))
    if reasons or not stacks:
        return None, reasons or ["there is no node"]
    (stack,) = stacks
    plugins = [{"name": name, "version": version} for name, version in stack]
    return {"schema": SCHEMA, "fleet": fleet, "stack": plugins, "rollout": rollout}, []


def _problem(seen: Json | None, now: float, stability_seconds: float) -> str:
    """Why the stack of a node is no model for others, "" when it is."""
    if seen is None or "lightningd" not in seen:
        return "does not answer"
    if seen.get("transaction"):
        return "has an open switch"
    soak = seen.get("soak")
    if soak and soak["state"] != "soaked":
        return f"is in the soak of stage {soak['stage']} ({soak['state']})"
    if not seen.get("stable_stack"):
        return "runs no stack of ours"
    stood = now - float(_confirmed(seen).get("ended_at") or now)
    if stood < stability_seconds:
        return f"has stood for {stood / 86400:.1f} of {stability_seconds / 86400:.1f} days"
    return ""


def _confirmed(seen: Json) -> Json:
    """The newest transaction of a node that was kept; empty when its journal has none."""
    kept: list[Json] = [entry for entry in seen.get("history") or [] if entry["result"] == "confirmed"]
    return kept[0] if kept else {}


def _words(stack: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in stack) or "nothing"


def read(registers: Path, fleet: str) -> Json | None:
    """The policy in force, None for none. Raises ReleaseError ``policy`` for one that cannot be understood."""
    path = registers / FILE
    try:
        data = _plain_files.read(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError("policy", f"{path} cannot be read ({error.strerror}): mend that, or remove it.") from error
    try:
        policy: Any = _plain_files.load_yaml(data) if len(data) <= MAX_BYTES else None
    except (yaml.YAMLError, ValueError, RecursionError):
        policy = None
    if not _understood(policy):
        raise ReleaseError(
            "policy",
            f"{path} is no default policy: it has schema: {SCHEMA}, fleet, rollout and a stack of names and versions; "
            "mend it, or remove it and run playbooks/finalize.yml.",
        )
    known: Json = policy
    if known["fleet"] != fleet:
        raise ReleaseError("policy", f"{path} is of the fleet {known['fleet']} and not of {fleet}: remove it.")
    return known


def _understood(found: Any) -> bool:
    if not isinstance(found, dict) or set(found) != {"schema", "fleet", "stack", "rollout"}:
        return False
    stack = found["stack"]
    entries = stack if isinstance(stack, list) and stack else [None]
    return (
        found["schema"] == SCHEMA
        and all(isinstance(found[key], str) for key in ("fleet", "rollout"))
        and all(
            isinstance(item, dict)
            and set(item) == {"name", "version"}
            and all(isinstance(word, str) and word for word in item.values())
            for item in entries
        )
    )


def write(registers: Path, policy: Json) -> bool:
    """Put the policy in force; whether it was another one before. Raises OSError."""
    path = registers / FILE
    text = HEAD + yaml.safe_dump(policy, sort_keys=False)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    registers.mkdir(parents=True, exist_ok=True)
    fresh = registers / f".{FILE}.{os.getpid()}"
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def sentence(policy: Json) -> str:
    """The policy for people."""
    stack = _words([(item["name"], item["version"]) for item in policy["stack"]])
    return f"nodes of {policy['fleet']} run {stack} from now on unless their inventory says otherwise"
