"""Backup sets: what is in one, who may have made it, and that none is taken for what it is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _sqlite
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import backups
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_digest import table_facts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_lightningd import NEWEST, freshness
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import (
    describe,
    is_whole,
    signed_text,
    verify_set,
    verify_signature,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from faults.backup_sets import DATABASE, KEY_FILE, backup, database, fill, key_file, names, path_of, prepare
from faults.rig import NAME, SECOND, Rig
from hive_sandbox.fake.keys import NodeKeys, zbase_signature

FILE = f"{NAME}/{DATABASE}"
Change = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def rig(shared_rig: Rig) -> Rig:
    prepare(shared_rig)
    return shared_rig


@pytest.fixture(scope="module")
def two(rig: Rig) -> tuple[Path, Path]:
    """Two sets of different data."""
    first = path_of(rig, backup(rig))
    fill(rig, 50)
    return first, path_of(rig, backup(rig))


@pytest.fixture
def copies(two: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both sets, to be tampered with."""
    return Path(shutil.copytree(two[0], tmp_path / "first")), Path(shutil.copytree(two[1], tmp_path / "second"))


def manifest_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_bytes())
    return found


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Write another manifest over a set's, one that fits the files."""
    manifest = manifest_of(path)
    change(manifest)
    manifest["files"] = {name: describe(path / name) for name in manifest["files"]}
    (path / "manifest.json").write_bytes(canonical(manifest))


def test_a_set_says_all_that_a_restore_needs_to_know(rig: Rig, two: tuple[Path, Path]) -> None:
    manifest = verify_set(two[1])
    verify_signature(two[1], manifest, rig.machine)
    assert sorted(manifest["files"]) == sorted(
        [FILE, f"{NAME}/{KEY_FILE}", f"{SECOND}/hive_fixture_second.db", "hive.conf", "stack.json"]
    )
    facts = manifest["databases"][NAME]
    assert facts["tables"] == table_facts(two[1] / FILE)
    assert facts["rows"] == {name: table["rows"] for name, table in facts["tables"].items()}
    assert (facts["key_files"], facts["schema_version"], facts["check"]) == ([KEY_FILE], 1, "ok")
    assert {item["barrier"] for item in manifest["databases"].values()} == {manifest["barrier"]}
    info = rig.call("getinfo")
    assert (manifest["node_id"], manifest["cln_version"]) == (info["id"], info["version"])
    assert manifest["blockheight"] == info["blockheight"]
    assert {name: item["version"] for name, item in manifest["artifacts"].items()} == {NAME: "0.1.0", SECOND: "0.1.0"}
    assert all(len(item["digest"]) == 64 for item in manifest["artifacts"].values())
    assert manifest["data_version"] is None or manifest["data_version"] > 0
    assert manifest["verified"] is True
    assert stat.S_IMODE(two[1].stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in two[1].rglob("*") if path.is_file()} == {0o600, 0o400}


def test_two_sets_of_the_same_rows_have_the_same_digests(rig: Rig) -> None:
    tables = [manifest_of(path_of(rig, backup(rig)))["databases"] for _ in range(2)]
    assert tables[0][NAME]["tables"] == tables[1][NAME]["tables"]
    assert tables[0][NAME]["barrier"] != tables[1][NAME]["barrier"]


# What is lightningd's own


def own_files(rig: Rig) -> dict[str, tuple[Any, ...]]:
    found = {}
    for path in sorted(rig.node.network_dir.iterdir()):
        if path.name in ("hsm_secret", "emergency.recover", "lightningd.sqlite3"):
            facts = path.stat()
            found[path.name] = (facts.st_ino, facts.st_mode, facts.st_mtime_ns, facts.st_uid, path.read_bytes())
    return found


