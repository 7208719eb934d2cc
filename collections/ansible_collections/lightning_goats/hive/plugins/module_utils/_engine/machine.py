"""A running node: lightningd's answers and its plugins, as the engine needs them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from .._rpc import Params, Rpc
from .._waiting import wait_for
from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .node import Node
from .processes import Identity, alive, end_process, identity, plugin_processes
from .runtimes import Runtime, runtime_of

UNKNOWN_METHOD = -32601

PluginList = dict[str, dict[str, Any]]


class Machine:
    """lightningd of one node, through its socket, /proc and its runtime."""

    def __init__(self, node: Node, rpc_seconds: float = 15.0) -> None:
        self.node = node
        self.runtime: Runtime = runtime_of(node)
        self.rpc_seconds = rpc_seconds
        self.rpc = self.new_rpc()
        # Configurations that lightningd's own parser has accepted since this process began, each with its command line.
        self.accepted: set[tuple[str, ...]] = set()

    def new_rpc(self) -> Rpc:
        """Return a further connection, for looking around while a call is under way."""
        return Rpc(self.node.socket, self.rpc_seconds, list(self.node.lightning_cli))

    def identity(self) -> Identity | None:
        """Return who lightningd is now; None when it does not run."""
        return self.runtime.lightningd_identity(self.rpc.peek_pid())

    def plugins(self, rpc: Rpc | None = None) -> PluginList:
        """Return `plugin list` by real path."""
        reply = (rpc or self.rpc).call("plugin", {"subcommand": "list"})
        return {item["name"]: item for item in reply["plugins"]}

    def methods(self) -> set[str]:
        """Return the names of all commands lightningd knows."""
        return {str(item["command"]).split(" ", 1)[0] for item in self.rpc.call("help")["help"]}

    def knows_method(self, method: str, rpc: Rpc) -> bool:
        """Whether a command is registered; asked through `help`, so that nothing is run."""
        try:
            rpc.call("help", {"command": method}, timeout=2.0)
        except (RpcRefusedError, RpcTimeoutError):
            return False
        return True

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return `listconfigs`."""
        configs: dict[str, dict[str, Any]] = self.rpc.call("listconfigs")["configs"]
        return configs

    def wait_ready(self, seconds: float) -> PluginList:
        """Wait until every plugin is active; before that, `plugin start` can hang for ever.

        Raises:
            HiveError: one stayed inactive; it is named.
        """
        waiting: list[str] = []

        def all_active() -> PluginList | None:
            listed = self.plugins()
            waiting[:] = sorted(Path(name).name for name, item in listed.items() if not item["active"])
            return None if waiting else listed

        listed = wait_for(all_active, seconds)
        if listed is None:
            raise HiveError(
                f"lightningd of {self.node.name} still waits for {', '.join(waiting)} after {seconds:g} s; "
                "stop that plugin or repair it, then run again",
                "not-ready",
                plugins=list(waiting),
            )
        return listed

    def wait_answer(self, seconds: float) -> bool:
        """Wait until lightningd answers `getinfo`; whether it did."""
        deadline = time.monotonic() + seconds

        def answered() -> bool | None:
            return self.answers(max(0.2, min(self.rpc_seconds, deadline - time.monotonic()))) or None

        return wait_for(answered, seconds, 0.05) is not None

    def answers(self, seconds: float) -> bool:
        """Whether lightningd answers `getinfo` now."""
        try:
            self.rpc.call("getinfo", timeout=seconds)
        except (NodeDownError, RpcTimeoutError, RpcRefusedError):
            return False
        return True

    def health(self, method: str, seconds: float, rpc: Rpc | None = None) -> dict[str, Any] | None:
        """Return a plugin's own health report; None when it does not give one."""
        try:
            report = (rpc or self.rpc).call(method, timeout=seconds)
        except (RpcRefusedError, RpcTimeoutError):
            return None
        return report if isinstance(report, dict) and "status" in report else None

    def health_of(self, manifest: dict[str, Any], seconds: float, rpc: Rpc | None = None) -> dict[str, Any] | None:
        """Return the health report of a release's plugin; None when it does not give one.

        A foreign plugin knows no such report. What it declares as its health RPC is any method of its own, and that it
        answers without an error is all that can be told: `ok`, of no version and no schema.
        """
        method = str(manifest["health_rpc"])
        if not manifest.get("foreign"):
            return self.health(method, seconds, rpc)
        try:
            reply = (rpc or self.rpc).call(method, timeout=seconds)
        except (RpcRefusedError, RpcTimeoutError):
            return None
        said = reply.get("error") if isinstance(reply, dict) else None
        checks = [{"name": method, "ok": not said, "detail": str(said)[:160] if said else ""}]
        return {"status": "failed" if said else "ok", "checks": checks}

    def start_plugin(
        self, entry: str, slot_dir: str, options: dict[str, Any], first_method: str, getmanifest: float, init: float
    ) -> None:
        """Start one plugin by its real path and wait until lightningd has accepted its init.

        A plugin that hangs is ended by its own pid once its time is up: lightningd itself would wait for two minutes,
        and start nothing else meanwhile.

        Raises:
            HiveError: with lightningd's reason, or which of the two answers never came.
            NodeDownError: lightningd died of it.
        """
        before = self.identity()
        call = _Call(self.new_rpc(), entry, options, getmanifest + init + self.rpc_seconds)
        started = time.monotonic()
        registered = False
        looking = self.new_rpc()
        hung = ""
        try:
            while not call.wait(0.02 if registered or time.monotonic() - started < getmanifest else 0.1):
                passed = time.monotonic() - started
                if not registered and passed >= getmanifest:
                    registered = self.knows_method(first_method, looking)
                    hung = "" if registered else f"getmanifest within {getmanifest:g} s"
                if registered and passed >= getmanifest + init:
                    hung = f"init within {init:g} s"
                if hung:
                    self.end_plugin(slot_dir, before)
                    call.wait(self.rpc_seconds)
                    break
        finally:
            looking.close()
        name = Path(entry).name
        if hung:
            raise HiveError(f"{name} did not answer {hung} and was ended; the release is broken", "plugin-hangs")
        call.result(name)

    def stop_plugin(self, path: str, slot_dir: str, seconds: float, may_end: bool = True) -> bool:
        """Stop one plugin by the path that `plugin list` shows; one that takes too long is ended by its own pid.

        Args:
            may_end: False where lightningd would end with it; told to stop, it lets go of that by itself.

        Returns:
            Whether it had to be ended.
        """
        before = self.identity()
        ended = False
        try:
            self.rpc.call("plugin", {"subcommand": "stop", "plugin": path}, timeout=seconds)
        except RpcTimeoutError:
            if not may_end:
                raise HiveError(
                    f"{Path(path).name} does not stop within {seconds:g} s, and lightningd, to which it is important, "
                    "would end with it; restart lightningd in a quiet hour and run again",
                    "plugin-stays",
                ) from None
            ended = self.end_plugin(slot_dir, before)
        except RpcRefusedError as error:
            # Gone already, or never past getmanifest (lightningd does not yet know that it may be stopped).
            if path not in self.plugins():
                return False
            ended = may_end and self.end_plugin(slot_dir, before)
            if not ended:
                raise HiveError(
                    f"{Path(path).name} cannot be stopped ({error.reason}); restart lightningd in a quiet hour "
                    "and run again",
                    "plugin-stays",
                ) from error
        if wait_for(lambda: None if path in self.plugins() else True, max(2.0, seconds)) is None:
            raise HiveError(
                f"{Path(path).name} is still listed after it was stopped; look at lightningd's log", "plugin-stays"
            )
        return ended

    def end_plugin(self, slot_dir: str, lightningd: Identity | None) -> bool:
        """Kill the processes of one slot, and only those that are children of this lightningd."""
        if lightningd is None or not alive(lightningd):
            return False
        ended = [end_process(pid, lightningd.pid, slot_dir) for pid in plugin_processes(lightningd.pid, slot_dir)]
        return any(ended)

    def log_marks(self, rpc: Rpc | None = None) -> list[dict[str, str]]:
        """Return lightningd's own record of lines at level BROKEN, oldest first: time (unix), source, log."""
        reply = (rpc or self.rpc).call("getlog", {"level": "broken"})
        born = float(reply["created_at"])
        return [
            {
                "time": f"{born + float(item['time']):.6f}",
                "source": str(item.get("source", "")),
                "log": str(item.get("log", "")),
            }
            for item in reply["log"]
            if item.get("type") == "BROKEN"
        ]

    def wait_gone(self, who: Identity | None, seconds: float) -> bool:
        """Wait until lightningd has ended; whether it did."""
        return wait_for(lambda: None if who is not None and identity(who.pid) == who else True, seconds) is not None


class _Call:
    """`plugin start` under way in a thread of its own, because its answer may never come."""

    def __init__(self, rpc: Rpc, entry: str, options: dict[str, Any], seconds: float) -> None:
        self._rpc = rpc
        self._error: HiveError | None = None
        # Members are passed only where they must be: with any, lightningd crashes when it holds a configured
        # option whose
        # plugin is not loaded at that moment.
        params: Params = {"subcommand": "start", "plugin": entry, **options} if options else ["start", entry]
        self._thread = threading.Thread(target=self._run, args=(params, seconds), name="plugin-start", daemon=True)
        self._thread.start()

    def _run(self, params: Params, seconds: float) -> None:
        try:
            self._rpc.call("plugin", params, timeout=seconds)
        except HiveError as error:
            self._error = error
        finally:
            self._rpc.close()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self, name: str) -> None:
        """Raise what lightningd said, if it was no success."""
        if self._error is None:
            return
        if isinstance(self._error, RpcRefusedError):
            reason = self._error.reason.split(": ", 1)[-1]
            raise HiveError(f"{name} was refused by lightningd: {reason}", "plugin-refused") from self._error
        raise self._error
