"""lightningd as a unit of systemd."""

from __future__ import annotations

import shutil
from pathlib import Path

from .runtimes_common import Runtime


class SystemdRuntime(Runtime):
    """lightningd as a unit of systemd."""

    def start_command(self, argv: list[str]) -> list[str]:
        return ["systemctl", "start", self.node.service]

    def deadman_scheduler(self) -> list[str]:
        tool = shutil.which("systemd-run")
        return [tool] if tool and Path("/run/systemd/system").is_dir() else []
