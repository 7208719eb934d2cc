"""Networks for the tests of cl-hive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cl_hive.protocol.settlement_plan import bounds, period_of
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


@pytest.fixture
def week(fleet: Callable[..., Network]) -> Network:
    """Three members a minute after the end of a week in which alpha earned everything, and all know where to pay."""
    names = ("alpha", "bravo", "charlie")
    network = fleet(*names)
    begin, end = bounds(period_of(network.now()))
    alpha, bravo, charlie = (network.nodes[name] for name in names)
    alpha.wallet.earn(begin + 100, 90_000, 10)
    bravo.wallet.earn(begin + 200, 1_000, 60)
    charlie.wallet.earn(begin - 5, 77_777, 5)  # of another week
    for node in (alpha, bravo, charlie):
        node.rpc("hive-settlement-generate-offer")
    network.time = end + 60
    return network
