"""Rows of the monolith arrive whole, once, and never over a row that the plugin changed."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from adoption.stage import ARCHON, COMMS, ZERO, Stage, change, counts, opened
from cl_hive_comms.adoption import ADOPTS
from fixtures.monolith import HAZARDS, NEW_TABLES, Wanted, build
from hive_kit.adoption_source import Source
from hive_kit.errors import AdoptionError
from hive_kit.store import Store
from hive_kit.testing import application

COPIED = tuple(mover.table for mover in ADOPTS.movers if mover.table not in ("nostr_state", "management_receipts"))
OFFERS = "liquidity_offers"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "node").mkdir()
    return Stage(tmp_path / "node").build()


@pytest.mark.parametrize(("layout", "tables"), [("2.2.1", 47), ("2.10.0", 74)])
def test_the_generator_makes_the_documented_layouts(tmp_path: Path, layout: str, tables: int) -> None:
    for name in ("a.db", "b.db"):
        assert len(build(tmp_path / name, Wanted(layout, "tiny", 7))) == tables
    with opened(tmp_path / "a.db") as a, opened(tmp_path / "b.db") as b:
        assert list(a.iterdump()) == list(b.iterdump()), "the same seed gives the same rows"
        assert a.execute("PRAGMA user_version").fetchone() == (0,)
        assert a.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert a.execute("PRAGMA foreign_key_check").fetchall() == []
    with Source.snapshot(tmp_path / "a.db") as source:
        assert source.layout() == layout
        assert NEW_TABLES.isdisjoint(source.tables) == (layout == "2.2.1")


def test_a_layout_in_between_is_told_apart_and_a_stranger_is_refused(stage: Stage) -> None:
    change(stage.monolith, "DROP TABLE proto_outbox")
    with Source.snapshot(stage.snapshot()) as source:
        assert source.layout() == "between 2.2.1 and 2.10.0"
    change(stage.monolith, "DROP TABLE hive_members")
    assert stage.adopt()["error"]["code"] == "not-the-monolith"


def test_every_table_arrives_as_it_was(stage: Stage) -> None:
    answer = stage.adopt()
    assert answer["complete"]
    assert answer["source"]["layout"] == "2.10.0"
    assert set(answer["tables"]) == set(ADOPTS.tables)
    for table in COPIED:
        there = stage.rows(stage.monolith, table)
        assert there
        assert stage.rows(stage.database(COMMS), table) == there
        assert counts(answer, table) == (len(there), len(there), 0, 0, 0)
    archon = stage.adopt(ARCHON)
    for table in ("did_credentials", "did_reputation_cache"):
        assert stage.rows(stage.database(ARCHON), table) == stage.rows(stage.monolith, table)
        assert counts(archon, table)[0] == len(stage.rows(stage.monolith, table))


def test_the_monoliths_tables_are_untouched(stage: Stage) -> None:
    with opened(stage.monolith) as connection:
        before = list(connection.iterdump())
    stage.adopt(final=True)
    stage.adopt(ARCHON, final=True)
    with opened(stage.monolith) as connection:
        assert list(connection.iterdump()) == before


def test_an_older_monolith_has_nothing_to_give_and_that_is_fine(tmp_path: Path) -> None:
    answer = Stage(tmp_path).build("2.2.1").adopt(final=True)
    assert (answer["source"]["layout"], answer["complete"]) == ("2.2.1", True)
    assert {(found["source"], found["digest"]) for found in answer["tables"].values()} == {(0, ZERO)}
    assert answer["identity"] == {"action": "none", "pubkey": ""}
    assert not (tmp_path / "comms.secrets").exists(), "no key file before there is a secret"


def test_again_changes_nothing(stage: Stage) -> None:
    first = stage.adopt()
    with opened(stage.database(COMMS)) as connection:
        before = connection.execute("SELECT count(*), total(rowid) FROM management_receipts").fetchone()
    second = stage.adopt()
    assert second["source"] == first["source"]
    for table, found in second["tables"].items():
        assert (found["inserted"], found["updated"], found["deleted"]) == (0, 0, 0), table
        assert found["adopted"] == first["tables"][table]["adopted"]
    with opened(stage.database(COMMS)) as connection:
        assert connection.execute("SELECT count(*), total(rowid) FROM management_receipts").fetchone() == before


def test_the_second_pass_takes_what_the_monolith_did_meanwhile(stage: Stage) -> None:
    stage.adopt()
    change(
        stage.monolith,
        f"UPDATE {OFFERS} SET min_reputation = 999 WHERE rowid = 1",
        f"DELETE FROM {OFFERS} WHERE rowid = 2",
        f"INSERT INTO {OFFERS} SELECT 'new', provider_id, service_type, capacity_sats, duration_hours, pricing_model, "
        f"rate_json, min_reputation, nostr_event_id, 'active', created_at, expires_at FROM {OFFERS} WHERE rowid = 3",
    )
    answer = stage.adopt(final=True)
    assert counts(answer, OFFERS) == (6, 1, 1, 1, 0)
    assert stage.rows(stage.database(COMMS), OFFERS) == stage.rows(stage.monolith, OFFERS)


@pytest.mark.parametrize(
    ("theirs", "ours", "reason"),
    [
        (
            "UPDATE {t} SET status = 'filled' WHERE rowid = 1",
            "UPDATE {t} SET min_reputation = 77 WHERE rowid = 1",
            "and by",
        ),
        ("UPDATE {t} SET status = 'filled' WHERE rowid = 1", "DELETE FROM {t} WHERE rowid = 1", "stays deleted"),
        ("DELETE FROM {t} WHERE rowid = 1", "UPDATE {t} SET min_reputation = 77 WHERE rowid = 1", "so it stays"),
    ],
)
def test_a_row_that_the_plugin_changed_is_never_overwritten(stage: Stage, theirs: str, ours: str, reason: str) -> None:
    change(stage.monolith, f"UPDATE {OFFERS} SET status = 'active'")
    stage.adopt()
    change(stage.monolith, theirs.format(t=OFFERS))
    change(stage.database(COMMS), ours.format(t=OFFERS))
    before = stage.rows(stage.database(COMMS), OFFERS)
    for _ in range(2):
        answer = stage.adopt(final=True)
        assert stage.rows(stage.database(COMMS), OFFERS) == before
        assert [entry["table"] for entry in answer["quarantine"]] == [OFFERS]
        assert reason in answer["quarantine"][0]["reason"]


def test_a_row_of_the_plugins_own_stays(stage: Stage) -> None:
    with application(COMMS, stage.directory):
        pass
    key = stage.rows(stage.monolith, OFFERS)[0][0]
    with opened(stage.database(COMMS)) as connection:
        connection.execute(
            f"INSERT INTO {OFFERS} (offer_id, provider_id, service_type, capacity_sats, pricing_model, rate_json, "
            "created_at) VALUES (?, 'me', 1, 1, 'flat', '{}', 1)",
            (key,),
        )
    answer = stage.adopt(identity="monolith")
    assert counts(answer, OFFERS) == (5, 5, 0, 0, 1)
    with opened(stage.database(COMMS)) as connection:
        assert connection.execute(f"SELECT provider_id FROM {OFFERS} WHERE offer_id = ?", (key,)).fetchone() == ("me",)


def test_invalid_rows_are_put_aside_whole_and_named(tmp_path: Path) -> None:
    stage = Stage(tmp_path).build("2.10.0", "small", "invalid", "orphans", "words", "case", "over-caps")
    answer = stage.adopt()
    reasons = {(entry["table"], entry["reason"].split(",")[0]) for entry in answer["quarantine"]}
    assert {
        ("marketplace_profiles", "profile_json is not valid JSON"),
        ("management_receipts", "params_json is not valid JSON"),
        ("management_receipts", "its credential_id names no row of management_credentials"),
        ("liquidity_offers", "capacity_sats is str instead of integer"),
        ("liquidity_offers", "status is 'paused'"),
        ("liquidity_leases", "lease_id is NULL"),
        ("liquidity_heartbeats", "remote_balance_sats is -5"),
        ("marketplace_contracts", "holds text that is not UTF-8"),
        ("marketplace_trials", "scope is bytes instead of text"),
        ("marketplace_trials", "outcome is 'paused'"),
        ("nostr_state", "value is not valid JSON"),
        ("nostr_state", "is no setting that the plugin knows"),
    } <= reasons
    for table, found in answer["tables"].items():
        assert found["source"] == found["adopted"] + found["quarantined"], table
    assert answer["tables"]["management_credentials"]["adopted"] > 1_000, "caps are for writers: nothing is dropped"
    with opened(stage.database(COMMS)) as connection:
        names = connection.execute("SELECT advisor_did FROM marketplace_profiles WHERE advisor_did LIKE 'did:cid:same'")
        assert sorted(names.fetchall()) == [("did:cid:Same",), ("did:cid:same",)]
        kept = connection.execute("SELECT row_json FROM kit_quarantine WHERE reason LIKE 'remote_balance%'").fetchone()
        assert json.loads(kept[0])["remote_balance_sats"] == -5
    archon = stage.adopt(ARCHON)
    assert {entry["reason"].split(",")[0] for entry in archon["quarantine"]} == {
        "metrics_json is not valid JSON",
        "outcome is 'paused'",
    }


def test_a_row_that_was_repaired_leaves_quarantine(stage: Stage) -> None:
    change(stage.monolith, f"UPDATE {OFFERS} SET rate_json = '{{' WHERE rowid = 1")
    assert counts(stage.adopt(), OFFERS) == (5, 5, 0, 0, 1)
    change(stage.monolith, f"UPDATE {OFFERS} SET rate_json = '{{}}' WHERE rowid = 1")
    answer = stage.adopt()
    assert counts(answer, OFFERS) == (6, 1, 0, 0, 0)
    assert answer["quarantine"] == []


@pytest.mark.parametrize("hazard", sorted(set(HAZARDS) - {"late-tables"}))
def test_each_hazard_alone_is_survived(tmp_path: Path, hazard: str) -> None:
    answer = Stage(tmp_path).build("2.10.0", "small", hazard).adopt()
    assert answer.get("complete"), answer


def test_a_damaged_or_partial_snapshot_is_refused_and_nothing_is_kept(stage: Stage) -> None:
    snapshot = stage.snapshot()
    with opened(snapshot) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (OFFERS,)).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with snapshot.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    answer = stage.adopt(snapshot=str(snapshot))
    assert answer["error"]["code"] == "snapshot-damaged"
    assert stage.rows(stage.database(COMMS), OFFERS) == []
    stage.snapshot().with_name("snapshot.db-wal").write_bytes(b"left over")
    assert (
        stage.run(
            COMMS,
            "--hive-adopt",
            {"snapshot": str(stage.directory / "snapshot.db"), "database": str(stage.database(COMMS))},
        )["error"]["code"]
        == "snapshot-incomplete"
    )
    assert stage.adopt(snapshot="/nowhere/cl_hive.db")["error"]["code"] == "no-snapshot"


def test_a_table_of_an_unknown_release_is_refused(stage: Stage) -> None:
    change(stage.monolith, f"ALTER TABLE {OFFERS} ADD COLUMN colour TEXT")
    error = stage.adopt()["error"]
    assert error["code"] == "layout-unknown"
    assert "colour" in error["message"]


def test_a_running_plugin_is_not_disturbed(stage: Stage) -> None:
    with application(COMMS, stage.directory) as (app, _):
        app.context.store.value("SELECT 1")
        begun = time.monotonic()
        error = stage.adopt()["error"]
        assert error["code"] == "storage"
        assert "another process holds it" in error["message"]
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"database": "relative.db"}, "bad-request"),
        ({"identity": "mine"}, "bad-request"),
        ({"signatures": [1]}, "bad-request"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(stage: Stage, given: dict[str, Any], code: str) -> None:
    assert stage.adopt(**given)["error"]["code"] == code


def test_only_an_adoption_writes_its_record(stage: Stage) -> None:
    stage.adopt()
    with Store.open(stage.database(COMMS), COMMS.name, COMMS.migrations, COMMS.version) as store:
        with pytest.raises(Exception, match="only an adoption writes kit_adopted_rows"):
            store.execute("DELETE FROM kit_adopted_rows")
        assert store.value("PRAGMA journal_mode") == "wal"


def test_what_is_read_back_differently_stops_everything(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(self: Store, sql: str, rows: list[tuple[object, ...]]) -> None:
        original(self, sql, rows[:-1] if f"INTO {OFFERS}" in sql else rows)

    original = Store.execute_many
    monkeypatch.setattr(Store, "execute_many", lossy)
    assert stage.adopt()["error"]["code"] == "verify-failed"
    monkeypatch.undo()
    assert stage.rows(stage.database(COMMS), "liquidity_leases") == [], "one transaction: nothing of any table is kept"
    assert counts(stage.adopt(), OFFERS)[:2] == (6, 6)


def test_the_source_never_opens_for_writing(stage: Stage) -> None:
    with Source.snapshot(stage.snapshot()) as source, pytest.raises((sqlite3.Error, AdoptionError)):
        source._query(f"DELETE FROM {OFFERS}")