def test_of_lightningd_s_own_files_nothing_is_written_and_nothing_but_a_fingerprint_told(rig: Rig) -> None:
    before = own_files(rig)
    assert {"hsm_secret", "emergency.recover"} <= set(before)
    made = backup(rig)
    assert own_files(rig) == before
    text = (path_of(rig, made) / "manifest.json").read_text()
    seed = before["hsm_secret"][-1]
    for secret in (seed.hex(), hashlib.sha256(seed).hexdigest()):
        assert secret not in text
    manifest = json.loads(text)
    assert len(manifest["hsm_fingerprint"]) == 64
    recovery = before["emergency.recover"]
    assert manifest["emergency_recover"] == {
        "sha256": hashlib.sha256(recovery[-1]).hexdigest(),
        "mtime": round(recovery[2] / 1e9, 3),
        "size": len(recovery[-1]),
    }
    assert not {"hsm_secret", "emergency.recover"} & {Path(name).name for name in manifest["files"]}


def test_another_seed_has_another_fingerprint_and_one_that_cannot_be_read_has_none(rig: Rig) -> None:
    path = rig.node.network_dir / "hsm_secret"
    seed, kept = path.read_bytes(), path.with_name("kept")
    first = manifest_of(path_of(rig, backup(rig)))
    path.rename(kept)
    try:
        path.write_bytes(bytes(len(seed)))
        other = manifest_of(path_of(rig, backup(rig)))
        path.unlink()
        path.symlink_to(kept)
        unread = manifest_of(path_of(rig, backup(rig)))
    finally:
        path.unlink()
        kept.rename(path)
    assert first["hsm_fingerprint"] not in (other["hsm_fingerprint"], None)
    assert unread["hsm_fingerprint"] is None
    assert any("fingerprint" in remark for remark in unread["remarks"])
    assert manifest_of(path_of(rig, backup(rig)))["hsm_fingerprint"] == first["hsm_fingerprint"]


@pytest.fixture
def recovery(rig: Rig) -> Iterator[Path]:
    """lightningd's channel backup, put back as it was."""
    path = rig.node.network_dir / "emergency.recover"
    before = path.read_bytes()
    yield path
    path.unlink()
    path.write_bytes(before)
    path.chmod(0o400)


def test_only_the_newest_channel_backup_is_kept_whatever_its_time_says(rig: Rig, recovery: Path) -> None:
    kept = rig.node.backups_dir / NEWEST
    backup(rig)
    assert kept.read_bytes() == recovery.read_bytes()
    recovery.unlink()
    recovery.write_bytes(b"a channel more")
    os.utime(recovery, (1_000_000_000, 1_000_000_000))
    backup(rig)
    assert kept.read_bytes() == b"a channel more"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    assert len(list(rig.node.backups_dir.glob("*emergency*"))) == 1
    recovery.unlink()
    made = backup(rig)
    assert made["emergency_recover"] is None
    assert kept.read_bytes() == b"a channel more", "what lightningd has lost is just what is needed then"
    recovery.write_bytes(b"")


def test_a_channel_backup_older_than_the_newest_change_of_a_channel_is_noticed(rig: Rig, recovery: Path) -> None:
    def channel(when: float, state: str) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(when))
        return {"state_changes": [{"timestamp": stamp, "old_state": "OPENINGD", "new_state": state}]}

    os.utime(recovery, (2e9, 2e9))
    fresh = freshness(rig.node, [channel(2e9 - 5, "CHANNELD_AWAITING_LOCKIN"), channel(2e9 + 9e5, "CHANNELD_NORMAL")])
    assert fresh is not None
    assert (fresh["stale"], fresh["channels_changed_at"]) == (False, 2e9 - 5)
    late = freshness(rig.node, [channel(2e9 + 3600, "CLOSED")])
    assert late is not None
    assert late["stale"]
    unknown = freshness(rig.node, [{"state_changes": []}, {}])
    assert unknown is not None
    assert (unknown["stale"], unknown["channels_changed_at"]) == (False, None)
    assert rig.observe()["backup"]["emergency_recover"]["mtime"] == 2e9


# What is refused


