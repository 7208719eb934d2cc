"""What the fleet needs of a kind of lightningd: the fake and the real one both do this."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

NETWORK = "regtest"
PROBE_SECONDS = 5.0


class SandboxError(Exception):
    """The sandbox cannot do what was asked; one sentence that says what to do."""


@dataclass
class NodeFile:
    """One node of the sandbox: the content of `<root>/<name>/node.json`, on which everything else relies."""

    name: str
    backend: str
    lightning_dir: str
    network: str
    state_dir: str
    lightningd: list[str]
    lightning_cli: list[str]
    node_id: str
    p2p_port: int
    # The program behind the wrappers, for the backend itself.
    program: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """The directory of the node."""
        return Path(self.lightning_dir).parent

    @property
    def network_dir(self) -> Path:
        """The directory with the socket and the database."""
        return Path(self.lightning_dir) / self.network

    @property
    def pid_file(self) -> Path:
        """Where lightningd writes its pid."""
        return Path(self.lightning_dir) / f"lightningd-{self.network}.pid"

    def save(self) -> None:
        """Write node.json in one step."""
        path = self.directory / "node.json"
        temporary = path.with_suffix(".json.new")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, directory: Path) -> NodeFile:
        """Read node.json of the node in `directory`.

        Raises:
            SandboxError: there is none, or it is not one of ours.
        """
        path = directory / "node.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SandboxError(f"{path} is no node of a sandbox ({error}); run: hive-sandbox reset") from None


class Backend(Protocol):
    """One kind of lightningd. Every call may be repeated: what is so already stays so."""

    name: str

    def prepare(self, root: Path) -> None:
        """Make ready what all nodes share, for example bitcoind."""

    def program(self) -> list[str]:
        """Return the argv that runs lightningd, without options."""

    def cli_program(self) -> list[str]:
        """Return the argv that runs lightning-cli, without options."""

    def write_config(self, node: NodeFile) -> None:
        """Write `<lightning_dir>/config` unless it is there."""

    def start(self, node: NodeFile) -> None:
        """Start lightningd of a node, in a session of its own, without waiting for it."""

    def wait_started(self, node: NodeFile, timeout: float) -> dict[str, Any]:
        """Wait until all plugins of a started node are active, and return its getinfo.

        Raises:
            SandboxError: it ended, or did not get ready in `timeout` seconds.
        """

    def is_running(self, node: NodeFile) -> bool:
        """Whether lightningd of a node runs."""

    def stop(self, node: NodeFile, timeout: float) -> None:
        """Stop lightningd of a node: by RPC, and by signal when it has not ended after `timeout` seconds."""

    def connect(self, node: NodeFile, other: NodeFile) -> None:
        """Make `other` a peer of `node`."""

    def open_channel(self, node: NodeFile, other: NodeFile, amount_sat: int, push_sat: int) -> None:
        """Open and confirm a channel from `node` to `other`, unless they have one; both see it as CHANNELD_NORMAL."""

    def shut_down(self, root: Path) -> None:
        """Stop what `prepare` started."""


def running_pid(node: NodeFile) -> int | None:
    """Return the pid of a node's lightningd while it runs; a pid that now belongs to something else does not count."""
    pid = read_pid(node.pid_file)
    if pid is None:
        return None
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    return pid if any(os.fsencode(node.lightning_dir) in argument for argument in arguments) else None


def end_probe(node: NodeFile) -> None:
    """End the process that a rollout left to look at the node; it goes by itself, but later, without its settings."""
    state = Path(node.state_dir)
    (state / "probe.json").unlink(missing_ok=True)
    try:
        pid = int((state / "probe.pid").read_text(encoding="utf-8").split()[0])
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return
    if any(os.fsencode(state) in argument for argument in arguments):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PROBE_SECONDS
        while runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)


def session_members(session: int) -> list[int]:
    """Return the processes of a session: a node's lightningd, which leads it, and its plugins."""
    pids = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if (found := _state(pid)) is not None and found == session]


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and is only not yet reaped does not."""
    return _state(pid) is not None


def _state(pid: int) -> int | None:
    """Return the session of a process that runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[3])


def read_pid(path: Path) -> int | None:
    """Return the pid in a pid file when that process runs, else None."""
    try:
        pid = int(path.read_text(encoding="utf-8"))
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid
