"""What every scenario's tests look at: the nodes, from where lightningd runs and with nothing of the engine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / "var/molecule"
SUFFIX = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
ASSERTED = pytest.StashKey[int]()

READ_ONLY_QUERY = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps(database.execute(sys.argv[2]).fetchall()))
"""
# What an operator's rows are read with, by plugin: its database, and a query.
ROWS = {
    "cl-hive-comms": ("cl_hive_comms.db", "SELECT alias, advisor_id, created_at FROM comms_aliases ORDER BY alias"),
    "cl-hive-archon": ("cl_hive_archon.db", "SELECT did, label, created_at FROM archon_identity"),
    "cl-hive": ("cl_hive.db", "SELECT peer_id, tier, joined_at FROM hive_members ORDER BY peer_id"),
    "hive-fixture": ("hive_fixture.db", "SELECT version, at FROM fixture_starts ORDER BY rowid"),
}
HEALTH = {"cl-hive-comms": "hive-comms-health", "cl-hive-archon": "hive-archon-health", "cl-hive": "hive-health"}


def machine(name: str) -> str:
    """The name of a node's machine or container."""
    return f"hive-molecule-{name}-{SUFFIX}"


@dataclass(frozen=True)
class Node:
    """One node, by machines/fleet's words.

    Attributes:
        outside: where the engine runs: the machine, or the container's host.
        inside: where lightningd runs: the machine, or the container; as lightningd's user.
        lightning_dir, config_file, slots_dir, pid_file: as seen inside.
        state_dir: the engine's directory as seen outside.
        service: lightningd's unit; empty in a container.
    """

    name: str
    lightning_dir: str
    config_file: str
    state_dir: str
    slots_dir: str
    pid_file: str
    service: str
    inside: Host = field(repr=False)
    outside: Host = field(repr=False)

    @property
    def machine(self) -> str:
        """The name of its machine or container."""
        return machine(self.name)

    def output(self, *argv: str) -> str:
        """What a command prints where lightningd runs."""
        return str(self.inside.check_output(shlex.join(argv)))

    def rpc(self, method: str, *params: str) -> Any:
        """The result of one call."""
        return json.loads(self.output(*self._cli, method, *params))

    def ask(self, method: str, *params: str) -> Any:
        """The result of one call; None while nobody answers it."""
        done = self.inside.run(shlex.join([*self._cli, method, *params]))
        return json.loads(done.stdout) if done.rc == 0 else None

    def rpc_error(self, method: str, *params: str) -> str:
        """What a call that must fail answers."""
        done = self.inside.run(shlex.join([*self._cli, method, *params]))
        assert done.rc != 0, done.stdout
        return str(done.stdout + done.stderr)

    @property
    def _cli(self) -> tuple[str, ...]:
        program = "/opt/cln/bin/lightning-cli"
        return (program, f"--lightning-dir={self.lightning_dir}", "--network=regtest", "-N", "none")

    def as_lightningd(self, *argv: str) -> Any:
        """Run a command that sees the files as lightningd does, and return its result."""
        if not self.service:
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

    def versions(self) -> dict[str, str]:
        """The version every hive plugin that runs says it has, all of them healthy."""
        health = [self.rpc(method) for name, method in HEALTH.items() if name in self.plugins()]
        assert all(answer["status"] == "ok" for answer in health), health
        return {answer["plugin"]: answer["version"] for answer in health}

    def gets_into_mode(self, method: str, mode: str) -> bool:
        """Wait until a plugin has found the siblings that are there, and no other."""
        return wait_until(
            lambda: bool(self.rpc(method)["mode"] == mode), 30, f"{method} of {self.name} says {mode}", 0.3
        )

    def identities(self) -> dict[str, Any]:
        """Who the three plugins say they are: must survive whatever is done to their code."""
        return {
            "nostr": self.rpc("hive-client-identity")["pubkey"],
            "did": self.rpc("hive-archon-status")["identity"]["did"],
            "hive": self.rpc("hive-status")["hive_id"],
        }

    def rows(self, *plugins: str) -> dict[str, list[Any]]:
        """The operator's rows of these plugins, read without being able to write."""
        return {name: self.query(*ROWS[name]) for name in plugins}

    @staticmethod
    def rows_of(plugin: str) -> tuple[str, str]:
        """The database of a plugin, and a query for the operator's rows in it."""
        return ROWS[plugin]

    def query(self, database: str, query: str) -> list[Any]:
        """What a query finds in a plugin's database."""
        path = f"{self.lightning_dir}/regtest/{database}"
        rows: list[Any] = json.loads(self.output("/usr/bin/python3", "-c", READ_ONLY_QUERY, path, query))
        return rows

    def journal(self) -> list[dict[str, Any]]:
        """The engine's journal; empty when there is none."""
        file = self.outside.file(f"{self.state_dir}/journal.jsonl")
        return [json.loads(line) for line in file.content_string.splitlines()] if file.exists else []

    def backups(self) -> list[dict[str, Any]]:
        """The manifests of the backup sets, oldest first."""
        listed = self.outside.check_output(
            f"for file in {self.state_dir}/backups/*/manifest.json; do cat $file; echo; done"
        )
        sets = [json.loads(line) for line in listed.splitlines() if line]
        return sorted(sets, key=lambda found: float(found["created_at"]))

    def config(self) -> str:
        """The include that the engine manages; empty when there is none."""
        file = self.inside.file(f"{self.config_file.rpartition('/')[0]}/hive.conf")
        return str(file.content_string) if file.exists else ""

    def remember(self, name: str, value: Any) -> Any:
        """Keep a value for the tests of later steps."""
        path = self._memory(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
        return value

    def remembered(self, name: str) -> Any:
        """What an earlier step, or its playbook, kept."""
        return json.loads(self._memory(name).read_text(encoding="utf-8"))

    def _memory(self, name: str) -> Path:
        return STATE / "nodes" / f"{self.name}-{name}.json"


def make_node(name: str) -> Node:
    """The node of this name, with the places that machines/fleet gives it."""
    inside = f"docker://lightning@{machine(name)}"
    if name == "metal12":
        return Node(
            name=name,
            lightning_dir="/var/lib/lightningd",
            config_file="/var/lib/lightningd/config",
            state_dir="/var/lib/hive",
            slots_dir="/var/lib/hive/slots",
            pid_file="/run/lightningd/lightningd.pid",
            service="lightningd",
            inside=testinfra.get_host(inside),
            outside=testinfra.get_host(f"docker://{machine(name)}"),
        )
    if name == "metal13":
        return Node(
            name=name,
            lightning_dir="/srv/lightning/node",
            config_file="/srv/lightning/etc/node.conf",
            state_dir="/opt/rollout/state",
            slots_dir="/opt/rollout/state/slots",
            pid_file="/srv/lightning/node/lightningd-regtest.pid",
            service="cln",
            inside=testinfra.get_host(inside),
            outside=testinfra.get_host(f"docker://{machine(name)}"),
        )
    return Node(
        name=name,
        lightning_dir="/data/lightning/regtest",
        config_file="/data/lightning/regtest/config",
        state_dir=f"{STATE}/nodes/dock/hive",
        slots_dir="/var/lib/hive/slots",
        pid_file="/data/lightning/regtest/lightningd-regtest.pid",
        service="",
        inside=testinfra.get_host(inside),
        outside=testinfra.get_host("local://"),
    )


@pytest.fixture(params=["metal12", "metal13", "dock"])
def node(request: pytest.FixtureRequest) -> Node:
    """Each node in turn."""
    return make_node(request.param)


@pytest.fixture
def all_nodes() -> dict[str, Node]:
    """The nodes by name."""
    return {name: make_node(name) for name in ("metal12", "metal13", "dock")}


@pytest.fixture(params=["metal12", "metal13"])
def metal(request: pytest.FixtureRequest) -> Node:
    """Each node that systemd runs, in turn."""
    return make_node(request.param)


@pytest.fixture
def dock() -> Node:
    """The node in a container."""
    return make_node("dock")


def pytest_assertion_pass(item: pytest.Item, lineno: int, orig: str, expl: str) -> None:
    """Count what a test found true."""
    item.stash[ASSERTED] = item.stash.get(ASSERTED, 0) + 1


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that passed without one assertion."""
    result = yield
    if not pyfuncitem.stash.get(ASSERTED, 0):
        pytest.fail(f"{pyfuncitem.name} asserted nothing", pytrace=False)
    return result
