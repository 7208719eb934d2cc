"""cl-hive goes on with the monolith's file, which the monolith can still use; at the end the moved tables go."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from adoption.stage import ARCHON, COMMS, HIVE, Json, Stage, change, opened
from fixtures.monolith import LAYOUTS
from hive_kit.errors import HiveError
from hive_kit.migrations import Migration
from hive_kit.store import Store
from hive_kit.testing import application

# As the field writes them.
FIELD = (
    "INSERT INTO hive_members (peer_id, tier, joined_at, last_seen) VALUES ('02cc', 'neophyte', 1, 2) "
    "ON CONFLICT (peer_id) DO UPDATE SET last_seen = excluded.last_seen",
    "UPDATE hive_members SET uptime_pct = 0.5, contribution_ratio = 1.5 WHERE peer_id = '02cc'",
    "INSERT OR REPLACE INTO hive_state (peer_id, capacity_sats, version) VALUES ('02cc', 5, 3)",
    "INSERT INTO intent_locks (intent_type, target, initiator, timestamp, expires_at) VALUES ('open', 'a', 'b', 1, 2)",
    "INSERT OR IGNORE INTO settled_periods VALUES ('2025-99', 'p', 1, 2)",
    "DELETE FROM hive_members WHERE peer_id = '02cc'",
)


def place(tmp_path: Path, layout: str = "2.10.0", *hazards: str) -> Stage:
    (tmp_path / "node").mkdir()
    return Stage(tmp_path / "node").build(layout, "tiny", *hazards)


def contents(path: Path, leave_out: frozenset[str] = frozenset()) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the monolith; its own columns only."""
    with opened(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names if name not in leave_out}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("late", [(), ("late-tables",)])
def test_the_file_becomes_ours_and_stays_the_monoliths(tmp_path: Path, layout: str, late: tuple[str, ...]) -> None:
    stage = place(tmp_path, layout, *late)
    with opened(stage.monolith) as connection:
        columns = {
            row[0]: [column[1] for column in connection.execute(f"PRAGMA table_info({row[0]})")]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        before = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in columns}
    answer = stage.adopt(HIVE, final=True)
    assert (answer["source"]["layout"], answer["complete"], answer["quarantine"]) == (layout, True, [])
    assert answer["tables"]["hive_members"]["adopted"] == 6
    with opened(stage.monolith) as connection:
        after = {
            name: connection.execute(f"SELECT {', '.join(names)} FROM {name}").fetchall()
            for name, names in columns.items()
        }
        assert connection.execute("PRAGMA user_version").fetchone() == (HIVE.migrations[-1].version,)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"sqlite_sequence"}, "no row was touched"
    with application(HIVE, stage.directory) as (app, _):
        assert app.context.store.value("SELECT count(*) FROM hive_members") == 6
    change(stage.monolith, *FIELD)
    with application(HIVE, stage.directory) as (app, _):
        assert app.context.store.value("SELECT version FROM hive_state WHERE peer_id = '02cc'") == 3


def test_a_file_that_is_ours_stays_as_it_is(tmp_path: Path) -> None:
    stage = place(tmp_path)
    stage.adopt(HIVE)
    before = contents(stage.monolith)
    assert stage.adopt(HIVE)["complete"]
    assert contents(stage.monolith) == before
    fresh = Stage(tmp_path / "fresh")
    with application(HIVE, fresh.directory):
        pass
    before = contents(fresh.monolith)
    assert fresh.adopt(HIVE)["complete"], "one that never was the monolith's"
    assert contents(fresh.monolith) == before


def test_what_cl_hive_adds_is_no_other_release_of_the_monolith(tmp_path: Path) -> None:
    stage = place(tmp_path, "2.2.1")
    for _ in range(2):
        assert stage.adopt(HIVE)["source"]["layout"] == "2.2.1"
        assert stage.adopt(COMMS, final=True)["source"]["layout"] == "2.2.1"
    change(stage.monolith, "CREATE TABLE nostr_state (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    assert stage.adopt(COMMS)["source"]["layout"] == "between 2.2.1 and 2.10.0", "the monolith was brought up to date"


def test_without_adoption_the_plugin_refuses_the_file(tmp_path: Path) -> None:
    stage = place(tmp_path)
    with pytest.raises(HiveError, match="may belong to an older installation"), application(HIVE, stage.directory):
        pass


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (("ALTER TABLE hive_members DROP COLUMN joined_at",), "lacks joined_at"),
        (("DROP TABLE hive_bans", "CREATE TABLE hive_bans (peer_id INTEGER PRIMARY KEY)"), "instead of TEXT"),
        (("CREATE UNIQUE INDEX odd ON hive_state (version)",), "unique in another way"),
        (("ALTER TABLE hive_state ADD COLUMN odd TEXT NOT NULL DEFAULT ''",), ""),
    ],
)
def test_a_layout_that_no_release_made_is_refused(tmp_path: Path, statements: tuple[str, ...], what: str) -> None:
    stage = place(tmp_path)
    change(stage.monolith, "UPDATE hive_state SET version = rowid", *statements)
    before = contents(stage.monolith)
    answer = stage.adopt(HIVE)
    if not what:
        assert answer["complete"], "a column more, with a default, disturbs nobody"
        return
    assert answer["error"]["code"] == "layout-unknown"
    assert what in answer["error"]["message"]
    assert contents(stage.monolith) == before, "one transaction: nothing was changed"


