#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_policy
short_description: Make the stack that a fleet stands on its default
description:
  - Once every node of the fleet has stood on one and the same stack for O(stability_seconds), writes the policy that
    nodes whose inventory names no C(hive_stack) run it too. Until then it says why there is no default.
  - Works in the controller's process from what M(lightning_goats.hive.hive_observe) found and connects to no node. Run
    it once per play, with C(run_once).
author: [Lightning Hive Rollout contributors]
options:
  fleet:
    description: Name of the fleet.
    type: str
    required: true
  registers_dir:
    description: Where the policy is kept, on the controller.
    type: path
    required: true
  stability_seconds:
    description: How long each node must have stood on the stack since it was confirmed.
    type: float
    default: 1209600
attributes:
  check_mode:
    support: full
    description: Says what would be written.
  diff_mode:
    support: full
    description: The policy before and after.
"""

EXAMPLES = r"""
- name: Make the stack the default of the fleet
  lightning_goats.hive.hive_policy:
    fleet: "{{ hive_fleet }}"
    registers_dir: "{{ hive_registers_dir }}"
  run_once: true
"""

RETURN = r"""
policy:
  description: The policy that is in force, or in check mode would be; null when there is none yet.
  type: dict
  returned: always
reasons:
  description: Why what the nodes run allows no default, empty when it does.
  type: list
  elements: str
  returned: always
msg:
  description: The same as a sentence.
  type: str
  returned: always
"""
