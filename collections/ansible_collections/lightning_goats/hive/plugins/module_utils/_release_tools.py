# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The tools beside Ansible that artifacts are built with. Runs on the controller only."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

TOOLS = ("hatchling", "packaging", "pex", "pip", "uv")
MACHINES = ["x86_64", "aarch64"]


def need_tools() -> None:
    """Raise ReleaseError ``tools`` unless all of them are there: what builds is imported only after this."""
    absent = [tool for tool in TOOLS if find_spec(tool) is None]
    if absent:
        raise ReleaseError(
            "tools",
            f"{', '.join(absent)} cannot be imported by {sys.executable}: run 'make venv' and use "
            ".venv/bin/ansible-playbook, which brings the tools that releases are built with.",
        )
