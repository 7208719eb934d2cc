#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_report
short_description: Write the report of a run
description:
  - Gathers what the tasks of the run registered and writes C(<rollout>.json), C(<rollout>.html) and C(latest.*).
  - The page is self-contained. It needs no server and no network.
  - Works in the controller's process and connects to no node. Run it with C(run_once), also in C(always).
author: [Lightning Hive Rollout contributors]
options:
  reports_dir:
    description: Where to write. Relative paths start at the folder above the playbooks.
    type: str
    required: true
  fleet:
    description: Name of the fleet.
    type: str
    default: ""
  goal:
    description: What the run was for, as O(lightning_goats.hive.hive_plan#module:goal).
    type: str
    choices: [stack, previous, nothing]
    default: stack
  final:
    description: Whether the run is over. A run in which something failed is over in any case.
    type: bool
    default: false
  evidence:
    description: Where a run that has ended writes signed evidence of what it did, and the incident of one that failed.
      Without it nothing is written.
    type: dict
    suboptions:
      write:
        description: Whether evidence is written. Incidents are in any case.
        type: bool
        default: true
      dir:
        description: Directory of the evidence.
        type: str
        required: true
      signing_key:
        description: Private key that signs it. Empty makes a throw-away key, which proves nothing to others.
        type: str
        default: ""
      allowed_signers:
        description: Who may sign evidence. Empty takes C(allowed_signers) beside the key.
        type: str
        default: ""
      keys_dir:
        description: Where the throw-away key is made.
        type: str
        default: var/keys
      valid_days:
        description: Days after which the evidence does not count any more. V(0) is for ever.
        type: int
        default: 30
      registers_dir:
        description: Directory of the registers. Incidents lie in C(incidents) below it.
        type: str
        default: var/registers
  tell:
    description: Who else learns how a run ended.
    type: dict
    suboptions:
      metrics_dir:
        description: Directory on the controller for Prometheus textfiles. Empty writes none.
        type: str
        default: ""
      webhooks:
        description: Receivers, each with C(name), C(url), and if wanted C(secret) and C(results).
        type: list
        elements: dict
        default: []
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  diff_mode:
    support: none
    description: Reports are new files; nothing is compared.
"""

EXAMPLES = r"""
- name: Report the run
  lightning_goats.hive.hive_report:
    reports_dir: var/reports
    fleet: main
    final: true
  run_once: true
"""

RETURN = r"""
report:
  description: The report, as in the JSON file. C(docs/reference/report.md) describes each key.
  type: dict
  returned: always
paths:
  description: The files that were written, by kind.
  type: dict
  returned: always
lines:
  description: The final table as text; empty while the run goes on.
  type: list
  elements: str
  returned: always
evidence:
  description: The statements of what the run did, empty while it goes on.
  type: list
  elements: str
  returned: always
incidents:
  description: The incidents of the stages that failed.
  type: list
  elements: str
  returned: when the run has ended
msg:
  description: The run in one sentence.
  type: str
  returned: always
"""
