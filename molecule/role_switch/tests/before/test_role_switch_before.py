"""A dry run changes nothing."""

from __future__ import annotations

from typing import Any


def test_nothing_was_switched(node: Any) -> None:
    assert node.plugins() == {}
    assert node.config() == ""
    assert "begin" not in [entry["event"] for entry in node.journal()]


def test_who_lightningd_is_will_be_compared(node: Any) -> None:
    assert node.remember("lightningd", node.lightningd())["pid"] > 0
