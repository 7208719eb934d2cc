"""lightningd in a container; the engine on its host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import uuid
from pathlib import Path
from typing import Any

from .._waiting import wait_for
from . import containers
from .commands import Done
from .errors import HiveError
from .processes import PROC, Identity, identity
from .runtimes_common import Runtime

DOCKER_SECONDS = 60.0
# A supervisor in the container brings lightningd back within this time, or never.
SUPERVISOR_SECONDS = 10.0
MARK = "HIVE_ENGINE_RUN"


class DockerRuntime(Runtime):
    """lightningd in a container."""

    as_owner = False
    _resolved = ""

    @property
    def container(self) -> str:
        """The container's name now.

        Compose has named its containers in two ways, and names them after the service: where there is no container of
        the configured name, the one container that compose means by it is taken.

        Raises:
            HiveError: there is none, or there are several; they are named.
        """
        if not self._resolved:
            found = self._inspect_all([self.node.container])
            if not found:
                found = [containers.resolve(self.node.name, self.node.container, self._every_container())]
            self._resolved = str(found[0]["Name"]).lstrip("/")
        return self._resolved

    def forget(self) -> None:
        """Look the container up again next time."""
        self._resolved = ""

    def docker(self, argv: list[str], seconds: float = DOCKER_SECONDS) -> Done:
        """Run the docker client on this machine."""
        return self._execute([*self.node.docker_cli, *argv], seconds, dict(os.environ))

    def on_host(self, argv: list[str], seconds: float, cwd: Path) -> Done:
        """Run a command on this machine, as whoever runs the engine."""
        return self._execute(argv, seconds, dict(os.environ), cwd)

    def inspect(self) -> dict[str, Any]:
        """Return what `docker inspect` says about lightningd's container."""
        found = self._inspect_all([self.container])
        if not found:
            raise containers.missing(self.node.name, self.node.container)
        return found[0]

    def image(self, reference: str) -> dict[str, Any] | None:
        """Return what `docker image inspect` says; None when the image is gone."""
        done = self.docker(["image", "inspect", reference])
        found = _documents(done.out) if done.rc == 0 else []
        return found[0] if found else None

    def _inspect_all(self, names: list[str]) -> list[dict[str, Any]]:
        done = self.docker(["container", "inspect", *names]) if names else None
        if done is not None and done.rc is None:
            raise HiveError(f"docker on the host of {self.node.name} hangs; look at its daemon", "docker-hangs")
        if done is not None and done.rc != 0 and "o such container" not in done.err:
            raise HiveError(
                f"docker on the host of {self.node.name} does not answer ({done.err.strip()[:200]}); start it, and see "
                "that this user may use it (ansible_become)",
                "docker-down",
            )
        return _documents(done.out) if done is not None else []

    def _every_container(self) -> list[dict[str, Any]]:
        listed = self.docker(["ps", "--all", "--quiet", "--no-trunc"])
        return self._inspect_all(listed.out.split()) if listed.rc == 0 else []

    def command(self, argv: list[str], env: dict[str, str]) -> list[str]:
        owner = self.node.owner
        options = [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        user = ["--user", f"{owner.uid}:{owner.gid}"]
        return [*self.node.docker_cli, "exec", *user, *options, self.container, *argv]

    def run(self, argv: list[str], timeout: float, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        """Run a command beside lightningd; one that does not end in time is killed inside, not only its client."""
        mark = uuid.uuid4().hex
        done = super().run(argv, timeout, {**(env or {}), MARK: mark}, cwd)
        if done.rc is None:
            end_marked(f"{MARK}={mark}")
        return done

    def tell(self, argv: list[str], stdin: bytes, timeout: float) -> Done:
        """Run a command beside lightningd that is told something on stdin; killed inside like any other."""
        mark = uuid.uuid4().hex
        command = self.command(argv, {MARK: mark})
        place = command.index("exec") + 1
        done = self._execute(
            [*command[:place], "--interactive", *command[place:]], timeout, dict(os.environ), stdin=stdin
        )
        if done.rc is None:
            end_marked(f"{MARK}={mark}")
        return done

    def build(self, argv: list[str], timeout: float, env: dict[str, str]) -> Done:
        """Run the command in a container of its own, of the same image.

        lightningd's container sees the slots read-only and no releases at all; the builder may write slots and nothing
        else, and has no network.
        """
        node = self.node
        image = str(self.inspect()["Image"])
        name = f"hive-build-{uuid.uuid4().hex[:12]}"
        options = ["--rm", "--name", name, "--network", "none", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp"]
        options += ["--user", f"{node.owner.uid}:{node.owner.gid}", "--entrypoint", argv[0]]
        for path, mode in ((node.slots_dir, "rw"), (node.state_dir / "tmp", "rw"), (node.releases_dir, "ro")):
            options += ["--volume", f"{path}:{node.to_inside(path)}:{mode}"]
        options += [word for key, value in env.items() for word in ("--env", f"{key}={value}")]
        done = self.docker(["run", *options, image, *argv[1:]], timeout)
        if done.rc is None:
            # Only the client was killed; the container would go on writing.
            self.docker(["rm", "--force", name])
        return done

    def try_slot(self, argv: list[str], timeout: float) -> Done:
        """Run what is in a slot in lightningd's container, or beside it while that does not see the slots yet."""
        slots = (str(self.node.slots_dir), self.node.to_inside(self.node.slots_dir))
        if containers.facts_of(self.inspect(), None, slots)["slots_mounted"]:
            return self.run(argv, timeout)
        return self.build(argv, timeout + DOCKER_SECONDS, {})

    def start_lightningd(self, argv: list[str], seconds: float) -> None:
        """Start the container, or lightningd in it where the container's first process outlives lightningd."""
        state = self.inspect()["State"]
        if state.get("Restarting"):
            # Docker waits longer after each failure, up to a minute; a kill ends the waiting.
            self.docker(["kill", self.container])
        elif state.get("Running") and self._comes_back(SUPERVISOR_SECONDS):
            return
        verb = ["restart", "--time", "60"] if self.inspect()["State"].get("Running") else ["start"]
        done = self.docker([*verb, self.container], max(seconds, 90.0))
        if done.rc not in (0, None):
            reason = (done.err.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
            raise HiveError(f"lightningd of {self.node.name} does not start: {reason}", "lightningd-does-not-start")

    def _comes_back(self, seconds: float) -> bool:
        """Wait for a supervisor to start lightningd again; False as soon as the container has ended."""

        def back() -> bool | None:
            if self.lightningd_identity(0) is not None:
                return True
            return None if self.inspect()["State"].get("Running") else False

        return wait_for(back, seconds, 0.2) is True

    def start_command(self, argv: list[str]) -> list[str]:
        return [*self.node.docker_cli, "start", self.container]

    def lightningd_identity(self, socket_pid: int) -> Identity | None:
        """Return who lightningd is: who listens on its socket, else the process of that name in the container.

        The pid file holds a number that means something only inside.
        """
        found = identity(socket_pid)
        if found is not None:
            return found
        try:
            name = self.container
        except HiveError as error:
            if error.code != "no-container":
                raise
            return None
        listed = self.docker(["top", name, "-eo", "pid,args"])
        pid = containers.lightningd_pid(listed.out) if listed.rc == 0 else 0
        return identity(pid)

    def deadman_scheduler(self) -> list[str]:
        tool = shutil.which("systemd-run")
        return [tool] if tool and Path("/run/systemd/system").is_dir() and os.geteuid() == 0 else []


def end_marked(mark: str) -> None:
    """Kill every process of this machine that carries a mark of ours in its environment."""
    wanted = mark.encode()
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        # The client names the mark in its arguments and is dead already.
        if marked and wanted not in command:
            try:
                os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _documents(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
