"""An operator who runs playbooks, and somebody who breaks the machines meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
LOGS = ROOT / "var/molecule/faults"
FIXTURE = "hive-fixture"


@dataclass
class Run:
    """A playbook under way; `output` is its log."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8")

    def end(self) -> tuple[int, str]:
        """Its exit status and what it printed."""
        return self.process.wait(timeout=240), self.text


class Operator:
    """Runs playbooks as an operator does, on the inventory of the scenarios."""

    def start(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Start one with variables passed by -e."""
        LOGS.mkdir(parents=True, exist_ok=True)
        tools = Path(sys.executable).parent
        output = LOGS / f"{len(list(LOGS.iterdir())):02}-{Path(playbook).stem}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTEST_"))}
        with output.open("wb") as log:
            process = subprocess.Popen(
                [
                    str(tools / "ansible-playbook"),
                    "--inventory=molecule/inventory",
                    playbook,
                    "--extra-vars",
                    json.dumps({"hive_timeouts": {"getmanifest": 5, "init": 5}, **variables}),
                    *arguments,
                ],
                cwd=ROOT,
                env={
                    **inherited,
                    "PATH": f"{tools}:{os.environ['PATH']}",
                    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                    "ANSIBLE_NOCOLOR": "1",
                    "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return Run(process, output)

    def rollout(self, stack: Any, **variables: Any) -> tuple[int, str]:
        """Roll a stack out, to the end of the run."""
        return self.start("playbooks/rollout.yml", hive_stack=stack, **variables).end()

    def report(self) -> dict[str, Any]:
        """The report of the newest run."""
        report: dict[str, Any] = json.loads((ROOT / "var/molecule/reports/latest.json").read_text(encoding="utf-8"))
        return report


def of_version(version: Any) -> list[dict[str, Any]]:
    """The stack with the fixture of this version; a mapping gives each node its own."""
    if isinstance(version, dict):
        version = "{{ " + json.dumps(version) + "[inventory_hostname] }}"
    return [{"name": FIXTURE, "version": version}]


@pytest.fixture(name="stack")
def _stack() -> Any:
    return of_version


@pytest.fixture
def operator() -> Operator:
    return Operator()


@dataclass
class Machine:
    """What can be done to a machine of systemd."""

    name: str
    node: Any

    def root(self, command: str) -> str:
        """Run a command as root."""
        return str(self.node.outside.check_output(command))

    def cut(self) -> None:
        """Drop every ssh connection and let no new one in."""
        self.root("mv /usr/sbin/sshd /usr/sbin/sshd.away && pkill -KILL '^sshd'")

    def mend(self) -> None:
        """Let connections in again."""
        self.root("test ! -e /usr/sbin/sshd.away || mv /usr/sbin/sshd.away /usr/sbin/sshd")

    def reboot(self) -> None:
        """Restart the machine; returns when lightningd answers again."""
        docker("restart", "--time=20", self.node.machine)
        wait_until(lambda: answers(self.node), 60, f"{self.name} is up again", interval=0.2)


def docker(*arguments: str) -> None:
    """Call the engine."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=120)


def answers(node: Any) -> bool:
    """Whether lightningd answers and all its plugins are active."""
    listed = node.ask("plugin", "list")
    return listed is not None and all(plugin["active"] for plugin in listed["plugins"])


@pytest.fixture
def metal12(all_nodes: dict[str, Any]) -> Machine:
    return Machine("metal12", all_nodes["metal12"])


@pytest.fixture
def metal13(all_nodes: dict[str, Any]) -> Machine:
    return Machine("metal13", all_nodes["metal13"])


@pytest.fixture
def restart_container(all_nodes: dict[str, Any]) -> Callable[[], None]:
    """A function that restarts the node's container and returns when lightningd answers again."""

    def restart() -> None:
        node = all_nodes["dock"]
        docker("restart", node.machine)
        wait_until(lambda: answers(node), 60, "the container is up again", interval=0.2)

    return restart


@pytest.fixture
def other(before: dict[str, Before]) -> str:
    """The good release that does not run now."""
    return "0.2.0" if before["dock"].now["version"] == "0.1.0" else "0.1.0"


@dataclass
class Before:
    """What a node was before the fault."""

    node: Any
    now: dict[str, Any]

    def holds(self, restarted: bool = False, quarantined: str = "") -> bool:
        """Whether the node is what it was, healthy and with nothing open; fails with the difference.

        Args:
            restarted: lightningd was ended on purpose, so it is another process, and its plugin may be quarantined.
            quarantined: what must stand in the configuration so that lightningd does not start it again.
        """
        now = state_of(self.node)
        kept_out = [line for line in now["config"] if line.startswith("disable-plugin=")]
        if quarantined:
            assert kept_out, "nothing is quarantined"
            assert all(quarantined in line for line in kept_out), kept_out
        if restarted:
            now["config"] = [line for line in now["config"] if line not in kept_out]
        if restarted:
            assert now["lightningd"] != self.now["lightningd"], "lightningd was to be another process"
            now["lightningd"] = self.now["lightningd"]
        assert now == self.now
        assert self.node.rpc(f"{FIXTURE}-health")["status"] == "ok"
        assert self.node.journal()[-1]["event"] not in ("begin", "switched")
        assert not self.node.outside.file(f"{self.node.state_dir}/lock.json").exists
        return True


def state_of(node: Any) -> dict[str, Any]:
    """What must not change."""
    version = node.rpc(f"{FIXTURE}-status")["version"]
    return {
        "version": version,
        "plugins": node.plugins(),
        "config": [line for line in node.config().splitlines() if line and not line.startswith("#")],
        "lightningd": node.lightningd(),
        "node": node.rpc("getinfo")["id"],
    }


@pytest.fixture
def before(all_nodes: dict[str, Any]) -> dict[str, Before]:
    """Every node as it was when the test began."""
    return {name: Before(node, state_of(node)) for name, node in all_nodes.items()}
