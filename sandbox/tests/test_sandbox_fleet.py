"""The fleet and its command: up, up again, down, reset, and what is in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox import rpcclient
from hive_sandbox.backend import NodeFile, SandboxError, running_pid, session_members
from hive_sandbox.fleet import NAMES, Fleet, node_name

REPOSITORY = Path(__file__).parent.parent.parent
# A plugin that answers getmanifest and init, and then does not mind the end of its stdin.
STUBBORN = r"""#!/bin/sh
answer() {
    read -r line; read -r blank
    id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
    printf '{"jsonrpc":"2.0","id":"%s","result":%s}\n\n' "$id" "$1"
}
answer '{"options":[],"rpcmethods":[],"dynamic":true}'
answer '{}'
exec sleep 600
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that does not exist yet."""
    fleet = Fleet(tmp_path / "sandbox")
    yield fleet
    fleet.reset()


def ask(node: NodeFile, method: str, params: dict[str, Any] | list[Any] | None = None) -> Any:
    """Call a command of a node."""
    return rpcclient.call(node.network_dir / "lightning-rpc", method, params)


def cli(node: NodeFile, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the node's lightning-cli."""
    return subprocess.run([*node.lightning_cli, *arguments], capture_output=True, text=True, check=False, timeout=20)


def test_names_go_on_behind_the_alphabet() -> None:
    assert [node_name(number) for number in (0, 1, 25, 26, 27)] == ["alpha", "bravo", "zulu", "alpha2", "bravo2"]
    assert len(set(NAMES)) == 26


class TestUp:
    def test_three_nodes_in_a_ring(self, fleet: Fleet) -> None:
        outcome = fleet.up(3, "fake")
        assert [node["name"] for node in outcome.nodes if node["running"]] == ["alpha", "bravo", "charlie"]
        at_risk = {}
        for node in fleet.nodes():
            channels = ask(node, "listpeerchannels")["channels"]
            assert [channel["state"] for channel in channels] == ["CHANNELD_NORMAL"] * 2
            assert len(ask(node, "listpeers")["peers"]) == 2
            at_risk[node.name] = sum(channel["to_us_msat"] for channel in channels)
        assert min(at_risk, key=lambda name: at_risk[name]) == "alpha"

    def test_a_second_time_changes_nothing(self, fleet: Fleet) -> None:
        first = fleet.up(2, "fake")
        pids = [running_pid(node) for node in fleet.nodes()]
        second = fleet.up(2, "auto")
        assert (second.changes, second.nodes) == ([], first.nodes)
        assert [running_pid(node) for node in fleet.nodes()] == pids

    def test_what_is_missing_is_made_up_for(self, fleet: Fleet) -> None:
        fleet.up(1, "fake")
        (alpha,) = fleet.nodes()
        pid = running_pid(alpha)
        assert pid is not None
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        assert fleet.up(2, "fake").changes == ["made bravo", "started alpha", "started bravo"]
        assert fleet.nodes()[0].node_id == alpha.node_id

    def test_the_wrappers_are_the_node(self, fleet: Fleet) -> None:
        fleet.up(1, "fake")
        (alpha,) = fleet.nodes()
        done = cli(alpha, "getinfo")
        assert (done.returncode, json.loads(done.stdout)["id"]) == (0, alpha.node_id)
        assert subprocess.run([*alpha.lightningd, "--help"], capture_output=True, check=False).returncode == 0
        assert cli(alpha, "nosuch").returncode == 1
        fleet.down()
        assert cli(alpha, "getinfo").returncode == 2

    @pytest.mark.parametrize(("count", "kind", "said"), [(0, "fake", "1 to 100"), (1, "what", "auto, real or fake")])
    def test_what_makes_no_sense(self, count: int, kind: str, said: str, fleet: Fleet) -> None:
        with pytest.raises(SandboxError, match=said):
            fleet.up(count, kind)
        assert fleet.nodes() == []

    def test_a_sandbox_keeps_its_kind(self, fleet: Fleet) -> None:
        fleet.up(1, "fake")
        with pytest.raises(SandboxError, match="runs on the fake lightningd: reset it first"):
            fleet.up(1, "real")

    def test_a_node_that_cannot_start_says_why(self, fleet: Fleet) -> None:
        fleet.up(1, "fake")
        fleet.down()
        config = Path(fleet.nodes()[0].lightning_dir) / "config"
        config.write_text(config.read_text(encoding="utf-8") + "bogus=1\n", encoding="utf-8")
        with pytest.raises(SandboxError, match=r"alpha ended with code 1: .*bogus=1: unknown option"):
            fleet.up(1, "fake")


