#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_inputs
short_description: Check the variables of all nodes at once
description:
  - Checks the variables of every node of the batch against an entry point of a role's argument specs.
  - Does what M(ansible.builtin.validate_argument_spec) does, for a whole batch in one process. Run it with C(run_once).
  - Works in the controller's process and connects to no node.
author: [Lightning Hive Rollout contributors]
options:
  argument_specs:
    description: The file with the argument specs.
    type: path
    required: true
  entry_point:
    description: Which of them to check against.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: It only reads, so check mode makes no difference.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Check the variables of all nodes
  lightning_goats.hive.hive_inputs:
    argument_specs: "{{ role_path }}/meta/argument_specs.yml"
    entry_point: fleet
  run_once: true
"""

RETURN = r"""
nodes:
  description: The nodes whose variables were looked at.
  type: list
  elements: str
  returned: always
"""
