"""After the uninstallation: no plugin, no line of configuration, all data kept."""

from __future__ import annotations

from typing import Any


def test_no_plugin_of_ours_runs(node: Any) -> None:
    assert node.plugins() == {}
    assert "Unknown command" in node.rpc_error("hive-status")


def test_no_line_is_left(node: Any) -> None:
    assert "hive" not in node.inside.file(node.config_file).content_string
    assert "plugin=" not in node.config()


def test_the_data_is_kept(node: Any) -> None:
    rows = node.remembered("rows")
    assert node.rows(*rows) == rows


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")
