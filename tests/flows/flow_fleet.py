"""A sandbox fleet of its own for a test, and the playbooks run on it as an operator runs them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures/plugins"
BIN = Path(sys.executable).parent
PLUGIN = "hive-fixture"
LIGHTNINGD = os.environ.get("SANDBOX_LIGHTNINGD", "fake")


@dataclass(frozen=True)
class Shelf:
    """Releases of fixture plugins, built once for a test session.

    Attributes:
        directory: holds `releases` and `keys`.
    """

    directory: Path

    @property
    def releases(self) -> Path:
        return self.directory / "releases"

    @property
    def signers(self) -> Path:
        return self.directory / "keys/allowed_signers"

    def build(self, *wanted: tuple[str, str]) -> None:
        """Release the fixture plugins named by (folder, version); those that are there stay."""
        settings = _release.Settings(
            releases=self.releases, cache=self.directory / "cache", keys=self.directory / "keys"
        )
        _release.release(
            [_release.Wanted(FIXTURES / folder, version=version) for folder, version in wanted], {}, settings
        )

    def digest(self, version: str, name: str = PLUGIN) -> str:
        """The sha256 by which a release is known."""
        manifest = json.loads((self.releases / name / version / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["artifact"]["sha256"])


@dataclass(frozen=True)
class Outcome:
    """How a playbook ended."""

    rc: int
    text: str

    def sentence(self, words: str) -> str:
        """The one line of the output that has `words`."""
        lines = [line.strip() for line in self.text.splitlines() if words in line]
        assert lines, f"nothing says {words!r} in:\n{self.text}"
        return lines[0]


@dataclass(frozen=True)
class Running:
    """A playbook under way."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8")

    def end(self) -> Outcome:
        """Wait for its end."""
        return Outcome(self.process.wait(timeout=240), self.text)

    def kill(self) -> None:
        """Kill it with everything it started, as a power cut would; what outlives it by design is left alone."""
        self.tell(signal.SIGKILL)
        self.process.wait(timeout=30)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to it and to everything it started, for example to hold it where it is, and let it go on."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_group(self) -> None:
        """Kill its process group: Ansible's workers have sessions of their own and finish what they are at."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`. A daemon has another parent and is not among them."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


@dataclass
class Fleet:
    """Nodes under `root`, an inventory for them, and what an operator does with both."""

    root: Path
    shelf: Shelf
    variables: Json = field(default_factory=dict)
    more_environment: dict[str, str] = field(default_factory=dict)
    reports_dir: Path | None = None
    # Seconds for one playbook, on a machine that is busy with others.
    patience: float = 240

    @property
    def sandbox(self) -> Path:
        return self.root / "sandbox"

    @property
    def inventory(self) -> Path:
        return self.root / "inventory"

    @property
    def reports(self) -> Path:
        return self.reports_dir or self.root / "reports"

    @property
    def nodes(self) -> list[str]:
        return sorted(path.parent.name for path in self.sandbox.glob("*/node.json"))

    def up(self, count: int) -> None:
        """Start `count` nodes, fake ones unless SANDBOX_LIGHTNINGD says real, and write their inventory."""
        self._sandbox("up", "--nodes", str(count), "--lightningd", LIGHTNINGD)
        hosts = {}
        for name in self.nodes:
            node = json.loads((self.sandbox / name / "node.json").read_text(encoding="utf-8"))
            hosts[name] = {
                "hive_runtime": "process",
                "hive_lightning_dir": node["lightning_dir"],
                "hive_network": node["network"],
                "hive_state_dir": node["state_dir"],
                "hive_lightningd": node["lightningd"],
                "hive_lightning_cli": node["lightning_cli"],
                "hive_node_id": node["node_id"],
            }
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "hive_python": sys.executable,
            "hive_fleet": "flows",
            "hive_releases_dir": str(self.shelf.releases),
            "hive_allowed_signers": str(self.shelf.signers),
            "hive_reports_dir": str(self.reports),
            "hive_evidence_dir": str(self.root / "evidence"),
            "hive_evidence_keys_dir": str(self.root / "keys"),
            "hive_registers_dir": str(self.root / "registers"),
            "hive_approval_required": False,
            "hive_approvals_needed": 0,
            "hive_gates_required": False,
            "hive_soak_seconds": 0.5,
            "hive_soak_interval_seconds": 0.1,
            "hive_canary_soak_minutes": 0,
            "hive_wave_soak_minutes": 0,
            "hive_deadman_seconds": 30,
            "hive_min_free_bytes": 0,
            "hive_htlc_margin_blocks": 1,
            "hive_stack": [{"name": PLUGIN, "version": "0.1.0"}],
            **self.variables,
        }
        self.inventory.mkdir(exist_ok=True)
        content = {"hive_nodes": {"hosts": hosts, "vars": variables}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def host(self, node: str, **variables: Any) -> Path:
        """Write variables of one node; gives the file, so that it can be taken away again."""
        path = self.inventory / "host_vars" / f"{node}.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(variables), encoding="utf-8")
        return path

    def lose(self, node: str, event: str, answer: bool = False, since: int = 0) -> Path:
        """Let the connection to a node drop for good once its journal has an event after its first `since` entries."""
        journal = str(self.sandbox / node / "hive/journal.jsonl")
        return self.host(
            node,
            ansible_connection="dropping",
            ansible_drop_journal=journal,
            ansible_drop_event=event,
            ansible_drop_since=since,
            ansible_drop_answer=answer,
        )

    def down(self) -> None:
        """Stop the nodes."""
        self._sandbox("down")

    def _sandbox(self, *arguments: str) -> None:
        subprocess.run(
            [BIN / "hive-sandbox", arguments[0], "--root", self.sandbox, *arguments[1:]],
            check=True,
            capture_output=True,
            timeout=120,
        )

    def command(self, playbook: str, variables: Mapping[str, Any], *arguments: str) -> list[str]:
        """The command line an operator would type."""
        extra = ["-e", json.dumps(dict(variables))] if variables else []
        return [
            str(BIN / "ansible-playbook"),
            "-i",
            str(self.inventory),
            f"playbooks/{playbook}.yml",
            *extra,
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment: the repository's configuration and this venv, whatever the caller's is."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "HIVE_"))}
        ours = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/flows/connections"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return {**kept, **ours, **self.more_environment}

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook to its end; `variables` are passed with -e."""
        done = subprocess.run(
            self.command(playbook, variables, *arguments),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=self.patience,
        )
        return Outcome(done.returncode, done.stdout)

    def start(self, playbook: str, **variables: Any) -> Running:
        """Start a playbook and come back at once; its output goes to a file."""
        output = self.root / f"run{len(list(self.root.glob('run*.txt')))}.txt"
        with output.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                self.command(playbook, variables),
                cwd=ROOT,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, output)

    def good(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook that has to end well."""
        outcome = self.run(playbook, *arguments, **variables)
        assert outcome.rc == 0, outcome.text
        return outcome

    def bad(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook that has to fail."""
        outcome = self.run(playbook, *arguments, **variables)
        assert outcome.rc != 0, outcome.text
        return outcome

    @property
    def report(self) -> Json:
        """The newest report."""
        found: Json = json.loads((self.reports / "latest.json").read_text(encoding="utf-8"))
        return found

    def cli(self, node: str, *arguments: str) -> Json:
        """What lightning-cli of the node answers; an error is an answer too."""
        done = subprocess.run(
            [self.sandbox / node / "lightning-cli", *arguments], capture_output=True, text=True, check=False, timeout=30
        )
        found: Json = json.loads(done.stdout)
        return found

    def fault(self, node: str, name: str, **details: Any) -> None:
        """Let a node misbehave, as only a fake one can be told to."""
        if LIGHTNINGD != "fake":
            pytest.skip("a real lightningd does not misbehave on demand")
        pairs = [f"{key}={value}" for key, value in details.items()]
        reply = self.cli(node, "-k", "sandbox-fault", f"fault={name}", *pairs)
        assert "code" not in reply, reply

    def version(self, node: str, plugin: str = PLUGIN) -> str:
        """The version of the plugin that answers on the node, "" for none."""
        return str(self.cli(node, f"{plugin}-health").get("version", ""))

    def pid(self, node: str) -> int:
        """The process of the node's lightningd."""
        pid_file = self.sandbox / node / "lightning/lightningd-regtest.pid"
        return int(pid_file.read_text(encoding="utf-8"))

    def pids(self) -> dict[str, int]:
        """The processes of all nodes."""
        return {node: self.pid(node) for node in self.nodes}

    def watched(self, node: str, version: str) -> bool:
        """Whether a node runs a release that is switched and not yet confirmed: the soak is on."""
        entries = self.journal(node)
        return bool(entries) and entries[-1]["event"] == "switched" and self.version(node) == version

    def journal(self, node: str) -> list[Json]:
        """The node's journal, oldest entry first; the last line may still be under way."""
        path = self.sandbox / node / "hive/journal.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]
