"""One fake lightningd by itself, without a fleet around it: for tests of whatever talks to lightningd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from . import rpcclient

T = TypeVar("T")
_POLL_SECONDS = 0.01


def eventually(question: Callable[[], T], seconds: float, what: str) -> T:
    """Ask until the answer is true and return it.

    Raises:
        AssertionError: it was not in `seconds`; `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(_POLL_SECONDS)
    return answer


class FakeNode:
    """One fake lightningd with a directory of its own."""

    def __init__(self, directory: Path, *options: str, release: str = "") -> None:
        self.dir = directory
        self.net = directory / "regtest"
        self.socket = self.net / "lightning-rpc"
        self.options = options
        self.release = release
        self.process: subprocess.Popen[str] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def argv(self, *more: str) -> list[str]:
        """Return the command line."""
        played = [f"--sandbox-cln={self.release}"] if self.release else []
        base = [sys.executable, "-m", "hive_sandbox.fake", *played, f"--lightning-dir={self.dir}", "--network=regtest"]
        return [*base, *self.options, *more]

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment in which `#!/usr/bin/env python3` is the Python that has pyln-client."""
        return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def config(self, *lines: str) -> FakeNode:
        """Write the config file."""
        (self.dir / "config").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return self

    def run(self, *more: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run lightningd to its end."""
        return subprocess.run(
            self.argv(*more), capture_output=True, text=True, check=False, timeout=timeout, env=self.environment
        )

    def start(self, *more: str) -> FakeNode:
        """Start lightningd and wait until every plugin is active."""
        self.spawn(*more)
        eventually(self.ready, 20, "lightningd is ready")
        return self

    def spawn(self, *more: str) -> None:
        """Start lightningd without waiting."""
        log = f"--log-file={self.dir / 'log'}"
        self.process = subprocess.Popen(
            self.argv(log, "--log-level=debug", *more),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=(self.dir / "stderr").open("a"),
            env=self.environment,
        )

    def ready(self) -> bool:
        """Whether the socket answers and every plugin is active."""
        assert self.process is not None
        assert self.process.poll() is None, f"lightningd ended: {self.stderr()}"
        try:
            return all(plugin["active"] for plugin in self.rpc("plugin", {"subcommand": "list"})["plugins"])
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def rpc(self, method: str, params: dict[str, Any] | list[Any] | None = None, timeout: float = 20) -> Any:
        """Call a command."""
        return rpcclient.call(self.socket, method, params, timeout)

    def refused(self, method: str, params: dict[str, Any] | list[Any] | None = None) -> tuple[int, str]:
        """Call a command that must fail; return code and sentence."""
        try:
            result = self.rpc(method, params)
        except rpcclient.RpcFailedError as error:
            return error.code, error.message
        raise AssertionError(f"{method} was not refused, it answered {result}")

    def plugins(self) -> list[str]:
        """Return the paths of the plugins that are not built in."""
        rows = self.rpc("plugin", {"subcommand": "list"})["plugins"]
        return [row["name"] for row in rows if "/libexec/" not in row["name"]]

    def log(self) -> str:
        """Return the log file."""
        return (self.dir / "log").read_text(encoding="utf-8")

    def stderr(self) -> str:
        """Return what went to stderr."""
        return (self.dir / "stderr").read_text(encoding="utf-8")

    def wait(self, timeout: float = 20) -> int:
        """Wait for the end of the process and return its exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> int:
        """Stop by RPC and return the exit code."""
        self.rpc("stop", timeout=60)
        return self.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)


def connect(one: FakeNode, two: FakeNode) -> str:
    """Connect one node to another and return the other's id."""
    info = two.rpc("getinfo")
    one.rpc("connect", {"id": info["id"], "host": "127.0.0.1", "port": info["binding"][0]["port"]})
    return str(info["id"])


def open_channel(one: FakeNode, two: FakeNode, amount_sat: int = 1_000_000, push_msat: int = 0) -> str:
    """Open a channel that both can use; return its short channel id."""
    peer = connect(one, two)
    one.rpc("sandbox-fund", {"amount": amount_sat + 10_000})
    made = one.rpc("fundchannel", {"id": peer, "amount": amount_sat, "push_msat": push_msat})
    one.rpc("sandbox-mine")

    def usable(node: FakeNode) -> str:
        for channel in node.rpc("listpeerchannels")["channels"]:
            if channel["channel_id"] == made["channel_id"] and channel["state"] == "CHANNELD_NORMAL":
                return str(channel["short_channel_id"])
        return ""

    eventually(lambda: usable(two), 10, "the other side uses the channel")
    return eventually(lambda: usable(one), 10, "this side uses the channel")
