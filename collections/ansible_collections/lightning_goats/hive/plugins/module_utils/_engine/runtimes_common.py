"""What every runtime can do; one room per runtime says how."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .commands import Done, execute
from .errors import HiveError
from .node import Node
from .processes import Identity, alive, arguments, identity, lock_holder


class Runtime:
    """What every runtime can do; the subclasses say how.

    Commands run where lightningd runs and with its rights, so that nothing a plugin could have changed is run as root.
    """

    def __init__(self, node: Node) -> None:
        self.node = node

    def command(self, argv: list[str], env: dict[str, str]) -> list[str]:
        """Return the argv that runs `argv` beside lightningd."""
        return argv

    def run(self, argv: list[str], timeout: float, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        """Run a command beside lightningd; a command that does not end in time is killed with all its children."""
        return self._execute(self.command(argv, env or {}), timeout, {**os.environ, **(env or {})}, cwd)

    def tell(self, argv: list[str], stdin: bytes, timeout: float) -> Done:
        """Run a command beside lightningd that is told something on stdin, where nobody else can read it."""
        return self._execute(self.command(argv, {}), timeout, dict(os.environ), stdin=stdin)

    def _execute(
        self, argv: list[str], timeout: float, environment: dict[str, str], cwd: Path | None = None, stdin: bytes = b""
    ) -> Done:
        return execute(argv, timeout, self._rights() if self.as_owner else {}, environment, cwd, stdin=stdin)

    def _rights(self) -> dict[str, Any]:
        """Return what makes a command run as lightningd's user; nothing when the engine is that user already."""
        owner = self.node.owner
        return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner.foreign else {}

    as_owner = True

    def build(self, argv: list[str], timeout: float, env: dict[str, str]) -> Done:
        """Run a command that writes slots, with the interpreter and the paths that lightningd has."""
        return self.run(argv, timeout, env=env)

    def try_slot(self, argv: list[str], timeout: float) -> Done:
        """Run what is in a slot where lightningd would run it."""
        return self.run(argv, timeout)

    def start_command(self, argv: list[str]) -> list[str]:
        """Return what starts lightningd again, run on this machine."""
        raise HiveError(f"runtime {self.node.runtime} cannot start lightningd", "bad-node")

    def start_lightningd(self, argv: list[str], seconds: float) -> None:
        """Start lightningd; `argv` is how it ran before."""
        rights = self._rights() if self.start_as_owner else {}
        done = execute(self.start_command(argv), seconds, rights, {**os.environ}, Path("/"), leave=True)
        if done.rc not in (0, None):
            reason = (done.err.strip() or done.out.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
            raise HiveError(f"lightningd of {self.node.name} does not start: {reason}", "lightningd-does-not-start")

    start_as_owner = False

    def deadman_scheduler(self) -> list[str]:
        """Return the start of the argv that runs a command later, surviving everything; empty when there is none."""
        return []

    def lightningd_identity(self, socket_pid: int) -> Identity | None:
        """Return who lightningd is: who listens on its socket, else who its pid file names."""
        found = identity(socket_pid)
        if found is not None:
            return found
        try:
            pid = int(self.node.pid_file.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError, PermissionError):
            return None
        found = identity(pid)
        # A pid file outlives a crash, and its number may long belong to somebody else, also to another lightningd; the
        # lock that a running one keeps on its own file does not outlive it.
        return found if found is not None and lock_holder(self.node.pid_file) == pid else None

    def lightningd_argv(self, who: Identity | None) -> list[str]:
        """Return how lightningd was started: the node's setting, else what the running process shows."""
        if self.node.lightningd:
            return list(self.node.lightningd)
        return arguments(who.pid) if alive(who) and who is not None else []
