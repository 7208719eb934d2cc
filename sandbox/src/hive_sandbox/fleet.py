"""The local fleet: nodes under one directory, neighbours connected in a ring, brought up and down together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backend import NETWORK, Backend, NodeFile, SandboxError, end_probe
from .fake_backend import FakeBackend

NAMES = (
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett", "kilo", "lima",
    "mike", "november", "oscar", "papa", "quebec", "romeo", "sierra", "tango", "uniform", "victor", "whiskey",
    "xray", "yankee", "zulu",
)  # fmt: skip
START_SECONDS = 60.0
STOP_SECONDS = 40.0
NODES_MAX = 100
_PORT_MIN, _PORTS = 20_000, 12_000
_FIRST_CHANNEL_SAT = 1_000_000
_MORE_PER_CHANNEL_SAT = 500_000
# So that both directions can carry payments, and the first node has the least to lose.
_PUSHED_PERCENT, _PUSHED_PERCENT_TO_FIRST = 60, 10


@dataclass
class Outcome:
    """What an operation changed: sentences, and the nodes as they are now."""

    changes: list[str]
    nodes: list[dict[str, Any]]


def node_name(number: int) -> str:
    """Return the name of node `number`, counted from 0: alpha … zulu, alpha2 …"""
    turn, place = divmod(number, len(NAMES))
    return NAMES[place] + (str(turn + 1) if turn else "")


def backend_named(name: str, root: Path | None = None) -> Backend:
    """Return the backend called fake, real, or with auto the real one where it can run.

    Raises:
        SandboxError: there is no such backend, or it cannot run here.
    """
    if name == "fake":
        return FakeBackend()
    if name not in ("auto", "real"):
        raise SandboxError(f"lightningd must be auto, real or fake, not {name!r}")
    found = _real_backend(root)
    if found is not None:
        return found
    if name == "real":
        raise SandboxError("no lightningd and bitcoind found: put them on PATH, set CLN_PREFIX, or use the fake")
    return FakeBackend()


def _real_backend(root: Path | None) -> Backend | None:
    try:
        from . import real_backend
    except ImportError:
        return None
    return real_backend.find(root)


class Fleet:
    """The nodes under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def nodes(self) -> list[NodeFile]:
        """Return the nodes that exist, in the order of their names' numbers."""
        if not self.root.is_dir():
            return []
        made = [NodeFile.load(path.parent) for path in self.root.glob("*/node.json")]
        order = {node_name(number): number for number in range(NODES_MAX)}
        return sorted(made, key=lambda node: order.get(node.name, NODES_MAX))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the sandbox: only one command at a time changes it."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with (self.root.parent / f".{self.root.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def would(self, action: str, count: int) -> list[str]:
        """Return what `up`, `down` or `reset` would change, as sentences."""
        there = {node["name"]: node["running"] for node in self.status()}
        if action == "up":
            wanted = [node_name(number) for number in range(count)]
            made = [f"make {name}" for name in wanted if name not in there]
            return made + [f"start {name}" for name in wanted if not there.get(name)]
        stopped = [f"stop {name}" for name, running in there.items() if running]
        return stopped + ([f"remove {name}" for name in there] if action == "reset" else [])

    def up(self, count: int, lightningd: str) -> Outcome:
        """Bring up nodes 1 to `count`: what runs is left alone, what is missing is made, started, connected, funded.

        Raises:
            SandboxError: a node does not start, or `count` makes no sense.
        """
        with self._alone():
            return self._up(count, lightningd)

    def _up(self, count: int, lightningd: str) -> Outcome:
        if not 1 <= count <= NODES_MAX:
            raise SandboxError(f"a sandbox has 1 to {NODES_MAX} nodes, not {count}")
        existing = {node.name: node for node in self.nodes()}
        kind = next((node.backend for node in existing.values()), lightningd)
        if lightningd not in ("auto", kind):
            raise SandboxError(f"this sandbox runs on the {kind} lightningd: reset it first (sandbox_state=reset)")
        backend = backend_named(kind, self.root)
        changes: list[str] = []
        backend.prepare(self.root)
        wanted = [node_name(number) for number in range(count)]
        nodes = [existing.get(name) or self._make(name, backend, changes) for name in wanted]
        for node in nodes:
            # Written anew each time: the Python environment may have moved.
            _wrapper(node.directory / "lightningd", backend.program(), node)
            _wrapper(node.directory / "lightning-cli", backend.cli_program(), node)
        started = [node for node in nodes if not backend.is_running(node)]
        for node in started:
            backend.start(node)
            changes.append(f"started {node.name}")
        for node in nodes:
            info = backend.wait_started(node, START_SECONDS)
            if node.node_id != info["id"]:
                node.node_id = info["id"]
                node.save()
        self._join(backend, nodes)
        return Outcome(changes, self.status())

    def _make(self, name: str, backend: Backend, changes: list[str]) -> NodeFile:
        directory = self.root / name
        lightning_dir, state_dir = directory / "lightning", directory / "hive"
        directory.mkdir(parents=True, exist_ok=True)
        lightning_dir.mkdir(exist_ok=True)
        state_dir.mkdir(mode=0o700, exist_ok=True)
        node = NodeFile(
            name=name,
            backend=backend.name,
            lightning_dir=str(lightning_dir),
            network=NETWORK,
            state_dir=str(state_dir),
            lightningd=[str(directory / "lightningd")],
            lightning_cli=[str(directory / "lightning-cli")],
            node_id="",
            p2p_port=_free_port(directory, {node.p2p_port for node in self.nodes()}),
            program=backend.program(),
        )
        backend.write_config(node)
        node.save()
        changes.append(f"made {name}")
        return node

    def _join(self, backend: Backend, nodes: list[NodeFile]) -> None:
        """Connect neighbours and open the channels of the ring. The first node gets the smallest ones."""
        for number, node in enumerate(nodes):
            other = nodes[(number + 1) % len(nodes)]
            if other is node or (len(nodes) == 2 and number == 1):
                continue
            backend.connect(node, other)
            amount = _FIRST_CHANNEL_SAT + _MORE_PER_CHANNEL_SAT * number
            share = _PUSHED_PERCENT_TO_FIRST if other is nodes[0] else _PUSHED_PERCENT
            backend.open_channel(node, other, amount, amount * share // 100)

    def down(self) -> Outcome:
        """Stop every node; their files stay."""
        with self._alone():
            return self._down()

    def _down(self) -> Outcome:
        nodes = self.nodes()
        backends = {node.name: backend_named(node.backend, self.root) for node in nodes}
        running = [node for node in nodes if backends[node.name].is_running(node)]
        with ThreadPoolExecutor(max_workers=max(1, len(running))) as pool:
            list(pool.map(lambda node: backends[node.name].stop(node, STOP_SECONDS), running))
        changes = [f"stopped {node.name}" for node in running]
        for node in nodes:
            end_probe(node)
        for kind in {node.backend for node in nodes}:
            backend_named(kind, self.root).shut_down(self.root)
        return Outcome(changes, self.status())

    def reset(self) -> Outcome:
        """Stop every node and remove their files."""
        with self._alone():
            changes = self._down().changes
            for node in self.nodes():
                shutil.rmtree(node.directory)
                changes.append(f"removed {node.name}")
            shutil.rmtree(self.root / "bitcoin", ignore_errors=True)
            with contextlib.suppress(OSError):
                self.root.rmdir()
        return Outcome(changes, [])

    def status(self) -> list[dict[str, Any]]:
        """Return name, backend, node id, port, and whether it runs, of every node."""
        return [
            {
                "name": node.name,
                "backend": node.backend,
                "running": backend_named(node.backend, self.root).is_running(node),
                "node_id": node.node_id,
                "p2p_port": node.p2p_port,
                "lightning_dir": node.lightning_dir,
            }
            for node in self.nodes()
        ]


def _free_port(directory: Path, taken: set[int]) -> int:
    """Return a port that nobody listens on and that is no node's, the same for the same directory if possible.

    It is below the ports that the kernel gives to outgoing connections, so that it stays free while a node is down.
    """
    first = zlib.crc32(str(directory).encode())
    for step in range(_PORTS):
        port = _PORT_MIN + (first + step) % _PORTS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                return port
    raise SandboxError(f"no port from {_PORT_MIN} to {_PORT_MIN + _PORTS - 1} is free on 127.0.0.1")


def _wrapper(path: Path, program: list[str], node: NodeFile) -> None:
    """Write an executable that runs `program` for one node; `exec` keeps the pid."""
    argv = [*program, f"--lightning-dir={node.lightning_dir}", f"--network={node.network}"]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n', encoding="utf-8")
    os.chmod(path, 0o755)  # noqa: PTH101
