# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The releases that a fleet is about to run, verified: what its inventory names, of all nodes together.

Runs on the controller only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    Release,
    ReleaseError,
    load_release,
    release_directory,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_hosts import Hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import item_problem

Json = dict[str, Any]


def wanted_stacks(hosts: Hosts, versions: Mapping[str, str]) -> list[dict[str, str]]:
    """Version by plugin of every stack that a node is to run, each once.

    ``versions`` go before those of ``hive_stack``, by plugin. Raises ReleaseError ``bad-stack`` for a stack that is
    none, and where nothing is named.
    """
    found: list[dict[str, str]] = []
    for node in hosts.names:
        stack = hosts.get(node, "hive_stack", [])
        if not isinstance(stack, list):
            raise ReleaseError(
                "bad-stack",
                f"hive_stack of {node} is not a list: write one entry with name and version per plugin.",
            )
        for number, item in enumerate(stack, 1):
            problem = item_problem(item)
            if problem:
                raise ReleaseError("bad-stack", f"Entry {number} of hive_stack of {node} {problem}")
        named = {item["name"]: str(versions.get(item["name"], item["version"])) for item in stack}
        if named and named not in found:
            found.append(named)
    if not found:
        raise ReleaseError("bad-stack", "No node has a hive_stack, so there is no release to test: set hive_stack.")
    return found


def wanted_versions(hosts: Hosts, versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Name and version of every release in those stacks, each once. Raises ReleaseError ``bad-stack``."""
    return sorted({pair for stack in wanted_stacks(hosts, versions) for pair in stack.items()})


def verified(releases: Path, signers: Path, name: str, version: str) -> Release:
    """One release of the directory, its signature, expiry and artifact checked. Raises ReleaseError."""
    return load_release(release_directory(releases, name, version), signers, name, version, now=time.time())
