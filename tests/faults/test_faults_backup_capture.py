"""Copying live databases: whatever their pages, journal, log and writers, it ends, and the copy is of one moment."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _sqlite
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_digest import table_facts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from faults.rig import REPOSITORY
from waiting import wait_until

ME = Owner(os.getuid(), os.getgid())
PERIOD = 0.005
GIGABYTE = 1 << 30
# Copies, checks and digests in a process of its own, and says how much memory that took at the most.
# VmHWM, because ru_maxrss of a child also counts what its parent had before exec.
WHOLE = """
import json, os, re, sys
from pathlib import Path
from ansible_collections.lightning_goats.hive.plugins.module_utils import _sqlite
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_digest import table_facts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
source, target = Path(sys.argv[1]), Path(sys.argv[2])
_sqlite.capture({"big": (source, target)}, Owner(os.getuid(), os.getgid()))
facts = {**_sqlite.check_copy(target), "tables": table_facts(target)}
most = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
print(json.dumps([facts["check"], facts["tables"], most]))
"""


def make(path: Path, journal: str = "wal", page: int = 4096, rows: int = 200) -> Path:
    """Make a database with one table of rows of all kinds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, word TEXT, share REAL, body BLOB)")
        database.execute("CREATE TABLE pairs (left TEXT, right TEXT, PRIMARY KEY (left, right)) WITHOUT ROWID")
        database.execute("BEGIN")
        for number in range(rows):
            values = (None if number % 7 == 0 else f"wörd {number}", number / 3, os.urandom(number % 300))
            database.execute("INSERT INTO things (word, share, body) VALUES (?, ?, ?)", values)
            database.execute("INSERT INTO pairs VALUES (?, ?)", (str(number % 10), str(number)))
        database.execute("COMMIT")
    return path


@contextmanager
def writer(*paths: Path) -> Iterator[list[int]]:
    """Write one number after the other, each to all databases in their order, every five milliseconds."""
    ended, written = threading.Event(), [0]
    connections = [sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False) for path in paths]
    for connection in connections:
        connection.execute("CREATE TABLE IF NOT EXISTS beats (beat INTEGER)")

    def work() -> None:
        while not ended.wait(PERIOD):
            for connection in connections:
                connection.execute("INSERT INTO beats VALUES (?)", (written[0] + 1,))
            written[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: written[0] > 0, 10, "the writer writes")
        yield written
    finally:
        ended.set()
        thread.join()
        for connection in connections:
            connection.close()


