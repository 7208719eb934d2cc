#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_restic
short_description: Keep a node's backup sets in a restic repository, check it, thin it out, bring a set back
description:
  - Everything leaves the node encrypted. Without restic or without the password file nothing is copied, and it fails.
  - A set that the repository has whole is not copied again. The last whole snapshot of a node is never forgotten.
  - A set that comes back is verified whole, file by file, before it appears among the node's sets.
  - The newest channel backup of lightningd that the node's backups keep has a snapshot of its own, the newest and no
    other. Nothing here ever brings it back.
  - The password is read from a file by restic itself; other secrets reach only restic's own environment.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  state:
    description: V(present) copies a set. V(checked) checks the repository and reads a part of it back. V(thinned)
        forgets old snapshots of this node. V(fetched) brings a set back.
    type: str
    choices: [present, checked, thinned, fetched]
    default: present
  set:
    description: Name of the set. Empty takes the newest verified one.
    type: str
    default: ""
  snapshot:
    description: The snapshot to bring back, whatever node it is of. Empty takes the newest whole one of O(set).
    type: str
    default: ""
  repository:
    description: Where it is, in restic's own words. Empty takes RESTIC_REPOSITORY from O(environment_file).
    type: str
    default: ""
  password_file:
    description: File on the node with the password of the repository, mode 0600.
    type: path
    required: true
  environment_file:
    description: File on the node with further secrets as KEY=VALUE, for example AWS_SECRET_ACCESS_KEY, mode 0600.
    type: path
    default: ""
  program:
    description: restic itself.
    type: str
    default: restic
  options:
    description: Extended options of restic, for example C(sftp.command=...).
    type: list
    elements: str
    default: []
  init:
    description: Make the repository when there is none.
    type: bool
    default: false
  subset:
    description: How much O(state=checked) reads back, as a percentage, a part n/m or a size.
    type: str
    default: 5%
  keep:
    description: What O(state=thinned) keeps.
    type: dict
    default: {}
    suboptions:
      last:
        description: The newest ones.
        type: int
        default: 7
      daily:
        description: One for each of the last days that have one.
        type: int
        default: 14
      weekly:
        description: One for each of the last weeks that have one.
        type: int
        default: 8
      monthly:
        description: One for each of the last months that have one.
        type: int
        default: 12
  lock_seconds:
    description: How long to wait while another run has the repository locked.
    type: float
    default: 120
  timeout_seconds:
    description: What one call of restic may take.
    type: float
    default: 3600
  min_free_bytes:
    description: What has to stay free on the node's disk beside a set that is brought back. V(0) does not look.
    type: int
    default: 268435456
attributes:
  check_mode:
    description: Says what would be copied, forgotten or brought back. V(checked) reads all the same.
    support: full
  diff_mode:
    description: Lists the sets in the repository before and after.
    support: partial
    details: For O(state=present) and O(state=thinned).
"""

EXAMPLES = r"""
- name: Copy the newest set
  lightning_goats.hive.hive_restic:
    node: "{{ __hive_common_node }}"
    repository: sftp:backup@vault.example:/srv/restic
    password_file: /etc/hive/restic-password

- name: Bring the newest one back
  lightning_goats.hive.hive_restic:
    node: "{{ __hive_common_node }}"
    state: fetched
    repository: sftp:backup@vault.example:/srv/restic
    password_file: /etc/hive/restic-password
"""

RETURN = r"""
set:
  description: The set that was copied or brought back, null when there is none.
  returned: success
  type: dict
snapshot:
  description: Its snapshot, empty when there is none yet.
  returned: success
  type: str
forgotten:
  description: Sets whose snapshots were forgotten, or would be in check mode.
  returned: success
  type: list
sets:
  description: The sets of this node that the repository has, oldest first.
  returned: success
  type: list
