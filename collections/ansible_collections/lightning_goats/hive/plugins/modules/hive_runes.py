#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_runes
short_description: Give every role a rune that can do exactly what the role may, and prove it
description:
  - A rune is made by lightningd with the restrictions of its role, then tried with C(checkrune). Every call the role
    may make has to be permitted, and every other one that was reviewed, with C(plugin), C(stop) and C(pay) among them,
    refused. One that does not pass is revoked at once and given to nobody.
  - It lies on the node in C(<state_dir>/runes), readable by its owner only, and where asked for on the controller, too.
    It never stands in results, logs, reports or evidence.
  - Runes of ours that are not asked for any more, were replaced, or were left by a run that died, are revoked.
  - Runes of others are not touched. Those that are not restricted, or with which the node could be taken over, are
    findings. They do not make the task fail; RV(finding) says so, and the evidence.
  - What was found is signed evidence on the controller, C(runes-<node>).
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  fleet:
    description:
      - Name of the fleet. The gates take the evidence for no other fleet, though that may have a node of the same name.
    type: str
    default: ""
  roles:
    description:
      - The roles that shall have a rune, by name. A role that is for one of several is given as C(<role>/<for whom>),
        for example C(advisor/alice).
    type: list
    elements: raw
    default: []
  rotate:
    description: Make every rune anew and revoke the old one.
    type: bool
    default: false
  max_age_days:
    description: Make those anew that are older; V(0) never does.
    type: int
    default: 0
  runes_dir:
    description: Directory on the controller that gets copies, C(<node>/<role>.rune). Empty keeps runes on the node.
    type: str
    default: ""
  reviewed_dir:
    description: Directory on the controller with reviewed lists of your own, beside those that are shipped.
    type: str
    default: ""
  evidence_dir:
    description: Where evidence is written on the controller.
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
  refused:
    description: Set by the action plugin, the methods that every rune has to refuse unless its role allows them.
    type: list
    elements: str
    default: []
  takes_over:
    description: Set by the action plugin, the methods with which a rune is a finding.
    type: list
    elements: str
    default: []
  hand_out:
    description: Set by the action plugin, the directory on the node that it fetches copies from.
    type: path
    default: ""
attributes:
  action:
    description: Most of it runs on the controller.
    support: full
  check_mode:
    description: Tries the runes that are there and says which would be made and revoked. No evidence is written.
    support: full
  diff_mode:
    description: Shows the roles with the numbers of their runes before and after.
    support: full
"""

EXAMPLES = r"""
- name: A rune for whoever watches the fleet, and one for an advisor
  lightning_goats.hive.hive_runes:
    node: "{{ __hive_common_node }}"
    roles: [monitor, advisor/alice]
    evidence_dir: var/evidence
  register: __hive_runes_result
"""

RETURN = r"""
runes:
  description: For each role its rune's number, never the rune.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role.
      type: str
    subject:
      description: For whom, empty for everybody of the role.
      type: str
    id:
      description: The rune's number, by which lightningd knows it.
      type: str
    restrictions:
      description: Of each inner list one has to hold, and all of the lists.
      type: list
    path:
      description: The file on the node.
      type: str
    changed:
      description: Whether it was made now.
      type: bool
    reason:
      description: Why it was made.
      type: str
    tried:
      description: How many calls it was tried with.
      type: int
    failed:
      description: Those that were not as they should be.
      type: list
revoked:
  description: Runes of ours that were taken back, with id, label and why.
  returned: success
  type: list
foreign:
  description: Runes of others that still count, with id, whether they are unrestricted, and which methods to take the
    node over with they could call.
  returned: success
  type: list
commands:
  description: The methods lightningd knows, sorted.
  returned: success
  type: list
running:
  description: The plugins of ours that are active, each with name and slot, the beginning of its release's digest.
  returned: success
  type: list
finding:
  description: What was found, in one line, with name, state (C(PASSED) or C(FAILED)), detail and whether it is ok.
  returned: success
  type: dict
evidence:
  description: The signed statement, with path, signature, signer and expires_at. Null in check mode.
  returned: success
  type: dict
code:
  description: Stable name of what is wrong.
  returned: failure
  type: str
"""

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes import Role
from ansible_collections.lightning_goats.hive.plugins.module_utils._runes_node import Wanted, hand_out, keep

OPTIONS: dict[str, Any] = {
    "roles": {"type": "list", "elements": "raw", "default": []},
    "rotate": {"type": "bool", "default": False},
    "max_age_days": {"type": "int", "default": 0},
    "runes_dir": {"type": "str", "default": ""},
    "reviewed_dir": {"type": "str", "default": ""},
    "evidence_dir": {"type": "str", "required": True},
    "signing_key": {"type": "str", "default": "", "no_log": False},
    "allowed_signers": {"type": "str", "default": ""},
    "keys_dir": {"type": "str", "default": "var/keys", "no_log": False},
    "valid_days": {"type": "int", "default": 30},
    "refused": {"type": "list", "elements": "str", "default": []},
    "takes_over": {"type": "list", "elements": "str", "default": []},
    "hand_out": {"type": "path", "default": ""},
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Keep the runes, or lay copies out for the controller."""
    node = Node.from_params(parameters["node"])
    roles = [Role.from_json(said) for said in parameters["roles"]]
    if parameters["hand_out"]:
        return {"changed": False, "files": hand_out(node, [role.label for role in roles], Path(parameters["hand_out"]))}
    wanted = Wanted(
        roles=roles,
        refused=parameters["refused"],
        takes_over=parameters["takes_over"],
        rotate=parameters["rotate"],
        max_age_days=parameters["max_age_days"],
        check_mode=check_mode,
    )
    return keep(node, wanted)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
