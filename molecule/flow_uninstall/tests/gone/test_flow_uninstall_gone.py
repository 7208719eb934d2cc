"""After a restart without the plugins, and after the data of one node was deleted."""

from __future__ import annotations

from typing import Any

DATABASES = ("cl_hive_comms.db", "cl_hive_archon.db", "cl_hive.db")


def test_lightningd_started_again(node: Any) -> None:
    assert node.rpc("getinfo")["network"] == "regtest"
    assert node.lightningd() != node.remembered("lightningd")
    assert node.plugins() == {}


def test_only_the_named_node_lost_its_data(node: Any) -> None:
    left = [name for name in DATABASES if node.inside.file(f"{node.lightning_dir}/regtest/{name}").exists]
    assert left == ([] if node.name == "metal13" else list(DATABASES))


def test_what_was_deleted_is_in_a_backup(node: Any) -> None:
    newest = node.backups()[-1]
    assert set(newest["databases"]) == {"cl-hive-comms", "cl-hive-archon", "cl-hive"}
    assert (newest["reason"] == "before the data was deleted") == (node.name == "metal13")
