#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_judge
short_description: Judge a batch of nodes after their switch
description:
  - Looks at the samples that the nodes of the batch took over their soak window, and at how their switches went.
  - Answers healthy, failing or inconclusive, with reasons. It never fails itself, whatever the verdict.
  - Works in the controller's process and connects to no node. Run it once per batch, with C(run_once).
author: [Lightning Hive Rollout contributors]
options:
  soak_seconds:
    description: The window that the samples have to cover.
    type: float
    required: true
  allow_lightningd_restart:
    description: Accept one restart of lightningd that the switch itself made.
    type: bool
    default: false
  whole:
    description: Judge all nodes of the run by the last look at them, where they are kept together or not at all.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: It only reads, so check mode makes no difference.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Judge the batch
  lightning_goats.hive.hive_judge:
    soak_seconds: 600
  register: __hive_canary_verdict
  run_once: true
"""

RETURN = r"""
verdict:
  description: V(healthy), V(failing) or V(inconclusive).
  type: str
  returned: always
reasons:
  description: What was broken, the gravest first, each with node, check, verdict and detail.
  type: list
  elements: dict
  returned: always
samples:
  description: How many samples were judged.
  type: int
  returned: always
window_seconds:
  description: The shortest window that a node's samples cover.
  type: float
  returned: always
nodes:
  description: The batch.
  type: list
  elements: str
  returned: always
msg:
  description: The verdict in one sentence.
  type: str
  returned: always
"""
