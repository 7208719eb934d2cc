"""After the uninstallation: no plugin, no line of configuration, all data kept."""

from __future__ import annotations

from typing import Any


def test_no_plugin_of_ours_runs(node: Any) -> None:
    assert node.plugins() == {}
    assert "include hive.conf" not in node.inside.file(f"{node.lightning_dir}/config").content_string
    assert "plugin=" not in node.config()


def test_the_data_is_kept(node: Any, rows: dict[str, list[Any]]) -> None:
    assert rows == node.remembered("rows")


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")
