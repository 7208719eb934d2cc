#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_judge_soak
short_description: Judge the stages that soak since an earlier run
description:
  - Looks at what the probes of the nodes have seen since their stage was confirmed, at what they saw before that, and
    at nodes that are not changed yet. The samples are those that M(lightning_goats.hive.hive_samples) has read as
    C(__hive_soak_samples).
  - Says for each stage whether it still soaks, has soaked, failed, or waits for a human, with reasons, and which nodes
    go back. Whatever the verdict is, it does not fail itself.
  - Nodes of a wave that fail within the failure budget go back alone. The others are then judged without them.
  - Works in the controller's process and connects to no node. Run it once per play, with C(run_once).
author: [Lightning Hive Rollout contributors]
options:
  accept:
    description:
      - Name of the stage whose soak a human ends. It helps where something was missing, not where something is wrong.
    type: str
    default: ""
  interval_seconds:
    description: How often the probes look, where a node does not say otherwise by C(hive_probe_interval_seconds).
    type: float
    default: 30
  restarts_allowed:
    description: How often lightningd may have restarted since the stage was confirmed.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: It only reads, so check mode makes no difference.
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""

EXAMPLES = r"""
- name: Judge the soak
  lightning_goats.hive.hive_judge_soak:
    interval_seconds: 30
  register: __hive_soak_verdict
  run_once: true
"""

RETURN = r"""
state:
  description: The gravest state of all stages. One of failed, paused, soaking, soaked.
  type: str
  returned: always
stages:
  description:
    - For each stage its name, number and nodes, verdict, state, reasons, progress in minutes, blocks and forwards, the
      time to come back at, and what was plotted.
  type: list
  elements: dict
  returned: always
soaked:
  description: The nodes that have soaked.
  type: list
  elements: str
  returned: always
accepted:
  description: Those of them that a human accepted.
  type: list
  elements: str
  returned: always
back:
  description: The nodes that have to go back.
  type: list
  elements: str
  returned: always
dead:
  description: Those of them with which the plan is given up.
  type: list
  elements: str
  returned: always
members:
  description: Per node what its modules need, such as the manifests of the way back.
  type: dict
  returned: always
about:
  description: Per node its stage, as M(lightning_goats.hive.hive_switch) takes it.
  type: dict
  returned: always
msg:
  description: The verdicts in one sentence.
  type: str
  returned: always
"""
