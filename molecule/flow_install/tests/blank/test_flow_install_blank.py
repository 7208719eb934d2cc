"""After a dry run of the installation: nothing of ours."""

from __future__ import annotations

from typing import Any


def test_lightningd_runs_without_our_plugins(node: Any) -> None:
    assert node.rpc("getinfo")["network"] == "regtest"
    assert node.plugins() == {}
    assert node.config() == ""


def test_nothing_was_staged_or_switched(node: Any) -> None:
    assert node.journal() == []


def test_who_lightningd_is_will_be_compared(node: Any) -> None:
    assert node.remember("lightningd", node.lightningd())["pid"] > 0
