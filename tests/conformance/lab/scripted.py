"""Writes the plugins of a case and reads what they were told.

A script is JSON: `{"manifest": {...}, "on": {"<moment>": action}}`. The manifest is laid over an empty dynamic one. A
moment is `start`, `eof`, `getmanifest`, `init`, `shutdown`, or the name of a method, hook or notification. An action
holds any of: `stderr` (text), `delay_ms`, `notify` (messages; `$id` is the id of the request), `text` (raw bytes to
lightningd), `text_with_id`, `exit` (code), and at most one of `result`, `error`, `echo: true`; with none of these three
nothing is answered. `"eof": {"linger": true}` outlives stdin.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parent / "scripted_plugin.py"


class ScriptedPlugin:
    """One plugin file of a case."""

    def __init__(self, path: Path, script: dict[str, Any]) -> None:
        """Write the executable at `path` with its `script`; an existing one gets the new script."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = TEMPLATE.read_text(encoding="utf-8").splitlines(keepends=True)
        lines[0] = script.get("shebang", f"#!{sys.executable} -IS\n")
        path.write_text("".join(lines), encoding="utf-8")
        path.chmod(script.get("mode", stat.S_IRWXU))
        self._beside(".script").write_text(json.dumps(script), encoding="utf-8")
        self._beside(".log").unlink(missing_ok=True)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def log(self) -> list[dict[str, Any]]:
        """Everything the plugin wrote down, oldest first: {pid, start|in+raw|out|eof|exit}."""
        log = self._beside(".log")
        if not log.exists():
            return []
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def received(self) -> list[dict[str, Any]]:
        """The JSON-RPC messages lightningd sent, oldest first."""
        return [entry["in"] for entry in self.log() if "in" in entry]

    def pids(self) -> set[int]:
        """Every process that ran this file and is still there."""
        return {pid for pid in {entry["pid"] for entry in self.log()} if self._runs(pid)}

    def _runs(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return os.fsencode(self.path) in command

    def kill(self) -> None:
        """SIGKILL what still runs; harmless when nothing does."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def moved_to(self, directory: Path) -> ScriptedPlugin:
        """A copy with the same script elsewhere."""
        script = json.loads(self._beside(".script").read_text(encoding="utf-8"))
        shutil.rmtree(directory / self.path.name, ignore_errors=True)
        return ScriptedPlugin(directory / self.path.name, script)