def beats(path: Path) -> int:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        return int(database.execute("SELECT coalesce(max(beat), 0) FROM beats").fetchone()[0])


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate", "persist"])
@pytest.mark.parametrize("page", [512, 1024, 4096, 16384, 65536])
def test_every_page_size_and_journal(tmp_path: Path, page: int, journal: str) -> None:
    """What is told of the tables is the same whatever the pages are."""
    source, copy = make(tmp_path / "s.db", journal, page), tmp_path / "c.db"
    before = sorted(path.name for path in tmp_path.iterdir())
    facts = _sqlite.capture({"s": (source, copy)}, ME)
    assert _sqlite.check_copy(copy) == {"check": "ok", "schema_version": 0, "rows": {"pairs": 200, "things": 200}}
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA page_size").fetchone()[0] == page
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    assert set(facts["held_ms"]) == (set() if journal == "wal" else {"s"})
    assert set(before) <= {path.name for path in tmp_path.iterdir()}
    assert not copy.with_name("c.db-wal").exists()
    vacuumed = tmp_path / "v.db"
    with closing(sqlite3.connect(copy, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 8192")
        database.execute("VACUUM INTO ?", (str(vacuumed),))
    assert table_facts(vacuumed) == table_facts(copy)


def test_a_digest_notices_any_value_of_any_row(tmp_path: Path) -> None:
    path = make(tmp_path / "s.db", "delete")
    seen = {table_facts(path)["things"]["sha256"]}
    changes = ("word = word || ' '", "share = share + 1e-9", "body = CAST(body AS TEXT)", "body = 5", "body = '5'")
    for change in changes:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute(f"UPDATE things SET {change} WHERE id = 42")
        seen.add(table_facts(path)["things"]["sha256"])
    assert len(seen) == 1 + len(changes)
    assert {facts["rows"] for facts in table_facts(path).values()} == {200}


def test_text_that_is_no_text_has_a_digest_too(tmp_path: Path) -> None:
    path = make(tmp_path / "s.db", "delete")
    before = table_facts(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE things SET word = CAST(x'ff00fe' AS TEXT) WHERE id = 42")
    after = table_facts(path)
    assert after["things"]["rows"] == 200
    assert after["things"] != before["things"]
    assert after["pairs"] == before["pairs"]


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_under_a_writer_it_always_ends(tmp_path: Path, journal: str) -> None:
    """SQLite's copy in steps would start anew at every commit; this one does not, and the writer goes on."""
    source = make(tmp_path / "s.db", journal, rows=20000)
    with writer(source) as written:
        for number in range(5):
            begun = written[0]
            copy = tmp_path / f"c{number}.db"
            _sqlite.capture({"s": (source, copy)}, ME)
            assert _sqlite.check_copy(copy)["check"] == "ok"
            assert begun <= beats(copy) <= written[0] + 1
        wait_until(lambda: written[0] > begun + 1, 10, "the writer writes on")


@pytest.mark.parametrize("journals", [("wal", "wal", "wal"), ("wal", "delete", "wal")])
def test_several_databases_are_of_one_moment(tmp_path: Path, journals: tuple[str, ...]) -> None:
    """The writer goes from first to last, so that at no moment a later one is ahead, nor behind by more than one."""
    sources = [make(tmp_path / f"s{number}.db", journal) for number, journal in enumerate(journals)]
    with writer(*sources):
        for number in range(15):
            targets = {path.stem: (path, tmp_path / f"{path.stem}-{number}.db") for path in sources}
            _sqlite.capture(targets, ME)
            found = [beats(copy) for _, copy in targets.values()]
            assert found == sorted(found, reverse=True)
            assert found[0] - found[-1] <= 1, found


def test_a_moment_is_found_without_stopping_anybody_while_one_writes_for_long(tmp_path: Path) -> None:
    sources = [make(tmp_path / f"s{number}.db") for number in range(2)]
    with closing(sqlite3.connect(sources[0], isolation_level=None)) as long, writer(sources[1]):
        long.execute("BEGIN IMMEDIATE")
        long.execute("DELETE FROM things")
        facts = _sqlite.capture({path.stem: (path, tmp_path / f"{path.stem}-c.db") for path in sources}, ME)
        long.execute("ROLLBACK")
    assert facts["barrier_ms"] == 0
    assert table_facts(tmp_path / "s0-c.db")["things"]["rows"] == 200


def test_where_somebody_commits_all_the_time_all_are_stopped_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [make(tmp_path / f"s{number}.db") for number in range(2)]
    monkeypatch.setattr(_sqlite.Barrier, "_undisturbed", lambda barrier: False)
    facts = _sqlite.capture({path.stem: (path, tmp_path / f"{path.stem}-c.db") for path in sources}, ME)
    assert facts["barrier_ms"] > 0
    with closing(sqlite3.connect(sources[0], isolation_level=None)) as database:
        database.execute("INSERT INTO pairs VALUES ('x', 'y')")


def test_a_huge_log_is_in_the_copy(tmp_path: Path) -> None:
    source, copy = make(tmp_path / "s.db"), tmp_path / "c.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("INSERT INTO things (body) VALUES (zeroblob(48000000))")
        log = source.with_name("s.db-wal").stat().st_size
        assert log > 48_000_000
        _sqlite.capture({"s": (source, copy)}, ME)
        assert source.with_name("s.db-wal").stat().st_size == log, "nobody else's log is cleared"
    assert _sqlite.check_copy(copy)["rows"]["things"] == 201
    assert copy.stat().st_size > 48_000_000


def exclusively(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("BEGIN EXCLUSIVE")
    database.execute("INSERT INTO pairs VALUES ('mine', 'alone')")
    return database


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("others", [0, 1])
def test_one_that_somebody_keeps_to_himself_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str, others: int
) -> None:
    monkeypatch.setattr(_sqlite, "BUSY_SECONDS", 0.2)
    source = make(tmp_path / "s.db", journal)
    more = [make(tmp_path / f"o{number}.db") for number in range(others)]
    with closing(exclusively(source)), pytest.raises(HiveError) as refusal:
        _sqlite.capture({path.stem: (path, tmp_path / f"{path.stem}-c.db") for path in [*more, source]}, ME)
    assert refusal.value.code == "database-locked"
    assert str(source) in refusal.value.message


def test_locked_after_it_was_opened_it_is_refused_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite, "BUSY_SECONDS", 0.2)
    source = make(tmp_path / "s.db", "delete")
    original = _sqlite.Barrier.take
    keepers: list[sqlite3.Connection] = []

    def late(barrier: _sqlite.Barrier) -> float:
        keepers.append(exclusively(source))
        return original(barrier)

    monkeypatch.setattr(_sqlite.Barrier, "take", late)
    with pytest.raises(HiveError) as refusal:
        _sqlite.capture({"s": (source, tmp_path / "c.db")}, ME)
    keepers[0].close()
    assert refusal.value.code == "database-locked"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def no_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a database at all")


@pytest.mark.parametrize("damage", [cut, no_header])
def test_a_damaged_source_is_refused_or_the_copy_says_so(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    source, copy = make(tmp_path / "s.db", "delete"), tmp_path / "c.db"
    damage(source)
    refused = None
    try:
        _sqlite.capture({"s": (source, copy)}, ME)
    except HiveError as error:
        refused = error
    if refused is None:
        assert _sqlite.check_copy(copy)["check"] != "ok"
    else:
        assert refused.code == "bad-database"
        assert str(source) in refused.message


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "l.db"
    link.symlink_to(make(tmp_path / "s.db"))
    with pytest.raises(HiveError) as refusal:
        _sqlite.capture({"s": (link, tmp_path / "c.db")}, ME)
    assert refusal.value.code == "strange-file"


@pytest.mark.slow
def test_more_than_a_gigabyte_in_little_memory(tmp_path: Path) -> None:
    source, copy = tmp_path / "big.db", tmp_path / "copy.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 65536")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB)")
        database.execute(
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 130) "
            "INSERT INTO bodies SELECT i, zeroblob(8300000) FROM n"
        )
    assert source.stat().st_size > GIGABYTE
    done = subprocess.run(
        [sys.executable, "-c", WHOLE, str(source), str(copy)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "collections")},
    )
    check, tables, kilobytes = json.loads(done.stdout)
    copy.unlink()
    source.unlink()
    assert (check, tables["bodies"]["rows"]) == ("ok", 130)
    assert kilobytes < 300 * 1024