class TestDown:
    def test_files_stay_processes_go(self, fleet: Fleet) -> None:
        fleet.up(2, "fake")
        pids = [running_pid(node) for node in fleet.nodes()]
        assert fleet.down().changes == ["stopped alpha", "stopped bravo"]
        assert [running_pid(node) for node in fleet.nodes()] == [None, None]
        assert [session_members(pid) for pid in pids if pid] == [[], []]
        assert fleet.down().changes == []
        assert fleet.reset().changes == ["removed alpha", "removed bravo"]
        assert not fleet.root.exists()

    def test_a_plugin_that_stays_behind_goes_too(self, fleet: Fleet, tmp_path: Path) -> None:
        stubborn = tmp_path / "stubborn.sh"
        stubborn.write_text(STUBBORN, encoding="utf-8")
        stubborn.chmod(0o755)
        fleet.up(1, "fake")
        (alpha,) = fleet.nodes()
        ask(alpha, "plugin", ["start", str(stubborn)])
        pid = running_pid(alpha)
        assert pid is not None
        fleet.down()
        assert session_members(pid) == []

    def test_a_pid_file_of_somebody_else_is_left_alone(self, fleet: Fleet) -> None:
        fleet.up(1, "fake")
        (alpha,) = fleet.nodes()
        fleet.down()
        alpha.pid_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
        assert running_pid(alpha) is None
        assert fleet.down().changes == []


class TestCommand:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "hive_sandbox.cli", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    def test_dry_run_and_json(self, fleet: Fleet) -> None:
        root = str(fleet.root)
        planned = json.loads(self.run("up", "--root", root, "--nodes", "1", "--dry-run", "--json").stdout)
        assert (planned["changed"], planned["changes"]) == (True, ["make alpha", "start alpha"])
        assert not fleet.root.exists()
        done = json.loads(self.run("up", "--root", root, "--nodes", "1", "--lightningd", "fake", "--json").stdout)
        assert done["changes"] == ["made alpha", "started alpha"]
        assert json.loads(self.run("up", "--root", root, "--nodes", "1", "--dry-run", "--json").stdout)["changes"] == []
        assert "alpha      fake  running" in self.run("status", "--root", root).stdout

    def test_an_error_is_one_sentence(self, fleet: Fleet) -> None:
        done = self.run("up", "--root", str(fleet.root), "--nodes", "101")
        assert (done.returncode, done.stderr) == (1, "hive-sandbox: a sandbox has 1 to 100 nodes, not 101\n")


class TestInventory:
    def listed(self, root: Path) -> dict[str, Any]:
        script = REPOSITORY / "inventories/sandbox/nodes.py"
        environment = {**os.environ, "HIVE_SANDBOX_ROOT": str(root)}
        done = subprocess.run([str(script), "--list"], capture_output=True, check=True, env=environment)
        listed: dict[str, Any] = json.loads(done.stdout)
        return listed

    def test_before_the_first_up_three_nodes_are_expected(self, tmp_path: Path) -> None:
        listed = self.listed(tmp_path)
        assert listed["hive_nodes"]["hosts"] == ["alpha", "bravo", "charlie"]
        assert listed["_meta"]["hostvars"]["alpha"]["hive_lightning_dir"] == f"{tmp_path}/alpha/lightning"

    def test_it_lists_what_there_is_and_expected_the_same(self, fleet: Fleet) -> None:
        expected = self.listed(fleet.root)["_meta"]["hostvars"]["alpha"]
        fleet.up(1, "fake")
        listed = self.listed(fleet.root)
        assert listed["hive_nodes"]["hosts"] == ["alpha"]
        alpha = listed["_meta"]["hostvars"]["alpha"]
        assert alpha.pop("hive_node_id") == fleet.nodes()[0].node_id
        assert {**alpha, "hive_node_id": ""} == expected
