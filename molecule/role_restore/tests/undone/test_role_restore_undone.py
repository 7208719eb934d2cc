"""Asking what a restore would do changes nothing."""

from __future__ import annotations

from typing import Any


def test_the_mistake_is_still_there(node: Any) -> None:
    assert [alias for alias, *_ in node.rows("cl-hive-comms")["cl-hive-comms"]] == ["boss", "mistake"]


def test_nothing_was_begun(node: Any) -> None:
    assert node.journal()[-1]["event"] == "backup"
    assert node.remember("lightningd", node.lightningd())["pid"] > 0
