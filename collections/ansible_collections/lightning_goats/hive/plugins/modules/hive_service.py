#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_service
short_description: Adopt a node's lightningd as it is, or run it as a unit of ours
description:
  - With O(state=adopted) it compares the unit, the process and the inventory, and says what stands against a rollout
    and what could be better. It changes nothing.
  - With O(state=provisioned) it brings unit, configuration and log rotation to the given texts and lightningd to the
    given program. lightningd itself judges the configuration before anything is written.
  - A restart is never a surprise. Without O(allow_restart) it is refused before anything is written; with it, the
    module waits until no payment in flight can expire meanwhile, stops lightningd by RPC, and sees the new one ready.
    One that does not become ready is undone.
  - Going back to an older lightningd is refused, because lightningd itself does not start on a newer one's database.
author: [Lightning Hive Rollout contributors]
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  state:
    description: What is wanted.
    type: str
    choices: [adopted, provisioned]
    default: adopted
  fingerprint:
    description: With O(state=adopted), the fingerprint of an earlier look. The module fails when something that is not
        ours was changed since.
    type: str
    default: ""
  unit:
    description: Text of the unit O(node.service).
    type: str
    default: ""
  config:
    description: Text of the configuration, without the managed include, which is added and kept.
    type: str
    default: ""
  logrotate:
    description: Text of the rules for logrotate; empty for none.
    type: str
    default: ""
  lightningd:
    description: What M(lightning_goats.hive.hive_lightningd) returned, of which C(program) and C(version) are used.
    type: dict
    default: {}
  arguments:
    description: The arguments with which the unit starts lightningd, for the validation of the configuration.
    type: list
    elements: str
    default: []
  allow_restart:
    description: Whether lightningd may be restarted.
    type: bool
    default: false
  htlc_wait_seconds:
    description: How long to wait before a restart for payments in flight to settle.
    type: float
    default: 600
  htlc_margin_blocks:
    description: No restart while a payment in flight expires within so many blocks after it.
    type: int
    default: 18
  timeouts:
    description: Seconds for parts of the work.
    type: dict
    default: {}
    suboptions:
      getmanifest:
        description: Not used here.
        type: float
      init:
        description: Not used here.
        type: float
      stop:
        description: Not used here.
        type: float
      rpc:
        description: For one answer of lightningd.
        type: float
      healthy:
        description: Not used here.
        type: float
      ready:
        description: For lightningd to be up with all its plugins.
        type: float
      validate:
        description: For lightningd to judge the configuration.
        type: float
      engine:
        description: Not used here.
        type: float
attributes:
  check_mode:
    support: full
    description: Says what would be written and whether lightningd would be restarted.
  diff_mode:
    support: full
    description: The files before and after, without values that sound secret.
"""

EXAMPLES = r"""
- name: Look at a node that runs already
  lightning_goats.hive.hive_service:
    node: "{{ __hive_common_node }}"
    state: adopted
"""

RETURN = r"""
restart:
  description: Why lightningd has to be restarted, null when it has not.
  type: str
  returned: when O(state=provisioned)
restarted:
  description: Whether it was.
  type: bool
  returned: when O(state=provisioned)
seconds:
  description: How long the whole change took.
  type: float
  returned: when O(state=provisioned)
drained:
  description: What was found out about payments in flight before the restart.
  type: dict
  returned: when O(state=provisioned)
service:
  description: What systemd knows of the unit; null without systemd.
  type: dict
  returned: when O(state=adopted)
advice:
  description: What could be better, as sentences.
  type: list
  elements: str
  returned: when O(state=adopted)
fingerprint:
  description: A digest of what is not ours - unit, drop-ins, and configuration but for our include.
  type: str
  returned: when O(state=adopted)
lines:
  description: The same for people.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._service import Service, Wanted
from ansible_collections.lightning_goats.hive.plugins.module_utils._service_look import adopt

TEXT: dict[str, Any] = {"type": "str", "default": ""}
OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["adopted", "provisioned"], "default": "adopted"},
    **dict.fromkeys(("fingerprint", "unit", "logrotate"), TEXT),
    "config": {"type": "str", "default": "", "no_log": False},
    "lightningd": {"type": "dict", "default": {}},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "allow_restart": {"type": "bool", "default": False},
    "htlc_wait_seconds": {"type": "float", "default": 600.0},
    "htlc_margin_blocks": {"type": "int", "default": 18},
    "timeouts": TIMEOUTS,
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Adopt or provision."""
    node = Node.from_params(parameters["node"])
    if parameters["state"] == "adopted":
        return _adopted(node, parameters["fingerprint"])
    found = parameters["lightningd"]
    if node.runtime != "systemd" or not parameters["unit"] or not found.get("program"):
        raise HiveError(
            "a node is provisioned as a systemd unit, from a unit's text and a program; set hive_runtime", "bad-node"
        )
    wanted = Wanted(
        unit=parameters["unit"],
        config=parameters["config"],
        logrotate=parameters["logrotate"],
        program=str(found["program"]),
        version=str(found.get("version", "")),
        argv=[str(found["program"]), *parameters["arguments"]],
        allow_restart=parameters["allow_restart"],
        htlc_wait_seconds=parameters["htlc_wait_seconds"],
        htlc_margin_blocks=parameters["htlc_margin_blocks"],
        timeouts=Timeouts.from_params(parameters["timeouts"]),
    )
    return Service(node, wanted).run(check_mode)


def _adopted(node: Node, fingerprint: str) -> dict[str, Any]:
    facts = adopt(node)
    lines = facts.pop("lines")
    if facts["refusals"]:
        raise HiveError(f"{node.name} cannot be adopted: {'; '.join(facts['refusals'])}", "not-adoptable", **facts)
    if fingerprint and fingerprint != facts["fingerprint"]:
        raise HiveError(
            f"what is not ours on {node.name} was {fingerprint} and is {facts['fingerprint']} now: compare "
            f"{', '.join(facts['parts'])} with what you know",
            "changed",
            **facts,
        )
    return {"changed": False, "lines": lines, **facts}


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
