"""The real plugins take the place of a monolith of each layout, at each place of its database, through the engine."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import move_databases
from faults import rig as rigs
from faults.rig import TIMEOUTS, Rig
from faults.test_faults_adoption import Node, tables_of
from fixtures import monolith
from hive_kit.keys import SchnorrKey

VERSION = "0.1.0"
COMMS, ARCHON, _ = NAMES = ("cl-hive-comms", "cl-hive-archon", "cl-hive")
OFFERS = "liquidity_offers"
HOME = "home/.lightning/cl_hive.db"
OFFER = (
    f"INSERT INTO {OFFERS} (offer_id, provider_id, service_type, capacity_sats, pricing_model, rate_json, created_at) "
    "VALUES (?, 'me', 1, 1, 'flat', '{}', 1)"
)
ENTRY = f"#!{sys.executable} -I\nimport sys\nsys.dont_write_bytecode = True\nfrom {{module}}.main import main\nmain()\n"


class Field(Node):
    """A node whose monolith has a database as a release of the field leaves it."""

    def __init__(self, rig: Rig, layout: str, place: Path | None) -> None:
        rig.start()
        signature = rig.machine.rpc.call("signmessage", {"message": "nostr_key_derivation"})["zbase"]
        rig.stop()
        super().__init__(rig, *([f"hive-db-path={place}"] if place else []))
        self.built = place or self.monolith
        self.built.parent.mkdir(parents=True, exist_ok=True)
        self.counts = monolith.build(self.built, monolith.Wanted(layout, "tiny", 1, signature=signature))
        rig.start()

    def three(self) -> list[dict[str, Any]]:
        """The stack of the three plugins of this repository."""
        items = [self.rig.item(VERSION, name.replace("-", "_"), name) for name in NAMES]
        return [*items[:-1], {**items[-1], "replaces": [self.path]}]

    def ours(self) -> bool:
        """Whether ours run, and the monolith does not."""
        active = {path for path, one in self.rig.machine.plugins().items() if one["active"]}
        slots = {Path(path).name for path in active if path.startswith(str(self.rig.node.slots_dir))}
        return slots == set(NAMES) and self.path not in active and self.rig.call("hive-health")["status"] == "ok"

    def offer(self, key: str) -> None:
        """Write a row as comms would."""
        with contextlib.closing(sqlite3.connect(self.comms, timeout=10)) as connection, connection:
            connection.execute(OFFER, (key,))

    @property
    def comms(self) -> Path:
        return self.rig.node.network_dir / "cl_hive_comms.db"

    def count(self, path: Path, table: str) -> int:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.fixture
def field(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    layout, place = request.param
    # Slots whose entries are the plugins of this very workspace.
    monkeypatch.setattr(rigs, "ENTRY", ENTRY.replace("{module}", "{function}"))
    rig = Rig(tmp_path / "rig")
    found = Field(rig, layout, tmp_path / place if place else None)
    yield found
    rig.stop()


def there(field: Field, layout: str) -> None:
    """To our plugins, with all rows."""
    adopted = field.rig.settle(field.three())["adoption"]["adopted"]
    assert field.ours()
    assert set(adopted) == set(NAMES)
    tables = {**adopted[COMMS]["tables"], **adopted[ARCHON]["tables"]}
    rows = {name: field.count(field.monolith, name) if name in field.counts else 0 for name in tables}
    assert {name: (facts["source"], facts["adopted"]) for name, facts in tables.items()} == {
        name: (count, count) for name, count in rows.items()
    }
    assert (rows[OFFERS] > 0) == (layout == "2.10.0")
    assert {adopted[name]["source"]["layout"] for name in (COMMS, ARCHON)} == {layout}
    assert field.count(field.monolith, "hive_members") == field.counts["hive_members"]


def back(field: Field) -> dict[str, Any]:
    """To the monolith; what comms carried back, and left."""
    outcome = field.rig.run("rolled_back", deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert field.works()
    report: dict[str, Any] = outcome["adoption"]["carried_back"][COMMS]
    return report


@pytest.mark.parametrize("field", [("2.2.1", "")], indirect=True)
def test_each_time_an_old_monolith_comes_back_what_it_has_no_place_for_is_told(field: Field) -> None:
    for number in (1, 2):
        there(field, "2.2.1")
        field.offer(f"ours-{number}")
        left = {one["table"]: (one["rows"], one["reason"]) for one in back(field)["left"]}
        assert left[OFFERS] == (number, "the monolith has no such table")
        assert OFFERS not in tables_of(field.monolith)


@pytest.mark.parametrize("field", [("2.2.1", HOME), ("2.10.0", HOME)], ids=["2.2.1", "2.10.0"], indirect=True)
def test_from_somebody_s_home_each_layout_goes_there_and_back(field: Field) -> None:
    assert field.rig.run("switched", field.three())["code"] == "adopt-elsewhere"
    assert move_databases(field.rig.node, False, TIMEOUTS)["changed"]
    new = OFFERS in field.counts
    there(field, "2.10.0" if new else "2.2.1")
    public = field.rig.call("hive-client-identity")["pubkey"]
    assert (public == SchnorrKey.from_text(monolith.secret_of(1)).public_hex) == new, "the node keeps its identity"
    field.offer("ours")
    assert back(field)["tables"][OFFERS]["inserted"] == int(new)
