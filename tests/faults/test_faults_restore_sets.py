"""Which sets are restored and which are not: damaged, mixed, forged, unsigned, of another schema, of another node."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.restoring import (
    FILE,
    apply,
    backup,
    call,
    database,
    digest,
    execute,
    flip,
    look_at,
    mark,
    marks,
    phrase_of,
    tamper,
)
from faults.rig import NAME, SECOND, Rig

Stack = list[dict[str, Any]]


@pytest.fixture(scope="module")
def stack(shared_rig: Rig) -> Stack:
    """A plugin with a key beside its database, and one without."""
    wanted = [shared_rig.item("0.1.0", "keeps-a-key"), shared_rig.second()]
    shared_rig.settle(wanted)
    return wanted


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Iterator[Rig]:
    """Another node, with the same plugins, a key of its own and data of its own."""
    rig = Rig(tmp_path_factory.mktemp("other"))
    rig.start()
    rig.settle([rig.item("0.1.0", "keeps-a-key"), rig.second()])
    mark(rig, "of the other node")
    yield rig
    rig.stop()


@pytest.fixture(autouse=True)
def only_its_own_sets(shared_rig: Rig, stack: Stack) -> Iterator[None]:
    yield
    shutil.rmtree(shared_rig.node.backups_dir)
    shared_rig.node.prepare()
    shared_rig.assert_runs(stack)


def folder(rig: Rig, set_id: str) -> Path:
    return rig.node.backups_dir / set_id


# Signatures, and which set is the newest that holds


def test_an_unsigned_set_needs_to_be_asked_for_and_a_forged_one_is_never_taken(shared_rig: Rig) -> None:
    rig = shared_rig
    set_id, signed = backup(rig), backup(rig)
    seal = folder(rig, set_id) / "manifest.sig"
    seal.unlink()
    assert call(rig, set_id, apply=False)["code"] == "set-unsigned"
    outcome = look_at(rig, set_id, unsigned=True)
    assert outcome["set"]["signed"] is False
    assert outcome["allowed"] == {"hive_restore_unsigned": True}
    assert any("not signed" in note for note in outcome["notes"])
    shutil.copy(folder(rig, signed) / "manifest.sig", seal)
    for unsigned in (False, True):
        assert call(rig, set_id, apply=False, unsigned=unsigned)["code"] == "set-forged"


def test_the_newest_that_holds_is_taken_and_the_others_are_named(shared_rig: Rig) -> None:
    rig = shared_rig
    good, unsigned, damaged = backup(rig), backup(rig), backup(rig)
    (folder(rig, unsigned) / "manifest.sig").unlink()
    flip(folder(rig, damaged) / FILE)
    outcome = look_at(rig)
    assert outcome["set"]["id"] == good
    assert [item["id"] for item in outcome["passed_over"]] == [damaged, unsigned]
    assert FILE in outcome["passed_over"][0]["reason"]
    flip(folder(rig, good) / FILE)
    nothing = call(rig, "", apply=False)
    assert (nothing["phase"], nothing["code"]) == ("refused", "no-set")
    assert damaged in nothing["error"]


# Damage


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("byte", "set-damaged"),
        ("truncated", "set-damaged"),
        ("of another set", "set-damaged"),
        ("key of another set", "set-damaged"),
        ("log beside it", "set-damaged"),
        ("bad page", "set-damaged"),
        ("directory", "set-mixed"),
        ("missing key", "set-mixed"),
        ("missing words", "set-damaged"),
    ],
)
def test_what_is_not_one_whole_set_is_refused(shared_rig: Rig, stack: Stack, damage: str, code: str) -> None:
    rig = shared_rig
    first = backup(rig)
    mark(rig, damage)
    set_id = backup(rig)
    place = folder(rig, set_id)

    def bad_page(path: Path, _: dict[str, Any]) -> None:
        content = bytearray((path / FILE).read_bytes())
        content[4096:4200] = b"\xff" * 104
        (path / FILE).write_bytes(content)

    def no_key(path: Path, manifest: dict[str, Any]) -> None:
        del manifest["files"][f"{NAME}/fixture.key"]
        manifest["databases"][NAME]["key_files"] = []
        (path / NAME / "fixture.key").unlink()

    if damage == "byte":
        flip(place / FILE, at=5000)
    elif damage == "truncated":
        (place / FILE).write_bytes((place / FILE).read_bytes()[:-100])
    elif damage == "of another set":
        shutil.copy(folder(rig, first) / FILE, place / FILE)
    elif damage == "key of another set":
        flip(place / NAME / "fixture.key")
    elif damage == "log beside it":
        (place / f"{FILE}-wal").write_bytes(b"of somebody who opened the set")
    elif damage == "bad page":
        tamper(rig, set_id, bad_page)
    elif damage == "missing key":
        tamper(rig, set_id, no_key)
    elif damage == "missing words":
        tamper(rig, set_id, lambda _, manifest: manifest.pop("node_id"))
    else:
        place.rename(folder(rig, set_id[:-1] + ("0" if set_id[-1] != "0" else "1")))
        set_id = next(item.name for item in rig.node.backups_dir.iterdir() if item.name not in (first, set_id))
    outcome = apply(rig, set_id)
    assert (outcome["phase"], outcome["code"]) == ("refused", code), outcome.get("error")
    assert damage in marks(rig)


def test_a_key_that_does_not_open_the_data_is_found_out_and_undone(shared_rig: Rig, stack: Stack) -> None:
    """Nothing but the plugin can tell: the set is whole, and signed."""
    rig = shared_rig
    set_id = backup(rig)
    tamper(rig, set_id, lambda path, _: flip(path / NAME / "fixture.key", at=0))
    mark(rig, "before the wrong key")
    key = digest(rig.node.network_dir / "fixture.key")
    outcome = apply(rig, set_id)
    assert (outcome["phase"], outcome["reverted"]) == ("reverted", True)
    assert "the key does not open the database" in outcome["error"]
    assert "before the wrong key" in marks(rig)
    assert digest(rig.node.network_dir / "fixture.key") == key


# What stands where the set goes


@pytest.mark.parametrize("present", ["garbage", "missing", "with foreign logs", "rollback journal"])
def test_whatever_is_left_of_the_present_database_the_set_s_own_runs(
    shared_rig: Rig, stack: Stack, present: str
) -> None:
    rig = shared_rig
    set_id, of_the_set = backup(rig), marks(rig)
    there = database(rig)
    if present == "garbage":
        there.write_bytes(b"not a database any more" * 400)
    elif present == "missing":
        there.unlink()
    elif present == "with foreign logs":
        mark(rig, present)
        for suffix in ("-wal", "-shm", "-journal"):
            there.with_name(there.name + suffix).write_bytes(b"of another database" * 100)
    else:
        # Killed in the middle of a transaction: what the file holds is not what is true.
        torn = there.with_name("torn.db")
        shutil.copy(there, torn)
        connection = sqlite3.connect(torn, isolation_level=None)
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 2; BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO fixture_starts VALUES (?, 0)", [("x" * 900,)] * 40)
        shutil.copy(torn.with_name("torn.db-journal"), there.with_name(f"{there.name}-journal"))
        shutil.copy(torn, there)
        connection.close()
        torn.unlink()
    outcome = apply(rig, set_id)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert marks(rig) == of_the_set
    assert not there.with_name(f"{there.name}-journal").exists()
    kept = {path.name.partition("-")[2] for path in Path(outcome["aside"]).iterdir()}
    assert ("hive_fixture.db" in kept) == (present != "missing")
    if present == "with foreign logs":
        assert {"hive_fixture.db-wal", "hive_fixture.db-journal"} <= kept


# Schemas


def test_an_older_schema_is_taken_forward_and_that_is_said(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    newer = [rig.item("0.4.0", "new-schema"), stack[1]]
    set_id = backup(rig)
    key = rig.node.network_dir / "fixture.key"
    kept = {path: path.read_bytes() for path in (database(rig), key)}
    rig.settle(newer)
    outcome = apply(rig, set_id)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert any("takes it forward to 2" in note for note in outcome["notes"])
    assert outcome["plugins"][NAME]["schema"] == {"now": 2, "then": 1, "after": 2}
    rig.assert_runs(newer)
    rig.settle([])
    for path, content in kept.items():
        path.unlink()
        path.write_bytes(content)
    key.chmod(0o400)
    rig.settle(stack)


def test_a_newer_schema_is_taken_only_when_it_says_that_the_release_can_read_it(shared_rig: Rig) -> None:
    rig = shared_rig
    set_id = backup(rig)

    def newer(oldest: str) -> Any:
        def change(path: Path, manifest: dict[str, Any]) -> None:
            with sqlite3.connect(path / FILE) as connection:
                connection.executescript(
                    "CREATE TABLE IF NOT EXISTS kit_migrations (version INTEGER, readable_by TEXT);"
                    f"INSERT INTO kit_migrations VALUES (7, '{oldest}'); PRAGMA user_version = 7"
                )
            connection.close()
            manifest["databases"][NAME]["schema_version"] = 7

        return change

    tamper(rig, set_id, newer("0.0.9"))
    assert any("readable by it" in note for note in look_at(rig, set_id)["notes"])
    set_id = backup(rig)
    tamper(rig, set_id, newer("0.9.0"))
    outcome = call(rig, set_id, apply=False)
    assert outcome["code"] == "schema-too-new"
    assert "switch to hive-fixture 0.9.0 first" in outcome["error"]


# What it says

INSIDE = """
    CREATE TABLE nostr_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE management_receipts (receipt_id INTEGER PRIMARY KEY, receipt_hash TEXT NOT NULL);
    CREATE TABLE settled_periods (period TEXT PRIMARY KEY);
    INSERT INTO nostr_state VALUES ('config:pubkey', 'aaaa', 0), ('receipts:chain_head', '{"count":1,"hash":"h1"}', 0);
    INSERT INTO management_receipts VALUES (1, 'h1');
