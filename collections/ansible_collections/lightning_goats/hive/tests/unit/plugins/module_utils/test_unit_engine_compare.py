"""What one database has that another has not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import compare, contents
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner

ME = Owner(os.getuid(), os.getgid())
SCHEMA = """
    CREATE TABLE plain (x TEXT, y);
    CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE TABLE odd ("rowid" TEXT, x);
    CREATE TABLE "strange ""name" (x);
    INSERT INTO plain VALUES ('a', 1), ('b', NULL), ('c', 3), ('c', 3);
    INSERT INTO keyed VALUES ('a', 1), ('b', 2);
    INSERT INTO odd VALUES ('r', 1);
    INSERT INTO "strange ""name" VALUES (1);
"""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A database, and the copy that was made of it."""
    with sqlite3.connect(tmp_path / "now.db") as connection:
        connection.executescript(SCHEMA)
    connection.close()
    shutil.copy(tmp_path / "now.db", tmp_path / "then.db")
    return tmp_path / "now.db", tmp_path / "then.db"


def change(path: Path, script: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()


def counts(pair: tuple[Path, Path], table: str) -> tuple[int, int, int, int]:
    row = compare.differences(*pair, ME)[table]
    return row["now"], row["then"], row["lost"], row["back"]


def test_equal_databases_differ_in_nothing(pair: tuple[Path, Path]) -> None:
    found = compare.differences(*pair, ME)
    assert set(found) == {"plain", "keyed", "odd", 'strange "name'}
    assert all(not row["lost"] and not row["back"] for row in found.values())


@pytest.mark.parametrize(
    ("script", "table", "expected"),
    [
        ("INSERT INTO plain VALUES ('d', 4)", "plain", (5, 4, 1, 0)),
        ("DELETE FROM plain WHERE x = 'a'", "plain", (3, 4, 0, 1)),
        ("UPDATE plain SET y = 9 WHERE x = 'b'", "plain", (4, 4, 1, 1)),
        # One of two equal rows is a row, too.
        ("DELETE FROM plain WHERE rowid = 4", "plain", (3, 4, 0, 1)),
        ("INSERT INTO plain VALUES ('a', 1)", "plain", (5, 4, 1, 0)),
        # Another number, and the same row.
        ("UPDATE plain SET rowid = 77 WHERE x = 'a'", "plain", (4, 4, 0, 0)),
        ("UPDATE keyed SET v = 5 WHERE k = 'a'; INSERT INTO keyed VALUES ('c', 1)", "keyed", (3, 2, 2, 1)),
        ("UPDATE odd SET x = 2", "odd", (1, 1, 1, 1)),
        ("CREATE TABLE late (x); INSERT INTO late VALUES (1), (2)", "late", (2, 0, 2, 0)),
        ("DROP TABLE odd", "odd", (0, 1, 0, 1)),
        ("DROP TABLE odd; CREATE TABLE odd (z); INSERT INTO odd VALUES (1), (2)", "odd", (2, 1, 2, 1)),
        # What a new column holds does not come back, whatever else the row says.
        ("ALTER TABLE plain ADD COLUMN z DEFAULT 1", "plain", (4, 4, 4, 0)),
    ],
)
def test_every_kind_of_change_is_counted(
    pair: tuple[Path, Path], script: str, table: str, expected: tuple[int, int, int, int]
) -> None:
    change(pair[0], script)
    assert counts(pair, table) == expected


def test_a_copy_of_a_newer_schema_is_compared_by_what_both_know(pair: tuple[Path, Path]) -> None:
    change(pair[1], "ALTER TABLE plain ADD COLUMN z DEFAULT 1; DELETE FROM plain WHERE x = 'a'")
    assert counts(pair, "plain") == (4, 3, 1, 0)


def test_rows_in_the_log_count(pair: tuple[Path, Path]) -> None:
    connection = sqlite3.connect(pair[0], isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("INSERT INTO plain VALUES ('in the log', 0)")
    assert counts(pair, "plain") == (5, 4, 1, 0)
    connection.close()


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_what_cannot_be_read_is_no_answer(pair: tuple[Path, Path], damage: str) -> None:
    if damage == "garbage":
        pair[0].write_bytes(b"no database at all" * 100)
    else:
        pair[0].unlink()
    assert compare.differences(*pair, ME) == {}
    assert contents.contents(pair[0], ME) == {}


CHAIN = """
    CREATE TABLE nostr_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE management_receipts (receipt_id INTEGER PRIMARY KEY AUTOINCREMENT, receipt_hash TEXT NOT NULL);
    INSERT INTO nostr_state VALUES ('config:pubkey', 'ab', 0);
"""


def receipts(path: Path, *hashes: str) -> None:
    """Append receipts, as comms does."""
    with sqlite3.connect(path) as connection:
        for digest in hashes:
            number = connection.execute(
                "INSERT INTO management_receipts (receipt_hash) VALUES (?)", (digest,)
            ).lastrowid
            head = f'{{"count": {number}, "hash": "{digest}"}}'
            connection.execute("REPLACE INTO nostr_state VALUES ('receipts:chain_head', ?, 0)", (head,))
    connection.close()


def test_the_break_of_a_chain_is_named(pair: tuple[Path, Path]) -> None:
    now, then = pair
    for path in pair:
        change(path, CHAIN)
        receipts(path, "one", "two")
    facts = [contents.contents(path, ME)["receipts"] for path in pair]
    assert contents.chain_break(now, ME, *facts) is None
    receipts(now, "three", "four")
    found = contents.chain_break(now, ME, contents.contents(now, ME)["receipts"], facts[1])
    assert found is not None
    assert (found["gone"], found["first"], found["last"], found["parted"]) == (2, 3, 4, False)
    receipts(then, "another three")
    found = contents.chain_break(
        now, ME, contents.contents(now, ME)["receipts"], contents.contents(then, ME, immutable=True)["receipts"]
    )
    assert found is not None
    assert found["parted"], "neither is the beginning of the other"


def test_what_was_paid_since_is_named_first_and_by_period(pair: tuple[Path, Path]) -> None:
    now, then = pair
    schema = """
        CREATE TABLE settled_periods (period TEXT PRIMARY KEY, proposal_id TEXT);
        CREATE TABLE comms_payments (payment_id TEXT PRIMARY KEY, amount_sats INTEGER);
        INSERT INTO settled_periods VALUES ('2026-46', 'p');
    """
    change(now, schema)
    change(then, schema)
    change(now, "INSERT INTO settled_periods VALUES ('2026-47', 'q'); INSERT INTO comms_payments VALUES ('x', 5)")
    reasons = contents.money_reasons(now, then, ME, compare.differences(now, then, ME))
    assert reasons[0].endswith("period 2026-47")
    assert "1 of comms_payments" in reasons[1]
