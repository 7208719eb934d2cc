"""A fleet of the sandbox on either lightningd: connected neighbours with channels in a ring."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_sandbox.backend import NodeFile
from waiting import wait_until

from conformance.lab import wire
from conformance.lab.daemon import Outcome
from conformance.lab.scripted import ScriptedPlugin


@dataclass
class FleetNode:
    """One running node of the fleet."""

    file: NodeFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def id(self) -> str:
        return self.file.node_id

    @property
    def network_dir(self) -> Path:
        return self.file.network_dir

    def rpc(self, method: str, params: Any = None, timeout: float = 60.0) -> dict[str, Any]:
        """The whole reply to one request."""
        return wire.call(self.network_dir / "lightning-rpc", method, {} if params is None else params, timeout)

    def ok(self, method: str, params: Any = None, timeout: float = 60.0) -> dict[str, Any]:
        """The result of a call that must succeed."""
        reply = self.rpc(method, params, timeout)
        assert "result" in reply, f"{self.name} {method} failed: {reply.get('error')}"
        result: dict[str, Any] = reply["result"]
        return result

    def error(self, method: str, params: Any = None) -> dict[str, Any]:
        """The error of a call that must fail."""
        reply = self.rpc(method, params)
        assert "error" in reply, f"{self.name} {method} succeeded: {reply.get('result')}"
        error: dict[str, Any] = reply["error"]
        return error

    def cli(self, *arguments: str) -> Outcome:
        """lightning-cli, by the wrapper that operators use."""
        done = subprocess.run(
            [*self.file.lightning_cli, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def peer(self, other: FleetNode) -> dict[str, Any] | None:
        """What listpeers says of `other`, or None."""
        peers = self.ok("listpeers", {"id": other.id})["peers"]
        return peers[0] if peers else None

    def connected(self, other: FleetNode) -> bool:
        peer = self.peer(other)
        return bool(peer and peer["connected"])

    def reconnect(self, other: FleetNode) -> None:
        """Make sure the two are connected again."""
        where = {"id": other.id, "host": "127.0.0.1", "port": other.file.p2p_port}

        def there() -> bool:
            return "result" in self.rpc("connect", where) and self.connected(other) and other.connected(self)

        wait_until(there, 30, f"{self.name} and {other.name} are connected")

    def channel(self, other: FleetNode) -> dict[str, Any]:
        """The first channel with `other`."""
        channel: dict[str, Any] = self.ok("listpeerchannels", {"id": other.id})["channels"][0]
        return channel

    def start_plugin(self, path: Path, script: dict[str, Any]) -> ScriptedPlugin:
        plugin = ScriptedPlugin(path, script)
        self.ok("plugin", ["start", str(path)])
        return plugin

    def settled(self) -> bool:
        """No HTLC is under way on any channel."""
        return not any(channel["htlcs"] for channel in self.ok("listpeerchannels")["channels"])


def messages(plugin: ScriptedPlugin, method: str) -> list[dict[str, Any]]:
    """The params of what lightningd sent to `plugin` under this name."""
    return [message["params"] for message in plugin.received() if message["method"] == method]


def wait_message(plugin: ScriptedPlugin, method: str, **members: Any) -> dict[str, Any]:
    """Wait for a message whose payload (within its own name, where it is wrapped) has these members."""

    def found() -> dict[str, Any] | None:
        for params in messages(plugin, method):
            inner = params.get(method, params)
            if all(inner.get(name) == value for name, value in members.items()):
                result: dict[str, Any] = inner
                return result
        return None

    what = f"{plugin.path.name} is sent {method} {json.dumps(members)}"
    answer = wait_until(found, 20, what)
    assert answer is not None
    return answer
