"""The node's side of copies: which set leaves, what is handed out, and what may come back."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _copies_node
from ansible_collections.lightning_goats.hive.plugins.module_utils._copies_tar import tar_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_lightningd import NEWEST
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_retention import prune
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lock import engine_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node

OLD, NEW, BAD = (f"2026110{day}T000000Z-00000000-000{day}" for day in (1, 2, 3))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with two sound sets and a newer one that is not."""
    (tmp_path / "lightning").mkdir()
    params = {"name": "alpha", "runtime": "process", "network": "regtest"}
    places = {"lightning_dir": str(tmp_path / "lightning"), "state_dir": str(tmp_path / "hive")}
    made = Node.from_params({**params, **places})
    for number, name in enumerate((OLD, NEW, BAD)):
        write_set(made.backups_dir, name, float(number), verified=name != BAD)
    return made


def write_set(parent: Path, name: str, created: float = 1.0, verified: bool = True) -> Path:
    directory = parent / name
    directory.mkdir(parents=True)
    text = name.encode() * 100
    (directory / "stack.json").write_bytes(text)
    manifest = {
        "id": name,
        "files": {"stack.json": {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}},
        "databases": {},
        "created_at": created,
        "stack_digest": "",
        "verified": verified,
        "bytes": len(text),
    }
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(HiveError) as caught:
        act()
    return caught.value.code


def test_the_newest_sound_set_leaves_or_the_one_that_was_named(node: Node, tmp_path: Path) -> None:
    assert (_copies_node.chosen_set(node, "") or {})["id"] == NEW
    assert (_copies_node.chosen_set(node, OLD) or {})["id"] == OLD
    assert code_of(lambda: _copies_node.chosen_set(node, BAD)) == "bad-set"
    assert code_of(lambda: _copies_node.chosen_set(node, NEW[:-1] + "9")) == "no-set"
    for path in node.backups_dir.iterdir():
        path.rename(tmp_path / path.name)
    assert _copies_node.chosen_set(node, "") is None


def test_a_set_of_another_node_is_no_copy_of_this_one_s(node: Node) -> None:
    path = write_set(node.backups_dir, "20261109T000000Z-00000000-0009", 9.0) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "node": "bravo"}), encoding="utf-8")
    assert (_copies_node.chosen_set(node, "") or {})["id"] == NEW


def test_what_would_leave_lightningd_no_room_is_neither_packed_nor_taken_in(node: Node, tmp_path: Path) -> None:
    before = sorted(node.backups_dir.iterdir())
    assert code_of(lambda: _copies_node.pack(node, NEW, tmp_path, 1 << 60)) == "disk-full"
    assert not list(tmp_path.glob("hive-set-*"))
    archive = tmp_path / "archive"
    archive.write_bytes(b"".join(tar_of(write_set(tmp_path / "elsewhere", "20261105T000000Z-00000000-0005"))))

    def act(least: int) -> object:
        return _copies_node.take_in(node, _copies_node.from_archive(archive, node), "", 1 << 20, least)

    assert code_of(lambda: act(1 << 60)) == "disk-full"
    assert sorted(node.backups_dir.iterdir()) == before
    assert act(1)


def test_what_is_handed_out_is_closed_and_what_was_forgotten_goes(node: Node, tmp_path: Path) -> None:
    tmp = tmp_path / "tmp"
    forgotten, young, other = (tmp / name for name in ("a/hive-set-x.tar", "b/hive-set-y.tar", "a/file"))
    for path in (forgotten, young, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    long_ago = time.time() - 2 * _copies_node.STALE_SECONDS
    for path in (forgotten, other):
        os.utime(path, (long_ago, long_ago))
    into = tmp / "c"
    into.mkdir()
    packed = _copies_node.pack(node, NEW, into)
    text = Path(packed["path"]).read_bytes()
    assert text == b"".join(tar_of(node.backups_dir / NEW))
    assert (packed["sha256"], packed["bytes"]) == (hashlib.sha256(text).hexdigest(), len(text))
    assert Path(packed["path"]).stat().st_mode & 0o777 == 0o600
    assert [path.exists() for path in (forgotten, young, other)] == [False, True, True]


def test_the_channel_backup_is_the_one_that_the_backups_keep(node: Node, tmp_path: Path) -> None:
    assert _copies_node.channel_backup(node) is None
    (node.backups_dir / NEWEST).write_bytes(b"newest")
    found = _copies_node.channel_backup(node)
    assert found == {
        "path": str(node.backups_dir / NEWEST),
        "sha256": hashlib.sha256(b"newest").hexdigest(),
        "bytes": 6,
    }
    packed = _copies_node.pack_channels(node, tmp_path)
    assert packed["sha256"] == found["sha256"]


def test_while_a_set_comes_back_the_engine_is_free_and_a_backup_leaves_it_alone(node: Node, tmp_path: Path) -> None:
    """Over a network that may take an hour, and a dead-man must not have to wait for it."""
    dead = node.backups_dir / f".partial-fetched-{2**22 + 1}-0000"
    dead.mkdir()
    archive = tmp_path / "archive"
    archive.write_bytes(b"".join(tar_of(write_set(tmp_path / "elsewhere", "20261105T000000Z-00000000-0005"))))

    def fill(room: Path) -> Path:
        directory = _copies_node.from_archive(archive, node)(room)
        with engine_lock(node, 0.0):
            prune(node, 10, OLD, lambda _: True)
        return directory

    assert _copies_node.take_in(node, fill, "")["new"]
    assert not list(node.backups_dir.glob(".partial-*"))


@pytest.mark.parametrize(("damage", "wanted", "code"), [
    (b"", "", "set-damaged"), (b"x", "", "set-damaged"), (None, OLD, "no-set"), (None, "", ""),
])  # fmt: skip
def test_a_set_comes_back_whole_or_not_at_all(
    node: Node, tmp_path: Path, damage: bytes | None, wanted: str, code: str
) -> None:
    name = "20261105T000000Z-00000000-0005"
    archive = tmp_path / "archive"
    text = b"".join(tar_of(write_set(tmp_path / "elsewhere", name)))
    archive.write_bytes(text if damage is None else text.replace(name.encode() * 100, damage.ljust(len(name) * 100)))
    before = sorted(node.backups_dir.iterdir())

    def act() -> object:
        return _copies_node.take_in(node, _copies_node.from_archive(archive, node), wanted)

    if code:
        assert code_of(act) == code
        assert sorted(node.backups_dir.iterdir()) == before
    else:
        act()
        assert (_copies_node.present_whole(node, name) or {})["id"] == name
        assert (node.backups_dir / name).stat().st_mode & 0o777 == 0o700
        assert len(list(node.backups_dir.iterdir())) == len(before) + 1
