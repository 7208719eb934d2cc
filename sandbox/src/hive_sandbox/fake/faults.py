"""Misbehaviour on demand, for tests of faults: set by the command `sandbox-fault` or by a file before the start."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from .errors import INVALID_PARAMS, RpcError, StartError

FILE = "sandbox-faults.json"

# Every fault, what it does, and its parameters. docs/runbooks/sandbox.md shows the same list.
FAULTS: dict[str, str] = {
    "die-on-plugin-stop": "lightningd is killed when it is told to stop a plugin",
    "die-on-plugin-start": "lightningd is killed when it is told to start a plugin",
    "die-on-command": "lightningd is killed when the command `command` comes in",
    "refuse-plugin-stop": "`plugin stop` answers with an error and stops nothing",
    "refuse-plugin-start": "`plugin start` answers with an error and starts nothing",
    "slow-plugin-stop": "`plugin stop` takes `seconds` (default 5) longer",
    "slow-plugin-start": "`plugin start` takes `seconds` (default 5) longer",
    "hang-rpc": "no command but sandbox-fault is answered any more",
    "slow-rpc": "every command takes `seconds` (default 1) longer",
    "log-broken": "one line at level BROKEN, `message`, now, by `source` (default lightningd)",
    "unsynced": "getinfo carries warning_lightningd_sync",
    "bitcoind-unsynced": "getinfo carries warning_bitcoind_sync",
    "drop-channel": "the channel `channel` (default: the first) goes to AWAITING_UNILATERAL",
    "disconnect-peers": "every peer is disconnected and new connections are refused",
    "htlc-expiring": "a payment in flight expires in `blocks` (default 10); it settles after `seconds`, if given",
    "setconfig-read-only": "setconfig cannot write the config file",
    "plugin-timeout": "getmanifest and init are given up after `seconds` (default 120)",
    "shutdown-timeout": "plugins that subscribed to shutdown get `seconds` (default 30)",
}


class Faults:
    """The faults that are set now, each with its parameters."""

    def __init__(self) -> None:
        self.active: dict[str, dict[str, Any]] = {}
        self._released = asyncio.Event()

    def load(self, lightning_dir: Path) -> None:
        """Set what the file in the lightning-dir says: {"fault": {parameters}, ...} or a list of names.

        Raises:
            StartError: the file is no such thing.
        """
        path = lightning_dir / FILE
        if not path.exists():
            return
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StartError(f"lightningd: {path}: {error}") from None
        entries = written.items() if isinstance(written, dict) else [(name, {}) for name in written]
        for name, parameters in entries:
            if name not in FAULTS:
                raise StartError(f"lightningd: {path}: there is no fault {name}; there are {', '.join(FAULTS)}")
            self.active[name] = dict(parameters or {})

    def set(self, name: str, parameters: dict[str, Any]) -> None:
        """Set one fault, or with `clear` none.

        Raises:
            RpcError: there is no such fault.
        """
        if name == "clear":
            self.active.clear()
            self._released.set()
            self._released = asyncio.Event()
            return
        if name not in FAULTS:
            raise RpcError(INVALID_PARAMS, f"fault: there is no {name}; there are clear, {', '.join(FAULTS)}")
        self.active[name] = parameters

    def has(self, name: str) -> bool:
        """Whether a fault is set."""
        return name in self.active

    def seconds(self, name: str, default: float) -> float:
        """Return the parameter `seconds` of a fault that is set, else `default`."""
        return float(self.active.get(name, {}).get("seconds", default))

    @property
    def plugin_timeout(self) -> float:
        """Seconds a plugin has for getmanifest, and again for init."""
        return self.seconds("plugin-timeout", 120)

    @property
    def shutdown_timeout(self) -> float:
        """Seconds a plugin has to go after `shutdown`."""
        return self.seconds("shutdown-timeout", 30)

    async def hold_rpc(self) -> None:
        """Wait as hang-rpc and slow-rpc want it."""
        if self.has("slow-rpc"):
            await asyncio.sleep(self.seconds("slow-rpc", 1))
        while self.has("hang-rpc"):
            await self._released.wait()
