"""Before the change, and after a dry run of it: what must survive is written down."""

from __future__ import annotations

from typing import Any

VERSIONS = {"cl-hive-comms": "0.1.0", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.0"}


def test_the_stack_runs(node: Any) -> None:
    assert node.versions() == VERSIONS
    node.remember("plugins", node.plugins())


def test_what_must_survive_is_there(node: Any) -> None:
    rows = node.remember("rows", node.rows(*VERSIONS))
    assert all(found for found in rows.values()), rows
    node.remember("identities", node.identities())
    node.remember("lightningd", node.lightningd())
