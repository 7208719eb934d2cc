#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_status
short_description: Show what every node runs and what needs a look
description:
  - Makes a table of what M(lightning_goats.hive.hive_observe) found on the nodes of the play.
  - Works in the controller's process and connects to no node. Run it once per play, with C(run_once).
author: [Lightning Hive Rollout contributors]
options:
  evidence_dir:
    description: Where evidence of drills is looked for, on the controller. Empty leaves drills out.
    type: str
    default: ""
  signing_key:
    description: Key that signs evidence, as in M(lightning_goats.hive.hive_drill). Only its place matters here.
    type: str
    default: ""
  allowed_signers:
    description: The ssh-keygen file of who may sign evidence. Empty takes C(allowed_signers) beside the key.
    type: str
    default: ""
  keys_dir:
    description: Where the throw-away key and its list are when no key is configured.
    type: str
    default: var/keys
  fleet:
    description: Name of the fleet, for the metrics.
    type: str
    default: ""
  metrics_dir:
    description: Directory on the controller for Prometheus textfiles. Empty writes none.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Writes no metrics in check mode; otherwise it only reads.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Show the fleet
  lightning_goats.hive.hive_status:
  run_once: true
"""

RETURN = r"""
nodes:
  description: Per node its state, notes, stack, health of the plugins, age of the newest backup and its last drill.
  type: dict
  returned: always
skew:
  description:
    - Who runs what. C(stacks) has each stack with its nodes and whether it was tested, C(pairs) whether two of them
      were tested beside each other, C(last_evidence) the newest evidence of any kind.
  type: dict
  returned: always
lines:
  description: The table and the skew as text.
  type: list
  elements: str
  returned: always
msg:
  description: How many nodes answer.
  type: str
  returned: always
"""
