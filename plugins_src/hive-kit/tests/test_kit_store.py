"""The store: ownership, transactions, migrations, crashes, modes."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hive_kit.errors import OwnershipError, StorageError
from hive_kit.migrations import Migration, check_sequence, version_key
from hive_kit.ownership import table_owners, tables_of
from hive_kit.store import Store, schema_tables

PLUGIN = "cl-hive-comms"
STATE = Migration(
    1, "state", ("CREATE TABLE nostr_state (key TEXT PRIMARY KEY, value TEXT NOT NULL UNIQUE)",), readable_by="0.1.0"
)
ALIASES = Migration(
    2,
    "aliases",
    (
        "CREATE TABLE comms_aliases (alias TEXT PRIMARY KEY)",
        "INSERT INTO comms_aliases SELECT key FROM nostr_state",
        "CREATE INDEX idx_value ON nostr_state (value)",
    ),
    readable_by="0.2.0",
)
TRIALS = Migration(3, "trials", ("CREATE TABLE comms_trials (trial_id TEXT PRIMARY KEY)",), readable_by="0.2.0")


def open_store(path: Path, *migrations: Migration, version: str = "0.3.0") -> Store:
    return Store.open(path, PLUGIN, migrations or (STATE,), version)


def test_file_and_directory_are_private_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "a.db"
    before = os.umask(0)
    try:
        with open_store(path) as store:
            store.execute("INSERT INTO nostr_state VALUES ('a', 'b')")
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["a.db"], "closing leaves no write-ahead log"


def test_a_database_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path).close()
    path.chmod(0o640)
    with pytest.raises(StorageError, match=r"mode 0640, so others can read it; set it to 0600"):
        open_store(path)


def test_journal_is_wal_and_foreign_keys_hold(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db") as store:
        assert store.value("PRAGMA journal_mode") == "wal"
        assert store.value("PRAGMA foreign_keys") == 1
        assert store.value("PRAGMA synchronous") == 2


def insert_two(store: Store, first: str, second: str) -> None:
    with store.atomic():
        store.execute("INSERT INTO nostr_state VALUES (?, 'first')", (first,))
        store.execute("INSERT INTO nostr_state VALUES (?, 'second')", (second,))


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("INSERT INTO archon_identity VALUES (1)", "does not own archon_identity, so it may not insert into it"),
        ("UPDATE archon_identity SET did = 2", "may not update it; ask its owner by RPC"),
        ("DELETE FROM archon_identity", "may not delete from it"),
        ("CREATE TABLE comms_trials (x)", "the schema changes only in a migration"),
        ("DROP TABLE nostr_state", "only in a migration"),
        ("ALTER TABLE nostr_state RENAME TO other", "only in a migration"),
        ("CREATE INDEX i ON nostr_state (value)", "only in a migration"),
        ("CREATE TEMP TABLE t (x)", "only in a migration"),
        ("CREATE VIEW v AS SELECT 1", "only in a migration"),
        ("ATTACH 'other.db' AS other", "never opens another database"),
        ("VACUUM INTO 'copy.db'", "never opens another database"),
        ("DELETE FROM kit_migrations", "only a migration writes kit_migrations"),
        ("PRAGMA user_version = 9", "set by hive_kit.store alone"),
        ("PRAGMA writable_schema = ON", "set by hive_kit.store alone"),
        ("PRAGMA journal_mode = DELETE", "set by hive_kit.store alone"),
        ("PRAGMA database_list", "not available here"),
    ],
)
def test_what_a_plugin_may_not_do_is_refused_and_changes_nothing(tmp_path: Path, sql: str, sentence: str) -> None:
    path = tmp_path / "a.db"
    open_store(path).close()
    with sqlite3.connect(path) as foreign:  # somebody put a sibling's table into our file
        foreign.execute("CREATE TABLE archon_identity (did)")
        foreign.execute("INSERT INTO archon_identity VALUES ('did')")
    foreign.close()
    with open_store(path) as store:
        store.execute("INSERT INTO nostr_state VALUES ('k', 'v')")
        before = store.query("SELECT * FROM sqlite_master")
        with pytest.raises(OwnershipError, match=sentence):
            store.execute(sql)
        assert store.query("SELECT * FROM sqlite_master") == before
        assert store.value("SELECT did FROM archon_identity") == "did", "reading stays possible"
        assert store.value("SELECT count(*) FROM nostr_state") == 1
        assert store.value("SELECT count(*) FROM kit_migrations") == 1
    assert not (tmp_path / "copy.db").exists()


def test_a_migration_may_not_make_a_table_of_a_sibling(tmp_path: Path) -> None:
    theft = Migration(2, "theft", ("CREATE TABLE archon_votes (x)",), readable_by="0.1.0")
    with pytest.raises(OwnershipError, match="does not own archon_votes"):
        open_store(tmp_path / "a.db", STATE, theft)
    renamed = Migration(2, "rename", ("ALTER TABLE nostr_state RENAME TO archon_votes",), readable_by="0.1.0")
    with pytest.raises(OwnershipError, match="makes archon_votes"):
        open_store(tmp_path / "a.db", STATE, renamed)
    with open_store(tmp_path / "a.db") as store:
        assert store.schema_version == 1


def test_atomic_keeps_all_or_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db") as store:
        with pytest.raises(sqlite3.IntegrityError):
            insert_two(store, "same", "same")
        assert store.query("SELECT * FROM nostr_state") == []
        with store.atomic():
            store.execute("INSERT INTO nostr_state VALUES ('a', '1')")
            with pytest.raises(sqlite3.IntegrityError):
                insert_two(store, "b", "b")
            store.execute("INSERT INTO nostr_state VALUES ('c', '4')")
        assert [row["key"] for row in store.query("SELECT key FROM nostr_state ORDER BY key")] == ["a", "c"]


def test_threads_take_turns(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db") as store:
        store.execute("INSERT INTO nostr_state VALUES ('n', '0')")

        def count() -> None:
            for _ in range(50):
                with store.atomic():
                    number = int(store.value("SELECT value FROM nostr_state WHERE key = 'n'"))
                    store.execute("UPDATE nostr_state SET value = ? WHERE key = 'n'", (str(number + 1),))

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.value("SELECT value FROM nostr_state") == "200"


_DIES_BETWEEN_TWO_WRITES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_kit_store import open_store
store = open_store(Path(sys.argv[1]))
store.execute("INSERT INTO nostr_state VALUES ('kept', '1')")
with store.atomic():
    store.execute("INSERT INTO nostr_state VALUES ('lost', '2')")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_between_two_writes_leaves_neither_half(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    here = str(Path(__file__).parent)
    ended = subprocess.run([sys.executable, "-c", _DIES_BETWEEN_TWO_WRITES, str(path), here], check=False)
    assert ended.returncode == -signal.SIGKILL
    with open_store(path) as store:
        assert [row["key"] for row in store.query("SELECT key FROM nostr_state")] == ["kept"]


@pytest.mark.parametrize("have", [0, 1, 2, 3])
def test_every_older_schema_is_brought_up_to_date(tmp_path: Path, have: int) -> None:
    path = tmp_path / "a.db"
    steps = (STATE, ALIASES, TRIALS)
    if have:
        with open_store(path, *steps[:have]) as store:
            store.execute("INSERT INTO nostr_state VALUES ('old', 'row')")
    with open_store(path, *steps, version="0.3.0") as store:
        assert store.schema_version == 3
        rows = store.query("SELECT version, name, plugin_version FROM kit_migrations")
        assert [(row["version"], row["name"]) for row in rows] == [(1, "state"), (2, "aliases"), (3, "trials")]
        if have:
            assert store.value("SELECT value FROM nostr_state") == "row"
        assert store.value("SELECT count(*) FROM comms_aliases") == (1 if have == 1 else 0)


def test_a_failing_migration_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path).close()
    broken = Migration(2, "broken", ("CREATE TABLE comms_trials (x)", "INSERT INTO missing VALUES (1)"), "0.1.0")
    with pytest.raises(StorageError, match="no such table: missing"):
        open_store(path, STATE, broken)
    with open_store(path) as store:
        assert store.schema_version == 1
        assert store.value("SELECT count(*) FROM sqlite_master WHERE name = 'comms_trials'") == 0


def test_a_newer_schema_opens_only_with_a_release_that_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path, STATE, ALIASES).close()
    with pytest.raises(StorageError, match=r"has schema 2, which needs cl-hive-comms 0\.2\.0, and this is 0\.1\.9"):
        open_store(path, STATE, version="0.1.9")
    with open_store(path, STATE, version="0.2.0") as store:
        assert store.schema_version == 2


def test_a_rewritten_migration_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    open_store(path).close()
    rewritten = Migration(1, "state", ("CREATE TABLE nostr_state (key TEXT)",), "0.1.0")
    with pytest.raises(StorageError, match="was made by another migration 1"):
        open_store(path, rewritten)


def test_tables_without_a_record_belong_to_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o600)
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE nostr_state (key)")
    other.close()
    with pytest.raises(StorageError, match="may belong to an older installation; move it away"):
        open_store(path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(0o600)
    path.write_bytes(b"this is text, and long enough to look at" * 100)
    with pytest.raises(StorageError, match="file is not a database; restore it from the newest backup set"):
        open_store(path)


def test_damage_is_found_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_store(path) as store, store.atomic():
        for number in range(2_000):
            store.execute("INSERT INTO nostr_state VALUES (?, ?)", (str(number), "x" * 50 + str(number)))
    with path.open("r+b") as handle:
        handle.seek(4096 * 10)
        handle.write(b"\xff" * 4096 * 3)
    with open_store(path) as store, pytest.raises(StorageError, match="is damaged"):
        store.check_integrity()
    path.with_name("a.db-wal").write_bytes(b"left by a crash")
    with pytest.raises(StorageError, match=r"damaged|malformed"):
        open_store(path)


def test_a_lock_held_by_another_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hive_kit.store._BUSY_TIMEOUT_MS", 10)
    path = tmp_path / "a.db"
    with open_store(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked; another process holds it"):
            store.prove_writable()
        other.execute("ROLLBACK")
        other.close()
        store.prove_writable()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    store.close()
    store.close()
    with pytest.raises(StorageError, match="is closed; the plugin is stopping"):
        store.query("SELECT 1")


def test_ownership_gives_each_table_to_one_plugin() -> None:
    owners = table_owners()
    assert owners["liquidity_needs"] == owners["settled_periods"] == owners["member_liquidity_state"] == "cl-hive"
    assert owners["management_credentials"] == owners["liquidity_leases"] == PLUGIN
    assert owners["did_credentials"] == "cl-hive-archon"
    assert {"hive_members", "settlement_periods", "escrow_tickets", "proto_outbox"} <= tables_of("cl-hive")
    assert tables_of("unknown") == frozenset()


def test_numbers_of_migrations_and_versions() -> None:
    with pytest.raises(ValueError, match="without a gap"):
        check_sequence([STATE, TRIALS])
    with pytest.raises(ValueError, match="without a gap"):
        check_sequence([])
    assert version_key("0.10.0rc1") > version_key("0.9.1")
    with pytest.raises(ValueError, match="is not a version"):
        version_key("latest")
    assert schema_tables(PLUGIN, (STATE, ALIASES)) == ["comms_aliases", "nostr_state"]
