#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_restore
short_description: Restore the data of a node's hive plugins from a backup set, behind a fence
description:
  - Restores databases and key files of our plugins only. lightningd's own database, C(hsm_secret) and
    C(emergency.recover) are never touched.
  - Without O(apply) it only says what would change and what would be lost, table by table, key by key.
  - Where anything would be lost, the exact phrase that RV(phrase) shows must be given in O(phrase).
  - A set goes back whole, all its plugins together. It must be of this node, signed by it, and readable by the
    releases that are there.
  - The plugins are stopped for the moment of the exchange. What is replaced is kept aside, and comes back when a
    plugin does not get healthy with the restored data.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
  - lightning_goats.hive.timeouts
options:
  set:
    description: Name of the backup set. Empty takes the newest one that holds when it is checked now.
    type: str
    default: ""
  unsigned:
    description: Take a set that nobody has signed, as older releases made them. A forged one is refused all the same.
    type: bool
    default: false
  restore_as:
    description:
      - Name of this node, when the set is of another one. Plugins whose data belongs to that one's identity then stay
        out, and keep what they have here.
    type: str
    default: ""
  identity:
    description:
      - With O(restore_as), bring the other node's keys along, with the data that belongs to them. Two nodes must never
        run with the same ones.
    type: bool
    default: false
  apply:
    description: Restore, and not only say what that would mean.
    type: bool
    default: false
  phrase:
    description: The confirmation phrase.
    type: str
    default: ""
  rollout:
    description: Name under which the node is locked meanwhile.
    type: str
    default: restore
  owner:
    description: Who restores. Empty takes O(rollout).
    type: str
    default: ""
  min_free_bytes:
    description: What has to stay free on the node's disk beside the restored files and the set of what is there now.
    type: int
    default: 268435456
  break_lock:
    description: Take the node from a rollout whose lock is stale.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change, as without O(apply).
    support: full
  diff_mode:
    description: The stack does not change; RV(loss) shows the data that does.
    support: none
"""

EXAMPLES = r"""
- name: Say what would be lost
  lightning_goats.hive.hive_restore:
    node: "{{ __hive_common_node }}"
    set: 20261122T143138Z-4f53cda1-19e0

- name: Restore the plugins' data
  lightning_goats.hive.hive_restore:
    node: "{{ __hive_common_node }}"
    set: 20261122T143138Z-4f53cda1-19e0
    apply: true
    phrase: restore 20261122T143138Z-4f53cda1-19e0 on alpha and lose what came after
"""

RETURN = r"""
loss:
  description:
    - Per plugin and table, rows C(now), rows C(then) in the set, rows C(lost) or changed, and rows brought C(back).
  returned: always, once the set was read
  type: dict
plugins:
  description:
    - Per plugin, C(schema) now, in the set and afterwards; C(identity), the public key or DID, now and afterwards;
      C(key_files) by fingerprint; C(receipts), where the chain ends now and in the set and which receipts
      would be gone; and C(rows), as in RV(loss).
  returned: always, once the set was read
  type: dict
passed_over:
  description: Newer sets that were not taken, and why, when O(set) is empty.
  returned: always, once the set was read
  type: list
notes:
  description: What is worth knowing and no reason to refuse, one sentence each.
  returned: always, once the set was read
  type: list
allowed:
  description: The playbook's variables, by name, without which this set would be refused.
  returned: always, once the set was read
  type: dict
follows:
  description: What the plugins do now that their data is older than the world, and what is left to the operator.
  returned: when restored
  type: list
fence:
  description: Why the phrase is needed, one sentence each. Empty when nothing would be lost.
  returned: always, once the set was read
  type: list
phrase:
  description: The phrase to give, empty when none is needed.
  returned: always, once the set was read
  type: str
set:
  description: When, at which height, of which node and with which stack the set was made, and whether it is signed.
  returned: always, once the set was read
  type: dict
aside:
  description: Directory on the node that keeps what was replaced.
  returned: when restored
  type: str
phase:
  description: confirmed when restored, planned when not applied, refused or reverted when it failed.
  returned: always
  type: str
downtime_ms:
  description: Per plugin, milliseconds without an answer.
  returned: always
  type: dict
journal:
  description: The journal entries of the transaction.
  returned: always
  type: list
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request, Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.restore import RestoreRequest, restore

OPTIONS: dict[str, Any] = {
    "set": {"type": "str", "default": ""},
    "apply": {"type": "bool", "default": False},
    "phrase": {"type": "str", "default": ""},
    "unsigned": {"type": "bool", "default": False},
    "restore_as": {"type": "str", "default": ""},
    "identity": {"type": "bool", "default": False},
    "rollout": {"type": "str", "default": "restore"},
    "owner": {"type": "str", "default": ""},
    "min_free_bytes": {"type": "int", "default": 268435456},
    "break_lock": {"type": "bool", "default": False},
    "timeouts": TIMEOUTS,
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Hand the request to the engine."""
    request = Request(
        state="restored",
        rollout=parameters["rollout"],
        owner=parameters["owner"],
        break_lock=parameters["break_lock"],
        deadman_seconds=0.0,
        timeouts=Timeouts.from_params(parameters["timeouts"]),
        min_free_bytes=parameters["min_free_bytes"],
        check_mode=check_mode or not parameters["apply"],
    )
    wanted = RestoreRequest(
        parameters["set"],
        parameters["apply"],
        parameters["phrase"],
        request,
        unsigned=parameters["unsigned"],
        restore_as=parameters["restore_as"],
        identity=parameters["identity"],
    )
    return restore(Node.from_params(parameters["node"]), wanted)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
