#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_switch
short_description: Move a node from one stack of plugins to another, and back when anything is wrong
description:
  - A journaled transaction on the node. Plugins are stopped and started while lightningd runs on. The managed
    configuration is validated by lightningd itself, before and after.
  - A dead-man on the node undoes the switch when nobody confirms it in time, also when the controller is gone.
  - When anything fails, the previous stack is brought back and proven healthy, and then the module fails with the
    reason.
  - An interrupted switch is taken up or undone by the next call.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
  - lightning_goats.hive.timeouts
options:
  state:
    description:
      - V(switched) moves the node to O(stack). V(rolled_back) moves it to the stack that was confirmed before the
        present one.
      - V(confirmed) keeps what was switched and disarms the dead-man. V(reverted) undoes an open switch, if there is
        one.
      - V(soaked) writes down that the stage the node soaks in has soaked. V(abandoned) writes down that the plan of
        O(stage) is dead, so that none of it is switched any more (code abandoned-plan). Both change nothing else.
    type: str
    choices: [switched, confirmed, reverted, rolled_back, soaked, abandoned]
    required: true
  stack:
    description: The resolved stack, in start order. Empty removes the plugins and keeps their data.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the plugin.
        type: str
        required: true
      version:
        description: Version of the release.
        type: str
        required: true
      digest:
        description: sha256 of the artifact.
        type: str
        required: true
      enabled:
        description: Whether it runs.
        type: bool
        default: true
      options:
        description: Its options in lightningd's configuration, with their types.
        type: dict
        default: {}
      replaces:
        description:
          - Paths of plugins, as C(lightning-cli plugin list) shows them, that the operator's own configuration loads
            and whose place this one takes. They are stopped, the managed configuration keeps them off, and they are
            started again when nobody takes their place any more. The operator's files are not edited.
        type: list
        elements: str
        default: []
  manifests:
    description: Manifests of the releases, as the plan saw them. A slot on the node whose manifest differs is refused.
    type: list
    elements: dict
    default: []
  rollout:
    description: Name of the rollout. Only the same rollout may take up or confirm its switch.
    type: str
    required: true
  owner:
    description: Who runs the rollout, shown to others that find the node locked. Empty takes O(rollout).
    type: str
    default: ""
  deadman_seconds:
    description: Seconds until the switch is undone unless it is confirmed. V(0) confirms at once.
    type: float
    default: 300
  lock_ttl_seconds:
    description: Seconds after which the lock of a rollout counts as stale.
    type: float
    default: 3600
  break_lock:
    description: Take the node from a rollout whose lock is stale.
    type: bool
    default: false
  backup_max_age_seconds:
    description: A verified backup of exactly this stack that is younger than this is used instead of a new one.
    type: float
    default: 3600
  backup_keep:
    description: Backup sets to keep.
    type: int
    default: 10
  htlc_wait_seconds:
    description:
      - How long to wait, before anything is changed, for payments in flight that could expire within the switch. What
        has not settled then is a refusal (code htlc-expiry).
    type: float
    default: 600
  htlc_margin_blocks:
    description:
      - Blocks that must be left to a payment in flight after the longest time the switch can take. Where half of
        lightningd's own C(cltv-delta) is more, that counts.
    type: int
    default: 18
  adopt:
    description:
      - V(auto) takes over what a monolithic C(cl-hive) keeps for the plugins of O(stack) in its database, when one of
        them takes its place, and carries back what changed since when the monolith returns. V(no) leaves all rows where
        they are.
    type: str
    choices: [auto, "no"]
    default: auto
  adopt_identity:
    description:
      - Which Nostr identity stays when the monolith and the communication plugin have different ones. V(refuse) changes
        nothing then.
    type: str
    choices: [refuse, monolith, present]
    default: refuse
  stage:
    description:
      - Which stage of which plan this is. With V(switched) the node soaks from the confirmation on for as long as it
        says, and remembers it until another stack is confirmed. Left out, it does not soak. Needed with V(soaked) and
        V(abandoned).
      - With V(rolled_back) only that stage is taken back. A node that has not kept it, or that somebody else has taken
        back already, stays as it is. Left out, the node goes back from whatever it runs.
      - While it soaks, the node's probe looks for what no soak survives, and takes the node back by itself.
    type: dict
    suboptions:
      plan:
        description: Digest of the plan.
        type: str
        required: true
      name:
        description: Name of the stage.
        type: str
        required: true
      number:
        description: Its place among the stages, from 0.
        type: int
        default: 0
      waves:
        description: All stages of the plan, each with its C(name) and C(nodes).
        type: list
        elements: dict
        default: []
      action:
        description: What the plan does with this node.
        type: str
        default: ""
      soak:
        description: How long it has to soak. All of the windows must be full; 0 minutes means not at all.
        type: dict
        default: {}
        suboptions:
          minutes:
            description: Minutes.
            type: float
            default: 0
          blocks:
            description: Blocks.
            type: int
            default: 0
          forwards:
            description: Settled forwards.
            type: int
            default: 0
          extend_minutes:
            description: For how much longer it goes on when nothing can be told, before a human is asked.
            type: float
            default: 0
          self_revert:
            description: Whether the node may go back by itself.
            type: bool
            default: true
          restarts_allowed:
            description: How often lightningd may die of a plugin of this stage before the node goes back by itself.
            type: int
            default: 0
  verdict:
    description: Why the soak ends well, with V(soaked). It was healthy, or a human accepted it.
    type: str
    choices: [healthy, accepted]
    default: healthy
  summary:
    description: One line for the journal, with V(soaked), V(abandoned) and O(give_up).
    type: str
    default: ""
  give_up:
    description:
      - With V(rolled_back), the plan of O(stage) is dead as soon as the node is back, as after V(abandoned), so that an
        interruption between the two lets nobody go on with it.
    type: bool
    default: false
  lift_quarantine:
    description:
      - Try a release again that is quarantined because lightningd died in the switch that started it. Else it is
        refused (code quarantined). A switch that is confirmed lifts the quarantine of the plugins it changes.
    type: bool
    default: false
  slots_keep:
    description:
      - Slots to keep of each plugin beside those of the active, the previous and the new stack and those in quarantine.
        What is older is removed before the switch, with its release.
    type: int
    default: 2
  aside_keep:
    description: Sets of files that restores put aside to keep.
    type: int
    default: 3
  allow_lightningd_restart:
    description: Allow a restart of lightningd where the switch cannot be done without.
    type: bool
    default: false
