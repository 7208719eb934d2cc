"""After the restore of two nodes: what the set held, lightningd never restarted, and the third node untouched."""

from __future__ import annotations

from typing import Any

PLUGINS = ["cl-hive", "cl-hive-archon", "cl-hive-comms"]


def test_the_mistake_is_undone_where_it_was_asked_for(node: Any) -> None:
    aliases = [alias for alias, *_ in node.rows("cl-hive-comms")["cl-hive-comms"]]
    assert aliases == (["boss", "mistake"] if node.name == "metal12" else ["boss"])


def test_the_plugins_are_healthy_with_it(node: Any) -> None:
    assert sorted(node.versions()) == PLUGINS
    assert node.rpc("hive-client-policy")["policy"]["preset"] == "conservative"
    assert node.rpc("hive-members")["count"] == 1


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")


def test_the_databases_are_private_and_lightningd_s(node: Any) -> None:
    file = node.inside.file(f"{node.lightning_dir}/regtest/cl_hive_comms.db")
    assert (file.user, file.mode) == ("lightning", 0o600)


def test_the_plugins_are_told_that_their_data_is_older_than_the_world(node: Any) -> None:
    note = node.inside.file(f"{node.lightning_dir}/regtest/cl_hive_comms.db.restored")
    assert note.exists == (node.name != "metal12")
    if note.exists:
        assert (note.user, note.mode) == ("lightning", 0o600)
