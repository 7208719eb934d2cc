#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_drill
short_description: Prove that a backup set can be restored, on a scratch node, and sign what was found
description:
  - Restores the newest backup set of a node into a scratch directory on the same machine, starts a scratch lightningd
    without network on it (the sandbox's verified fake), starts the plugins of the set from the node's own slots, and
    asks whether everything is there.
  - Measures how long the restore takes until all plugins are well, and how far the set is behind.
  - The scratch node is destroyed in every case. What a killed drill has left is ended by itself, or by the next one.
  - The node itself is only read. Nothing in its lightning directory changes.
  - Writes an in-toto statement with a test result to O(evidence_dir) on the controller, and its signature. A set that
    does not hold gets one too, and the task fails.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  set:
    description: Name of the backup set. Empty takes the newest one.
    type: str
    default: ""
  fresh_seconds:
    description: Drill only when there is no valid, passed evidence of this node that is younger than this. V(0) always
        drills.
    type: int
    default: 0
  evidence_dir:
    description: Directory on the controller for the evidence. Relative paths start at the folder above the playbooks.
    type: str
    required: true
  signing_key:
    description: Private key to sign the evidence with, or the public part of one that ssh-agent holds. Empty makes a
        throw-away key, which proves nothing to others.
    type: str
    default: ""
  allowed_signers:
    description: The ssh-keygen file of who may sign evidence. Empty takes C(allowed_signers) beside the key.
    type: str
    default: ""
  keys_dir:
    description: Where the throw-away key is made, as C(evidence) with its list C(evidence_signers).
    type: str
    default: var/keys
  valid_days:
    description: Days after which the evidence does not count any more. V(0) is for ever.
    type: int
    default: 30
  sandbox:
    description: Directory of the sandbox's source, of which the scratch lightningd is built once.
    type: str
    default: sandbox
  workspace:
    description: Directory of the C(uv.lock) that pins its wheels.
    type: str
    default: "."
  cache_dir:
    description: Where the built scratch lightningd and fetched wheels are kept.
    type: str
    default: .cache/release
  architectures:
    description: Machine types of the nodes to serve.
    type: list
    elements: str
    choices: [x86_64, aarch64]
    default: [x86_64, aarch64]
  min_free_bytes:
    description: What has to stay free on the node's disk beside the scratch node.
    type: int
    default: 268435456
  timeouts:
    description: Seconds that each part may take, as in M(lightning_goats.hive.hive_switch).
    type: dict
    default: {}
    suboptions:
      getmanifest:
        description: A plugin's answer to getmanifest, by default 10.
        type: float
      init:
        description: A plugin's answer to init, by default 30.
        type: float
      stop:
        description: Not used here.
        type: float
      rpc:
        description: Any other call of lightningd, by default 15.
        type: float
      healthy:
        description: From start to a good answer of the health RPC; at least 60 here.
        type: float
      ready:
        description: Until the scratch lightningd answers, by default 60.
        type: float
      validate:
        description: Not used here.
        type: float
      engine:
        description: Not used here.
        type: float
  lightningd:
    description: The scratch lightningd. The action plugin sets it; do not set it.
    type: dict
    suboptions:
      digest:
        description: sha256 of the artifact.
        type: str
        required: true
      wheels:
        description: By interpreter and machine, the wheels it needs.
        type: dict
        required: true
      incoming:
        description: Where the artifact lies on the node.
        type: str
        default: ""
attributes:
  check_mode:
    description: Says which set would be drilled. Nothing is built, restored or signed.
    support: full
  diff_mode:
    description: A drill leaves the node as it was; there is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Drill the newest backup set
  lightning_goats.hive.hive_drill:
    node: "{{ __hive_common_node }}"
    evidence_dir: var/evidence
"""

RETURN = r"""
set_id:
  description: The set that was drilled, or would be in check mode.
  returned: success
  type: str
drill:
  description: What was found. Null in check mode.
  returned: always, once a set was found
  type: dict
  contains:
    result:
      description: PASSED or FAILED.
      type: str
    reason:
      description: The first thing that does not hold, in one sentence. Empty when all does.
      type: str
    checks:
      description: Every check with C(name), C(plugin), C(ok) and C(detail). C(ok) is null for what could not be tested.
      type: list
    rto_seconds:
      description: Seconds of verifying and copying the set and of starting the plugins until all are well.
      type: float
    seconds:
      description: The parts of it, and the drill's own further checks, which are no part of it.
      type: dict
    rpo:
      description: Age of the set in seconds, and by how many rows the node's tables are ahead of it.
      type: dict
    releases:
      description: The releases that were started, with digest and schema version.
      type: list
evidence:
  description: Path of the statement and of its signature, and who signed.
  returned: when drilled, or when recent evidence was enough
  type: dict
swept:
  description: What killed drills had left on the node and is removed now.
  returned: success
  type: list
missing:
  description: Digest of the scratch lightningd when it is not on the node yet. Empty once the action plugin has done
      its work.
  returned: success
  type: list
"""

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._drill import Drill, DrillRequest
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import Artifact
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts

OPTIONS: dict[str, Any] = {
    "set": {"type": "str", "default": ""},
    "fresh_seconds": {"type": "int", "default": 0},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": "", "no_log": False},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys", "no_log": False},
    "valid_days": {"type": "int", "default": 30},
    "sandbox": {"type": "str", "default": "sandbox"},
    "workspace": {"type": "str", "default": "."},
    "cache_dir": {"type": "str", "default": ".cache/release"},
    "architectures": {
        "type": "list",
        "elements": "str",
        "choices": ["x86_64", "aarch64"],
        "default": ["x86_64", "aarch64"],
    },
    "timeouts": TIMEOUTS,
    "min_free_bytes": {"type": "int", "default": 268435456},
    "lightningd": {
        "type": "dict",
        "options": {
            "digest": {"type": "str", "required": True},
            "wheels": {"type": "dict", "required": True},
            "incoming": {"type": "str", "default": ""},
        },
    },
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Drill; what is found of the set is a result here, and the action plugin's to judge."""
    lightningd = parameters["lightningd"]
    if lightningd is None:
        raise HiveError(
            "hive_drill was called without its action plugin; call it as lightning_goats.hive.hive_drill from a "
            "playbook"
        )
    incoming = Path(lightningd["incoming"]) if lightningd["incoming"] else None
    request = DrillRequest(
        Artifact(lightningd["digest"], lightningd["wheels"], incoming),
        parameters["set"],
        Timeouts.from_params(parameters["timeouts"]),
        check_mode,
        parameters["min_free_bytes"],
    )
    return {"changed": False, **Drill(Node.from_params(parameters["node"]), request).run()}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