attributes:
  check_mode:
    description: Runs every check that changes nothing, and returns the steps that would be taken.
    support: full
  diff_mode:
    description: Shows the stack and the managed include before and after; values of secret options are masked.
    support: full
"""

EXAMPLES = r"""
- name: Switch the node
  lightning_goats.hive.hive_switch:
    node: "{{ __hive_common_node }}"
    state: switched
    stack:
      - name: cl-hive-comms
        version: 0.1.0
        digest: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
        options:
          hive-comms-policy-preset: moderate
    rollout: 20261122-1
    deadman_seconds: 300

- name: Keep it
  lightning_goats.hive.hive_switch:
    node: "{{ __hive_common_node }}"
    state: confirmed
    rollout: 20261122-1

- name: Write down that its stage has soaked
  lightning_goats.hive.hive_switch:
    node: "{{ __hive_common_node }}"
    state: soaked
    stage:
      plan: 5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
      name: canary
    rollout: 20261125-1
"""

RETURN = r"""
phase:
  description:
    - Where the node is now. One of switched, confirmed, reverted, refused, revert-failed, planned, soaked, abandoned.
  returned: always
  type: str
transaction:
  description: Id of the transaction, empty when none was needed.
  returned: always
  type: str
before:
  description: The stack before.
  returned: always
  type: list
after:
  description: The stack after.
  returned: always
  type: list
downtime_ms:
  description: Per plugin, milliseconds from its last answer before the stop to its first after the start.
  returned: always
  type: dict
switch_ms:
  description: Milliseconds of the whole call.
  returned: always
  type: float
lightningd_restarts:
  description: How often lightningd came up anew.
  returned: always
  type: int
backup:
  description: The backup set of this switch, null when none was needed.
  returned: always
  type: dict