def flip(first: Path, second: Path) -> None:
    with (first / FILE).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def truncate(first: Path, second: Path) -> None:
    os.truncate(first / FILE, (first / FILE).stat().st_size // 2)


def swap(first: Path, second: Path) -> None:
    shutil.copy2(second / FILE, first / FILE)


def lose_key(first: Path, second: Path) -> None:
    (first / NAME / KEY_FILE).unlink()


def forget_key(first: Path, second: Path) -> None:
    lose_key(first, second)
    manifest = manifest_of(first)
    del manifest["files"][f"{NAME}/{KEY_FILE}"]
    (first / "manifest.json").write_bytes(canonical(manifest))


def smuggle(first: Path, second: Path) -> None:
    (first / NAME / "more.secrets").write_bytes(b"somebody else's")


def link(first: Path, second: Path) -> None:
    (first / FILE).unlink()
    (first / FILE).symlink_to(second / FILE)
    rewrite(first, lambda manifest: None)


def climb(first: Path, second: Path) -> None:
    manifest = manifest_of(first)
    manifest["files"][f"../second/{FILE}"] = describe(second / FILE)
    (first / "manifest.json").write_bytes(canonical(manifest))


def no_manifest(first: Path, second: Path) -> None:
    (first / "manifest.json").write_bytes(b"{")


def empty_manifest(first: Path, second: Path) -> None:
    (first / "manifest.json").write_bytes(b"{}")


def nest(first: Path, second: Path) -> None:
    """What would take all the stack of whoever reads it."""
    (first / "manifest.json").write_bytes(b'{"files":' + b"[" * 100000)


def name_what_no_file_can_be_called(first: Path, second: Path) -> None:
    manifest = manifest_of(first)
    manifest["files"]["a\0b"] = {"sha256": "", "bytes": 0}
    (first / "manifest.json").write_bytes(canonical(manifest))


def describe_nothing(first: Path, second: Path) -> None:
    rewrite(first, lambda manifest: manifest["databases"].update({NAME: ["file"]}))


def mix(first: Path, second: Path) -> None:
    """Put one plugin's part of the other set into this one, and write a manifest that fits the files."""
    swap(first, second)
    rewrite(first, lambda manifest: manifest["databases"].update({NAME: manifest_of(second)["databases"][NAME]}))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *((change, "set-damaged") for change in (flip, truncate, swap, lose_key, forget_key, smuggle, link, climb)),
        *((change, "set-damaged") for change in (name_what_no_file_can_be_called, describe_nothing)),
        (no_manifest, "no-set"),
        (nest, "no-set"),
        (empty_manifest, "set-damaged"),
        (mix, "set-mixed"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_set_that_is_not_what_was_written_is_refused(copies: tuple[Path, Path], change: Change, code: str) -> None:
    assert is_whole(copies[0])
    change(*copies)
    with pytest.raises(HiveError) as refusal:
        verify_set(copies[0])
    assert refusal.value.code == code
    assert not is_whole(copies[0])


def sign(path: Path, keys: NodeKeys) -> None:
    signature, recovery_id = keys.sign_message(signed_text((path / "manifest.json").read_bytes()))
    (path / "manifest.sig").write_text(zbase_signature(signature, recovery_id))


def spoof(first: Path, second: Path) -> None:
    rewrite(first, lambda manifest: manifest.update(verified=True, created_at=2e9))


def mix_well(first: Path, second: Path) -> None:
    """A mixed set whose manifest hides it."""
    mix(first, second)
    rewrite(first, lambda m: [item.update(barrier=m["barrier"]) for item in m["databases"].values()])


def other_signature(first: Path, second: Path) -> None:
    shutil.copy2(second / "manifest.sig", first / "manifest.sig")


def stranger(first: Path, second: Path) -> None:
    sign(first, NodeKeys(b"\7" * 32))


def garbage(first: Path, second: Path) -> None:
    (first / "manifest.sig").write_bytes(b"\xff not a signature")


def unsigned(first: Path, second: Path) -> None:
    (first / "manifest.sig").unlink()


def emptied(first: Path, second: Path) -> None:
    (first / "manifest.sig").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        *((change, "set-forged") for change in (spoof, mix_well, other_signature, stranger, garbage)),
        (unsigned, "set-unsigned"),
        (emptied, "set-unsigned"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_set_that_the_node_did_not_sign_is_refused(
    rig: Rig, copies: tuple[Path, Path], change: Change, code: str
) -> None:
    verify_signature(copies[0], verify_set(copies[0]), rig.machine)
    change(*copies)
    manifest = verify_set(copies[0])
    with pytest.raises(HiveError) as refusal:
        verify_signature(copies[0], manifest, rig.machine)
    assert refusal.value.code == code


def test_another_manifest_than_the_signed_one_is_refused(rig: Rig, copies: tuple[Path, Path]) -> None:
    manifest = {**verify_set(copies[0]), "created_at": 0.0}
    with pytest.raises(HiveError) as refusal:
        verify_signature(copies[0], manifest, rig.machine)
    assert refusal.value.code == "set-forged"


def test_a_stranger_who_owns_up_signs_only_as_himself(rig: Rig, copies: tuple[Path, Path]) -> None:
    """His set passes as his; that it is of another node is for the restore to refuse."""
    keys = NodeKeys(b"\7" * 32)
    rewrite(copies[0], lambda manifest: manifest.update(node_id=keys.node_id))
    sign(copies[0], keys)
    verify_signature(copies[0], verify_set(copies[0]), rig.machine)
    assert keys.node_id != rig.call("getinfo")["id"]


def test_a_recent_set_that_was_damaged_since_spares_no_new_one(rig: Rig) -> None:
    seen = look(rig.machine, 10.0)
    older, newer = backup(rig), backup(rig)
    found = backups.recent_backup(rig.node, seen, 600.0)
    assert found is not None
    assert found["id"] == newer["id"]
    flip(path_of(rig, newer), path_of(rig, older))
    found = backups.recent_backup(rig.node, seen, 600.0)
    assert found is not None
    assert found["id"] == older["id"]


# What cannot be copied


def test_a_database_that_is_damaged_makes_an_unsound_set_and_the_sound_one_stays(rig: Rig) -> None:
    fill(rig, 400)
    good = backup(rig, keep=1)
    path = database(rig)
    before = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.seek(len(before) // 4096 // 2 * 4096)
            file.write(b"\xff" * 4096)
        made = [backup(rig, keep=1) for _ in range(2)]
    finally:
        path.write_bytes(before)
    assert [item["verified"] for item in made] == [False, False]
    assert set(names(rig)) == {good["id"], made[1]["id"]}
    failure = rig.observe()["backup"]["failure"]
    assert failure["code"] == "unsound-set"
    assert backup(rig, keep=2)["verified"]
    assert rig.observe()["backup"]["failure"] is None


def test_a_missing_key_file_makes_a_set_that_says_so(rig: Rig) -> None:
    path = key_file(rig)
    path.rename(path.with_name("away"))
    try:
        made = backup(rig)
    finally:
        path.with_name("away").rename(path)
    assert not made["verified"]
    assert any(KEY_FILE in remark for remark in made["remarks"])
    assert is_whole(path_of(rig, made))


def test_a_key_file_that_is_a_link_is_refused(rig: Rig, tmp_path: Path) -> None:
    path, secret = key_file(rig), tmp_path / "of-root"
    secret.write_bytes(b"root's own")
    path.rename(path.with_name("away"))
    path.symlink_to(secret)
    try:
        with pytest.raises(HiveError) as refusal:
            backup(rig)
    finally:
        path.unlink()
        path.with_name("away").rename(path)
    assert refusal.value.code == "strange-file"


def test_a_key_that_changes_meanwhile_is_not_put_beside_the_other_data(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, original = names(rig), _sqlite.capture

    def rotating(*arguments: Any) -> Any:
        key_file(rig).chmod(0o600)
        key_file(rig).write_bytes(b"another key\n")
        return original(*arguments)

    monkeypatch.setattr(backups, "capture", rotating)
    with pytest.raises(HiveError) as refusal:
        backup(rig)
    assert refusal.value.code == "backup-failed"
    assert names(rig) == before
    assert rig.observe()["backup"]["failure"]["code"] == "backup-failed"
