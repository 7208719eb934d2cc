"""After the installation: three healthy plugins, lightningd the same process, and an operator can work with them."""

from __future__ import annotations

from typing import Any

VERSIONS = {"cl-hive-comms": "0.1.0", "cl-hive-archon": "0.1.0", "cl-hive": "0.1.0"}


def test_three_healthy_plugins(node: Any) -> None:
    assert node.versions() == VERSIONS
    assert set(node.plugins()) == set(VERSIONS)
    assert node.rpc("hive-status")["mode"] == "full"


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")


def test_the_option_of_the_stack_is_in_force(node: Any) -> None:
    assert "hive-comms-policy-preset=conservative" in node.config().splitlines()
    assert node.rpc("hive-client-policy")["policy"]["preset"] == "conservative"


def test_lightningd_can_run_the_slots_but_not_change_them(node: Any) -> None:
    for path in node.plugins().values():
        assert "Read-only file system" in node.as_lightningd("touch", f"{path}.new").stderr


def test_one_node_went_before_the_others(node: Any) -> None:
    confirmed = [entry["time"] for entry in node.journal() if entry["event"] == "confirmed"]
    assert len(confirmed) == 1
    assert node.journal()[-1]["event"] == "confirmed"
    node.remember("confirmed", confirmed[0])


def test_databases_and_keys_are_private(node: Any) -> None:
    network = f"{node.lightning_dir}/regtest"
    for name, mode in (("cl_hive_comms.db", 0o600), ("cl_hive.db", 0o600), ("comms.secrets", 0o400)):
        assert node.inside.file(f"{network}/{name}").mode == mode
        assert node.inside.file(f"{network}/{name}").user == "lightning"


def test_an_operator_uses_them(node: Any) -> None:
    node.rpc("hive-client-authorize", "did:cid:advisor", "monitor")
    node.rpc("hive-client-alias", "set", "boss", "did:cid:advisor")
    node.rpc("hive-archon-provision")
    node.rpc("hive-genesis")
    assert node.rpc("hive-members")["count"] == 1


def test_what_the_plugins_keep_will_be_compared(node: Any) -> None:
    rows = node.remember("rows", node.rows(*VERSIONS))
    assert all(len(found) == 1 for found in rows.values()), rows
    node.remember("identities", node.identities())
