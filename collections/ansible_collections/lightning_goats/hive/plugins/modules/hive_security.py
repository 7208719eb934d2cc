#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_security
short_description: Look at what gate C stands on, and sign what was found
description:
  - "C(surface-<plugin>): the RPC methods, hooks, subscriptions and options of each release are the reviewed ones, and
    lightningd of each node that runs it lists exactly these methods (as C(hive_runes) registered it)."
  - "C(mcp-tools): an MCP server offers the reviewed tools, and calls none read-only that is not."
  - "C(audit-<plugin>): nothing is known against what a release carries, by pip-audit over a database of advisories."
  - "C(sbom-<plugin>): beside the artifact lies its SBOM (CycloneDX 1.6), which is what the artifact itself says. One
    that is not there is written."
  - What does not hold gets evidence too, and stands in RV(bad). What cannot be looked at gets none, and stands in
    RV(missing). The task only fails when nothing could be looked at.
  - What C(hive_runes) found of the nodes stands in the same table.
author: [Lightning Hive Rollout contributors]
options:
  checks:
    description: What to look at.
    type: list
    elements: str
    choices: [surface, mcp, audit, sbom]
    default: [surface, mcp, audit, sbom]
  versions:
    description: Versions that win over those of C(hive_stack), by plugin.
    type: dict
    default: {}
  live:
    description: Also hold what lightningd of the nodes lists against the reviewed list.
    type: bool
    default: true
  releases_dir:
    description: Where the releases lie.
    type: str
    required: true
  release_signers:
    description: Who may sign releases.
    type: str
    required: true
  reviewed_dir:
    description: Directory with reviewed lists of your own, C(rpc.toml) and C(mcp-tools.toml), beside those shipped.
    type: str
    default: ""
  mcp_server:
    description: The MCP server's source (C(.py)), or what it answers to C(tools/list) as JSON. Empty looks at none.
    type: str
    default: ""
  advisories:
    description: A database of advisories in OSV's form, a directory or a zip. Empty has none.
    type: str
    default: ""
  advisories_max_age_days:
    description: Days after which a database does not count, by its newest advisory.
    type: int
    default: 14
  audit_online:
    description: Without a database, ask pypi.org on the network.
    type: bool
    default: false
  evidence_dir:
    description: Where evidence is written.
    type: str
    required: true
  signing_key:
    description: The key that signs evidence; empty makes a throw-away one in O(keys_dir).
    type: str
    default: ""
  allowed_signers:
    description: Who may sign evidence; empty is C(allowed_signers) beside the key.
    type: str
    default: ""
  keys_dir:
    description: Where the throw-away key lies.
    type: str
    default: var/keys
  valid_days:
    description: Days after which the evidence does not count any more; V(0) is for ever.
    type: int
    default: 30
attributes:
  action:
    description: There is no module behind it.
    support: full
  check_mode:
    description: Looks at everything and writes neither evidence nor SBOM.
    support: full
  diff_mode:
    description: Evidence is always new, so there is nothing to compare.
    support: none
requirements:
  - python >= 3.11
  - packaging and pip-audit in the same environment, cyclonedx-python-lib to validate SBOMs
  - ssh-keygen
"""

EXAMPLES = r"""
- name: Look at the releases of the fleet
  lightning_goats.hive.hive_security:
    releases_dir: var/releases
    release_signers: var/keys/allowed_signers
    mcp_server: ../cl-hive/tools/mcp-hive-server.py
    advisories: var/advisories/pypi.zip
    evidence_dir: var/evidence
  run_once: true
  register: __hive_security_result
"""

RETURN = r"""
findings:
  description: What was looked at.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Kind and label of the evidence, for example C(audit-cl-hive).
      type: str
    state:
      description: C(PASSED), C(FAILED), or C(none) when it could not be looked at.
      type: str
    detail:
      description: What holds, what does not, or why it could not be looked at.
      type: str
lines:
  description: One line for each finding, to show to the operator.
  returned: success
  type: list
  elements: str
evidence:
  description: The statements that were written.
  returned: success
  type: list
  elements: str
bad:
  description: A sentence for each finding that does not hold.
  returned: success
  type: list
  elements: str
missing:
  description: What could not be looked at, by name.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of what is wrong.
  returned: failure
  type: str
"""
