"""lightningd as a unit of systemd."""

from __future__ import annotations

import shutil
from pathlib import Path

from .runtimes_common import Runtime

# A unit that died five times in ten seconds is not started any more before somebody has said that he knows.
START = 'systemctl reset-failed "$1" 2>/dev/null; exec systemctl start "$1"'


class SystemdRuntime(Runtime):
    """lightningd as a unit of systemd."""

    def start_command(self, argv: list[str]) -> list[str]:
        return ["/bin/sh", "-c", START, "sh", self.node.service]

    def deadman_scheduler(self) -> list[str]:
        tool = shutil.which("systemd-run")
        return [tool] if tool and Path("/run/systemd/system").is_dir() else []
