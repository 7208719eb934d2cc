"""Every test of this suite runs once against the fake and once against a real lightningd, where one is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hive_sandbox.fake_backend import FakeBackend
from hive_sandbox.fleet import Fleet
from hive_sandbox.real_binaries import RealLightningMissingError, find
from hive_sandbox.real_bitcoind import Bitcoind
from waiting import wait_until

from conformance.lab.daemon import Daemon
from conformance.lab.flavour import Flavour
from conformance.lab.fleet import FleetNode

# The recorded replies are of this version; the fake can be told to be it.
RECORDED = "v26.06.6"
FLEET_SIZE = 4
FAKE = Flavour(
    name="fake",
    lightningd=(*FakeBackend().program(), f"--sandbox-cln={RECORDED}"),
    lightning_cli=tuple(FakeBackend().cli_program()),
    hurry=("sandbox-faults.json", '{"plugin-timeout": {"seconds": 2}, "shutdown-timeout": {"seconds": 2}}'),
    timeout=2.0,
    shutdown_timeout=2.0,
)


@pytest.fixture(scope="session")
def _chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flavour]:
    """The real flavour with a regtest chain of its own."""
    try:
        binaries = find()
    except RealLightningMissingError as missing:
        pytest.skip(f"no real lightningd to compare with: {missing}")
    bitcoind = Bitcoind(binaries.bitcoind, binaries.bitcoin_cli, tmp_path_factory.mktemp("bitcoin"))
    bitcoind.start()
    bitcoind.wallet()
    options = tuple(f"--{name}={value}" for name, value in bitcoind.options().items())
    yield Flavour("real", (str(binaries.lightningd),), (str(binaries.lightning_cli),), options)
    bitcoind.stop()


@pytest.fixture(scope="session", params=["fake", pytest.param("real", marks=pytest.mark.real)])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """Which lightningd this test looks at."""
    if request.param == "fake":
        return FAKE
    real: Flavour = request.getfixturevalue("_chain")
    return real


@pytest.fixture(params=["fake", pytest.param("real", marks=[pytest.mark.real, pytest.mark.slow])])
def hurried(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon, not started, that loses patience with plugins soon where it can: the real one takes its minutes."""
    flavour: Flavour = FAKE if request.param == "fake" else request.getfixturevalue("_chain")
    daemon = Daemon(flavour, tmp_path / "node")
    if flavour.hurry:
        daemon.write(*flavour.hurry)
    yield daemon
    daemon.close()


@pytest.fixture
def fresh(flavour: Flavour, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of its own for one test, not started."""
    daemon = Daemon(flavour, tmp_path / "node")
    yield daemon
    daemon.close()


@pytest.fixture(scope="session")
def fleet_root(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a fleet of this flavour lives: four nodes, so that the first and the third have no channel."""
    root = tmp_path_factory.mktemp("fleet")
    Fleet(root).up(FLEET_SIZE, flavour.name)
    yield root
    Fleet(root).reset()


@pytest.fixture
def fleet(flavour: Flavour, fleet_root: Path) -> list[FleetNode]:
    """alpha, bravo, charlie and delta: up, connected in a ring, each knowing all channels."""
    Fleet(fleet_root).up(FLEET_SIZE, flavour.name)
    nodes = [FleetNode(file) for file in Fleet(fleet_root).nodes()]
    for node, neighbour in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        if not node.connected(neighbour):
            node.reconnect(neighbour)

    def gossiped() -> bool:
        return all(len(node.ok("listchannels")["channels"]) == 2 * FLEET_SIZE for node in nodes)

    wait_until(gossiped, 60, "every node knows every channel in both directions")
    return nodes


class _Shared:
    """A running daemon for the tests of one file; a new one takes over when a test has killed it."""

    def __init__(self, flavour: Flavour, directory: Path) -> None:
        self._flavour = flavour
        self._directory = directory
        self._used = 0
        self._daemon: Daemon | None = None

    def running(self) -> Daemon:
        if self._daemon is None or not self._daemon.alive():
            self.close()
            self._used += 1
            self._daemon = Daemon(self._flavour, self._directory / f"node{self._used}").start()
        return self._daemon

    def tidy(self) -> None:
        """Stop the plugins a test left, so that the next one meets a plain node."""
        daemon = self._daemon
        if daemon is None or not daemon.alive():
            return
        for plugin in daemon.plugins.values():
            plugin.kill()
        for plugin_name in [plugin["name"] for plugin in daemon.listed()]:
            daemon.rpc("plugin", {"subcommand": "stop", "plugin": plugin_name})
        daemon.plugins.clear()

    def close(self) -> None:
        if self._daemon is not None:
            self._daemon.close()


@pytest.fixture(scope="module")
def _shared(flavour: Flavour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Shared]:
    shared = _Shared(flavour, tmp_path_factory.mktemp("shared"))
    yield shared
    shared.close()


@pytest.fixture
def node(_shared: _Shared) -> Iterator[Daemon]:
    """A running daemon without plugins of ours; other tests of the file use it too."""
    yield _shared.running()
    _shared.tidy()
