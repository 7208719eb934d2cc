"""How a node runs: the same verbs for an ordinary process, a systemd unit and a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import HiveError
from .node import Node
from .processes import Identity, alive, arguments, identity

DOCKER_SECONDS = 60.0
OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Done:
    """A finished command: `rc` is None when it ran out of time and was killed."""

    rc: int | None
    out: str
    err: str
    seconds: float


def execute(
    argv: list[str], timeout: float, rights: dict[str, Any], env: dict[str, str], cwd: Path | None, leave: bool = False
) -> Done:
    """Run a command in a session of its own and wait for it, not for what it may leave running.

    Its output goes to files: through a pipe, a child that lives on would be waited for as well.

    Args:
        leave: let what it started live on; otherwise all of it is ended together with the command.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
                start_new_session=True,
                **rights,
            )
        except OSError as error:
            raise HiveError(f"cannot run {argv[0]}: {error.strerror}; is it installed there?", "cannot-run") from error
        rc: int | None
        try:
            rc = process.wait(timeout)
        except subprocess.TimeoutExpired:
            rc = None
        if not leave or rc is None:
            end_group(process.pid)
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(OUTPUT_BYTES).decode("utf-8", "replace"))
    return Done(rc, texts[0], texts[1], time.monotonic() - started)


def end_group(leader: int) -> None:
    """Kill what is left of a process group that we started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


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

    def _execute(self, argv: list[str], timeout: float, environment: dict[str, str], cwd: Path | None = None) -> Done:
        return execute(argv, timeout, self._rights() if self.as_owner else {}, environment, cwd)

    def _rights(self) -> dict[str, Any]:
        """Return what makes a command run as lightningd's user; nothing when the engine is that user already."""
        owner = self.node.owner
        return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner.foreign else {}

    as_owner = True

    def build(self, argv: list[str], timeout: float, env: dict[str, str]) -> Done:
        """Run a command that writes slots, with the interpreter and the paths that lightningd has."""
        return self.run(argv, timeout, env=env)

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
        # A pid file outlives a crash; its number may long belong to somebody else.
        return found if found is not None and any("lightningd" in word for word in arguments(pid)) else None

    def lightningd_argv(self, who: Identity | None) -> list[str]:
        """Return how lightningd was started: the node's setting, else what the running process shows."""
        if self.node.lightningd:
            return list(self.node.lightningd)
        return arguments(who.pid) if alive(who) and who is not None else []


class ProcessRuntime(Runtime):
    """lightningd as an ordinary process (the sandbox)."""

    start_as_owner = True

    def start_command(self, argv: list[str]) -> list[str]:
        if not argv:
            raise HiveError(
                f"hive_lightningd of {self.node.name} is empty and lightningd does not run; set it to its argv",
                "no-argv",
            )
        return argv if "--daemon" in argv else [*argv, "--daemon"]


class SystemdRuntime(Runtime):
    """lightningd as a unit of systemd."""

    def start_command(self, argv: list[str]) -> list[str]:
        return ["systemctl", "start", self.node.service]

    def deadman_scheduler(self) -> list[str]:
        tool = shutil.which("systemd-run")
        return [tool] if tool and Path("/run/systemd/system").is_dir() else []


class DockerRuntime(Runtime):
    """lightningd in a container; the engine on its host."""

    as_owner = False

    def command(self, argv: list[str], env: dict[str, str]) -> list[str]:
        owner = self.node.owner
        options = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        user = ["--user", f"{owner.uid}:{owner.gid}"]
        return [*self.node.docker_cli, "exec", *user, *options, self.node.container, *argv]

    def build(self, argv: list[str], timeout: float, env: dict[str, str]) -> Done:
        """Run the command in a container of its own, of the same image.

        lightningd's container sees the slots read-only and no releases at all; the builder may write slots and nothing
        else, and has no network.
        """
        node = self.node
        docker, here = list(node.docker_cli), dict(os.environ)
        image = self._execute([*docker, "inspect", "--format", "{{.Image}}", node.container], DOCKER_SECONDS, here)
        if image.rc != 0:
            raise HiveError(
                f"there is no container {node.container} on the host of {node.name} "
                f"({image.err.strip() or 'docker hangs'}); set hive_container",
                "bad-node",
            )
        name = f"hive-build-{uuid.uuid4().hex[:12]}"
        options = ["--rm", "--name", name, "--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp"]
        options += ["--user", f"{node.owner.uid}:{node.owner.gid}", "--entrypoint", argv[0]]
        for path, mode in ((node.slots_dir, "rw"), (node.state_dir / "tmp", "rw"), (node.releases_dir, "ro")):
            options += ["--volume", f"{path}:{node.to_inside(path)}:{mode}"]
        options += [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        done = self._execute([*docker, "run", *options, image.out.strip(), *argv[1:]], timeout, here)
        if done.rc is None:
            # Only the client was killed; the container would go on writing.
            self._execute([*docker, "rm", "--force", name], DOCKER_SECONDS, here)
        return done

    def start_command(self, argv: list[str]) -> list[str]:
        return [*self.node.docker_cli, "start", self.node.container]

    def deadman_scheduler(self) -> list[str]:
        tool = shutil.which("systemd-run")
        return [tool] if tool and Path("/run/systemd/system").is_dir() and os.geteuid() == 0 else []


def runtime_of(node: Node) -> Runtime:
    """Return the runtime a node names."""
    kinds = {"process": ProcessRuntime, "systemd": SystemdRuntime, "docker": DockerRuntime}
    return kinds[node.runtime](node)
