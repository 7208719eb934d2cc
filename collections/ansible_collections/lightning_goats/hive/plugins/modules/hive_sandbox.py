#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_sandbox
short_description: Bring the local fleet of nodes up or down
description:
  - Runs the command C(hive-sandbox) of the package of the same name, which makes, starts, connects, stops and removes
    nodes as ordinary processes of this machine.
  - Needs that package in the Python that runs the module, as C(make venv) installs it.
author: [Lightning Hive Rollout contributors]
options:
  state:
    description:
      - V(up) makes what is missing and starts what does not run.
      - V(down) stops all nodes and keeps their files.
      - V(reset) stops all nodes and removes their files.
    type: str
    choices: [up, down, reset]
    default: up
  nodes:
    description: How many nodes V(state=up) brings up. Nodes beyond that are left as they are.
    type: int
    default: 3
  lightningd:
    description: Which lightningd new nodes run. V(auto) takes a real one where there is one, else the fake.
    type: str
    choices: [auto, real, fake]
    default: auto
  root:
    description: Where the nodes live.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Says which nodes it would make, start, stop or remove.
  diff_mode:
    support: none
    description: What changes is said in RV(changes).
"""

EXAMPLES = r"""
- name: Bring three nodes up
  lightning_goats.hive.hive_sandbox:
    root: "{{ playbook_dir }}/../var/sandbox"

- name: Stop them and remove their files
  lightning_goats.hive.hive_sandbox:
    root: "{{ playbook_dir }}/../var/sandbox"
    state: reset
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be, one sentence each.
  type: list
  elements: str
  returned: success
nodes:
  description: The nodes as they are now, with name, backend, running, node_id, p2p_port and lightning_dir.
  type: list
  elements: dict
  returned: success
lines:
  description: The changes and the nodes as text, for people.
  type: list
  elements: str
  returned: success
"""

import json
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def lines(outcome: dict[str, Any]) -> list[str]:
    """Return the outcome of hive-sandbox as text: its changes, then a line for each node."""
    nodes = [
        f"{node['name']}: {'running' if node['running'] else 'stopped'} ({node['backend']}), {node['node_id'] or 'new'}"
        for node in outcome["nodes"]
    ]
    return [*outcome["changes"], *nodes]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["up", "down", "reset"], "default": "up"},
            "nodes": {"type": "int", "default": 3},
            "lightningd": {"type": "str", "choices": ["auto", "real", "fake"], "default": "auto"},
            "root": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    command = [sys.executable, "-m", "hive_sandbox.cli", wanted["state"], "--json", "--root", wanted["root"]]
    command += ["--nodes", str(wanted["nodes"]), "--lightningd", wanted["lightningd"]]
    code, out, err = module.run_command(command + (["--dry-run"] if module.check_mode else []))
    if code != 0:
        said = [line for line in err.splitlines() if line.strip()] or [f"hive-sandbox ended with code {code}."]
        module.fail_json(msg=said[-1].removeprefix("hive-sandbox: "))
    outcome = json.loads(out)
    module.exit_json(
        changed=outcome["changed"], changes=outcome["changes"], nodes=outcome["nodes"], lines=lines(outcome)
    )


if __name__ == "__main__":
    main()
