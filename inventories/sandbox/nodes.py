#!/usr/bin/env python3
"""The sandbox's nodes, for Ansible: whatever var/sandbox/*/node.json describes, before the first `up` three names.

HIVE_SANDBOX_ROOT names another sandbox.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DEFAULT_NAMES = ("alpha", "bravo", "charlie")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def root() -> Path:
    """Return the directory of the sandbox."""
    return Path(os.environ.get("HIVE_SANDBOX_ROOT") or REPOSITORY / "var" / "sandbox")


def expected(name: str) -> dict[str, object]:
    """Return what node.json of a node that is not yet made is going to say."""
    directory = root() / name
    return {
        "lightning_dir": str(directory / "lightning"),
        "network": "regtest",
        "state_dir": str(directory / "hive"),
        "lightningd": [str(directory / "lightningd")],
        "lightning_cli": [str(directory / "lightning-cli")],
        "node_id": "",
    }


def nodes() -> dict[str, dict[str, object]]:
    """Return the nodes by name."""
    found: dict[str, dict[str, object]] = {}
    for path in sorted(root().glob("*/node.json"), key=lambda path: (len(path.parent.name), path.parent.name)):
        found[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    return found or {name: expected(name) for name in DEFAULT_NAMES}


def variables(node: dict[str, object]) -> dict[str, object]:
    """Return the variables of one host."""
    return {
        "ansible_connection": "local",
        "hive_runtime": "process",
        "hive_lightning_dir": node["lightning_dir"],
        "hive_network": node["network"],
        "hive_state_dir": node["state_dir"],
        "hive_lightningd": node["lightningd"],
        "hive_lightning_cli": node["lightning_cli"],
        "hive_node_id": node["node_id"],
    }


def inventory() -> dict[str, object]:
    """Return the inventory in the form of `ansible-inventory --list`."""
    known = nodes()
    return {
        "hive_nodes": {"hosts": list(known)},
        "_meta": {"hostvars": {name: variables(node) for name, node in known.items()}},
    }


if __name__ == "__main__":
    json.dump(inventory(), sys.stdout, indent=2)
