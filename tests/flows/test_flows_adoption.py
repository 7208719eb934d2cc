"""From the field's monolith, started by hand, to our three plugins and back, and then for good."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import Settings, Wanted
from fixtures import monolith
from flows.flow_fleet import FIXTURES, ROOT, Fleet, Shelf
from hive_kit.keys import SchnorrKey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VERSION = "0.1.0"
NAMES = ("cl-hive-comms", "cl-hive-archon", "cl-hive")
# Both have it, so it is where a row that was not taken over would show.
TABLE = "liquidity_heartbeats"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Releases of our own three plugins."""
    shelf = Shelf(tmp_path_factory.mktemp("three"))
    settings = Settings(
        releases=shelf.releases,
        cache=ROOT / ".cache/release",
        keys=shelf.directory / "keys",
        workspace=ROOT,
        machines=(os.uname().machine,),
    )
    _release.release([Wanted(source=ROOT / "plugins_src" / name, version=VERSION) for name in NAMES], {}, settings)
    return shelf


class Field:
    """The node of a fleet with a monolith that its operator has put into lightningd's own configuration."""

    def __init__(self, fleet: Fleet, layout: str = "2.10.0") -> None:
        self.fleet = fleet
        (self.node,) = fleet.nodes
        self.lightning = fleet.sandbox / self.node / "lightning"
        self.monolith = self.lightning / "regtest/cl_hive.db"
        self.comms = self.lightning / "regtest/cl_hive_comms.db"
        signed = fleet.cli(self.node, "signmessage", "nostr_key_derivation")["zbase"]
        self.rows = monolith.build(self.monolith, monolith.Wanted(layout=layout, size="tiny", signature=signed))
        self.script = fleet.root / "bin/cl-hive/cl-hive.py"
        self.script.parent.mkdir(parents=True)
        self.script.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.dont_write_bytecode = True\n"
            f"sys.path.insert(0, {str(FIXTURES / 'src')!r})\nfrom hive_fixture.adopters import Monolith\n"
            "Monolith().run()\n"
        )
        self.script.chmod(0o755)
        self.config = self.lightning / "config"
        self.config.write_text(f"{self.config.read_text().rstrip()}\nplugin={self.script}\n")
        self.lines = self.config.read_text()
        fleet.cli(self.node, "plugin", "start", str(self.script))
        assert self.works()

    def works(self) -> bool:
        """Whether the monolith answers."""
        return self.fleet.cli(self.node, "hive-status").get("pid") is not None

    @contextlib.contextmanager
    def writing(self) -> Iterator[list[str]]:
        """Let the monolith write for as long as it lives; gives what it has written."""
        written: list[str] = []
        over = threading.Event()

        def write() -> None:
            while not over.wait(0.05):
                written.extend(filter(None, [self.fleet.cli(self.node, "hive-write").get("written")]))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield written
        finally:
            over.set()
            thread.join()

    def count(self, path: Path, table: str = TABLE) -> int:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def insert_like(self, path: Path, key: str) -> None:
        """Write a row as its new owner would."""
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            names = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({TABLE})")][1:]
            rest = ", ".join(names)
            connection.execute(f"INSERT INTO {TABLE} SELECT ?, {rest} FROM {TABLE} LIMIT 1", (key,))

    def public_key(self) -> str:
        return str(self.fleet.cli(self.node, "hive-client-identity")["pubkey"])


def test_from_the_monolith_to_three_plugins_and_back_and_then_for_good(
    start_fleet: Callable[..., Fleet], three: Shelf
) -> None:
    fleet = start_fleet(1, three, hive_stack=[{"name": name, "version": VERSION} for name in NAMES])
    field = Field(fleet)
    lightningd = fleet.pid(field.node)
    # Without being told, nobody's plugin is replaced; the refusal says how.
    assert f'"hive_replaces": ["{field.script}"]' in fleet.bad("rollout").text
    with field.writing() as written:
        text = fleet.good("rollout", hive_replaces=["cl-hive.py"]).text
    assert f"stop {field.script} and keep it off" in text
    assert "stay untouched until finalize.yml" in text
    assert written, "it wrote while its rows were taken over"
    assert field.count(field.comms) == field.count(field.monolith) == field.rows[TABLE] + len(written)
    assert field.public_key() == SchnorrKey.from_text(monolith.secret_of(1)).public_hex
    assert fleet.cli(field.node, "hive-health")["status"] == "ok"
    adoption = fleet.report["nodes"][field.node]["adoption"]
    assert adoption["delta_rows"] <= len(written), "what was there before went while the monolith worked"
    tables = adoption["adopted"]["cl-hive-comms"]["tables"]
    assert {name: facts["source"] for name, facts in tables.items()} == {
        name: facts["adopted"] for name, facts in tables.items()
    }
    assert field.config.read_text().startswith(field.lines)

    field.insert_like(field.comms, "since-adoption")
    text = fleet.good("rollback").text
    assert "carry back to the monolith" in text
    assert field.works()
    assert field.count(field.monolith) == field.rows[TABLE] + len(written) + 1
    assert field.config.read_text() == field.lines

    fleet.good("rollout", hive_replaces=[str(field.script)])
    assert field.count(field.comms) == field.count(field.monolith)
    # A run without the variable keeps what was replaced away.
    fleet.good("rollout")
    assert fleet.report["result"] == "unchanged"

    assert "hive_finalize_early" in fleet.bad("finalize").text
    assert "there is no way back now" in fleet.good("finalize", hive_finalize_early=field.node).text
    with pytest.raises(sqlite3.OperationalError):
        field.count(field.monolith)
    assert "nothing to give up" in fleet.good("finalize").text
    assert "gave its tables up" in fleet.bad("rollback").text
    assert fleet.cli(field.node, "hive-health")["status"] == "ok"
    assert fleet.pid(field.node) == lightningd, "lightningd ran through all of it"
