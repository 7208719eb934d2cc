#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_fleet
short_description: Let the nodes of a fleet form one hive
description:
  - Calls C(hive-genesis), C(hive-invite), C(hive-join) and C(hive-members) of the C(cl-hive) plugin on one node.
  - One node founds and invites, each other node joins with its ticket, and all wait until they know each other.
author: [Lightning Hive Rollout contributors]
options:
  node:
    description: The node, as role C(hive_common) describes it.
    type: dict
    required: true
  state:
    description:
      - V(invited) founds a hive when this node is in none, and issues a ticket for each of O(expected) that is not
        yet a member.
      - V(joined) joins with O(ticket) unless this node is in a hive already, and waits until it is a member.
      - V(complete) waits until this node knows every member of O(expected).
    type: str
    choices: [invited, joined, complete]
    required: true
  expected:
    description: Node ids that belong to the hive.
    type: list
    elements: str
    default: []
  ticket:
    description: The ticket to join with.
    type: str
    default: ""
  timeout_seconds:
    description: How long to wait for admission and for all members.
    type: float
    default: 30
attributes:
  check_mode:
    support: full
    description: Says whether it would found, invite or join, and does none of it.
  diff_mode:
    support: none
    description: There is nothing to compare; the members are in the result.
"""

EXAMPLES = r"""
- name: Found the hive and invite the others
  lightning_goats.hive.hive_fleet:
    node: "{{ __hive_common_node }}"
    state: invited
    expected: ["{{ bravo_node_id }}"]
  register: invitation
"""

RETURN = r"""
hive_id:
  description: The hive, empty when the node is in none.
  type: str
  returned: success
node_id:
  description: This node.
  type: str
  returned: success
members:
  description: The node ids of all members that this node knows.
  type: list
  elements: str
  returned: success
tickets:
  description: The ticket of each node that is not yet a member, by node id.
  type: dict
  returned: when O(state=invited)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lightning_goats.hive.plugins.module_utils import _fleet
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc

ARGUMENTS = {
    "node": {"type": "dict", "required": True},
    "state": {"type": "str", "choices": ["invited", "joined", "complete"], "required": True},
    "expected": {"type": "list", "elements": "str", "default": []},
    "ticket": {"type": "str", "default": "", "no_log": True},
    "timeout_seconds": {"type": "float", "default": 30.0},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "joined", ["ticket"])]
    )
    asked = module.params
    try:
        node = Node.from_params(asked["node"])
        rpc = Rpc(node.socket, fallback=list(node.lightning_cli))
        if asked["state"] == "invited":
            result = _fleet.invite(rpc, asked["expected"], module.check_mode)
        elif asked["state"] == "joined":
            result = _fleet.join(rpc, asked["ticket"], asked["timeout_seconds"], module.check_mode)
        else:
            result = _fleet.wait(rpc, asked["expected"], asked["timeout_seconds"])
    except HiveError as error:
        module.fail_json(msg=f"{asked['node'].get('name', 'node')}: {error.message}", code=error.code)
    words = {
        "invited": "invited {0} nodes into hive {1}",
        "joined": "joined hive {1}",
        "complete": "hive {1} is complete",
    }
    said = words[asked["state"]].format(len(result.get("tickets", {})), result["hive_id"])
    module.exit_json(msg=f"{said}, {len(result['members'])} members", **result)


if __name__ == "__main__":
    main()
