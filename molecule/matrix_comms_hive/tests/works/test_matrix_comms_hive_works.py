"""The management plane with fleet coordination; the node's own key signs."""

from __future__ import annotations

from typing import Any

MODES = {"hive-client-status": "with-hive", "hive-status": "with-comms"}
VERSIONS = {"cl-hive-comms": "0.1.0", "cl-hive": "0.1.0"}


def test_these_plugins_run_and_no_other(node: Any) -> None:
    assert node.remember("versions", node.versions()) == VERSIONS
    assert set(node.plugins()) == set(VERSIONS)


def test_each_knows_who_is_beside_it(node: Any) -> None:
    for method, mode in node.remember("modes", MODES).items():
        assert node.gets_into_mode(method, mode)


def test_nothing_answers_for_what_is_not_there(node: Any) -> None:
    assert "Unknown command" in node.rpc_error("hive-archon-status")


def test_the_node_s_own_key_signs(node: Any) -> None:
    assert node.rpc("hive-status")["signer"]["backend"] == "node"


def test_its_option_is_in_force(node: Any) -> None:
    assert "hive-max-members=7" in node.config().splitlines()
    assert node.rpc("hive-status")["limits"]["max_members"] == 7


def test_the_policy_of_the_stack_is_in_force(node: Any) -> None:
    assert node.rpc("hive-client-policy")["policy"]["preset"] == "moderate"


def test_an_operator_uses_it(node: Any) -> None:
    node.rpc("hive-client-authorize", "did:cid:advisor", "monitor")
    node.rpc("hive-client-alias", "set", "boss", "did:cid:advisor")
    node.rpc("hive-genesis")
    rows = node.remember("rows", node.rows(*VERSIONS))
    assert all(len(found) == 1 for found in rows.values()), rows
    node.remember("lightningd", node.lightningd())
