#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_matrix
short_description: Start every combination of the plugins on scratch nodes, and sign what was seen
description:
  - Starts each supported combination of the releases that a C(hive_stack) of the play's hosts names, and the one that
    has to be refused, on scratch nodes of the controller, without network (the sandbox's verified fake).
  - Of each combination it sees that the plugins start, are active and healthy, say the C(mode) that is documented, and
    so have found each other; that the methods are those of the manifests; that nothing is logged as BROKEN; that they
    stop by themselves; and that nothing is left.
  - C(mixed) starts each plugin of the release before beside the others of this one, and the other way round, where such
    a release is in O(releases_dir). C(monolith) is read from the evidence of runs on nodes. What there was not to see
    gets the result WARNED, which opens no gate.
  - Writes an in-toto statement C(matrix-<combination>) about all artifacts of it to O(evidence_dir), and its signature.
    Only what was seen whole is PASSED.
  - Works on the controller and connects to no node.
author: [Lightning Hive Rollout contributors]
options:
  versions:
    description: Versions that go before those of C(hive_stack), by plugin.
    type: dict
    default: {}
  older:
    description: Versions for C(mixed), by plugin. By default the newest in O(releases_dir) that is older.
    type: dict
    default: {}
  combinations:
    description: Names of the matrix to run.
    type: list
    elements: str
    choices: [comms, comms+archon, comms+hive, full, hive, refuse-archon, mixed, monolith]
    default: [comms, comms+archon, comms+hive, full, hive, refuse-archon, mixed, monolith]
  releases_dir:
    description: Where the releases lie. Relative paths start at the folder above the playbooks.
    type: str
    required: true
  release_signers:
    description: The ssh-keygen file of who may sign releases.
    type: str
    required: true
  evidence_dir:
    description: Directory for the evidence.
    type: str
    required: true
  signing_key:
    description: Private key to sign the evidence with. Empty makes a throw-away key, which proves nothing to others.
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
  sandbox:
    description: Directory of the sandbox's source, of which the scratch lightningd is built once.
    type: str
    default: sandbox
  workspace:
    description: Directory of the C(uv.lock) that pins its wheels.
    type: str
    default: "."
  cache_dir:
    description: Where scratch nodes are made, and the built scratch lightningd is kept.
    type: str
    default: .cache/release
  architectures:
    description: Machine types to build the scratch lightningd for. The same as for drills saves a second build.
    type: list
    elements: str
    choices: [x86_64, aarch64]
    default: [x86_64, aarch64]
  patience_seconds:
    description: Within how long the plugins of a combination have to be well and to know each other.
    type: float
    default: 60
  seconds:
    description: No further combination is begun after so long. Those that were not begun have failed.
    type: float
    default: 900
attributes:
  check_mode:
    description: Says which combinations would run.
    support: full
  diff_mode:
    description: Scratch nodes leave nothing; there is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Start every combination on scratch nodes
  lightning_goats.hive.hive_matrix:
    releases_dir: var/releases
    release_signers: var/keys/allowed_signers
    evidence_dir: var/evidence
  run_once: true
"""

RETURN = r"""
outcomes:
  description: Name, C(result) (PASSED, WARNED for untested, FAILED) and C(reason) of each combination.
  type: list
  elements: dict
  returned: always
lines:
  description: One line for each combination.
  type: list
  elements: str
  returned: always
evidence:
  description: Paths of the statements.
  type: list
  elements: str
  returned: always
"""
