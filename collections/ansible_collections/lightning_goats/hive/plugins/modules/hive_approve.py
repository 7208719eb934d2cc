#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_approve
short_description: Show a plan that waits for approvals, and sign it
description:
  - Reads the plan that a refused rollout has kept under its digest, refuses one that does not fit its name, and shows
    what the digest covers.
  - Signs it as one approver (C(ssh-keygen -Y), namespace C(approval)) when O(approver) and O(key) are given and it is
    not check mode.
  - Whoever runs the rollout, and a key that signed evidence of the releases, are refused.
author: [Lightning Hive Rollout contributors]
options:
  plan:
    description: The whole digest of the plan.
    type: str
    required: true
  approver:
    description: The name of the approver in O(approvers). Empty only shows.
    type: str
    default: ""
  key:
    description: The approver's private key, or the public part of one that ssh-agent holds. Empty only shows.
    type: str
    default: ""
  approvers:
    description: The ssh-keygen file of who may approve.
    type: str
    required: true
  runner:
    description: The principal that runs the rollout.
    type: str
    default: ""
  valid_days:
    description: After how many days the approval ends.
    type: float
    default: 7
  evidence_dir:
    description: Where evidence lies; approvals are kept below it.
    type: str
    required: true
  reports_dir:
    description: Where reports are written; plans that wait are kept below it.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Shows the plan and signs nothing.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Approve what was read
  lightning_goats.hive.hive_approve:
    plan: "{{ hive_approve_plan }}"
    approver: alice@example.net
    key: ~/.ssh/id_ed25519
    approvers: var/keys/approvers
    runner: ci@example.net
    evidence_dir: var/evidence
    reports_dir: var/reports
  delegate_to: localhost
"""

RETURN = r"""
lines:
  description: What is signed, in words.
  type: list
  elements: str
  returned: always
path:
  description: The approval; empty when nothing was signed.
  type: str
  returned: always
expires_at:
  description: When it ends, in unix seconds; null when nothing was signed.
  type: float
  returned: always
"""
