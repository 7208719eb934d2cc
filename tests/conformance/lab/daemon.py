"""One lightningd of either flavour in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import wait_until

from conformance.lab import wire
from conformance.lab.flavour import Flavour
from conformance.lab.scripted import ScriptedPlugin

START_SECONDS = 60.0
STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Outcome:
    """What a program that ended left: exit code (negative: the signal) and its two outputs."""

    rc: int
    stdout: str
    stderr: str


class Daemon:
    """A lightning-dir, the plugins of a case, and at most one running process."""

    def __init__(self, flavour: Flavour, directory: Path) -> None:
        self.flavour = flavour
        self.dir = directory
        self.network_dir = directory / "regtest"
        self.plugins: dict[str, ScriptedPlugin] = {}
        self.plugin_dir = directory.with_name(directory.name + "-plugins")
        self.log_file = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.plugin_dir.mkdir(exist_ok=True)

    # -- before it runs ------------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        """A file below the lightning-dir (or, absolute, elsewhere)."""
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def plugin(self, name: str, script: dict[str, Any]) -> ScriptedPlugin:
        """A plugin file of this case. A name with a slash lies below the lightning-dir."""
        path = self.dir / name if "/" in name else self.plugin_dir / name
        self.plugins[name] = ScriptedPlugin(path, script)
        return self.plugins[name]

    def names(self) -> dict[str, str]:
        """What `{name}` in a case stands for."""
        return {
            "dir": str(self.dir),
            "net": str(self.network_dir),
            "plugins": str(self.plugin_dir),
            **{name: str(plugin.path) for name, plugin in self.plugins.items()},
        }

    def command(self, *options: str, log: bool = True) -> list[str]:
        where = ["--network=regtest", f"--lightning-dir={self.dir}", "--autolisten=false"]
        base = [*self.flavour.lightningd, *where, *self.flavour.chain]
        logging = [f"--log-file={self.log_file}", "--log-level=debug"] if log else []
        return [*base, *logging, *options]

    # -- the process ---------------------------------------------------------------------------------------------

    def launch(self, *options: str, env: dict[str, str] | None = None, log: bool = True) -> subprocess.Popen[bytes]:
        """Start it and return at once."""
        assert self._process is None or self._process.poll() is not None, "this daemon runs already"
        with (self.dir / "stdout").open("ab") as out, (self.dir / "stderr").open("ab") as err:
            self._process = subprocess.Popen(
                self.command(*options, log=log),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return self._process

    def start(self, *options: str, env: dict[str, str] | None = None, log: bool = True) -> Daemon:
        """Start it and wait until every plugin is active."""
        process = self.launch(*options, env=env, log=log)

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"lightningd ended with {process.returncode}: {self.stderr()[-1000:]}")
            plugins = self.try_rpc("plugin", {"subcommand": "list"})
            return plugins is not None and all(p["active"] for p in plugins["result"]["plugins"]) and self._started()

        wait_until(ready, START_SECONDS, "lightningd is up and all its plugins are active")
        return self

    def _started(self) -> bool:
        return not self.log_file.exists() or "Server started with public key" in self.log_text()

    def run(self, *options: str, timeout: float = START_SECONDS, log: bool = False) -> Outcome:
        """Run it to its end, as a start that is refused, `--help` or `--version` does."""
        done = subprocess.run(
            self.command(*options, log=log),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this daemon was not started"
        return self._process

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended(self, timeout: float = STOP_SECONDS) -> int:
        """Wait for the process's end and return its exit code."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """RPC stop, and the exit code."""
        self.rpc("stop")
        return self.ended()

    def close(self) -> None:
        """End everything this case started; never fails."""
        if self.alive():
            with contextlib.suppress(OSError, TimeoutError, wire.ClosedError):
                wire.call(self.socket, "stop", {}, timeout=5.0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5.0)
        for plugin in self.plugins.values():
            plugin.kill()
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(5.0)

    # -- talking to it -------------------------------------------------------------------------------------------

    @property
    def socket(self) -> Path:
        return self.network_dir / "lightning-rpc"

    def rpc(self, method: str, params: Any = None, timeout: float = 30.0) -> dict[str, Any]:
        """The whole reply to one request."""
        return wire.call(self.socket, method, {} if params is None else params, timeout)

    def try_rpc(self, method: str, params: Any = None) -> dict[str, Any] | None:
        """The reply, or None while nothing listens."""
        try:
            return self.rpc(method, params)
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, wire.ClosedError):
            return None

    def ok(self, method: str, params: Any = None, timeout: float = 30.0) -> dict[str, Any]:
        """The result of a call that must succeed."""
        reply = self.rpc(method, params, timeout)
        assert "result" in reply, f"{method} failed: {reply.get('error')}"
        result: dict[str, Any] = reply["result"]
        return result

    def cli(self, *arguments: str, timeout: float = 60.0) -> Outcome:
        """lightning-cli of the same flavour."""
        done = subprocess.run(
            [*self.flavour.lightning_cli, "--network=regtest", f"--lightning-dir={self.dir}", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def listed(self) -> list[dict[str, Any]]:
        """The plugins of this case that `plugin list` shows: [{name, active, dynamic}]."""
        ours = (str(self.plugin_dir), str(self.dir))
        plugins = self.ok("plugin", {"subcommand": "list"})["plugins"]
        return [plugin for plugin in plugins if plugin["name"].startswith(ours)]

    # -- what it wrote -------------------------------------------------------------------------------------------

    def log_text(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def wait_for_log(self, pattern: str, timeout: float = 10.0, since: int = 0) -> str:
        """The first line that contains the regular expression; `since` is an offset into the log's text."""

        def found() -> str | None:
            lines = self.log_text()[since:].splitlines()
            return next((line for line in lines if re.search(pattern, line)), None)

        line = wait_until(found, timeout, f"the log says {pattern!r}")
        assert line is not None
        return line

    def stderr(self) -> str:
        path = self.dir / "stderr"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
