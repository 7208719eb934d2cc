#!/usr/bin/python
# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)

from __future__ import annotations

DOCUMENTATION = r"""
module: hive_stage
short_description: Bring releases to a node, verify them there and unpack them into slots
description:
  - Signature, digest, expiry and age of every release are verified on the node, after the transfer.
  - A slot that is there and whole is left as it is. One that was not finished is made again.
  - lightningd is not touched and nothing that runs changes.
author:
  - Lightning Goats (@lightning-goats)
extends_documentation_fragment:
  - lightning_goats.hive.node
options:
  releases:
    description: The releases that must be ready.
    type: list
    elements: dict
    required: true
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
        description: sha256 of the artifact, by which the release is named.
        type: str
        required: true
      path:
        description: Directory of the release on the controller.
        type: str
        required: true
  allowed_signers:
    description: The ssh-keygen file, on the controller, of who may sign releases.
    type: path
    required: true
  signers_text:
    description: Content of O(allowed_signers). The action plugin reads it; do not set it.
    type: str
  incoming:
    description: By digest, where the files of a release lie on the node. The action plugin sets it after the
        transfer; do not set it.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says which releases would be staged.
    support: full
  diff_mode:
    description: Lists the slots before and after.
    support: full
"""

EXAMPLES = r"""
- name: Stage the releases
  lightning_goats.hive.hive_stage:
    node: "{{ __hive_common_node }}"
    releases:
      - name: cl-hive-comms
        version: 0.1.0
        digest: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
        path: var/releases/cl-hive-comms/0.1.0
    allowed_signers: var/keys/allowed_signers
"""

RETURN = r"""
slots:
  description: The slots of the releases, with name, version, digest, path and entry.
  returned: success
  type: list
staged:
  description: Digests that were staged by this call, or would be in check mode.
  returned: success
  type: list
missing:
  description: Digests whose files are not on the node yet. Empty once the action plugin has done its work.
  returned: success
  type: list
"""

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.entry import run
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging import Wanted, stage

OPTIONS: dict[str, Any] = {
    "releases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {key: {"type": "str", "required": True} for key in ("name", "version", "digest", "path")},
    },
    "allowed_signers": {"type": "path", "required": True},
    "signers_text": {"type": "str"},
    "incoming": {"type": "dict", "default": {}},
}


def work(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Stage what is missing and say what is there."""
    node = Node.from_params(parameters["node"])
    signers = parameters["signers_text"]
    if signers is None:
        raise HiveError(
            "hive_stage was called without its action plugin; call it as lightning_goats.hive.hive_stage from a "
            "playbook"
        )
    wanted = [
        Wanted(
            item["name"],
            item["version"],
            item["digest"],
            Path(parameters["incoming"][item["digest"]]) if item["digest"] in parameters["incoming"] else None,
        )
        for item in parameters["releases"]
    ]
    outcome = stage(node, wanted, signers, check_mode)
    before = [f"{slot.name} {slot.version} {slot.path}" for slot in outcome.slots if slot.digest not in outcome.staged]
    named = {item.digest: item for item in wanted}
    added = [f"{named[digest].name} {named[digest].version}" for digest in outcome.staged]
    return {
        "changed": bool(outcome.staged),
        "slots": [
            {
                "name": slot.name,
                "version": slot.version,
                "digest": slot.digest,
                "path": str(slot.path),
                "entry": slot.inside(node),
            }
            for slot in outcome.slots
        ],
        "staged": outcome.staged,
        "missing": outcome.missing,
        "diff": {
            "before": "".join(f"{line}\n" for line in before),
            "after": "".join(f"{line}\n" for line in [*before, *added]),
        },
    }


def main() -> None:
    run(OPTIONS, work)


if __name__ == "__main__":
    main()
