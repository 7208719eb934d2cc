"""After a good switch that was confirmed."""

from __future__ import annotations

from typing import Any


def test_the_fixture_runs(node: Any) -> None:
    assert list(node.plugins()) == ["hive-fixture"]
    assert node.rpc("hive-fixture-status")["version"] == "0.1.0"
    assert node.rpc("hive-fixture-status")["starts"] == 1


def test_lightningd_was_not_restarted(node: Any) -> None:
    assert node.lightningd() == node.remembered("lightningd")


def test_the_dead_man_is_gone(node: Any) -> None:
    assert node.journal()[-1]["event"] == "confirmed"
    assert not node.outside.file(f"{node.state_dir}/deadman.json").exists


def test_no_unit_watches_any_more(metal: Any) -> None:
    units = metal.outside.check_output("systemctl list-units --no-legend --state=active,activating 'hive-*'")
    assert units == ""


def test_what_runs_will_be_compared(node: Any) -> None:
    now = {"plugins": node.plugins(), "lightningd": node.lightningd(), "config": node.config()}
    assert node.remember("before", now) == now
