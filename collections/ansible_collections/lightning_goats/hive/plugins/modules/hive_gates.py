#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_gates
short_description: Ask the readiness gates whether a rollout may start
description:
  - Plans as M(lightning_goats.hive.hive_plan) does, and asks every check of every gate whether exactly these artifacts
    may be rolled out to exactly these nodes.
  - A check passes when signed evidence about the artifact's digest says so and is fresh enough. What is missing, stale,
    about something else, unsigned, expired or late blocks. The words for each check are in C(docs/design/gates.md).
  - A waiver of an approver, with an owner, a reason, a control and an end, lets some checks be waived. They are shown
    as waived.
  - The decision is kept as signed evidence, a verification summary, where there is a key to sign with.
  - Works in the controller's process and connects to no node. Run it once per play, with C(run_once).
author: [Lightning Hive Rollout contributors]
options:
  plan:
    description: The options of M(lightning_goats.hive.hive_plan) for the rollout that is asked about.
    type: dict
    required: true
  enforce:
    description:
      - V(always) fails when a check blocks.
      - V(changes) is for a rollout. It fails only when something would change and no stage of an earlier run soaks; a
        refused plan is left to M(lightning_goats.hive.hive_plan), and in check mode it only tells.
    type: str
    choices: [always, changes]
    default: always
  evidence_dir:
    description: Where evidence lies on the controller. Relative paths start at the folder above the playbooks.
    type: str
    required: true
  signing_key:
    description: Private key to sign the decision with, or the public part of one that ssh-agent holds.
    type: str
    default: ""
  allowed_signers:
    description: The ssh-keygen file of who may sign evidence. Empty takes C(allowed_signers) beside the key.
    type: str
    default: ""
  keys_dir:
    description: Where the throw-away key is, as C(evidence) with its list C(evidence_signers).
    type: str
    default: var/keys
  registers_dir:
    description: Where the registers of defects, findings, incidents, waivers and the baseline lie.
    type: str
    required: true
  reviewed_dir:
    description: Directory with reviewed lists of your own, against which evidence was made beside the shipped ones.
    type: str
    default: ""
  approvers:
    description: The ssh-keygen file of who may approve plans, sign waivers and sign the baseline tag.
    type: str
    required: true
  approvals_needed:
    description: How many approvals of the plan are needed. V(0) asks for none, but for C(approved_plan) in O(plan).
    type: int
    default: 1
  runner:
    description: The principal that runs the rollout and may not approve it.
    type: str
    default: ""
  incident_free_days:
    description: Days without a Sev1 or Sev2 incident.
    type: float
    default: 14
  suite_days:
    description: How old the evidence of test suites may be.
    type: float
    default: 30
  exercise_days:
    description: How old the evidence of installs, upgrades and rollbacks may be.
    type: float
    default: 30
  drill_days:
    description: How old the evidence of restore drills may be.
    type: float
    default: 30
  security_days:
    description: How old the evidence of surfaces, tools, runes and vulnerabilities may be.
    type: float
    default: 7
  matrix_days:
    description: How old the evidence of the dependency matrix may be.
    type: float
    default: 30
  deadline_seconds:
    description: How long what a check has to call may take, before the check blocks.
    type: float
    default: 20
  metrics_dir:
    description: Directory on the controller for a Prometheus textfile. Empty writes none.
    type: str
    default: ""
  github_url:
    description: Where the API of GitHub is.
    type: str
    default: https://api.github.com
  github_token:
    description: Token to read issues with. Empty asks only the register of defects.
    type: str
    default: ""
  github_repositories:
    description: Repositories whose issues are looked at, as owner/name.
    type: list
    elements: str
    default: []
  github_label:
    description: The label of issues of high priority.
    type: str
    default: high-priority
attributes:
  check_mode:
    support: full
    description: Everything is looked at and told, nothing is written.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Ask the gates
  lightning_goats.hive.hive_gates:
    plan:
      fleet: main
      releases_dir: var/releases
      allowed_signers: var/keys/allowed_signers
      reports_dir: var/reports
    evidence_dir: var/evidence
    registers_dir: var/registers
    approvers: var/keys/approvers
    runner: ci@example.net
  register: __hive_gates_result
  run_once: true
"""

RETURN = r"""
decision:
  description: V(allowed) when every check passes or is waived, else V(denied).
  type: str
  returned: always
findings:
  description: Each check with its gate, title, state (pass, block or waived), detail, evidence, age and command.
  type: list
  elements: dict
  returned: always
lines:
  description: The findings as a table, and what to do about each block.
  type: list
  elements: str
  returned: always
advice:
  description: What RV(lines) says below the table, for a table of another width.
  type: list
  elements: str
  returned: always
advice:
  description: What to do about each block, without the table.
  type: list
  elements: str
  returned: always
path:
  description: The signed decision; empty when it was not written.
  type: str
  returned: always
hold:
  description: Why no new stage may begin while an earlier one is judged; empty when it may.
  type: str
  returned: always
"""
