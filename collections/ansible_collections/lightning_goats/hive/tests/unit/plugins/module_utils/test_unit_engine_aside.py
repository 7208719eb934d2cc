"""A restore that dies anywhere, and whose way back dies anywhere: the data is the old or the new, never a mixture."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import aside
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node

NOTE: dict[str, object] = {"set": "s", "created_at": 1.0, "restored_at": 2.0}


class Killed(BaseException):
    """The process ends here."""


class Place:
    """A node whose plugin died with its newest rows in the write-ahead log, and a set to restore there."""

    def __init__(self, root: Path, template: Path, link: bool) -> None:
        shutil.copytree(template, root)
        self.database = root / "lightning/regtest/p.db"
        self.key = self.database.with_name("p.key")
        self.node = Node.from_params(
            {
                "name": "n",
                "runtime": "process",
                "lightning_dir": str(root / "lightning"),
                "network": "regtest",
                "state_dir": str(root / "hive"),
            }
        )
        self.link = link
        self.swaps = [
            aside.Swap(root / "set/p.db", self.database, 0o600, database=True),
            aside.Swap(root / "set/p.key", self.key, 0o400, database=False),
        ]

    def swap(self) -> None:
        aside.swap(self.node, "x", self.swaps, NOTE)

    def put_back(self) -> None:
        aside.put_back(self.node, "x")

    def rows(self) -> set[str]:
        connection = sqlite3.connect(self.database)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            return {str(row[0]) for row in connection.execute("SELECT x FROM t")}
        finally:
            connection.close()

    def start_plugin(self) -> set[str]:
        """What a plugin does that is started in the middle, because the machine came up again."""
        if not self.database.exists():
            return set()
        rows = self.rows()
        with sqlite3.connect(self.database) as connection:
            connection.execute("INSERT INTO t VALUES ('meanwhile')")
        connection.close()
        return rows

    def left_over(self) -> list[str]:
        """Copies that wait beside their places; half a note, which tells nobody anything, is none."""
        return sorted(path.name for path in self.database.parent.glob(".*") if not path.name.startswith(".p.db.rest"))


OLD = {"old", "in the log"}
NEW = {"new"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aside") / "template"
    (root / "lightning/regtest").mkdir(parents=True)
    (root / "set").mkdir()
    live = root / "live.db"
    connection = sqlite3.connect(live, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (x TEXT)")
    connection.execute("INSERT INTO t VALUES ('old')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("INSERT INTO t VALUES ('in the log')")
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{live}{suffix}", root / f"lightning/regtest/p.db{suffix}")
    connection.close()
    live.unlink()
    (root / "lightning/regtest/p.key").write_text("old key")
    with sqlite3.connect(root / "set/p.db") as new:
        new.execute("CREATE TABLE t (x TEXT)")
        new.execute("INSERT INTO t VALUES ('new')")
    new.close()
    (root / "set/p.key").write_text("new key")
    return root


@pytest.fixture
def places(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes one fresh place after the other; durability is what the rigs test, here it only takes time."""
    monkeypatch.setattr(aside, "sync_dir", lambda _path: None)
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    numbers = itertools.count()

    def make(link: bool = True) -> Place:
        return Place(tmp_path / str(next(numbers)), template, link)

    return make


@contextmanager
def dying(place: Place, at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """End everything before the change of a file number `at`; count them in the list that is given."""
    done = [0]

    def counted(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if done[0] == at:
                raise Killed
            done[0] += 1
            return original(*args, **kwargs)

        return call

    def no_link(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", counted(os.link) if place.link else no_link)
        for name in ("replace", "unlink", "rename"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        for name in ("write_atomic", "copy_durably"):
            patch.setattr(aside, name, counted(getattr(aside, name)))
        yield done


@pytest.mark.parametrize("link", [True, False], ids=["same disk", "another disk"])
def test_killed_anywhere_and_undone_anywhere_the_old_data_is_whole(
    places: Any, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    for at in itertools.count():
        place = places(link)
        with dying(place, at, monkeypatch) as done, suppress(Killed):
            place.swap()
        finished = done[0] < at
        for back in itertools.count(at % 3, 3):
            with dying(place, back, monkeypatch) as undone:
                try:
                    place.put_back()
                except Killed:
                    continue
            assert undone[0] <= back
            break
        assert place.rows() == OLD
        assert place.key.read_text() == "old key"
        assert place.left_over() == []
        assert not place.database.with_name("p.db.restored").exists()
        if finished:
            break
    assert at > 10


@pytest.mark.parametrize("link", [True, False], ids=["same disk", "another disk"])
def test_a_plugin_that_starts_in_the_middle_never_sees_a_mixture(
    places: Any, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    seen = []
    for at in itertools.count():
        place = places(link)
        with dying(place, at, monkeypatch) as done, suppress(Killed):
            place.swap()
        rows = place.start_plugin()
        assert rows in (OLD, NEW, set())
        if rows == NEW:
            assert place.database.with_name("p.db.restored").exists(), "the plugin must know that its data is old"
            assert place.key.read_text() == "new key"
        seen.append(rows)
        place.put_back()
        assert place.rows() - {"meanwhile"} == OLD
        if done[0] < at:
            break
    assert OLD in seen
    assert NEW in seen


def test_a_way_back_that_is_interrupted_loses_nothing_that_is_written_meanwhile(
    places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in itertools.count():
        place = places()
        place.swap()
        with dying(place, at, monkeypatch) as done, suppress(Killed):
            place.put_back()
        rows = place.start_plugin()
        assert rows in (OLD, NEW, set())
        place.put_back()
        assert place.rows() - {"meanwhile"} == OLD
        if rows == OLD:
            assert "meanwhile" in place.rows(), "what is back in place is not replaced once more"
        if done[0] < at:
            break


def test_nothing_of_a_key_stays_when_nothing_was_replaced(places: Any) -> None:
    place = places()
    aside.stage(place.node, "x", place.swaps)
    assert len(place.left_over()) == 2
    aside.unstage(place.node, "x")
    assert place.left_over() == []
    assert not aside.aside_dir(place.node, "x").exists()


def test_a_set_that_changes_while_it_is_copied_is_refused(places: Any) -> None:
    place = places()
    wrong = [aside.Swap(item.source, item.target, item.mode, item.database, "0" * 64) for item in place.swaps]
    with pytest.raises(HiveError, match="changed while it was read"):
        aside.stage(place.node, "x", wrong)
    aside.unstage(place.node, "x")
    assert place.left_over() == []
    assert place.rows() == OLD


def test_a_link_in_the_place_of_a_key_is_not_followed(places: Any) -> None:
    place = places()
    secret = place.node.state_dir / "of-root"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("not yours")
    place.key.unlink()
    place.key.symlink_to(secret)
    with pytest.raises(HiveError, match="not a plain file"):
        place.swap()
