#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_probe
short_description: Let a node look at itself, all the time
description:
  - Installs a small program that looks at lightningd and its plugins at regular times and keeps what it saw in a
    bounded SQLite file in the engine's directory. It is a timer unit where there is systemd, else a detached process.
  - It writes nothing of lightningd's, waits for nothing longer than a few seconds, and two looks never overlap.
  - When the newest backup set is older than O(backup_every_seconds), it starts a process of its own that takes one,
    unless a switch is open or another engine is at work. A set that could not be taken is tried again after a quarter
    of an hour; the samples, the metrics and the observation say why.
  - After a restart of the machine it also sees to it that an open switch has a dead-man again.
author: [Lightning Hive Rollout contributors]
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  state:
    description: V(absent) ends the probe and removes its files and samples.
    type: str
    choices: [present, absent]
    default: present
  interval_seconds:
    description: Seconds between two looks.
    type: float
    default: 60
  keep_seconds:
    description: Samples older than this are forgotten.
    type: float
    default: 604800
  max_bytes:
    description: What the file of samples may grow to. The oldest go first.
    type: int
    default: 67108864
  backup_every_seconds:
    description: Seconds after which a new backup set is taken, at least 60. V(0) is never.
    type: float
    default: 0
  backup_keep:
    description: Backup sets to keep.
    type: int
    default: 10
  metrics_dir:
    description: Directory in which metrics of backups are written as well, such as that of node_exporter's textfiles.
    type: str
    default: ""
  min_free_bytes:
    description: What has to stay free on the disk beside a backup set, or none is taken. V(0) does not look.
    type: int
    default: 268435456
attributes:
  check_mode:
    support: full
    description: Says whether something would be installed or removed.
  diff_mode:
    support: full
    description: The probe's settings and units, before and after.
"""

EXAMPLES = r"""
- name: Let the node look at itself once a minute
  lightning_goats.hive.hive_probe:
    node: "{{ __hive_common_node }}"
"""

RETURN = r"""
kind:
  description: C(timer) or C(process).
  type: str
  returned: when O(state=present)
sample:
  description: The newest sample.
  type: dict
  returned: when O(state=present)
removed:
  description: The files that were removed.
  type: list
  elements: str
  returned: when O(state=absent)
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._probe_setup import Wanted, install, remove

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "interval_seconds": {"type": "float", "default": 60.0},
    "keep_seconds": {"type": "float", "default": 604800.0},
    "max_bytes": {"type": "int", "default": 67108864},
    "backup_every_seconds": {"type": "float", "default": 0.0},
    "backup_keep": {"type": "int", "default": 10},
    "metrics_dir": {"type": "str", "default": ""},
    "min_free_bytes": {"type": "int", "default": 268435456},
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Install or remove, and say so in one sentence."""
    node = Node.from_params(parameters["node"])
    if parameters["state"] == "absent":
        gone = remove(node, check_mode)
        return {**gone, "msg": "probe removed" if gone["changed"] else "no probe is installed"}
    keys = ("interval_seconds", "keep_seconds", "max_bytes", "backup_every_seconds", "backup_keep", "metrics_dir")
    wanted = Wanted(*(parameters[key] for key in (*keys, "min_free_bytes")))
    facts = install(node, wanted, check_mode)
    before, after = facts.pop("before"), facts.pop("after")
    diff = [
        {"before_header": path, "after_header": path, "before": before[path] or "", "after": text}
        for path, text in after.items()
        if before[path] != text
    ]
    return {**facts, "diff": diff, "msg": f"probe looks every {facts['every']:g} s ({facts['kind']})"}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
