#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_finalize
short_description: Give up the monolith's tables that have new owners, and with them the way back
description:
  - After a stack has taken the place of a monolithic C(cl-hive), the monolith's own tables stay untouched in its
    database, so that the node can go back. This module ends that. It takes a backup set that has them, and lets the
    plugin that goes on with the database drop each table that is still what was taken over.
  - Refuses before the stack has stood, confirmed, for O(stability_seconds).
  - Where nothing was taken over, or all of it was given up before, it changes nothing.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
  - lightning_goats.hive.timeouts
options:
  rollout:
    description: Name of the run, for the journal.
    type: str
    default: finalize
  stability_seconds:
    description: How long the stack must have stood since it was confirmed.
    type: float
    default: 1209600
  early:
    description: Name of the node. With it, the time is not waited for.
    type: str
    default: ""
  backup_keep:
    description: Backup sets to keep.
    type: int
    default: 10
attributes:
  check_mode:
    description: Runs every check and says which tables would go.
    support: full
  diff_mode:
    support: none
    description: The tables are in the result.
"""

EXAMPLES = r"""
- name: Give up the way back to the monolith
  lightning_goats.hive.hive_finalize:
    node: "{{ __hive_common_node }}"
    stability_seconds: 1209600
"""

RETURN = r"""
finalized:
  description: Whether the monolith's tables are gone and the node runs on without a way back.
  returned: always
  type: bool
dropped:
  description: The tables that went, in check mode those that would.
  returned: always
  type: list
kept:
  description: The tables that stay because they are not what was taken over, each with its reason.
  returned: always
  type: list
adopted_at:
  description: Unix time at which the stack that took the monolith's place was confirmed, 0 when none did.
  returned: always
  type: float
backup:
  description: The backup set with the tables that went, null when none was needed.
  returned: always
  type: dict
lines:
  description: What was done, or would be, as sentences.
  returned: always
  type: list
reason:
  description: Why there was nothing to do, empty when there was something.
  returned: always
  type: str
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.finalize import FinalizeRequest, finalize
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts

OPTIONS: dict[str, Any] = {
    "rollout": {"type": "str", "default": "finalize"},
    "stability_seconds": {"type": "float", "default": 1209600.0},
    "early": {"type": "str", "default": ""},
    "backup_keep": {"type": "int", "default": 10},
    "timeouts": TIMEOUTS,
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Hand the request to the engine."""
    request = FinalizeRequest(
        rollout=parameters["rollout"],
        stability_seconds=parameters["stability_seconds"],
        early=parameters["early"],
        backup_keep=parameters["backup_keep"],
        timeouts=Timeouts.from_params(parameters["timeouts"]),
        check_mode=check_mode,
    )
    return finalize(Node.from_params(parameters["node"]), request)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
