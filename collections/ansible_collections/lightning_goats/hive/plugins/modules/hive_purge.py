#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_purge
short_description: Delete the data of hive plugins that were removed from a node
description:
  - Deletes the databases and key files that a backup set holds, where the set was taken from. The set stays.
  - Refuses while one of our plugins runs, while a switch is open, and unless the set is whole, of this node and new.
  - Never touches a file of lightningd itself.
author: [Lightning Hive Rollout contributors]
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  set:
    description: Id of the backup set, taken not more than ten minutes before.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Lists what would be deleted.
  diff_mode:
    support: none
    description: The files are listed in the result.
"""

EXAMPLES = r"""
- name: Delete what the set holds
  lightning_goats.hive.hive_purge:
    node: "{{ __hive_common_node }}"
    set: "{{ __hive_backup_result.backup.id }}"
"""

RETURN = r"""
deleted:
  description: The files.
  type: list
  elements: str
  returned: success
set:
  description: The backup set that still holds them.
  type: str
  returned: success
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._purge import purge

OPTIONS: dict[str, Any] = {"set": {"type": "str", "required": True}}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Delete, and say so in one sentence."""
    result = purge(Node.from_params(parameters["node"]), parameters["set"], check_mode)
    return {**result, "msg": f"deleted {len(result['deleted'])} files; backup set {result['set']} still holds them"}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
