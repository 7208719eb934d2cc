"""After an upgrade, in which the operator went on working: what must survive is written down."""

from __future__ import annotations

from typing import Any

VERSIONS = {"cl-hive-comms": "0.1.1", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.1"}


def test_the_stack_runs(node: Any) -> None:
    assert node.versions() == VERSIONS
    node.remember("plugins", node.plugins())


def test_what_must_survive_is_there(node: Any) -> None:
    rows = node.remember("rows", node.rows(*VERSIONS))
    assert all(found for found in rows.values()), rows
    node.remember("identities", node.identities())
    node.remember("lightningd", node.lightningd())


def test_the_operator_goes_on(node: Any) -> None:
    node.rpc("hive-client-alias", "set", "after-the-upgrade", "did:cid:advisor")
    rows = node.remember("rows", node.rows(*VERSIONS))
    assert [alias for alias, *_ in rows["cl-hive-comms"]] == ["after-the-upgrade", "boss"]
