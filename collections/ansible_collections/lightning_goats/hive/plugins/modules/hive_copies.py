#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_copies
short_description: Keep encrypted copies of a node's backup sets on the controller, and bring one back
description:
  - The node needs neither a tool nor root for it. The set is encrypted with age on the controller, for O(recipients).
  - A set that has a sound copy is not copied again. The last sound copy is never removed.
  - A set that comes back is verified whole, file by file, before it appears among the node's sets.
  - The newest channel backup of lightningd that the node's backups keep is copied beside the sets, the newest and no
    other. Nothing here ever brings it back.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  state:
    description: V(present) pulls a copy of a set. V(fetched) brings the set of O(file) back to the node.
    type: str
    choices: [present, fetched]
    default: present
  set:
    description: Name of the set. Empty takes the newest verified one, or whatever O(file) holds.
    type: str
    default: ""
  copies_dir:
    description: Where the copies lie on the controller, one folder for each node.
    type: path
    required: true
  recipients:
    description: Public keys of age that can open the copy. With none there is no copy.
    type: list
    elements: str
    default: []
  identity:
    description: Key file of age on the controller, needed to open a copy.
    type: path
    default: ""
  make_identity:
    description: Encrypt to the key of O(identity) when O(recipients) is empty, and make that file when there is none.
    type: bool
    default: false
  keep:
    description: Copies to keep of this node.
    type: int
    default: 10
  file:
    description: The copy to bring back, for O(state=fetched).
    type: path
    default: ""
  pack_into:
    description: Directory on the node for the archive of the set. The action plugin sets it; do not set it.
    type: path
    default: ""
  pack:
    description: What is written there. The action plugin sets it; do not set it.
    type: str
    choices: [set, channels]
    default: set
  incoming:
    description: The opened archive on the node. The action plugin sets it after the transfer; do not set it.
    type: path
    default: ""
  min_free_bytes:
    description: What has to stay free on the node's disk beside a set that is packed or brought back. V(0) does not
      look.
    type: int
    default: 268435456
attributes:
  check_mode:
    description: Says whether a set would be copied or brought back.
    support: full
  diff_mode:
    description: Lists the copies before and after, by name.
    support: full
"""

EXAMPLES = r"""
- name: Pull an encrypted copy of the newest set
  lightning_goats.hive.hive_copies:
    node: "{{ __hive_common_node }}"
    copies_dir: var/backups
    recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]

- name: Bring a set back
  lightning_goats.hive.hive_copies:
    node: "{{ __hive_common_node }}"
    state: fetched
    copies_dir: var/backups
    file: var/backups/alpha/20261122T143138Z-4f53cda1-19e0.tar.age
    identity: ~/.config/hive/age-identity.txt
"""

RETURN = r"""
set:
  description: The set that was copied or brought back, null when there is none.
  returned: success
  type: dict
  contains:
    id:
      description: Its name.
      type: str
    path:
      description: Its directory on the node.
      type: str
    bytes:
      description: Size of its files.
      type: int
copy:
  description: The copy on the controller, with set, path and bytes. Null when there is none.
  returned: success
  type: dict
channels:
  description: Where the newest channel backup of lightningd lies, encrypted, on the controller; empty when the node's
    backups keep none.
  returned: success
  type: str
removed:
  description: Sets whose copies were removed because there are newer ones.
  returned: success
  type: list
remark:
  description: Why there is no copy, empty when there is one.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._copies_node import (
    channel_backup,
    chosen_set,
    facts_of,
    from_archive,
    pack,
    pack_channels,
    present_whole,
    take_in,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "fetched"], "default": "present"},
    "set": {"type": "str", "default": ""},
    "copies_dir": {"type": "path", "required": True},
    "recipients": {"type": "list", "elements": "str", "default": []},
    "identity": {"type": "path", "default": ""},
    "make_identity": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 10},
    "file": {"type": "path", "default": ""},
    "pack_into": {"type": "path", "default": ""},
    "pack": {"type": "str", "choices": ["set", "channels"], "default": "set"},
    "incoming": {"type": "path", "default": ""},
    "min_free_bytes": {"type": "int", "default": 268435456},
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The node's part of it: name the set, pack it, or take one in."""
    node = Node.from_params(parameters["node"])
    if parameters["state"] == "fetched":
        return _fetched(node, parameters, check_mode)
    found = chosen_set(node, parameters["set"])
    if found is None:
        return {"changed": False, "set": None, "packed": None}
    packed = None
    if parameters["pack_into"] and not check_mode:
        into = Path(parameters["pack_into"])
        if parameters["pack"] == "set":
            packed = pack(node, found["id"], into, parameters["min_free_bytes"])
        else:
            packed = pack_channels(node, into)
    return {"changed": False, "set": facts_of(node, found), "channels": channel_backup(node), "packed": packed}


def _fetched(node: Node, parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    if not parameters["incoming"]:
        there = present_whole(node, parameters["set"]) if parameters["set"] else None
        return {"changed": False, "set": there}
    if check_mode:
        return {"changed": True, "set": None}
    archive, least = Path(parameters["incoming"]), parameters["min_free_bytes"]
    taken = take_in(node, from_archive(archive, node), parameters["set"], archive.stat().st_size, least)
    return {"changed": taken.pop("new"), "set": taken}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
