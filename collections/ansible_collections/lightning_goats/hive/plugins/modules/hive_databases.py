#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_databases
short_description: Bring the plugins' databases into lightningd's network directory
description:
  - Databases in a container's own layer are lost with the container; those in C(~/.lightning) are found by nobody but
    the plugin that made them. Each is copied into lightningd's network directory, proven equal row by row, and put in
    place. The original is kept beside where it was, and a link leads from there to the new place.
  - A plugin that uses a database is stopped meanwhile and started again. lightningd itself keeps running.
  - Killed at any point, the next call finishes the work.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
  - lightning_goats.hive.timeouts
attributes:
  check_mode:
    description: Says which databases would be moved where.
    support: full
  diff_mode:
    description: What is moved stands in RV(moved).
    support: none
"""

EXAMPLES = r"""
- name: Bring the databases to where they survive
  lightning_goats.hive.hive_databases:
    node: "{{ __hive_common_node }}"
  register: __moved
"""

RETURN = r"""
moved:
  description:
    - What was moved, each with plugin, from and to (as lightningd sees them), kept (the original's name now), bytes
      and rows. In check mode the first three.
  returned: always
  type: list
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import move_databases
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts

OPTIONS: dict[str, Any] = {"timeouts": TIMEOUTS}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Hand the request to the engine."""
    timeouts = Timeouts.from_params(parameters["timeouts"])
    return move_databases(Node.from_params(parameters["node"]), check_mode, timeouts)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
