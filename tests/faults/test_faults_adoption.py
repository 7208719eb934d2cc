"""From the monolith to our plugins and back, with the engine killed, refused and reverted everywhere between."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.rig import FIXTURES, Rig
from waiting import wait_until

TAKER, HEIR = "hive-fixture-taker", "hive-fixture-heir"
TABLE = "nostr_state"

Stack = list[dict[str, Any]]


class Node:
    """A node with a monolith that its operator's own configuration loads."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.script = rig.root / "bin/cl-hive/hive-monolith.py"
        self.script.parent.mkdir(parents=True)
        self.script.write_text(
            f"#!{sys.executable} -IS\nimport sys\n"
            f"sys.dont_write_bytecode = True\nsys.path.insert(0, {str(FIXTURES)!r})\n"
            "from hive_fixture.adopters import Monolith\nMonolith().run()\n"
        )
        self.script.chmod(0o755)
        config = rig.lightning_dir / "config"
        config.write_text(f"{config.read_text()}plugin={self.script}\n")
        self.config = config.read_text()

    @property
    def path(self) -> str:
        return str(self.script.resolve())

    @property
    def monolith(self) -> Path:
        return self.rig.node.network_dir / "cl_hive.db"

    @property
    def taken(self) -> Path:
        return self.rig.node.network_dir / "hive_fixture_taker.db"

    def stack(self, kind: str = "taker", version: str = "0.1.0") -> Stack:
        """The stack that takes the monolith's place."""
        taker = self.rig.item(version, kind, TAKER)
        return [taker, {**self.rig.item("0.1.0", "heir", HEIR), "replaces": [self.path]}]

    def rows(self, path: Path) -> dict[str, str]:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(f"SELECT key, value FROM {TABLE}"))

    def write(self, path: Path, key: str, value: str) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(f"INSERT OR REPLACE INTO {TABLE} (key, value) VALUES (?, ?)", (key, value))

    def works(self) -> bool:
        """Whether the monolith answers, and none of ours runs."""
        status = self.rig.call("hive-status")
        return status.get("status") == "active" and self.rig.running() == {} and self.path in self.rig.machine.plugins()

    def taken_over(self) -> bool:
        """Whether ours run in the monolith's place, with its rows."""
        running = set(self.rig.running()) == {TAKER, HEIR}
        return running and self.path not in self.rig.machine.plugins() and self.taken.exists()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    found = Node(rig)
    rig.start()
    yield found
    rig.stop()


@pytest.fixture
def fresh(node: Node) -> Node:
    """The node with its monolith, whatever a test before has done."""
    rig = node.rig
    rig.end_deadman()
    rig.run("reverted")
    rig.settle([])
    for path in [node.taken, node.taken.with_name(node.taken.name + "-wal")]:
        path.unlink(missing_ok=True)
    assert node.works()
    return node


def test_the_monolith_is_replaced_with_its_rows_and_comes_back_with_what_was_written_since(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    fresh.write(fresh.monolith, "event:1", "old")
    before = fresh.rows(fresh.monolith)
    outcome = rig.run("switched", stack)
    assert outcome["phase"] == "switched", outcome.get("error")
    assert fresh.taken_over()
    assert fresh.rows(fresh.taken).items() >= {"event:1": "old", "config:pubkey": "npub-of-the-monolith"}.items()
    assert fresh.rows(fresh.monolith).keys() == before.keys(), "the monolith's rows stay where they are"
    assert outcome["adoption"]["adopted"][TAKER]["tables"][TABLE]["source"] == len(before)
    assert rig.run("confirmed")["phase"] == "confirmed"
    assert fresh.rig.lightning_dir.joinpath("config").read_text().startswith(fresh.config)
    assert f"disable-plugin={fresh.path}\n" in rig.node.include_file.read_text()
    # Written since, by the new owner.
    fresh.write(fresh.taken, "event:2", "new")
    back = rig.run("rolled_back", deadman_seconds=0.0)
    assert back["phase"] == "confirmed", back.get("error")
    assert back["adoption"]["carried_back"][TAKER]["tables"][TABLE]["inserted"] == 1
    assert fresh.works()
    assert fresh.rows(fresh.monolith)["event:2"] == "new"
    assert not rig.node.include_file.exists()
