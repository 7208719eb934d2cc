"""Containers of the field's layout, removed at the end of the test that made them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.field_node import FieldNode, Maker


@pytest.fixture
def field_node(tmp_path: Path) -> Iterator[Maker]:
    """Return what makes a node; it is not started yet."""
    made: list[FieldNode] = []

    def make(**settings: object) -> FieldNode:
        node = FieldNode(tmp_path / f"node{len(made)}", **settings)  # type: ignore[arg-type]
        made.append(node)
        return node

    yield make
    for node in made:
        node.remove()
