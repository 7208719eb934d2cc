"""Runs the fake lightningd as ordinary processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import rpcclient
from .backend import NodeFile, SandboxError, running_pid, runs, session_members

_POLL_SECONDS = 0.02
_CHANNEL_SECONDS = 15.0
_PLUGIN_SECONDS = 2.0
# What is left in the wallet for fees and for later.
_FUNDING_RESERVE_SAT = 100_000
_CONFIG = """\
# Made by hive-sandbox once; it is yours now.
network={network}
alias={name}
addr=127.0.0.1:{port}
log-level=debug
log-file={lightning_dir}/log
"""


class FakeBackend:
    """A lightningd that needs nothing but Python."""

    name = "fake"

    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self, root: Path) -> None:
        """Nothing is shared: the nodes tell each other how high their chain is."""

    def program(self) -> list[str]:
        """Return the argv that runs the fake."""
        return [sys.executable, "-m", "hive_sandbox.fake"]

    def cli_program(self) -> list[str]:
        """Return the argv that runs the fake's lightning-cli: no site packages, so that it starts fast."""
        source = Path(__file__).resolve().parent.parent
        code = (
            f"import sys; sys.path.insert(0, {str(source)!r}); "
            "from hive_sandbox.lightning_cli import main; sys.exit(main(sys.argv[1:]))"
        )
        return [sys.executable, "-I", "-S", "-c", code]

    def write_config(self, node: NodeFile) -> None:
        """Write the config file of a new node."""
        path = Path(node.lightning_dir) / "config"
        if not path.exists():
            path.write_text(
                _CONFIG.format(
                    network=node.network, name=node.name, port=node.p2p_port, lightning_dir=node.lightning_dir
                ),
                encoding="utf-8",
            )

    def start(self, node: NodeFile) -> None:
        """Start the process; what it writes on stderr goes to `<node>/stderr`."""
        with (node.directory / "stderr").open("ab") as errors:
            process = subprocess.Popen(
                node.lightningd,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        self._started[node.name] = process

    def wait_started(self, node: NodeFile, timeout: float) -> dict[str, Any]:
        """Wait until getinfo answers and every plugin is active."""
        deadline = time.monotonic() + timeout
        process = self._started.get(node.name)
        path = node.network_dir / "lightning-rpc"
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                raise SandboxError(f"{node.name} ended with code {process.returncode}: {self._last_words(node)}")
            with contextlib.suppress(OSError):
                info: dict[str, Any] = rpcclient.call(path, "getinfo", timeout=timeout)
                plugins = rpcclient.call(path, "plugin", {"subcommand": "list"}, timeout=timeout)["plugins"]
                if all(plugin["active"] for plugin in plugins):
                    return info
            time.sleep(_POLL_SECONDS)
        raise SandboxError(f"{node.name} was not ready after {timeout:g} seconds; look at {node.lightning_dir}/log")

    def _last_words(self, node: NodeFile) -> str:
        lines = (node.directory / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else f"look at {node.lightning_dir}/log"

    def is_running(self, node: NodeFile) -> bool:
        """Whether the process in the pid file runs."""
        return running_pid(node) is not None

    def stop(self, node: NodeFile, timeout: float) -> None:
        """Stop by RPC, then by SIGKILL; plugins that stay behind go too."""
        pid = running_pid(node)
        if pid is None:
            return
        leads = os.getsid(pid) == pid
        deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError, rpcclient.RpcFailedError):
            rpcclient.call(node.network_dir / "lightning-rpc", "stop", timeout=timeout)
        while time.monotonic() < deadline and runs(pid):
            time.sleep(_POLL_SECONDS)
        if runs(pid):
            os.kill(pid, signal.SIGKILL)
        node.pid_file.unlink(missing_ok=True)
        # A plugin may outlive lightningd when it does not mind the end of its stdin.
        grace = time.monotonic() + _PLUGIN_SECONDS
        while leads and time.monotonic() < grace and session_members(pid):
            time.sleep(_POLL_SECONDS)
        for left in session_members(pid) if leads else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)

    def connect(self, node: NodeFile, other: NodeFile) -> None:
        """Connect over loopback."""
        rpcclient.call(
            node.network_dir / "lightning-rpc",
            "connect",
            {"id": other.node_id, "host": "127.0.0.1", "port": other.p2p_port},
        )

    def open_channel(self, node: NodeFile, other: NodeFile, amount_sat: int, push_sat: int) -> None:
        """Give the node coins, fund the channel and mine until both sides can use it."""
        path = node.network_dir / "lightning-rpc"
        channels = rpcclient.call(path, "listpeerchannels", {"id": other.node_id})["channels"]
        if not any(channel["opener"] == "local" for channel in channels):
            rpcclient.call(path, "sandbox-fund", {"amount": amount_sat + _FUNDING_RESERVE_SAT})
            rpcclient.call(
                path, "fundchannel", {"id": other.node_id, "amount": amount_sat, "push_msat": push_sat * 1000}
            )
            rpcclient.call(path, "sandbox-mine", {"blocks": 1})
        deadline = time.monotonic() + _CHANNEL_SECONDS
        for side, peer in ((node, other), (other, node)):
            while not self._usable(side, peer):
                if time.monotonic() > deadline:
                    raise SandboxError(f"the channel of {node.name} and {other.name} did not become usable")
                time.sleep(_POLL_SECONDS)

    @staticmethod
    def _usable(node: NodeFile, other: NodeFile) -> bool:
        """Whether all channels with a node that are still opening are ready."""
        params = {"id": other.node_id}
        channels = rpcclient.call(node.network_dir / "lightning-rpc", "listpeerchannels", params)["channels"]
        return bool(channels) and not any(channel["state"] == "CHANNELD_AWAITING_LOCKIN" for channel in channels)

    def shut_down(self, root: Path) -> None:
        """Nothing is shared."""


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ended as a child of this process is reaped."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
