"""A node for fault tests: one per module, brought back to its first stack before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.rig import Rig


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node that the tests of one module use one after the other; each leaves it healthy, or fails."""
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.stop()


@pytest.fixture
def fresh_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node of its own, for tests in which lightningd itself dies."""
    rig = Rig(tmp_path_factory.mktemp("rig"))
    rig.start()
    yield rig
    rig.stop()