adoption:
  description:
    - What was done with the rows of a monolithic C(cl-hive), null when nothing was. Milliseconds of the pass while it
      still worked (C(first_ms)), of the one after it stopped (C(delta_ms)) and of carrying back (C(carry_back_ms)),
      rows that only the second pass found (C(delta_rows)), and per plugin and table what was adopted or carried back.
  returned: always
  type: dict
drained:
  description: How long was waited for payments in flight and what they left, null when there were none.
  returned: always
  type: dict
reverted:
  description: Whether the previous stack was brought back.
  returned: always
  type: bool
reason:
  description: Why it failed or was undone.
  returned: always
  type: str
remarks:
  description: What is worth telling but no reason to go back.
  returned: always
  type: list
journal:
  description: The journal entries of the transaction.
  returned: always
  type: list
journal_head:
  description: Hash of the newest journal entry.
  returned: always
  type: str
steps:
  description: The steps that would be taken.
  returned: in check mode
  type: list
"""

from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import TIMEOUTS, run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request, Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.switch import switch

OPTIONS: dict[str, Any] = {
    "state": {
        "type": "str",
        "required": True,
        "choices": ["switched", "confirmed", "reverted", "rolled_back", "soaked", "abandoned"],
    },
    "stack": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "digest": {"type": "str", "required": True},
            "enabled": {"type": "bool", "default": True},
            "options": {"type": "dict", "default": {}},
            "replaces": {"type": "list", "elements": "str", "default": []},
        },
    },
    "stage": {
        "type": "dict",
        "options": {
            "plan": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "number": {"type": "int", "default": 0},
            "waves": {"type": "list", "elements": "dict", "default": []},
            "action": {"type": "str", "default": ""},
            "soak": {
                "type": "dict",
                "default": {},
                "options": {
                    "minutes": {"type": "float", "default": 0.0},
                    "blocks": {"type": "int", "default": 0},
                    "forwards": {"type": "int", "default": 0},
                    "extend_minutes": {"type": "float", "default": 0.0},
                    "self_revert": {"type": "bool", "default": True},
                    "restarts_allowed": {"type": "int", "default": 0},
                },
            },
        },
    },
    "verdict": {"type": "str", "choices": ["healthy", "accepted"], "default": "healthy"},
    "summary": {"type": "str", "default": ""},
    "give_up": {"type": "bool", "default": False},
    "adopt": {"type": "str", "choices": ["auto", "no"], "default": "auto"},
    "adopt_identity": {"type": "str", "choices": ["refuse", "monolith", "present"], "default": "refuse"},
    "manifests": {"type": "list", "elements": "dict", "default": []},
    "rollout": {"type": "str", "required": True},
    "owner": {"type": "str", "default": ""},
    "deadman_seconds": {"type": "float", "default": 300.0},
    "lock_ttl_seconds": {"type": "float", "default": 3600.0},
    "break_lock": {"type": "bool", "default": False},
    "backup_max_age_seconds": {"type": "float", "default": 3600.0},
    "backup_keep": {"type": "int", "default": 10},
    "htlc_wait_seconds": {"type": "float", "default": 600.0},
    "htlc_margin_blocks": {"type": "int", "default": 18},
    "lift_quarantine": {"type": "bool", "default": False},
    "slots_keep": {"type": "int", "default": 2},
    "aside_keep": {"type": "int", "default": 3},
    "timeouts": TIMEOUTS,
    "allow_lightningd_restart": {"type": "bool", "default": False},
}
PLAIN = (
    "state",
    "stack",
    "rollout",
    "owner",
    "adopt",
    "adopt_identity",
    "stage",
    "verdict",
    "summary",
    "give_up",
    "deadman_seconds",
    "lock_ttl_seconds",
    "break_lock",
    "backup_max_age_seconds",
    "backup_keep",
    "htlc_wait_seconds",
    "htlc_margin_blocks",
    "lift_quarantine",
    "slots_keep",
    "aside_keep",
    "allow_lightningd_restart",
)


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Hand the request to the engine."""
    request = Request(
        **{key: parameters[key] for key in PLAIN},
        manifests={str(manifest["artifact"]["sha256"]): manifest for manifest in parameters["manifests"]},
        timeouts=Timeouts.from_params(parameters["timeouts"]),
        check_mode=check_mode,
    )
    return switch(Node.from_params(parameters["node"]), request)


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
