"""lightningd as an ordinary process."""

from __future__ import annotations

from .errors import HiveError
from .runtimes_common import Runtime


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
