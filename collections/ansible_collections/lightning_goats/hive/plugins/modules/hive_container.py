#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_container
short_description: Let lightningd's container see the plugins' slots
description:
  - A container that does not mount the slots is made anew with that one mount more, read-only. Image, environment,
    volumes, networks, ports and name stay as they are. lightningd restarts; payments in flight are waited for first.
  - A container of compose stays compose's, by an override file beside the operator's files, which are not edited.
  - The old container is kept under another name until RV(phase=confirmed). It comes back by itself when the new one
    does not start, or when the module is killed on the way.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
  - lightning_goats.hive.timeouts
options:
  state:
    description:
      - V(mounted) makes the container anew when the slots' mount is missing, and goes on with what was interrupted.
      - V(confirmed) removes the old container that was kept.
      - V(reverted) brings the old container back.
    type: str
    choices: [mounted, confirmed, reverted]
    default: mounted
  rollout:
    description: Id of the run, which holds the node's lock.
    type: str
    required: true
  allow_lightningd_restart:
    description: Allow the restart of lightningd that making the container anew is.
    type: bool
    default: false
  htlc_wait_seconds:
    description: How long to wait, before anything is changed, for payments in flight that could expire meanwhile.
    type: float
    default: 600
  htlc_margin_blocks:
    description: Blocks that must be left to a payment in flight afterwards.
    type: int
    default: 18
  lock_ttl_seconds:
    description: How long the node stays reserved for a run that died.
    type: float
    default: 3600
  break_lock:
    description: Take the node over from a run that is known to be dead.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says whether the container would be made anew, after the same checks.
    support: full
  diff_mode:
    description: Shows the mount that is added.
    support: full
"""

EXAMPLES = r"""
- name: Let lightningd see the slots
  lightning_goats.hive.hive_container:
    node: "{{ __hive_common_node }}"
    rollout: 20261122-1
    allow_lightningd_restart: true

- name: Keep the new container
  lightning_goats.hive.hive_container:
    node: "{{ __hive_common_node }}"
    state: confirmed
    rollout: 20261122-1
"""

RETURN = r"""
phase:
  description: Where the container is now. One of mounted, confirmed, undone, unchanged, planned.
  returned: always
  type: str
transaction:
  description: Id of the re-creation, empty when there was none.
  returned: always
  type: str
kept:
  description: Name of the old container that waits for the confirmation, empty when there is none.
  returned: always
  type: str
reason:
  description: Why it was undone, or what is planned.
  returned: always
  type: str
remarks:
  description: What is worth telling, for example how compose has to be called from now on.
  returned: always
  type: list
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.recreate import ContainerRequest, container
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "default": "mounted", "choices": ["mounted", "confirmed", "reverted"]},
    "rollout": {"type": "str", "required": True},
    "allow_lightningd_restart": {"type": "bool", "default": False},
    "htlc_wait_seconds": {"type": "float", "default": 600.0},
    "htlc_margin_blocks": {"type": "int", "default": 18},
    "lock_ttl_seconds": {"type": "float", "default": 3600.0},
    "break_lock": {"type": "bool", "default": False},
    "timeouts": TIMEOUTS,
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Hand the request to the engine."""
    request = ContainerRequest(
        state=parameters["state"],
        rollout=parameters["rollout"],
        allow_restart=parameters["allow_lightningd_restart"],
        wait_seconds=parameters["htlc_wait_seconds"],
        margin=parameters["htlc_margin_blocks"],
        lock_ttl_seconds=parameters["lock_ttl_seconds"],
        break_lock=parameters["break_lock"],
        timeouts=Timeouts.from_params(parameters["timeouts"]),
        check_mode=check_mode,
    )
    return container(Node.from_params(parameters["node"]), request)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
