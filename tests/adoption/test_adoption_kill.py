"""SIGKILL before and after every write, and anywhere: the next run gives what an undisturbed one gives."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from adoption.stage import COMMS, HIVE, Json, Stage, change, opened
from cl_hive_comms.services.identity_service import KEY_FILE
from fixtures.monolith import SIGNATURE
from hive_kit.adoption_run import command
from hive_kit.adoption_source import BASIS_BYTES, row_digest
from hive_kit.app import PluginSpec
from hive_kit.sealed import Seal
from hive_kit.store import Store
from waiting import wait_until

WRITES = ("insert", "update", "delete", "begin", "commit", "create", "alter", "pragma user_version")


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Run in a process of its own that dies at its `number`-th write; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        _die_at(number)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(number: int) -> None:
    """Count what SQLite is told to write; the odd ones die before, the even ones behind."""
    connect = sqlite3.connect
    count = 0

    class Mortal(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            return self._mortal(sql, super().execute, *rest)

        def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            return self._mortal(sql, super().executemany, *rest)

        def _mortal(self, sql: str, run: Callable[..., sqlite3.Cursor], *rest: Any) -> sqlite3.Cursor:
            nonlocal count
            writes = sql.strip().lower().startswith(WRITES)
            count += 2 * writes
            if writes and count - 1 == number:
                os.kill(os.getpid(), signal.SIGKILL)
            cursor = run(sql, *rest)
            if writes and count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return cursor

    def mortal(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **{"factory": Mortal, **named})
        return connection

    sqlite3.connect = mortal  # type: ignore[assignment]


def run(spec: PluginSpec[Any], flag: str, given: Json) -> None:
    out = io.StringIO()
    command(spec, flag, io.StringIO(json.dumps(given)), out)
    assert '"complete": true' in out.getvalue(), out.getvalue()


def told(stage: Stage) -> dict[str, Any]:
    """All that the plugin's database says, without times and without the randomness of the seal."""
    path = stage.database(COMMS)
    with opened(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        said = {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}
    secret = next(row[1] for row in said["nostr_state"] if row[0] == "config:privkey")
    said["secret"] = [Seal.open(path.with_name(KEY_FILE)).unseal(secret)]
    hashed = {"receipts:chain_head", "config:privkey"}  # of receipts that hold the time of the adoption
    said["nostr_state"] = [row[:2] for row in said["nostr_state"] if row[0] not in hashed]
    said["management_receipts"] = [row[2:7] for row in said["management_receipts"]]
    for name in ("kit_migrations", "kit_adoptions", "kit_quarantine"):
        said[name] = [row[:-1] for row in said[name]]
    said["kit_adoptions"] = [row[:6] for row in said["kit_adoptions"]]
    return said


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    memory = Path("/dev/shm")  # a kill is no power cut: what SQLite asks the disk to sync changes nothing here
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path_factory.getbasetemp()) as directory:
        stage = Stage(Path(directory) / "node")
        stage.directory.mkdir()
        stage.build("2.10.0", "tiny", "invalid", "orphans")
        stage.snapshot()
        yield stage


def request(stage: Stage, **changes: Any) -> Json:
    return {
        "snapshot": str(stage.directory / "snapshot.db"),
        "database": str(stage.database(COMMS)),
        "signatures": {"nostr_key_derivation": SIGNATURE},
        **changes,
    }


def every_point(clean: Stage, name: str, work: Callable[[Stage], None], check: Callable[[Stage, int], None]) -> int:
    """Kill at the first write, the second, and so on until it comes to its end. Returns how many there were."""
    for number in range(1, 1_000):
        stage = clean.copy(f"{name}{number}")
        if not killed_at(number, partial(work, stage)):
            return number
        work(stage)
        check(stage, number)
        shutil.rmtree(stage.directory)
    raise AssertionError("it never came to its end")


