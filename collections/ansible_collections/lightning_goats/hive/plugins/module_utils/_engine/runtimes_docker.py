"""lightningd in a container."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from .commands import Done
from .errors import HiveError
from .runtimes_common import Runtime

DOCKER_SECONDS = 60.0


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
