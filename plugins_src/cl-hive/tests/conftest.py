"""Networks for the tests of cl-hive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cl_hive.testing import Network

# The databases of a simulated network lie in memory, where there is any: their many small writes wait for no disk.
_MEMORY = Path("/dev/shm")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """An empty network."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else tmp_path) as directory:
        net = Network(Path(directory))
        yield net
        for node in net.nodes.values():
            node.stop()


@pytest.fixture
def fleet(network: Network) -> Callable[..., Network]:
    """Make nodes, connect all with all, found on the first, join the others."""

    def make(*names: str, **options: object) -> Network:
        for name in names:
            network.add(name, **options).start()
        network.mesh(names)
        founder = network.nodes[names[0]]
        founder.hive.genesis("test-hive")
        for name in names[1:]:
            ticket = founder.hive.invite(24, 0, "neophyte", 1, "")["ticket"]
            network.nodes[name].hive.join(ticket, "")
        everybody = set(names)
        network.until(
            lambda: all(node.members() == everybody for node in network.nodes.values()), 120, "all list each other"
        )
        return network

    return make
