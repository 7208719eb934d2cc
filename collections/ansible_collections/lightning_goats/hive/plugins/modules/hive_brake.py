#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_brake
short_description: Set or release the brake or the pause of a node
description:
  - The brake is a file in the node's state directory, and so is the pause. Anybody on the node can make them with
    C(touch) too.
  - While the brake is set no switch begins on the node, and an open one that is not confirmed is undone at once. A run
    that sees it anywhere stops everywhere.
  - While a node is paused, the stage that is under way is finished and no further one starts.
  - Neither stops a way back.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  kind:
    description: Which of the two.
    type: str
    choices: [brake, pause]
    default: brake
  state:
    description: Whether it is set.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why, for everybody who meets it. What stands there already is kept.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says whether something would change.
    support: full
  diff_mode:
    description: Shows the reason before and after.
    support: full
"""

EXAMPLES = r"""
- name: Stop everything
  lightning_goats.hive.hive_brake:
    node: "{{ __hive_common_node }}"
    reason: channels are closing

- name: Let it go on
  lightning_goats.hive.hive_brake:
    node: "{{ __hive_common_node }}"
    state: absent

- name: Start no further stage
  lightning_goats.hive.hive_brake:
    node: "{{ __hive_common_node }}"
    kind: pause
    reason: weekend
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
reason:
  description: Why it is set now, empty when it is not.
  returned: always
  type: str
msg:
  description: The same in words.
  returned: always
  type: str
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.brake import (
    clear_mark,
    mark_file,
    plain,
    read_mark,
    set_mark,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node

OPTIONS: dict[str, Any] = {
    "kind": {"type": "str", "choices": ["brake", "pause"], "default": "brake"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "reason": {"type": "str", "default": ""},
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the file to what is wanted."""
    node = Node.from_params(parameters["node"])
    kind, wanted = parameters["kind"], parameters["state"] == "present"
    before = read_mark(node, kind)
    changed = bool(before) != wanted
    if changed and not check_mode:
        changed = set_mark(node, kind, parameters["reason"]) if wanted else clear_mark(node, kind)
        after = read_mark(node, kind)
    elif changed:
        after = (plain(parameters["reason"]) or "set, without a word why") if wanted else ""
    else:
        after = before
    header = f"{kind} of {node.name}"
    return {
        "changed": changed,
        "path": str(mark_file(node, kind)),
        "reason": after,
        "msg": f"{kind} set: {after}" if after else f"{kind} released" if changed else f"no {kind} is set",
        "diff": {
            "before_header": header,
            "after_header": header,
            "before": f"{before}\n" if before else "",
            "after": f"{after}\n" if after else "",
        },
    }


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
