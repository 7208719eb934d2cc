"""What the steps of the life have in common: the operator's data, and that nothing else was touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest

TABLES = {
    "cl_hive_comms.db": "SELECT alias, advisor_id, created_at FROM comms_aliases ORDER BY alias",
    "cl_hive_archon.db": "SELECT did, label, created_at FROM archon_identity",
    "cl_hive.db": "SELECT peer_id, tier, joined_at FROM hive_members ORDER BY peer_id",
}
HEALTH = ("hive-comms-health", "hive-archon-health", "hive-health")


class Node(Protocol):
    """What these tests use of the node fixture."""

    def rpc(self, method: str, *params: str) -> Any: ...
    def rows(self, database: str, query: str) -> list[Any]: ...
    def plugins(self) -> dict[str, str]: ...
    def journal(self) -> list[dict[str, Any]]: ...
    def lightningd(self) -> dict[str, int]: ...
    def config(self) -> str: ...
    def remember(self, name: str, value: Any) -> Any: ...
    def remembered(self, name: str) -> Any: ...


@pytest.fixture
def rows(node: Node) -> dict[str, list[Any]]:
    """The operator's rows in the three databases, read beside the plugins."""
    return {database: node.rows(database, query) for database, query in TABLES.items()}


@pytest.fixture
def answers(node: Node) -> Callable[[], dict[str, Any]]:
    """What the plugins say they are: must survive every switch."""

    def ask() -> dict[str, Any]:
        return {
            "nostr": node.rpc("hive-client-identity")["pubkey"],
            "did": node.rpc("hive-archon-status")["identity"]["did"],
            "hive": node.rpc("hive-status")["hive_id"],
        }

    return ask


@pytest.fixture
def versions(node: Node) -> dict[str, str]:
    """The version every plugin says it has, all of them healthy."""
    health = [node.rpc(method) for method in HEALTH]
    assert [answer["status"] for answer in health] == ["ok"] * 3, health
    return {answer["plugin"]: answer["version"] for answer in health}
