"""After a restart of lightningd: the stack that was remembered, by lightningd's own configuration, with its rows."""

from __future__ import annotations

from typing import Any


def test_it_was_a_restart(node: Any) -> None:
    assert node.lightningd() != node.remembered("lightningd")


def test_the_same_plugins_came_back(node: Any) -> None:
    assert node.versions() == node.remembered("versions")


def test_the_rows_survived(node: Any) -> None:
    rows = node.remembered("rows")
    assert node.rows(*rows) == rows


def test_they_found_each_other_again(node: Any) -> None:
    for method, mode in node.remembered("modes").items():
        assert node.gets_into_mode(method, mode)
