"""Nothing has changed, and the plugin itself does not run without the other one."""

from __future__ import annotations

from typing import Any


def test_no_plugin_runs_and_nothing_was_written(node: Any) -> None:
    assert node.plugins() == {}
    assert "plugin=" not in node.config()
    assert node.journal()[-1]["event"] == "refused"
    assert {entry["data"]["step"] for entry in node.journal() if entry["event"] == "intent"} == {"guard"}
    assert not node.inside.file(f"{node.lightning_dir}/regtest/cl_hive_archon.db").exists


def test_the_plugin_itself_refuses(node: Any) -> None:
    before = node.lightningd()
    slots = node.outside.check_output(f"cd {node.state_dir}/slots && echo cl-hive-archon/*/bin/cl-hive-archon").split()
    assert len(slots) == 1
    answer = node.rpc_error("plugin", "start", f"{node.slots_dir}/{slots[0]}")
    assert "cl-hive-comms" in answer
    assert node.plugins() == {}
    assert node.lightningd() == before