def test_killed_at_every_write_of_an_adoption(clean: Stage) -> None:
    def work(stage: Stage) -> None:
        run(COMMS, "--hive-adopt", request(stage))

    def check(stage: Stage, number: int) -> None:
        assert told(stage) == expected, f"killed at write {number}"

    # Its schema is there: that migrations survive a kill is proven where the store is tested.
    ready = clean.copy("ready")
    Store.open(ready.database(COMMS), COMMS.name, COMMS.migrations, COMMS.version).close()
    undisturbed = ready.copy("undisturbed")
    work(undisturbed)
    expected = told(undisturbed)
    assert expected["liquidity_offers"]
    assert every_point(ready, "adopt", work, check) > 40


def test_killed_at_every_write_of_going_on_in_place(clean: Stage) -> None:
    def work(stage: Stage) -> None:
        run(HIVE, "--hive-adopt", {"snapshot": "", "database": str(stage.monolith)})

    def check(stage: Stage, number: int) -> None:
        with opened(stage.monolith) as connection:
            assert connection.execute("SELECT count(*) FROM hive_members").fetchone() == (6,), number
            assert connection.execute("PRAGMA user_version").fetchone() == (HIVE.migrations[-1].version,), number

    assert every_point(clean, "place", work, check) > 20


def test_killed_at_every_write_of_carrying_back(clean: Stage) -> None:
    adopted = clean.copy("adopted")
    run(COMMS, "--hive-adopt", request(adopted))
    change(
        adopted.database(COMMS),
        "UPDATE liquidity_offers SET min_reputation = 77",
        "DELETE FROM liquidity_heartbeats WHERE rowid = 2",
    )

    def work(stage: Stage) -> None:
        run(COMMS, "--hive-carry-back", request(stage, monolith=str(stage.monolith)))

    def check(stage: Stage, number: int) -> None:
        ours, theirs = (dict_of(stage, path) for path in (stage.database(COMMS), stage.monolith))
        assert ours.items() <= theirs.items(), number
        with opened(stage.database(COMMS)) as connection:  # and both agree on what they have
            basis = connection.execute(
                "SELECT hex(digest) FROM kit_adopted_rows JOIN kit_adoptions USING (adoption_id) "
                "WHERE table_name = 'liquidity_offers' ORDER BY row_key"
            ).fetchall()
        assert [row[0].lower() for row in basis] == [row_digest(row)[:BASIS_BYTES].hex() for row in offers(stage)], (
            number
        )

    def offers(stage: Stage) -> list[tuple[Any, ...]]:
        known = dict_of(stage, stage.database(COMMS))
        return sorted(row for row in stage.rows(stage.monolith, "liquidity_offers") if row[0] in known)

    def dict_of(stage: Stage, path: Path) -> dict[Any, Any]:
        return {row[0]: row[7] for row in stage.rows(path, "liquidity_offers")}

    assert every_point(adopted, "back", work, check) > 4


def test_killed_anywhere_with_many_rows(clean: Stage, tmp_path: Path) -> None:
    """From outside, at moments that nobody chose."""
    stage = Stage(tmp_path / "node")
    stage.directory.mkdir()
    stage.build("2.10.0", "small")
    stage.snapshot()
    undisturbed = stage.copy("undisturbed")
    run(COMMS, "--hive-adopt", request(undisturbed))
    expected = told(undisturbed)
    chance = random.Random(4)
    for number in range(6):
        victim = stage.copy(f"victim{number}")
        process = subprocess.Popen(
            [sys.executable, "-m", "cl_hive_comms.main", "--hive-adopt"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request(victim)))
        process.stdin.flush()
        process.stdin.close()
        process.stdin = None
        size = chance.randrange(1, 900_000)
        wait_until(partial(_ended_or_grown, process, victim.database(COMMS), size), 60, "it ends or grows", 0.001)
        process.kill()
        process.communicate(timeout=10)
        run(COMMS, "--hive-adopt", request(victim))
        assert told(victim) == expected, f"round {number}, killed at {size} bytes"


def _ended_or_grown(process: subprocess.Popen[str], database: Path, size: int) -> bool:
    return process.poll() is not None or (database.exists() and database.stat().st_size >= size)
