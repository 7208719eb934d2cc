#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_suites
short_description: Run the tests of releases from their exact sources, and sign what they found
description:
  - Runs pytest over the tests of each release that a C(hive_stack) of the play's hosts names, and of our packages that
    are in it, in a process of its own, with a deadline. Nothing that the tests started is left running.
  - The sources are those that the release's manifest names. The work tree is tested where it still has their digest;
    else their commit is unpacked and has to have it. Where nobody can show this, nothing is tested and the task fails.
  - Plugins of others are tested from their commit, with the wheels of their lock.
  - Writes an in-toto statement C(suite-<plugin>) about the artifact to O(evidence_dir), and its signature. A suite that
    is not green gets one too, and the task fails. A suite in which no test ran is not green.
  - Works on the controller and connects to no node.
author: [Lightning Hive Rollout contributors]
options:
  versions:
    description: Versions that go before those of C(hive_stack), by plugin.
    type: dict
    default: {}
  sources:
    description: Directories of the plugins' sources below O(workspace), by plugin. By default C(plugins_src/<plugin>).
    type: dict
    default: {}
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
  workspace:
    description: Directory of the C(uv.lock) that pins what the tests run with.
    type: str
    default: "."
  cache_dir:
    description: Where scratch directories are made and fetched wheels are kept.
    type: str
    default: .cache/release
  locks_dir:
    description: Where the locks of plugins of others lie.
    type: str
    default: var/locks
  seconds:
    description: How long the suites of one release may take together.
    type: float
    default: 1800
  workers:
    description: Processes that share a suite. More than V(1) needs pytest-xdist.
    type: int
    default: 1
  fresh_seconds:
    description: Run only the suites without valid, passed evidence about this very artifact that is younger. V(0)
      always runs them.
    type: int
    default: 0
attributes:
  check_mode:
    description: Says which suites would run.
    support: full
  diff_mode:
    description: Tests change nothing; there is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Run the tests of a release
  lightning_goats.hive.hive_suites:
    releases_dir: var/releases
    release_signers: var/keys/allowed_signers
    evidence_dir: var/evidence
  run_once: true
"""

RETURN = r"""
suites:
  description: What was found of each release that was tested, as in its evidence.
  type: list
  elements: dict
  returned: always
lines:
  description: One line for each release.
  type: list
  elements: str
  returned: always
evidence:
  description: Paths of the statements.
  type: list
  elements: str
  returned: always
"""
