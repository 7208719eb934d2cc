# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The option group that says which node a module works on."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: lightning_goats.hive.node`."""

    DOCUMENTATION = r"""
options:
  node:
    description: The node to work on.
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the node in reports and messages.
        type: str
        required: true
      runtime:
        description: How lightningd runs.
        type: str
        choices: [process, systemd, docker]
        required: true
      lightning_dir:
        description: Directory of lightningd, on the machine the module runs on.
        type: path
        required: true
      network:
        description: Name of the network, which is also the name of its directory below O(node.lightning_dir).
        type: str
        required: true
      state_dir:
        description: Directory of the engine. Slots, backups and the journal lie there. It is made with mode 0700.
        type: path
        required: true
      python:
        description: Interpreter that slots are made with, where lightningd runs.
        type: str
        default: /usr/bin/python3
      lightningd:
        description: Arguments that start lightningd, program first. Empty takes those of the running process.
        type: list
        elements: str
        default: []
      lightning_cli:
        description: Arguments of a C(lightning-cli) that reaches the node when its socket cannot be seen from here.
        type: list
        elements: str
        default: []
      config_file:
        description: The configuration file that includes the managed one. Empty takes C(config) in
            O(node.lightning_dir).
        type: str
        default: ""
      service:
        description: Unit of lightningd, for O(node.runtime=systemd).
        type: str
        default: lightningd
      container:
        description: Container of lightningd, for O(node.runtime=docker).
        type: str
        default: ""
      docker_cli:
        description: Arguments that run the docker client.
        type: list
        elements: str
        default: [docker]
      inside:
        description: O(node.lightning_dir) and O(node.state_dir) as the container sees them.
        type: dict
        default: {}
      node_id:
        description: Public key the node must have. Empty takes any.
        type: str
        default: ""
      user:
        description: Owner of what is written. Empty takes the owner of O(node.lightning_dir).
        type: str
        default: ""
      group:
        description: Group of what is written. Empty takes the group of O(node.lightning_dir).
        type: str
        default: ""
"""
