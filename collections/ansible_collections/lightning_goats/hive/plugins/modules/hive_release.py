#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
# Documentation only: the work is done by the action plugin of the same name, in the controller's own process.

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_release
short_description: Build, describe and sign releases of plugins
description:
  - Makes one hermetic, reproducible PEX of each plugin, lets it describe itself, writes its manifest and signs that.
  - A release that is there, made from the same sources, validly signed and whole, is left as it is.
  - Works in the process of Ansible itself, with the tools beside it; it never connects to a node.
author: [Lightning Hive Rollout contributors]
options:
  plugins:
    description: The plugins to release.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description:
          - Directory of the plugin's source, with its C(pyproject.toml).
          - One of this, O(plugins[].git) and O(plugins[].artifact) is required.
        type: path
      name:
        description: The name that the source must have. Empty takes whatever it has. Required with O(plugins[].git).
        type: str
        default: ""
      version:
        description: Version to release it as, instead of the one in C(pyproject.toml). Required with O(plugins[].git).
        type: str
        default: ""
      git:
        description:
          - Path or URL of a git repository that holds a plugin as a script, with a requirements file, and no package.
          - The release is the commit that O(plugins[].ref) names; its dependencies are locked in O(locks_dir).
        type: str
        default: ""
      ref:
        description: Tag, branch or whole commit of O(plugins[].git). The commit it names is recorded.
        type: str
        default: ""
      entry:
        description: The script in the repository that lightningd would run. Empty takes C(<name>.py).
        type: str
        default: ""
      requirements:
        description: The requirements file in the repository. Empty takes C(requirements.txt), if there is one.
        type: str
        default: ""
      python:
        description: The Pythons that the repository's code is for. Empty takes C(>=3.11,<3.14).
        type: str
        default: ""
      declares:
        description:
          - What cannot be asked of a foreign plugin. C(health_rpc), a method that answers when the plugin is well, is
            required.
          - C(start_order), C(database), C(database_option), C(key_files), C(tables), C(schema_version), C(readable_by),
            C(requires) and C(conflicts) are as in manifests. By default there is no database and nothing is needed.
        type: dict
        default: {}
      artifact:
        description: Path or URL of a finished artifact, a PEX that carries wheels.
        type: str
        default: ""
      sha256:
        description: The sha256 of O(plugins[].artifact), without which it is not used.
        type: str
        default: ""
      manifest:
        description:
          - Path or URL of the manifest that came with O(plugins[].artifact). It is taken over as it is, if one of
            O(allowed_signers) signed it.
          - Empty makes and signs a manifest here.
        type: str
        default: ""
      signature:
        description: Path or URL of the manifest's signature. Empty takes that of the manifest with C(.sig) added.
        type: str
        default: ""
  versions:
    description: Versions to release plugins as, by plugin name. A version given in O(plugins) goes first.
    type: dict
    default: {}
  workspace:
    description:
      - Directory of the C(uv.lock) that pins the plugins' dependencies. Not needed for plugins without any.
      - Relative paths in other options are taken from here, or without it from the directory of the play.
    type: path
  releases_dir:
    description: Where releases are put, as C(<name>/<version>/).
    type: path
    required: true
  cache_dir:
    description: Where fetched wheels are kept. It may be removed at any time between runs.
    type: path
    required: true
  keys_dir:
    description: Where the throw-away key is made when O(signing_key) is empty.
    type: path
    required: true
  locks_dir:
    description:
      - Where the locks of foreign plugins are kept, as C(<name>/<version>/pylock.toml). Keep them with the inventory.
    type: path
    default: var/locks
  signing_key:
    description:
      - Private key to sign with, or the public part of a key that ssh-agent holds.
      - Empty makes a throw-away key.
    type: path
    default: ""
  allowed_signers:
    description: The ssh-keygen file of who may sign. Empty takes C(allowed_signers) beside the key.
    type: path
    default: ""
  identity:
    description: Name of the signer in the list that is made for a throw-away key.
    type: str
    default: release@sandbox
  valid_days:
    description: Days after which nodes refuse to install the release, counted from the build. V(0) is for ever.
    type: int
    default: 0
  replace:
    description:
      - Whether a version that was already released from other sources may be replaced.
      - By default only releases signed with the throw-away key may.
    type: bool
  architectures:
    description: Machine types to carry wheels for.
    type: list
    elements: str
    choices: [x86_64, aarch64]
    default: [x86_64, aarch64]
attributes:
  action:
    description: There is no module behind it.
    support: full
  check_mode:
    description: Says which releases would be built, and builds nothing.
    support: full
  diff_mode:
    description: Shows the digests before and after; in check mode the digest after is not known.
    support: full
requirements:
  - python >= 3.11
  - hatchling, packaging, pex, pip and uv in the same environment
  - ssh-keygen
  - git, for sources in git repositories
"""

EXAMPLES = r"""
- name: Release a plugin of this repository
  lightning_goats.hive.hive_release:
    plugins:
      - source: plugins_src/cl-hive-comms
    workspace: /srv/lightning-hive-rollout
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
  run_once: true

- name: Release it once more under the next version, to rehearse an upgrade
  lightning_goats.hive.hive_release:
    plugins:
      - source: plugins_src/cl-hive-comms
        version: 0.1.1
    workspace: /srv/lightning-hive-rollout
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
  run_once: true

- name: Release the plugin of a repository of scripts, at a tag
  lightning_goats.hive.hive_release:
    plugins:
      - name: cl-hive
        version: 2.10.0
        git: https://example.org/cl-hive.git
        ref: v2.10.0
        declares:
          health_rpc: hive-status
          database: cl_hive.db
          database_option: hive-db-path
          start_order: 40
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
  run_once: true

- name: Take over an artifact that somebody built and signed
  lightning_goats.hive.hive_release:
    plugins:
      - artifact: https://example.org/cl-hive-0.2.0.pex
        sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
        manifest: https://example.org/manifest.json
    releases_dir: var/releases
    cache_dir: .cache/release
    keys_dir: var/keys
    signing_key: keys/release
  run_once: true
"""

RETURN = r"""
releases:
  description: The releases asked for, in that order.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the plugin.
      type: str
    version:
      description: Version released.
      type: str
    digest:
      description: The artifact's sha256. Empty in check mode when it is not built yet.
      type: str
    previous_digest:
      description: The artifact's sha256 before this call, empty when there was none.
      type: str
    path:
      description: Directory of the release.
      type: str
    changed:
      description: Whether it was built by this call, or in check mode would be.
      type: bool
    reason:
      description: Why it was built; empty when it was not.
      type: str
    signer:
      description: Identity that signed it.
      type: str
    manifest:
      description: Its manifest.
      type: dict
lines:
  description: One line for each release, to show to the operator.
  returned: success
  type: list
  elements: str
allowed_signers:
  description: The list of signers against which nodes check these releases.
  returned: success
  type: str
code:
  description: Stable name of what is wrong.
  returned: failure
  type: str
"""
