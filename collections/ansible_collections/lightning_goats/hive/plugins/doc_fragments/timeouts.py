# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The option group that says how long each part of an engine's work may take."""

from __future__ import annotations


class ModuleDocFragment:
    """`extends_documentation_fragment: lightning_goats.hive.timeouts`."""

    DOCUMENTATION = r"""
options:
  timeouts:
    description: Seconds that each part may take.
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
        description: Stopping one plugin, by default 35.
        type: float
      rpc:
        description: Any other call of lightningd, by default 15.
        type: float
      healthy:
        description: From start to a good answer of the health RPC, by default 5.
        type: float
      ready:
        description: Until all plugins of lightningd are active, by default 60.
        type: float
      validate:
        description: lightningd's reading of the new configuration, by default 30.
        type: float
      engine:
        description: Waiting for another engine on this node, by default 120.
        type: float
"""
