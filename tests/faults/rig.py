"""One fake lightningd with the engine beside it, and slots made in milliseconds from the fixture plugins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.clock import boot
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import (
    GENESIS,
    Journal,
    State,
    entry_hash,
    parse,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.machine import Machine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import Observer
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive, identity
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Request, Timeouts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import seal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.switch import Switch
from waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "tests/fixtures/plugins/src"
NAME = "hive-fixture"
SECOND = "hive-fixture-second"
START_SECONDS = 30.0
# Short where a fixture is made to hang, long where only a busy machine could be slow.
TIMEOUTS = Timeouts(getmanifest=3.0, init=3.0, stop=3.0, rpc=10.0, healthy=3.0, ready=10.0, validate=10.0, engine=30.0)
ENTRY = """#!{python} -IS
import sys
sys.path.insert(0, {library!r})
sys.dont_write_bytecode = True
import hive_fixture
hive_fixture.{function}()
"""

Stack = list[dict[str, Any]]
Outcome = dict[str, Any]


@dataclass
class Rig:
    """A node on which things go wrong."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    release: str = "v25.12.1"

    def __post_init__(self) -> None:
        self.lightning_dir = self.root / "lightning"
        self.lightning_dir.mkdir(parents=True, exist_ok=True)
        (self.lightning_dir / "config").write_text(
            f"network=regtest\nalias=rig\naddr=127.0.0.1:0\nlog-file={self.lightning_dir}/log\n"
        )
        self.program = self.root / "lightningd"
        self.program.write_text(
            f"#!/bin/sh\nexec {sys.executable} -m hive_sandbox.fake --sandbox-cln={self.release} --network=regtest "
            f'--lightning-dir={self.lightning_dir} "$@"\n'
        )
        self.program.chmod(0o755)
        self.node = Node.from_params(
            {
                "name": "rig",
                "runtime": "process",
                "lightning_dir": str(self.lightning_dir),
                "network": "regtest",
                "state_dir": str(self.root / "hive"),
                "python": sys.executable,
                "lightningd": [str(self.program)],
            }
        )
        self.machine = Machine(self.node, 5.0)

    # lightningd

    def start(self) -> None:
        """Start lightningd and wait until it is ready."""
        subprocess.run([str(self.program), "--daemon"], check=True, stdin=subprocess.DEVNULL)
        wait_until(lambda: self.machine.answers(1.0), START_SECONDS, "lightningd answers")
        self.machine.wait_ready(START_SECONDS)

    def stop(self) -> None:
        """End lightningd, its plugins and every dead-man of this node."""
        who = self.machine.identity()
        self.machine.rpc.close()
        if who is not None:
            os.kill(who.pid, signal.SIGKILL)
            wait_until(lambda: not alive(who), 10, "lightningd is gone")
        self.end_deadman()

    def end_deadman(self) -> None:
        """Kill the dead-man that watches now, as a power cut would."""
        facts = deadman.watching(self.node)
        if facts is not None and facts["alive"] and facts.get("pid"):
            os.kill(int(facts["pid"]), signal.SIGKILL)

    def new_pid(self) -> int:
        """Return who listens on the socket now, asked over a connection of its own."""
        return self.machine.new_rpc().peek_pid()

    def reboot(self) -> None:
        """End everything of this node as a power cut does, and start lightningd in another life of the machine."""
        self.stop()
        facts = json.loads(deadman.facts_file(self.node).read_bytes())
        write_atomic(deadman.facts_file(self.node), canonical({**facts, "boot": "another"}), self.node.keeper)
        content = self.node.journal_file.read_bytes().replace(f'"{boot()}"'.encode(), b'"another-start"')
        entries, prev = [], GENESIS
        for line in content.splitlines():
            entry = {**json.loads(line), "prev": prev}
            entry["hash"] = prev = entry_hash(entry)
            entries.append(canonical(entry) + b"\n")
        self.node.journal_file.write_bytes(b"".join(entries))
        self.start()

    def call(self, method: str, **params: Any) -> Any:
        """Call lightningd."""
        return self.machine.rpc.call(method, params)

    def fault(self, name: str, **params: Any) -> None:
        """Let the fake misbehave."""
        self.call("sandbox-fault", fault=name, **params)

    # Releases

    def item(
        self, version: str, kind: str = "good", name: str = NAME, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a stack entry whose slot is on the node."""
        digest = hashlib.sha256(f"{kind}-{name}-{version}".encode()).hexdigest()
        if not _slots.load_slot(self.node, name, digest).complete:
            self._make_slot(name, version, kind, digest)
        return {"name": name, "version": version, "digest": digest, "enabled": True, "options": options or {}}

    def second(self, version: str = "0.1.0", options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a stack entry of the other fixture, which needs the first."""
        return self.item(version, "good-second", SECOND, options)

    def _make_slot(self, name: str, version: str, kind: str, digest: str) -> None:
        slot = _slots.slot_path(self.node, name, digest)
        shutil.rmtree(slot, ignore_errors=True)
        library = slot / "lib"
        (library / f"{name.replace('-', '_')}-{version}.dist-info").mkdir(parents=True)
        (library / f"{name.replace('-', '_')}-{version}.dist-info/METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        shutil.copytree(
            FIXTURES / "hive_fixture", library / "hive_fixture", ignore=shutil.ignore_patterns("__pycache__")
        )
        entry = slot / "bin" / name
        entry.parent.mkdir()
        entry.write_text(ENTRY.format(python=sys.executable, library=str(library), function=kind.replace("-", "_")))
        entry.chmod(0o755)
        described = json.loads(
            subprocess.run([str(entry), "--hive-manifest"], check=True, capture_output=True, text=True).stdout
        )
        manifest = {
            **described,
            "schema": 1,
            "released_at": 1_700_000_000,
            "expires_at": None,
            "entry": f"bin/{name}",
            "artifact": {"file": f"{name}-{version}.pex", "sha256": digest, "size": 1},
            "python": {"requires": ">=3.11", "tags": ["cp311", "cp312", "cp313"]},
        }
        marker = {
            "schema": 1,
            "digest": digest,
            "manifest": manifest,
            "stat_digest": _slots.stat_digest(slot),
            "tree_digest": _slots.tree_digest(slot),
        }
        mark = _slots.marker_path(self.node, name, digest)
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, canonical(marker), self.node.keeper)

    def remark(self, item: dict[str, Any]) -> None:
        """Make a slot that was changed on purpose pass for one that was built that way."""
        slot = _slots.slot_path(self.node, item["name"], item["digest"])
        mark = _slots.marker_path(self.node, item["name"], item["digest"])
        marker = json.loads(mark.read_bytes())
        marker.update(stat_digest=_slots.stat_digest(slot), tree_digest=_slots.tree_digest(slot))
        write_atomic(mark, canonical(marker), self.node.keeper)

    # The engine

    def request(self, state: str, stack: Stack | None = None, **changes: Any) -> Request:
        """Return a request with the time-outs of tests."""
        request = Request(
            state=state,
            rollout="r1",
            stack=stack or [],
            timeouts=TIMEOUTS,
            deadman_seconds=60.0,
            min_free_bytes=1 << 20,
            backup_max_age_seconds=0.0,
            backup_keep=3,
        )
        return replace(request, **changes)

    def run(self, state: str, stack: Stack | None = None, **changes: Any) -> Outcome:
        """Run the engine in this process; a refusal is returned, with `error` and `code`."""
        try:
            return Switch(self.node, self.request(state, stack, **changes)).run()
        except HiveError as error:
            return {**error.data, "error": error.message, "code": error.code}

    def settle(self, stack: Stack) -> Outcome:
        """Bring the node to a confirmed stack."""
        outcome = self.run("switched", stack, deadman_seconds=0.0)
        assert "error" not in outcome, outcome["error"]
        return outcome

    def engine(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the engine in a process of its own, where failpoints may kill it."""
        return subprocess.Popen(
            [sys.executable, "-m", "faults.engine_call", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": f"{REPOSITORY / 'collections'}:{REPOSITORY / 'tests'}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
        )

    def crash(self, failpoint: str, state: str, stack: Stack | None = None, **changes: Any) -> tuple[int, Outcome]:
        """Run the engine with a failpoint in a process of its own; its exit status and what it said."""
        call = {"node": self.node.as_params(), "state": state, "stack": stack or [], "changes": changes}
        process = self.engine(json.dumps(call), HIVE_FAULTS="1", HIVE_FAILPOINT=failpoint)
        out, err = process.communicate(timeout=60)
        assert process.returncode in (0, 1, -signal.SIGKILL), err.decode()
        return process.returncode, json.loads(out) if out else {}

    # What must hold

    def state(self) -> State:
        """Return what the journal says; raises when its chain is broken."""
        return Journal(self.node.journal_file, self.node.keeper).state()

    def journal(self) -> list[dict[str, Any]]:
        """Return the entries of the journal."""
        return Journal(self.node.journal_file, self.node.keeper).entries

    def running(self) -> dict[str, str]:
        """Return the versions of our plugins that answer with a good health report, by name."""
        found = {}
        for path, item in self.machine.plugins().items():
            if str(self.node.slots_dir) in path and item["active"]:
                name = Path(path).name
                report = self.machine.health(f"{name}-health", 2.0)
                if report is not None and report["status"] == "ok":
                    found[name] = str(report["version"])
        return found

    def assert_runs(self, stack: Stack, closed: bool = True) -> None:
        """The stack runs, healthy, from its own slots, is what the configuration says, and nothing is left open."""
        wanted = {item["name"]: item["version"] for item in stack}
        assert self.running() == wanted
        include = self.node.include_file.read_text() if self.node.include_file.exists() else ""
        for item in stack:
            slot = _slots.find_slot(self.node, item["name"], item["digest"])
            assert f"plugin={slot.entry}\n" in include
        assert sum(line.startswith("plugin=") for line in include.splitlines()) == len(stack)
        checked = subprocess.run([str(self.program), "--help"], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr
        content = self.node.journal_file.read_bytes()
        assert parse(content, self.node.journal_file)[1] == len(content), "the journal ends in a torn line"
        if closed:
            state = self.state()
            assert state.transaction is None
            assert seal(stack) == (state.stable or [])
            assert not (self.node.state_dir / "lock.json").exists()

    @property
    def lock_file(self) -> Path:
        return self.node.state_dir / "lock.json"

    def observe(self) -> dict[str, Any]:
        """Return what hive_observe returns."""
        return Observer(self.node).everything()

    @staticmethod
    def gone(pid: int) -> bool:
        """Whether a process has ended."""
        return identity(pid) is None

    def archive(self, command: str, path: str) -> subprocess.CompletedProcess[bytes]:
        """Run the engine's archive as an operator on the node would."""
        return subprocess.run(
            [sys.executable, "-I", path, command, "--state-dir", str(self.node.state_dir)],
            capture_output=True,
            check=False,
            timeout=60,
        )

    def wait_until_gone(self, name: str) -> None:
        """Wait until a plugin has ended by itself."""
        wait_until(lambda: not any(path.endswith(f"/{name}") for path in self.machine.plugins()), 20, f"{name} is gone")

    def wait_closed(self, seconds: float) -> None:
        """Wait until no transaction is open and nobody holds the node."""
        wait_until(
            lambda: self.state().transaction is None and not (self.node.state_dir / "lock.json").exists(),
            seconds,
            "the dead-man has closed the transaction",
        )
