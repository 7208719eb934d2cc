"""What every scenario's tests look at: the two nodes, from where lightningd runs and with nothing of the engine."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

READ_ONLY_QUERY = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps(database.execute(sys.argv[2]).fetchall()))
"""


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        inside: where lightningd runs: the machine, or the container.
        outside: where the engine runs: the machine, or the container's host.
        pid_file: as seen inside.
        state_dir: the engine's directory as seen outside.
        slots_dir: the slots as lightningd sees them.
    """

    name: str
    inside: Host
    outside: Host
    pid_file: str
    state_dir: str
    slots_dir: str = "/var/lib/hive/slots"
    lightning_dir: str = "/var/lib/lightning"

    def output(self, *argv: str) -> str:
        """What a command prints where lightningd runs."""
        return str(self.inside.check_output(shlex.join(argv)))

    def rpc(self, method: str, *params: str) -> Any:
        """The result of one call."""
        cli = ("lightning-cli", f"--lightning-dir={self.lightning_dir}", "--network=regtest", "-N", "none")
        return json.loads(self.output(f"/opt/cln/bin/{cli[0]}", *cli[1:], method, *params))

    def as_lightningd(self, *argv: str) -> Any:
        """Run a command that sees the files as lightningd does, and return its result."""
        if self.name == "dock":
            return self.inside.run(shlex.join(argv))
        # The unit has a view of its own; docker exec and ssh do not share it.
        see = ("nsenter", f"--target={self.lightningd()['pid']}", "--mount", "--", "setpriv", "--reuid=lightning")
        return self.outside.run(shlex.join([*see, "--regid=lightning", "--init-groups", *argv]))

    def lightningd(self) -> dict[str, int]:
        """Which process lightningd is: a pid that is used again would have another start (in clock ticks)."""
        pid = int(self.output("cat", self.pid_file))
        fields = self.output("cat", f"/proc/{pid}/stat").rpartition(")")[2].split()
        return {"pid": pid, "started": int(fields[19])}

    def plugins(self) -> dict[str, str]:
        """Active plugins that run from a slot: path by name."""
        listed = self.rpc("plugin", "list")["plugins"]
        ours = [p["name"] for p in listed if p["name"].startswith(f"{self.slots_dir}/")]
        assert all(p["active"] for p in listed), listed
        return {path.rpartition("/")[2]: path for path in ours}

    def rows(self, database: str, query: str) -> list[Any]:
        """Rows of a plugin's database, read without being able to write."""
        path = f"{self.lightning_dir}/regtest/{database}"
        rows: list[Any] = json.loads(self.output("/usr/bin/python3", "-c", READ_ONLY_QUERY, path, query))
        return rows

    def journal(self) -> list[dict[str, Any]]:
        """The engine's journal."""
        lines = self.outside.file(f"{self.state_dir}/journal.jsonl").content_string.splitlines()
        return [json.loads(line) for line in lines]

    def remember(self, name: str, value: Any) -> Any:
        """Keep a value for the tests of later steps."""
        path = self._memory(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return value

    def remembered(self, name: str) -> Any:
        """What an earlier step's tests kept."""
        return json.loads(self._memory(name).read_text(encoding="utf-8"))

    def _memory(self, name: str) -> Path:
        return Path(os.environ["HIVE_MOLECULE_DIR"]) / "memory" / f"{self.name}-{name}.json"

    def config(self) -> str:
        """The include that the engine manages; empty when there is none."""
        file = self.inside.file(f"{self.lightning_dir}/hive.conf")
        return file.content_string if file.exists else ""


@pytest.fixture(params=["metal", "dock"])
def node(request: pytest.FixtureRequest) -> Node:
    if request.param == "metal":
        machine = "hive-molecule-metal"
        return Node(
            name="metal",
            inside=testinfra.get_host(f"docker://lightning@{machine}"),
            outside=testinfra.get_host(f"docker://{machine}"),
            pid_file="/run/lightningd/lightningd.pid",
            state_dir="/var/lib/hive",
        )
    return Node(
        name="dock",
        inside=testinfra.get_host("docker://hive-molecule-dock"),
        outside=testinfra.get_host("local://"),
        pid_file="/var/lib/lightning/lightningd-regtest.pid",
        state_dir=f"{os.environ['HIVE_MOLECULE_DIR']}/dock/hive",
    )