"""
LATER = """
    UPDATE nostr_state SET value = 'bbbb' WHERE key = 'config:pubkey';
    UPDATE nostr_state SET value = '{"count":3,"hash":"h3"}' WHERE key = 'receipts:chain_head';
    INSERT INTO management_receipts VALUES (2, 'h2'), (3, 'h3');
    INSERT INTO settled_periods VALUES ('2026-47');
"""


def test_everything_that_changes_and_everything_that_is_lost_is_said_and_the_break_is_journaled(
    shared_rig: Rig, stack: Stack
) -> None:
    rig = shared_rig
    execute(rig, INSIDE)
    try:
        set_id = backup(rig)
        execute(rig, LATER)
        outcome = look_at(rig, set_id)
        facts = outcome["plugins"][NAME]
        assert facts["identity"] == {"now": "bbbb", "after": "aaaa"}
        assert facts["rows"]["management_receipts"] == {"now": 3, "then": 1, "lost": 2, "back": 0}
        assert facts["rows"]["nostr_state"] == {"now": 2, "then": 2, "lost": 2, "back": 2}
        receipts = facts["receipts"]
        assert (receipts["now"]["count"], receipts["then"]["count"]) == (3, 1)
        assert (receipts["first"], receipts["last"]) == (2, 3)
        assert facts["schema"] == {"now": 1, "then": 1, "after": 1}
        key = rig.node.network_dir / "fixture.key"
        assert facts["key_files"]["fixture.key"] == {"now": digest(key)[:16], "then": digest(key)[:16]}
        assert key.read_text() not in str(outcome)
        assert "settled since then" in outcome["fence"][0], "what was paid comes first"
        assert "2026-47" in outcome["fence"][0]

        done = apply(rig, set_id)
        assert done["phase"] == "confirmed", done.get("error")
        assert any("receipts end at number 3 now and at 1 in the set" in line for line in done["follows"])
        restored = [entry for entry in done["journal"] if entry["event"] == "restored"][-1]["data"]
        assert restored["receipts"][NAME]["gone"] == 2
        assert restored["signed"] is True
    finally:
        execute(rig, "DROP TABLE nostr_state; DROP TABLE management_receipts; DROP TABLE settled_periods")


# Another node


def carry(other: Rig, rig: Rig) -> str:
    """Bring a set of the other node to this one, as an operator would."""
    set_id = backup(other)
    shutil.copytree(folder(other, set_id), folder(rig, set_id))
    return set_id


def test_another_node_s_data_comes_only_when_this_node_is_named(shared_rig: Rig, other: Rig) -> None:
    rig = shared_rig
    set_id = carry(other, rig)
    refused = call(rig, set_id, apply=False)
    assert refused["code"] == "other-node"
    assert f"hive_restore_as={rig.node.name}" in refused["error"]
    assert call(rig, set_id, apply=False, restore_as="another")["code"] == "other-node"
    own = backup(rig)
    assert look_at(rig)["set"]["id"] == own
    (folder(rig, own) / "manifest.sig").unlink()
    assert call(rig, "", apply=False)["code"] == "no-set", "a foreign one is not taken unasked"


def test_another_node_s_data_comes_without_its_identity(shared_rig: Rig, stack: Stack, other: Rig) -> None:
    rig = shared_rig
    set_id = carry(other, rig)
    mark(rig, "its own")
    key = digest(rig.node.network_dir / "fixture.key")
    outcome = apply(rig, set_id, restore_as=rig.node.name)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert any(f"{NAME} stays out" in note for note in outcome["notes"])
    assert set(outcome["plugins"]) == {SECOND}
    assert digest(rig.node.network_dir / "fixture.key") == key
    assert "its own" in marks(rig)
    assert "of the other node" not in marks(rig)
    theirs = other.node.network_dir / "hive_fixture_second.db"
    with sqlite3.connect(theirs) as a, sqlite3.connect(rig.node.network_dir / theirs.name) as b:
        query = "SELECT at FROM fixture_starts ORDER BY rowid LIMIT 1"
        assert a.execute(query).fetchone() == b.execute(query).fetchone()
    a.close()
    b.close()


def test_with_its_keys_it_is_fenced_and_two_nodes_in_one_is_what_it_says(
    shared_rig: Rig, stack: Stack, other: Rig
) -> None:
    rig = shared_rig
    own = backup(rig)
    set_id = carry(other, rig)
    wanted: dict[str, Any] = {"restore_as": rig.node.name, "identity": True}
    refused = call(rig, set_id, apply=True, **wanted)
    assert refused["code"] == "fenced"
    assert refused["allowed"] == {"hive_restore_as": rig.node.name, "hive_restore_identity": True}
    assert "two nodes would speak as one" in refused["error"]
    outcome = call(rig, set_id, apply=True, phrase=phrase_of(rig, set_id), **wanted)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert marks(rig) == {"of the other node"}
    assert digest(rig.node.network_dir / "fixture.key") == digest(other.node.network_dir / "fixture.key")
    assert apply(rig, own)["phase"] == "confirmed", "the node's own set brings its own identity back"
    assert digest(rig.node.network_dir / "fixture.key") != digest(other.node.network_dir / "fixture.key")
