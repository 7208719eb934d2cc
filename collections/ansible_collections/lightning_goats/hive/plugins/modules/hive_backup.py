#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_backup
short_description: Back up the data of a node's hive plugins as one coherent, verified set
description:
  - Databases, key files, the managed configuration and the stack, captured under one barrier while the plugins work on.
  - A set appears whole or not at all, and is signed by the node. A verified set is only removed when another one that
    stays has been read anew and is whole.
  - lightningd's own database is never copied; only its commit counter is read. Of its seed a set has a fingerprint, and
    of its channel backup the newest one is kept beside the sets. Both are only opened for reading.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  state:
    description: V(present) makes a set unless there is a recent one. V(listed) only lists.
    type: str
    choices: [present, listed]
    default: present
  max_age_seconds:
    description: A verified set of exactly the present stack that is younger than this is enough. V(0) always makes a
        new one.
    type: float
    default: 0
  reason:
    description: Why the set is made; kept with it.
    type: str
    default: ""
  keep:
    description: Sets to keep.
    type: int
    default: 10
  metrics_dir:
    description: Directory in which metrics are written as well, such as that of node_exporter's textfiles. They are
      always in C(metrics/hive_backup.prom) of the engine's directory.
    type: str
    default: ""
  min_free_bytes:
    description: What has to stay free on the node's disk beside the set, or none is made. V(0) does not look.
    type: int
    default: 268435456
attributes:
  check_mode:
    description: Says whether a set would be made.
    support: full
  diff_mode:
    description: Lists the sets before and after.
    support: full
"""

EXAMPLES = r"""
- name: Back up the node's plugins
  lightning_goats.hive.hive_backup:
    node: "{{ __hive_common_node }}"
    reason: before maintenance
"""

RETURN = r"""
backup:
  description: The set that was made or is recent enough; null when only listed, or in check mode.
  returned: success
  type: dict
  contains:
    id:
      description: Name of the set.
      type: str
    path:
      description: Its directory on the node.
      type: str
    bytes:
      description: Size of its files.
      type: int
    verified:
      description: Whether every database in it was read back and is sound.
      type: bool
    remarks:
      description: What is worth knowing of it, such as a key file that is missing.
      type: list
      elements: str
    emergency_recover:
      description: C(sha256), C(mtime) and C(size) of lightningd's own channel backup; null where it cannot be read.
      type: dict
    copy_ms:
      description: Milliseconds of the copying.
      type: float
    barrier_ms:
      description: Milliseconds for which writers had to wait.
      type: float
    duration_ms:
      description: Milliseconds in all.
      type: float
backups:
  description: All published sets, oldest first.
  returned: success
  type: list
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import (
    BackupRequest,
    journal_backup,
    recent_backup,
    take_backup,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lock import engine_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.machine import Machine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import list_backups

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "listed"], "default": "present"},
    "max_age_seconds": {"type": "float", "default": 0.0},
    "reason": {"type": "str", "default": ""},
    "keep": {"type": "int", "default": 10},
    "metrics_dir": {"type": "str", "default": ""},
    "min_free_bytes": {"type": "int", "default": 268435456},
}
READY_SECONDS = 60.0
LOCK_SECONDS = 120.0


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make a set unless one is recent enough."""
    node = Node.from_params(parameters["node"])
    before = list_backups(node)
    if parameters["state"] == "listed":
        return {"changed": False, "backup": None, "backups": before}
    seen = look(Machine(node), READY_SECONDS)
    backup = recent_backup(node, seen, parameters["max_age_seconds"])
    changed = backup is None
    if changed and not check_mode:
        wanted = BackupRequest(*(parameters[key] for key in ("reason", "keep", "metrics_dir", "min_free_bytes")))
        with engine_lock(node, LOCK_SECONDS):
            backup = take_backup(node, seen, wanted)
            journal_backup(Journal(node.journal_file, node.keeper), backup, wanted)
    after = list_backups(node)
    return {
        "changed": changed,
        "backup": backup,
        "backups": after,
        "diff": {"before": listing(before), "after": listing(after)},
    }


def listing(backups: list[dict[str, Any]]) -> str:
    """Return the sets as lines."""
    return "".join(f"{item['id']} {item['bytes']} bytes\n" for item in backups)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
