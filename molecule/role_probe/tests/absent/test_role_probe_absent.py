"""Nothing of the probe is left, and lightningd has not noticed."""

from __future__ import annotations

from typing import Any


def test_no_file_is_left(node: Any) -> None:
    left = node.outside.check_output(f"find {node.state_dir} -maxdepth 1 -name 'probe*'").splitlines()
    assert left == []


def test_no_process_is_left(node: Any) -> None:
    running = node.outside.check_output("ps -eo args")
    assert f"probe --node {node.state_dir}/probe.json" not in running


def test_no_unit_is_left(metal: Any) -> None:
    known = metal.outside.check_output("systemctl list-unit-files 'hive-probe*' --no-legend --no-pager || true")
    assert known == ""
    assert not metal.outside.file(f"/etc/systemd/system/hive-probe-{metal.name}.timer").exists


def test_the_plugins_run(node: Any) -> None:
    assert sorted(node.plugins()) == ["cl-hive", "cl-hive-archon", "cl-hive-comms"]
