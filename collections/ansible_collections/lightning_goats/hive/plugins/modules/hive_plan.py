#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_plan
short_description: Work out what a run will do to which node
description:
  - Compares the stack that every node of the play shall run with what M(lightning_goats.hive.hive_observe) found
    there, and says which node is changed how, in which order, and why not.
  - Works in the controller's process and connects to no node. Run it once per play, with C(run_once).
  - Reads the variables C(hive_stack) and C(hive_replaces) of each node and the result C(__hive_preflight_result) of
    role C(hive_preflight).
  - Goes on with a rollout that the nodes speak of, under the digest that was approved for it, or says what has changed.
    What forbids only stages still to come does not keep a stage that soaks from being judged.
  - Fails when any node is refused. Nothing is then handed on to be run, for no node.
author: [Lightning Hive Rollout contributors]
options:
  goal:
    description:
      - What the nodes shall run.
      - V(stack) is C(hive_stack) of each node, V(previous) the stack before the running one, V(nothing) no
        plugin at all. Going back needs no approval.
    type: str
    choices: [stack, previous, nothing]
    default: stack
  fleet:
    description: Name of the fleet.
    type: str
    default: ""
  releases_dir:
    description: Where the releases lie on the controller. Relative paths start at the folder above the playbooks.
    type: str
    required: true
  allowed_signers:
    description: Who may sign releases, in the form of ssh-keygen.
    type: str
    required: true
  reports_dir:
    description: Where reports are written, and the note that a run is under way.
    type: str
    required: true
  versions:
    description: Versions that win over those of C(hive_stack), by plugin.
    type: dict
    default: {}
  waves:
    description:
      - Sizes of the stages, numbers of nodes or shares of all nodes that change. The first stage is the canary.
    type: list
    elements: raw
    default: [1, "25%", "100%"]
  separate_channel_peers:
    description: Put no two nodes into one stage that share a channel, or a peer of the fleet.
    type: bool
    default: true
  soak_seconds:
    description: How long a stage is watched before it is confirmed, from which the dead-man's time follows.
    type: float
    default: 600
  canary_soak: &soak
    description: How long the first stage soaks after it was confirmed, before the next one begins in a later run.
    type: dict
    default: {}
    suboptions:
      minutes:
        description: Minutes; V(0) is no soak.
        type: float
        default: 0
      blocks:
        description: Blocks that each node has to see.
        type: int
        default: 0
      forwards:
        description: Payments that the nodes of the stage have to forward.
        type: int
        default: 0
      extend_minutes:
        description: How much longer it goes on when nothing can be told, before a human is asked.
        type: float
        default: 0
  wave_soak:
    <<: *soak
    description: The same for every further stage.
  soak_self_revert:
    description: Whether a node that breaks during its soak goes back by itself.
    type: bool
    default: true
  probe:
    description: Whether the nodes have probes, without which nothing can soak.
    type: bool
    default: true
  failure_budget:
    description: How many nodes may fail in one rollout before it stops. The first stage never may.
    type: int
    default: 0
  commit:
    description: Whether every V(stage) is kept once it is healthy, or only the whole V(fleet) when all of it is.
    type: str
    choices: [stage, fleet]
    default: stage
  unreachable:
    description: Whether nodes that cannot be reached V(fail) the run, or are to V(leave) for a later one.
    type: str
    choices: [fail, leave]
    default: fail
  maintenance_windows:
    description: When a stage may begin. Each has C(days), C(start) and C(end); none is always.
    type: list
    elements: raw
    default: []
  maintenance_timezone:
    description: In whose clock the windows are written.
    type: str
    default: UTC
  deadman_seconds:
    description:
      - After how many seconds a switch undoes itself; V(0) is two windows of O(soak_seconds) and two minutes. Where the
        whole fleet is kept at once it is at least as long as all stages take.
    type: int
    default: 0
  min_free_bytes:
    description: What must stay free on a node's disk.
    type: int
    default: 0
  htlc_margin_blocks:
    description: Refuse a node on which a payment expires within so many blocks, when the switch is not to wait for it.
    type: int
    default: 18
  htlc_wait_seconds:
    description: How long a switch may wait for payments in flight; with V(0) the plan refuses at once.
    type: int
    default: 600
  timeouts:
    description: Seconds for parts of a switch, as the C(timeouts) of M(lightning_goats.hive.hive_switch).
    type: dict
    default: {}
  lift_quarantine:
    description: Plan with releases that are quarantined on a node.
    type: bool
    default: false
  allow_lightningd_restart:
    description: Allow changes that need a restart of lightningd.
    type: bool
    default: false
  break_lock:
    description: Ignore the lock that another run holds on a node.
    type: bool
    default: false
  approval_required:
    description: Refuse a plan that changes something unless O(approved_plan) is its digest.
    type: bool
    default: true
  approved_plan:
    description: The digest that was approved.
    type: str
    default: ""
  approvals_needed:
    description: How many approvers have to have signed the plan. V(0) takes O(approved_plan) alone.
    type: int
    default: 0
  runner:
    description: The principal that runs the rollout and may not approve it.
    type: str
    default: ""
  approvers:
    description: The ssh-keygen file of who may approve.
    type: str
    default: var/keys/approvers
  evidence_dir:
    description: Where evidence lies; approvals are kept below it.
    type: str
    default: var/evidence
  preview:
    description: Hand on nothing to be run and ask for no approval, as in check mode.
    type: bool
    default: false
  registers_dir:
    description: Where the fleet's default policy is, for nodes whose inventory has no C(hive_stack). Empty for none.
    type: str
    default: ""
  form_fleet:
    description: Let the nodes that run C(cl-hive) in the end form one hive.
    type: bool
    default: false
  adopt:
    description:
      - V(auto) plans to take over what a monolithic C(cl-hive) keeps for the plugins of the stack, V(no) leaves all
        rows where they are.
    type: str
    choices: [auto, "no"]
    default: auto
attributes:
  check_mode:
    support: full
    description: It hands on nothing to be run and writes no note, like O(preview).
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Plan the run
  lightning_goats.hive.hive_plan:
    fleet: main
    releases_dir: var/releases
    allowed_signers: var/keys/allowed_signers
    reports_dir: var/reports
    approved_plan: "{{ hive_approved_plan }}"
  register: __hive_gate_result
  run_once: true
"""

RETURN = r"""
plan:
  description: The plan, with its digest, the waves, the nodes with their stacks before and after, and what was refused.
  type: dict
  returned: always
rollout:
  description: The id of the run. It is the one of an interrupted run when that is resumed.
  type: str
  returned: always
resumed:
  description: Whether an interrupted run is resumed.
  type: bool
  returned: always
started_at:
  description: Now, in unix seconds.
  type: float
  returned: always
lines:
  description: The plan as text.
  type: list
  elements: str
  returned: always
run:
  description:
    - What later plays need, such as hosts in order, sizes of the batches and the inputs of each node's modules.
  type: dict
  returned: always
"""
