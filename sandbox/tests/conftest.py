"""A fake lightningd under pytest: started, asked, and gone at the end of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hive_sandbox.testing import FakeNode, connect


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNode]:
    """A fake node that is not started."""
    node = FakeNode(tmp_path / "node")
    yield node
    node.close()


@pytest.fixture
def running(fake: FakeNode) -> FakeNode:
    """A fake node that runs."""
    return fake.start()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[FakeNode, FakeNode]]:
    """Two nodes, the first connected to the second."""
    nodes = (FakeNode(tmp_path / "one", "--addr=127.0.0.1:0"), FakeNode(tmp_path / "two", "--addr=127.0.0.1:0"))
    for node in nodes:
        node.start()
    connect(*nodes)
    yield nodes
    for node in nodes:
        node.close()
