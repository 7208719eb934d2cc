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
  - Without O(apply) it only says what would be lost, table by table.
  - Where anything would be lost, the exact phrase that RV(phrase) shows must be given in O(phrase).
  - The plugins are stopped for the moment of the exchange. What is replaced is kept aside, and comes back when a
    plugin does not get healthy with the restored data.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  set:
    description: Name of the backup set. Empty takes the newest verified one.
    type: str
    default: ""
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
  break_lock:
    description: Take the node from a rollout whose lock is stale.
    type: bool
    default: false
  timeouts:
    description: Seconds that each part may take, as in M(lightning_goats.hive.hive_switch).
    type: dict
    default: {}
    suboptions:
      getmanifest:
        description: A plugin's answer to getmanifest, by default 10.
        type: float
      init:
        description: A plugin's answer to init, by default 30.
        type: float
      stop:
        description: Stopping one plugin, by default 10.
        type: float
      rpc:
        description: Any other call of lightningd, by default 15.
        type: float
      healthy:
        description: From start to a good answer of the health RPC, by default 5.
        type: float
      ready:
        description: Until all plugins of lightningd are active, by default 60.
        type: float
      validate:
        description: lightningd's reading of a configuration, by default 30.
        type: float
      engine:
        description: Waiting for another engine on this node, by default 120.
        type: float
attributes:
  check_mode:
    description: Says what would be lost, as without O(apply).
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
  description: Per plugin and table, rows now, rows in the set, and rows that would be lost or changed.
  returned: always, once the set was read
  type: dict
fence:
  description: Why the phrase is needed, one sentence each. Empty when nothing would be lost.
  returned: always, once the set was read
  type: list
phrase:
  description: The phrase to give, empty when none is needed.
  returned: always, once the set was read
  type: str
set:
  description: When, at which height and with which stack the set was made.
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
    "rollout": {"type": "str", "default": "restore"},
    "owner": {"type": "str", "default": ""},
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
        check_mode=check_mode or not parameters["apply"],
    )
    wanted = RestoreRequest(parameters["set"], parameters["apply"], parameters["phrase"], request)
    return restore(Node.from_params(parameters["node"]), wanted)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
