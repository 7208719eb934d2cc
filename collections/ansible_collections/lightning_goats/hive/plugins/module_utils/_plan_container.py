# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What a node's container means for its plan: the image's switches, the slots' mount, data in the wrong place. Pure.

The image of the field has a switch for two of the plugins in its environment. hive_stack is what was read and
approved, so where it says `enabled` that counts; where it says nothing, the switch does. They may not contradict each
other in the one way that hurts: a switch that is on lets the image start its own copy of the plugin at every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json, Refusal, Stack

FLAGS = {"cl-hive-comms": "HIVE_COMMS_ENABLED", "cl-hive-archon": "HIVE_ARCHON_ENABLED"}
# Of no concern where a plugin is not started that did not run before.
WHEN_ADDING = frozenset({"database-in-layer", "database-left"})
# Of no concern where nothing of ours is left.
WHEN_KEEPING = frozenset({"config-regenerated", "slots-writable", "data-in-layer", "other-directory", "owner-differs"})


def with_flags(node: str, wanted: Any, seen: Json | None) -> tuple[Any, list[Refusal]]:
    """hive_stack of a node with the container's switches where it says nothing, and where the two contradict."""
    container = (seen or {}).get("container")
    if not container or not isinstance(wanted, list):
        return wanted, []
    env, name = container["env"], container["name"]
    refusals = []
    result = []
    for item in wanted:
        flag = FLAGS.get(str(item.get("name"))) if isinstance(item, Mapping) else None
        switch = env.get(flag) if flag else None
        if switch is None:
            result.append(item)
            continue
        if "enabled" not in item:
            item = {**item, "enabled": switch}
        elif item["enabled"] is False and switch:
            refusals.append(
                Refusal(
                    node,
                    "flag-contradiction",
                    f"hive_stack of {node} disables {item['name']}, and {flag}=true of container {name} lets the image "
                    "start its own copy: hive_stack counts, so set the variable to false where the container is "
                    "defined.",
                )
            )
        result.append(item)
    if env.get(FLAGS["cl-hive-archon"]) and env.get(FLAGS["cl-hive-comms"]) is False:
        refusals.append(
            Refusal(
                node,
                "flag-contradiction",
                f"container {name} of {node} has {FLAGS['cl-hive-archon']}=true and {FLAGS['cl-hive-comms']}=false: "
                "archon does not run without comms, and the image does not start like that; set both or neither.",
            )
        )
    return result, refusals


def flag_notes(seen: Json, after: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences for the plan where hive_stack counts and a switch says otherwise."""
    container = seen.get("container")
    if not container:
        return []
    return [
        f"{FLAGS[item['name']]}=false of container {container['name']} concerns the image's own copy; "
        f"{item['name']} of the stack is started all the same"
        for item in after
        if item["enabled"] and container["env"].get(FLAGS.get(item["name"], "")) is False
    ]


def mount_reason(seen: Json, after: Stack) -> str | None:
    """Why the container has to be made anew for this stack; None when it need not be."""
    container = seen.get("container")
    if not container or container["slots_mounted"] or not any(item["enabled"] for item in after):
        return None
    return f"container {container['name']} does not see the slots and is made anew with one mount more"


def mount_steps(seen: Json, after: Stack) -> list[str]:
    """What is done for that, as sentences."""
    if mount_reason(seen, after) is None:
        return []
    name = seen["container"]["name"]
    through = " (compose's, by an override file)" if seen["container"]["compose"] else ""
    return [
        "wait for payments in flight, then stop lightningd",
        f"make container {name}{through} anew with the slots mounted read-only; image, environment, volumes, networks, "
        "ports and name stay",
        "keep the old container until the node is confirmed",
    ]


def concerns(code: str, before: Stack, after: Stack) -> bool:
    """Whether a problem that observe reports stands in the way of this very change."""
    if code in WHEN_ADDING:
        return bool({item["name"] for item in after if item["enabled"]} - {item["name"] for item in before})
    return code not in WHEN_KEEPING or bool(after)
