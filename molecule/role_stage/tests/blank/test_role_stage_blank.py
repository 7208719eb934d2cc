"""A dry run brings nothing to the node."""

from __future__ import annotations

from typing import Any


def test_nothing_was_accepted(node: Any) -> None:
    assert node.journal() == []
    assert not node.outside.file(f"{node.state_dir}/slots/hive-fixture").exists
