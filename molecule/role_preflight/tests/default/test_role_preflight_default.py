"""What was observed is what there is, and the plan sees that nothing has to be done."""

from __future__ import annotations

from typing import Any


def test_the_node_is_described_as_it_is(node: Any) -> None:
    observed = node.remembered("looked")["observed"]
    info = node.rpc("getinfo")
    lightningd = observed["lightningd"]
    assert lightningd["node_id"] == info["id"]
    assert lightningd["blockheight"] == info["blockheight"]
    assert lightningd["synced"] is True
    assert lightningd["network"] == "regtest"


def test_the_plugins_are_those_that_run(node: Any) -> None:
    seen = {plugin["name"]: plugin for plugin in node.remembered("looked")["observed"]["plugins"] if plugin["ours"]}
    assert {name: plugin["path"] for name, plugin in seen.items()} == node.plugins()
    assert all(plugin["active"] and plugin["health"]["status"] == "ok" for plugin in seen.values())


def test_the_databases_are_where_they_are(node: Any) -> None:
    for name, found in node.remembered("looked")["observed"]["databases"].items():
        assert node.outside.file(found["path"]).size == found["size"], name


def test_the_plan_changes_nothing(node: Any) -> None:
    looked = node.remembered("looked")
    assert looked["plan"]["changes"] == 0
    assert looked["run"]["nodes"] == {}
