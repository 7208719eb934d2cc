"""Runs a real lightningd on a regtest chain that the fleet shares."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from . import rpcclient
from .backend import NodeFile, SandboxError
from .real_binaries import Binaries, RealLightningMissingError
from .real_binaries import find as find_binaries
from .real_bitcoind import Bitcoind, BitcoindError

_T = TypeVar("_T")
_POLL_SECONDS = 0.05
_PROGRAMS = Path("bitcoin", "programs.json")
_CHAIN_SECONDS = 60.0
_CONFIRMATIONS = 6
# Fees and change of a funding transaction, generously.
_FEES_SAT = 100_000
_FEERATE = "1000perkw"
_CONFIG = """\
# Made by hive-sandbox once; it is yours now.
network={network}
alias={name}
addr=127.0.0.1:{port}
log-level=debug
log-file={lightning_dir}/log
bitcoin-cli={bitcoin_cli}
bitcoin-datadir={bitcoin_datadir}
# A rehearsal does not wait half a minute for a block, nor minutes for gossip.
developer
dev-bitcoind-poll=1
dev-fast-gossip
"""


def find(root: Path | None = None) -> RealBackend | None:
    """Return the backend when this machine has lightningd and bitcoind.

    Args:
        root: a sandbox made earlier remembers its programs, so that it can be stopped from any shell; else
            `CLN_PREFIX`, `BITCOIN_PREFIX` and `PATH` say where they are.
    """
    try:
        return RealBackend(find_binaries())
    except RealLightningMissingError:
        remembered = Binaries.load(root / _PROGRAMS) if root else None
        return RealBackend(remembered) if remembered else None


class RealBackend:
    """A real lightningd per node, one bitcoind for all in `<root>/bitcoin`."""

    name = "real"

    def __init__(self, binaries: Binaries) -> None:
        self._binaries = binaries
        self._starting: dict[str, subprocess.Popen[bytes]] = {}

    def _bitcoind(self, root: Path) -> Bitcoind:
        return Bitcoind(self._binaries.bitcoind, self._binaries.bitcoin_cli, root / "bitcoin")

    def prepare(self, root: Path) -> None:
        """Start bitcoind and give the fleet's wallet coins."""
        bitcoind = self._bitcoind(root)
        bitcoind.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._binaries.save(root / _PROGRAMS)
        try:
            bitcoind.start()
            bitcoind.wallet()
        except BitcoindError as error:
            raise SandboxError(str(error)) from error

    def program(self) -> list[str]:
        """Return the argv that runs lightningd."""
        return [str(self._binaries.lightningd)]

    def cli_program(self) -> list[str]:
        """Return the argv that runs lightning-cli."""
        return [str(self._binaries.lightning_cli)]

    def write_config(self, node: NodeFile) -> None:
        """Write the config file of a new node."""
        path = Path(node.lightning_dir) / "config"
        if path.exists():
            return
        chain = self._bitcoind(node.directory.parent).options()
        path.write_text(
            _CONFIG.format(
                network=node.network,
                name=node.name,
                port=node.p2p_port,
                lightning_dir=node.lightning_dir,
                bitcoin_cli=chain["bitcoin-cli"],
                bitcoin_datadir=chain["bitcoin-datadir"],
            ),
            encoding="utf-8",
        )

    def start(self, node: NodeFile) -> None:
        """Start the daemon; the command ends when its plugins are ready. Its stderr goes to `<node>/stderr`."""
        with (node.directory / "stderr").open("ab") as errors:
            self._starting[node.name] = subprocess.Popen(
                [*node.lightningd, "--daemon", f"--pid-file={node.pid_file}"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )

    def wait_started(self, node: NodeFile, timeout: float) -> dict[str, Any]:
        """Wait until the daemon detached, every plugin is active and the chain is read."""
        starting = self._starting.pop(node.name, None)
        if starting is not None:
            try:
                code = starting.wait(timeout)
            except subprocess.TimeoutExpired:
                raise SandboxError(f"{node.name} did not start in {timeout:g} seconds; {_where(node)}") from None
            if code != 0:
                raise SandboxError(f"{node.name} ended with code {code}: {_last_words(node)}")

        def ready() -> dict[str, Any] | None:
            info: dict[str, Any] = _call(node, "getinfo")
            active = all(plugin["active"] for plugin in _call(node, "plugin", {"subcommand": "list"})["plugins"])
            synced = not {"warning_lightningd_sync", "warning_bitcoind_sync"} & info.keys()
            return info if active and synced else None

        return _wait(ready, timeout, f"{node.name} was not ready after {timeout:g} seconds; {_where(node)}")

    def is_running(self, node: NodeFile) -> bool:
        """Whether the process in the pid file is this node's lightningd."""
        return self._pid(node) is not None

    def _pid(self, node: NodeFile) -> int | None:
        try:
            pid = int(node.pid_file.read_text(encoding="utf-8"))
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(f"--lightning-dir={node.lightning_dir}") in command.split(b"\0") else None

    def stop(self, node: NodeFile, timeout: float) -> None:
        """Stop by RPC, and after `timeout` seconds by SIGKILL."""
        pid = self._pid(node)
        if pid is None:
            return
        with contextlib.suppress(OSError, rpcclient.RpcFailedError):
            _call(node, "stop", timeout=timeout)
        try:
            _wait(lambda: self._pid(node) is None, timeout, f"{node.name} did not stop")
        except SandboxError:
            os.kill(pid, signal.SIGKILL)

    def connect(self, node: NodeFile, other: NodeFile) -> None:
        """Connect over the loopback."""
        where = {"id": other.node_id, "host": "127.0.0.1", "port": other.p2p_port}
        try:
            _call(node, "connect", where)
        except (OSError, rpcclient.RpcFailedError) as error:
            raise SandboxError(f"{node.name} cannot reach {other.name}: {error}") from error

    def open_channel(self, node: NodeFile, other: NodeFile, amount_sat: int, push_sat: int) -> None:
        """Send the node coins, fund the channel, and mine until both sides can use it."""
        if _channels(node, other):
            self._await_channel(node, other)
            return
        bitcoind = self._bitcoind(node.directory.parent)
        try:
            address = _call(node, "newaddr", {"addresstype": "bech32"})["bech32"]
            bitcoind.pay({address: (amount_sat + _FEES_SAT) / 100_000_000})
            bitcoind.mine(1)
            self._await_height(node, bitcoind.height())
            self._await_height(other, bitcoind.height())
            funding = {
                "id": other.node_id,
                "amount": amount_sat,
                "feerate": _FEERATE,
                "announce": True,
                "push_msat": push_sat * 1000,
            }
            _call(node, "fundchannel", funding, timeout=_CHAIN_SECONDS)
            bitcoind.mine(_CONFIRMATIONS)
        except (BitcoindError, OSError, rpcclient.RpcFailedError) as error:
            raise SandboxError(f"no channel from {node.name} to {other.name}: {error}") from error
        self._await_channel(node, other)

    def _await_height(self, node: NodeFile, height: int) -> None:
        _wait(
            lambda: _call(node, "getinfo")["blockheight"] >= height,
            _CHAIN_SECONDS,
            f"{node.name} did not see block {height}; {_where(node)}",
        )

    def _await_channel(self, node: NodeFile, other: NodeFile) -> None:
        for one, peer in ((node, other), (other, node)):
            _wait(
                lambda one=one, peer=peer: "CHANNELD_NORMAL" in _channels(one, peer),  # type: ignore[misc]
                _CHAIN_SECONDS,
                f"the channel of {one.name} with {peer.name} did not become usable; {_where(one)}",
            )

    def shut_down(self, root: Path) -> None:
        """Stop bitcoind."""
        self._bitcoind(root).stop()


def _channels(node: NodeFile, other: NodeFile) -> list[str]:
    """The states of the channels that `node` has with `other`."""
    return [channel["state"] for channel in _call(node, "listpeerchannels", {"id": other.node_id})["channels"]]


def _call(node: NodeFile, method: str, params: dict[str, Any] | None = None, timeout: float = 30.0) -> Any:
    return rpcclient.call(node.network_dir / "lightning-rpc", method, params, timeout)


def _wait(question: Callable[[], _T | None], timeout: float, sentence: str) -> _T:
    deadline = time.monotonic() + timeout
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise SandboxError(sentence)
        time.sleep(_POLL_SECONDS)


def _where(node: NodeFile) -> str:
    return f"look at {node.lightning_dir}/log"


def _last_words(node: NodeFile) -> str:
    lines = (node.directory / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else _where(node)
