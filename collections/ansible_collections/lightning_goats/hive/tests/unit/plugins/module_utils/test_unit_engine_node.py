"""The node's files, locks, slots, databases and the archive: real files, no lightningd."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _rpc, _slots, _sqlite
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import aside, bundle, lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError, NodeDownError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import Vault
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step, failpoint

ME = Owner(os.geteuid(), os.getegid())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "lightning/regtest").mkdir(parents=True)
    return Node.from_params(params(tmp_path))


def params(root: Path, **changes: Any) -> dict[str, Any]:
    facts = {"name": "alpha", "runtime": "process", "lightning_dir": str(root / "lightning"), "network": "regtest"}
    return {**facts, "state_dir": str(root / "hive"), **changes}


def database(path: Path, rows: int, wal: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    connection.executemany("INSERT INTO t (x) VALUES (?)", [(str(n),) for n in range(rows)])
    connection.execute("PRAGMA user_version = 3")
    return connection


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "node.name is missing"),
        ({"runtime": "kubernetes"}, "set hive_runtime to one of"),
        ({"runtime": "docker"}, "hive_container is empty"),
        ({"lightning_dir": "relative"}, "absolute path"),
    ],
)
def test_a_bad_node_is_refused_in_a_sentence(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(HiveError, match=words):
        Node.from_params(params(tmp_path, **changes))


def test_paths_are_translated_between_host_and_container(tmp_path: Path) -> None:
    inside = {"lightning_dir": "/data/lightning", "state_dir": "/data/hive"}
    node = Node.from_params(params(tmp_path, runtime="docker", container="c", inside=inside))
    assert node.to_inside(tmp_path / "hive/slots/p") == "/data/hive/slots/p"
    assert node.to_outside("/data/lightning/config") == tmp_path / "lightning/config"
    assert node.to_outside("/usr/libexec/pay") == Path("/usr/libexec/pay")
    assert Node.from_params(node.as_params()) == node


def test_files_are_replaced_whole_with_their_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one", ME, 0o640)
    write_atomic(path, b"two", ME, 0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_one_engine_works_at_a_time(node: Node) -> None:
    with lock.engine_lock(node, 1.0), pytest.raises(HiveError, match="another engine"), lock.engine_lock(node, 0.05):
        pass
    with lock.engine_lock(node, 0.05):
        assert node.state_dir.stat().st_mode & 0o777 == 0o700


def test_a_lock_belongs_to_its_rollout_until_it_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    assert lock.take_lock(path, ME, "alice", "r1", 60, False) is None
    assert lock.take_lock(path, ME, "alice", "r1", 60, False) is None, "one's own lock"
    with pytest.raises(HiveError, match="r1 of alice holds this node"):
        lock.take_lock(path, ME, "bob", "r2", 60, True)
    lock.take_lock(path, ME, "alice", "r1", -1, False)
    with pytest.raises(HiveError, match="left a stale lock"):
        lock.take_lock(path, ME, "bob", "r2", 60, False)
    broken = lock.take_lock(path, ME, "bob", "r2", 60, True)
    assert broken is not None
    assert broken["owner"] == "alice"
    lock.release_lock(path, "r1")
    assert path.exists(), "only its own rollout frees it"
    lock.release_lock(path, "r2")
    assert not path.exists()


def test_an_edit_in_a_slot_shows_and_a_touch_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/p").write_text("one")
    whole, quick = _slots.tree_digest(tmp_path), _slots.stat_digest(tmp_path)
    (tmp_path / "bin/__pycache__").mkdir()
    (tmp_path / "bin/__pycache__/p.pyc").write_text("cached")
    assert _slots.tree_digest(tmp_path) == whole
    os.utime(tmp_path / "bin/p", (1, 1))
    assert _slots.stat_digest(tmp_path) != quick
    assert _slots.tree_digest(tmp_path) == whole
    (tmp_path / "bin/p").write_text("two")
    assert _slots.tree_digest(tmp_path) != whole


def test_a_copy_under_a_writer_is_whole_and_the_writer_hardly_waits(tmp_path: Path) -> None:
    source = tmp_path / "s.db"
    database(source, 20_000).close()
    done, longest = threading.Event(), [0.0]

    def write() -> None:
        import time

        connection = sqlite3.connect(source, isolation_level=None, timeout=5)
        while not done.is_set():
            before = time.monotonic()
            connection.execute("INSERT INTO t (x) VALUES ('more')")
            longest[0] = max(longest[0], time.monotonic() - before)
            done.wait(0.002)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        facts = _sqlite.capture({"s": (source, tmp_path / "copy.db")}, ME)
    finally:
        done.set()
        writer.join()
    checked = _sqlite.check_copy(tmp_path / "copy.db")
    assert (checked["check"], checked["schema_version"]) == ("ok", 3)
    assert checked["rows"]["t"] >= 20_000
    assert facts["barrier_ms"] < 1000


def test_several_databases_are_captured_at_one_moment(tmp_path: Path) -> None:
    one, two = database(tmp_path / "1.db", 1), database(tmp_path / "2.db", 1)
    targets = {n: (tmp_path / f"{n}.db", tmp_path / f"{n}.copy") for n in ("1", "2")}
    _sqlite.capture(targets, ME)
    assert _sqlite.check_copy(tmp_path / "1.copy")["rows"] == {"t": 1}
    one.execute("INSERT INTO t (x) VALUES ('after')")
    assert _sqlite.user_version(tmp_path / "2.db", ME) == 3
    one.close()
    two.close()


def test_a_damaged_copy_is_noticed(tmp_path: Path) -> None:
    database(tmp_path / "s.db", 5000, wal=False).close()
    content = bytearray((tmp_path / "s.db").read_bytes())
    content[8192:12288] = b"\xff" * 4096
    (tmp_path / "s.db").write_bytes(content)
    assert _sqlite.check_copy(tmp_path / "s.db")["check"] != "ok"


def test_a_link_is_not_followed_into_a_backup(tmp_path: Path) -> None:
    database(tmp_path / "real.db", 1).close()
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    with pytest.raises(HiveError, match="not a plain file"):
        _sqlite.open_read_only(tmp_path / "link.db", ME)


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_is_put_aside_comes_back(node: Node, interrupted: bool) -> None:
    target, source = node.network_dir / "p.db", node.lightning_dir / "set.db"
    target.write_text("old")
    (node.network_dir / "p.db-wal").write_text("old log")
    source.write_text("set")
    item = aside.Swap(source, target, 0o600, database=True)
    aside.swap(node, "x", [item])
    if interrupted:
        aside.swap(node, "x", [item])
    assert target.read_text() == "set"
    assert not (node.network_dir / "p.db-wal").exists()
    aside.put_back(node, "x")
    aside.put_back(node, "x")
    assert target.read_text() == "old"
    assert (node.network_dir / "p.db-wal").read_text() == "old log"


@pytest.mark.parametrize("name", ["lightningd.sqlite3", "hsm_secret", "emergency.recover"])
def test_lightningd_s_own_files_are_never_restored(node: Node, name: str) -> None:
    source = node.lightning_dir / "set.db"
    source.write_text("set")
    with pytest.raises(HiveError, match="never restored"):
        aside.swap(node, "x", [aside.Swap(source, node.network_dir / name, 0o600, database=True)])
    assert not (node.network_dir / name).exists()


def test_sealed_values_open_again_on_their_node_only(tmp_path: Path) -> None:
    from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.sealed import seal

    stack = [{"name": "p", "options": {"p-token": "s3cret"}}]
    vault = Vault(tmp_path / "secrets.json", ME)
    vault.keep(stack)
    assert vault.open(seal(stack)) == stack
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(HiveError, match="p-token"):
        Vault(tmp_path / "other.json", ME).open(seal(stack))


def test_the_archive_is_the_same_twice_names_all_its_parts_and_runs_alone(tmp_path: Path) -> None:
    content, digest = bundle.engine_archive()
    bundle.engine_archive.cache_clear()
    assert bundle.engine_archive() == (content, digest)
    path = tmp_path / "engine.pyz"
    path.write_bytes(content)
    command = [sys.executable, "-I", "-S", str(path), "status", "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no dead-man is armed" in done.stderr


def test_failpoints_need_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIVE_FAILPOINT", "stop:error")
    failpoint(Step.STOP)
    monkeypatch.setenv("HIVE_FAULTS", "1")
    failpoint(Step.START)
    with pytest.raises(HiveError):
        failpoint(Step.STOP)


def test_nobody_listening_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(NodeDownError, match="does not listen"):
        _rpc.Rpc(tmp_path / "lightning-rpc").call("getinfo")