restic_rc:
  description: Exit code of restic, null when its time was over.
  returned: when restic failed
  type: int
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._copies_node import (
    channel_backup,
    chosen_set,
    facts_of,
    present_whole,
    take_in,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import verify_set
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._restic import Policy, check_subset, refusal, tag
from ansible_collections.lightning_goats.hive.plugins.module_utils._restic_run import Repository, Settings

Json = dict[str, Any]

KEEP = ("last", "daily", "weekly", "monthly")
OPTIONS: Json = {
    "state": {"type": "str", "choices": ["present", "checked", "thinned", "fetched"], "default": "present"},
    "set": {"type": "str", "default": ""},
    "snapshot": {"type": "str", "default": ""},
    "repository": {"type": "str", "default": ""},
    "password_file": {"type": "path", "required": True},
    "environment_file": {"type": "path", "default": ""},
    "program": {"type": "str", "default": "restic"},
    "options": {"type": "list", "elements": "str", "default": []},
    "init": {"type": "bool", "default": False},
    "subset": {"type": "str", "default": "5%"},
    "keep": {
        "type": "dict",
        "default": {},
        "options": {key: {"type": "int", "default": getattr(Policy(), key)} for key in KEEP},
    },
    "lock_seconds": {"type": "float", "default": 120.0},
    "timeout_seconds": {"type": "float", "default": 3600.0},
    "min_free_bytes": {"type": "int", "default": 268435456},
}


def work(parameters: Json, check_mode: bool) -> Json:
    """Do what the state asks for."""
    node = Node.from_params(parameters["node"])
    settings = Settings(
        repository=parameters["repository"],
        password_file=parameters["password_file"],
        environment_file=parameters["environment_file"],
        program=parameters["program"],
        options=tuple(parameters["options"]),
        init=parameters["init"],
        dry_run=check_mode,
        lock_seconds=parameters["lock_seconds"],
        timeout=parameters["timeout_seconds"],
    )
    repository = Repository(node, settings)
    state = parameters["state"]
    result: Json = {"changed": False, "set": None, "snapshot": "", "forgotten": [], "sets": []}
    if state == "present":
        result.update(_copy(node, repository, parameters, check_mode))
    elif state == "checked":
        repository.check(check_subset(parameters["subset"]))
        result["msg"] = f"the restic repository is sound, {parameters['subset']} of its data read back"
    elif state == "thinned":
        result.update(_thin(repository, parameters["keep"], check_mode))
    else:
        result.update(_fetch(node, repository, parameters, check_mode))
    return result


def _copy(node: Node, repository: Repository, parameters: Json, check_mode: bool) -> Json:
    chosen = chosen_set(node, parameters["set"])
    if chosen is None:
        return {"msg": f"there is no verified backup set on {node.name} to copy"}
    snapshots = repository.snapshots()
    before = [tag(item, "set") for item in snapshots]
    there = repository.newest(snapshots, chosen["id"])
    made, snapshot = there is None, str(there["id"]) if there else ""
    if made and not check_mode:
        snapshot = repository.copy(chosen["id"], verify_set(node.backups_dir / chosen["id"]))
    channels = channel_backup(node)
    newer = bool(channels and snapshot) and repository.copy_channels(str((channels or {})["sha256"]), check_mode)
    after = [*before, *([chosen["id"]] if made else [])]
    words = "would be copied to" if made and check_mode else "copied to" if made else "is in"
    return {
        "msg": f"backup set {chosen['id']} {words} the restic repository",
        "changed": made or newer,
        "set": facts_of(node, chosen),
        "snapshot": snapshot,
        "sets": after,
        "diff": _diff(before, after),
    }


def _thin(repository: Repository, keep: Json, check_mode: bool) -> Json:
    policy = Policy(**{key: int(keep[key]) for key in KEEP if keep.get(key) is not None})
    kept, doomed = repository.thin_out(policy)
    if not check_mode:
        repository.forget([str(item["id"]) for item in doomed])
    names, gone = [tag(item, "set") for item in kept], [tag(item, "set") for item in doomed]
    return {
        "msg": f"{len(gone)} old snapshots {'would be ' if check_mode else ''}forgotten, {len(names)} kept",
        "changed": bool(gone),
        "forgotten": gone,
        "sets": names,
        "diff": _diff(sorted([*gone, *names]), names),
    }


def _diff(before: list[str], after: list[str]) -> Json:
    return {"before": "".join(f"{name}\n" for name in before), "after": "".join(f"{name}\n" for name in after)}


def _fetch(node: Node, repository: Repository, parameters: Json, check_mode: bool) -> Json:
    wanted = parameters["set"]
    there = present_whole(node, wanted) if wanted and not parameters["snapshot"] else None
    if there is not None:
        return {"set": there, "msg": f"backup set {wanted} is on the node already, every file sound"}
    if parameters["snapshot"]:
        snapshot: Json | None = repository.named(parameters["snapshot"])
    else:
        snapshot = repository.newest(repository.snapshots(), wanted)
    if snapshot is None:
        raise refusal("no-snapshot", wanted)
    name = tag(snapshot, "set")
    there = present_whole(node, name)
    facts = {"snapshot": str(snapshot["id"]), "sets": [name]}
    if there is not None or check_mode:
        words = "is on the node already, every file sound" if there else "would be brought back"
        return {**facts, "changed": there is None, "set": there, "msg": f"backup set {name} {words}"}
    size = int(tag(snapshot, "bytes") or 0)
    taken = take_in(node, repository.restore(snapshot), wanted, size, parameters["min_free_bytes"])
    told = f"backup set {name} brought back from restic, every file sound"
    return {**facts, "changed": taken.pop("new"), "set": taken, "msg": told}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
