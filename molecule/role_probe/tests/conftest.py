"""What the probes have seen, and what looking costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

READ = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps([json.loads(row[0]) for row in database.execute("SELECT sample FROM samples ORDER BY seq")]))
"""
# CPU time of one look as the timer takes it, start of Python included.
COST = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


class Looks:
    """Reads what probes keep."""

    def samples(self, node: Any) -> list[dict[str, Any]]:
        """All samples of a node, oldest first."""
        command = f"python3 -c {self._quoted(READ)} {node.state_dir}/probe.sqlite3"
        found: list[dict[str, Any]] = json.loads(node.outside.check_output(command))
        return found

    def seconds_of_one(self, node: Any) -> float:
        """What one more look costs."""
        engine = node.outside.check_output(f"ls {node.state_dir}/engine/*/hive-engine.pyz").splitlines()[-1]
        look = f"python3 -I -S {engine} probe --node {node.state_dir}/probe.json"
        return float(node.outside.check_output(f"python3 -c {self._quoted(COST)} {look}"))

    @staticmethod
    def _quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def looks() -> Looks:
    return Looks()