def test_a_busy_or_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hive_kit.adoption_place._BUSY_SECONDS", 0.1)
    stage = place(tmp_path)
    with opened(stage.monolith) as monolith:
        monolith.execute("BEGIN IMMEDIATE")
        assert stage.adopt(HIVE)["error"]["code"] == "monolith-not-writable"
    assert stage.adopt(HIVE, database=str(tmp_path / "none.db"))["error"]["code"] == "no-monolith"


def test_the_mode_becomes_private(tmp_path: Path) -> None:
    stage = place(tmp_path)
    stage.monolith.chmod(0o644)
    stage.adopt(HIVE)
    assert stat.S_IMODE(stage.monolith.stat().st_mode) == 0o600


def test_a_later_migration_meets_the_monoliths_tables(tmp_path: Path) -> None:
    stage = place(tmp_path)
    stage.adopt(HIVE)
    number = len(HIVE.migrations) + 1
    later = Migration(
        number,
        "bans by vote",
        (
            "CREATE TABLE ban_votes (proposal_id TEXT NOT NULL, voter_peer_id TEXT NOT NULL, vote TEXT NOT NULL, "
            "voted_at INTEGER NOT NULL, signature TEXT NOT NULL, weight INTEGER, "
            "PRIMARY KEY (proposal_id, voter_peer_id))",
            "CREATE INDEX idx_ban_votes_voter ON ban_votes (voter_peer_id)",
            "ALTER TABLE hive_bans ADD COLUMN note TEXT",
        ),
        readable_by="0.1.0",
    )
    with Store.open(stage.monolith, HIVE.name, (*HIVE.migrations, later), HIVE.version) as store:
        assert store.schema_version == number
        assert store.value("SELECT count(*) FROM ban_votes") == 6, "its rows are still there"
        assert store.value("SELECT count(*) FROM ban_votes WHERE weight IS NULL") == 6
        assert store.value("SELECT count(*) FROM nostr_state") == 5, "tables of others stay, and stay unharmed"


# -- hand-over --------------------------------------------------------------------------------------------------------


@pytest.fixture
def adopted(tmp_path: Path) -> tuple[Stage, Json]:
    stage = place(tmp_path)
    stage.adopt(HIVE)
    answers = [stage.adopt(COMMS, final=True), stage.adopt(ARCHON, final=True)]
    return stage, {
        name: {"rows": found["source"], "digest": found["digest"]}
        for answer in answers
        for name, found in answer["tables"].items()
    }


def test_what_was_adopted_is_dropped_and_nothing_else(adopted: tuple[Stage, Json]) -> None:
    stage, tables = adopted
    before = contents(stage.monolith, frozenset(tables))
    assert stage.hand_over(tables) == {"dropped": sorted(tables), "kept": []}
    assert contents(stage.monolith) == before
    again = stage.hand_over(tables)
    assert again["dropped"] == []
    assert {entry["reason"] for entry in again["kept"]} == {"it is not there"}
    with application(HIVE, stage.directory) as (app, _):
        assert app.context.store.value("PRAGMA integrity_check") == "ok"


def test_a_table_that_changed_since_is_kept_with_what_it_refers_to(adopted: tuple[Stage, Json]) -> None:
    stage, tables = adopted
    change(stage.monolith, "UPDATE management_receipts SET danger_score = 9 WHERE rowid = 1")
    change(stage.monolith, "UPDATE management_receipts SET danger_score = 8 WHERE rowid = 1")
    answer = stage.hand_over(tables)
    kept = {entry["table"]: entry["reason"] for entry in answer["kept"]}
    assert set(kept) == {"management_receipts", "management_credentials"}
    assert "somebody has written to it since" in kept["management_receipts"]
    assert kept["management_credentials"] == "a table that stays refers to it"
    assert "nostr_state" in answer["dropped"]


def test_adopted_once_more_after_tables_were_dropped_no_row_of_theirs_is_lost(adopted: tuple[Stage, Json]) -> None:
    stage, tables = adopted
    change(stage.monolith, "UPDATE management_receipts SET danger_score = 9 WHERE rowid = 1")
    assert {entry["table"] for entry in stage.hand_over(tables)["kept"]} == {
        "management_receipts",
        "management_credentials",
    }
    before = [stage.rows(stage.database(COMMS), name) for name in ("nostr_state", "liquidity_offers")]
    answer = stage.adopt(final=True)
    after = [stage.rows(stage.database(COMMS), name) for name in ("nostr_state", "liquidity_offers")]
    assert [row for rows in after for row in rows if row[0] != "receipts:chain_head"] == [
        row for rows in before for row in rows if row[0] != "receipts:chain_head"
    ]
    assert sum(found["deleted"] for found in answer["tables"].values()) == 0
    assert answer["tables"]["liquidity_offers"]["adopted"] == len(before[1]) > 0


def test_tables_of_cl_hive_and_of_nobody_are_never_dropped(adopted: tuple[Stage, Json]) -> None:
    stage, _ = adopted
    change(stage.monolith, "CREATE TABLE notes (x)")
    answer = stage.hand_over(
        {name: {"rows": 0, "digest": "0" * 64} for name in ("notes", "hive_members", "kit_migrations")}
    )
    assert answer["dropped"] == []
    assert len(answer["kept"]) == 3
    assert stage.hand_over({"nostr_state": "all"})["error"]["code"] == "bad-request"
    assert stage.run(COMMS, "--hive-hand-over", {"database": str(stage.monolith), "tables": {}})["error"]["code"] == (
        "nothing-to-hand-over"
    )
