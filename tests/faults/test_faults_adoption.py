"""From the monolith to our plugins and back, with the engine killed, refused and reverted everywhere between."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.adoption_state import adopted_by
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.database_move import move_databases
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.finalize import FinalizeRequest, finalize
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lightningd import Lightningd
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from ansible_collections.lightning_goats.hive.plugins.module_utils._purge import purge
from faults.rig import FIXTURES, TIMEOUTS, Rig

TAKER, HEIR = "hive-fixture-taker", "hive-fixture-heir"
TABLE = "nostr_state"

Stack = list[dict[str, Any]]


class Node:
    """A node with a monolith that its operator's own configuration loads."""

    def __init__(self, rig: Rig, *lines: str) -> None:
        self.rig = rig
        self.script = rig.root / "bin/cl-hive/hive-monolith.py"
        self.script.parent.mkdir(parents=True)
        self.script.write_text(
            f"#!{sys.executable} -IS\nimport sys\n"
            f"sys.dont_write_bytecode = True\nsys.path.insert(0, {str(FIXTURES)!r})\n"
            "from hive_fixture.adopters import Monolith\nMonolith().run()\n"
        )
        self.script.chmod(0o755)
        config = rig.lightning_dir / "config"
        config.write_text("".join([config.read_text(), *(f"{line}\n" for line in (f"plugin={self.script}", *lines))]))
        self.config = config.read_text()

    @property
    def path(self) -> str:
        return str(self.script.resolve())

    @property
    def monolith(self) -> Path:
        return self.rig.node.network_dir / "cl_hive.db"

    @property
    def taken(self) -> Path:
        return self.rig.node.network_dir / "hive_fixture_taker.db"

    def stack(self, kind: str = "taker", version: str = "0.1.0") -> Stack:
        """The stack that takes the monolith's place."""
        taker = self.rig.item(version, kind, TAKER)
        return [taker, {**self.rig.item("0.1.0", "heir", HEIR), "replaces": [self.path]}]

    def rows(self, path: Path) -> dict[str, str]:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return dict(connection.execute(f"SELECT key, value FROM {TABLE}"))

    def rows_if_any(self, path: Path) -> dict[str, str]:
        """The rows of a database that may not have the table yet."""
        return self.rows(path) if TABLE in tables_of(path) else {}

    def write(self, path: Path, key: str, value: str) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(f"INSERT OR REPLACE INTO {TABLE} (key, value) VALUES (?, ?)", (key, value))

    def works(self) -> bool:
        """Whether the monolith answers, and none of ours runs."""
        status = self.rig.call("hive-status")
        return status.get("status") == "active" and self.rig.running() == {} and self.path in self.rig.machine.plugins()

    def taken_over(self) -> bool:
        """Whether ours run in the monolith's place, with its rows."""
        running = set(self.rig.running()) == {TAKER, HEIR}
        return running and self.path not in self.rig.machine.plugins() and self.taken.exists()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    found = Node(rig)
    rig.start()
    yield found
    rig.stop()


@pytest.fixture
def fresh(node: Node) -> Node:
    """The node with its monolith, whatever a test before has done."""
    rig = node.rig
    rig.end_deadman()
    rig.run("reverted")
    rig.settle([])
    for path in [node.taken, node.taken.with_name(node.taken.name + "-wal")]:
        path.unlink(missing_ok=True)
    assert node.works()
    return node


def test_the_monolith_is_replaced_with_its_rows_and_comes_back_with_what_was_written_since(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    fresh.write(fresh.monolith, "event:1", "old")
    before = fresh.rows(fresh.monolith)
    outcome = rig.run("switched", stack)
    assert outcome["phase"] == "switched", outcome.get("error")
    assert fresh.taken_over()
    assert fresh.rows(fresh.taken).items() >= {"event:1": "old", "config:pubkey": "npub-of-the-monolith"}.items()
    assert fresh.rows(fresh.monolith).keys() == before.keys(), "the monolith's rows stay where they are"
    assert outcome["adoption"]["adopted"][TAKER]["tables"][TABLE]["source"] == len(before)
    assert rig.run("confirmed")["phase"] == "confirmed"
    assert fresh.rig.lightning_dir.joinpath("config").read_text().startswith(fresh.config)
    assert f"disable-plugin={fresh.path}\n" in rig.node.include_file.read_text()
    # Written since, by the new owner.
    fresh.write(fresh.taken, "event:2", "new")
    back = rig.run("rolled_back", deadman_seconds=0.0)
    assert back["phase"] == "confirmed", back.get("error")
    assert back["adoption"]["carried_back"][TAKER]["tables"][TABLE]["inserted"] == 1
    assert fresh.works()
    assert fresh.rows(fresh.monolith)["event:2"] == "new"
    assert not rig.node.include_file.exists()


@pytest.mark.parametrize(
    ("step", "action"),
    [
        (Step.ADOPT, "kill-after"),
        (Step.STOP, "kill-after"),
        (Step.ADOPT_DELTA, "kill"),
        (Step.ADOPT_DELTA, "kill-after"),
    ],
    ids=lambda value: str(getattr(value, "value", value)),
)
def test_killed_while_rows_move_and_run_again_it_gets_there(fresh: Node, step: Step, action: str) -> None:
    rig, stack = fresh.rig, fresh.stack()
    code, _ = rig.crash(f"{step.value}:{action}", "switched", stack)
    assert code == -9, "the failpoint was not reached"
    again = rig.run("switched", stack)
    assert again["phase"] == "switched", again.get("error")
    assert rig.run("confirmed")["phase"] == "confirmed"
    assert fresh.taken_over()
    assert fresh.rows(fresh.taken).items() <= fresh.rows(fresh.monolith).items()
    assert set(adopted_by(rig.journal()).plugins) == {TAKER, HEIR}


@pytest.mark.parametrize("step", [Step.STOP, Step.START], ids=lambda step: step.value)
def test_killed_while_rows_move_the_dead_man_alone_brings_the_monolith_back(fresh: Node, step: Step) -> None:
    rig = fresh.rig
    code, _ = rig.crash(f"{step.value}:kill-after", "switched", fresh.stack(), deadman_seconds=1.5)
    assert code == -9, "the failpoint was not reached"
    rig.wait_closed(30)
    assert fresh.works()
    assert not fresh.taken.exists()
    assert adopted_by(rig.journal()).plugins == {}


@pytest.mark.parametrize("step", [Step.ADOPT, Step.ADOPT_DELTA], ids=lambda step: step.value)
def test_failed_while_rows_move_the_monolith_runs_again(fresh: Node, step: Step) -> None:
    code, outcome = fresh.rig.crash(f"{step.value}:error-after", "switched", fresh.stack())
    assert (code, outcome["phase"]) == (1, "reverted")
    assert fresh.works()
    assert not fresh.taken.exists(), "what was begun lies aside"


@pytest.mark.parametrize("step", [Step.REVERT_ADOPTION, Step.REVERT_START], ids=lambda step: step.value)
def test_killed_while_the_monolith_comes_back_the_next_call_finishes_it(fresh: Node, step: Step) -> None:
    rig = fresh.rig
    assert rig.run("switched", fresh.stack())["phase"] == "switched"
    fresh.write(fresh.taken, "event:9", "written while it was watched")
    code, _ = rig.crash(f"{step.value}:kill-after", "reverted")
    assert code == -9, "the failpoint was not reached"
    assert rig.run("reverted")["phase"] == "reverted"
    assert fresh.works()
    assert fresh.rows(fresh.monolith)["event:9"] == "written while it was watched"


@pytest.mark.parametrize("action", ["kill-after", "error-after"])
def test_interrupted_while_rows_are_carried_back_nothing_is_lost(fresh: Node, action: str) -> None:
    rig, stack = fresh.rig, fresh.stack()
    rig.settle(stack)
    fresh.write(fresh.taken, "event:5", "new")
    code, outcome = rig.crash(f"{Step.CARRY_BACK.value}:{action}", "rolled_back", deadman_seconds=0.0)
    if action == "error-after":
        assert (code, outcome["phase"]) == (1, "reverted")
        assert fresh.taken_over(), "a way back that fails leaves everything as it was"
    back = rig.run("rolled_back", deadman_seconds=0.0)
    assert back["phase"] == "confirmed", back.get("error")
    assert fresh.works()
    assert fresh.rows(fresh.monolith)["event:5"] == "new"


def test_only_what_is_written_during_the_first_pass_waits_for_the_stop(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    for number in range(40):
        fresh.write(fresh.monolith, f"event:{number}", "old")
    code, _ = rig.crash(f"{Step.ADOPT.value}:kill-after", "switched", stack)
    assert code == -9
    # The monolith has not been stopped yet, and goes on.
    fresh.write(fresh.monolith, "event:late", "new")
    outcome = rig.run("switched", stack)
    assert outcome["phase"] == "switched", outcome.get("error")
    assert fresh.rows(fresh.taken)["event:late"] == "new"
    order = [e["data"].get("step") for e in outcome["journal"] if e["event"] == "done"]
    assert order.index("adopt") < order.index("stop") < order.index("adopt-delta")
    assert outcome["adoption"]["delta_rows"] <= 2, "the first pass had taken the rest"
    rig.run("reverted")


def test_after_a_restart_of_lightningd_the_monolith_stays_off_and_after_the_way_back_it_is_on(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    rig.settle(stack)
    rig.stop()
    rig.start()
    assert fresh.taken_over(), "the managed include keeps it off"
    back = rig.run("rolled_back", deadman_seconds=0.0)
    assert back["phase"] == "confirmed", back.get("error")
    assert fresh.works()
    rig.stop()
    rig.start()
    assert fresh.works(), "the operator's own line loads it again"
    assert (rig.lightning_dir / "config").read_text() == fresh.config


@pytest.mark.parametrize(
    ("kind", "code"), [("taker-that-refuses", "adoption-failed"), ("taker-that-miscounts", "adoption-differs")]
)
def test_rows_that_cannot_be_taken_over_leave_the_monolith_where_it_is(fresh: Node, kind: str, code: str) -> None:
    outcome = fresh.rig.run("switched", fresh.stack(kind, "0.3.0"))
    assert (outcome["phase"], outcome["code"]) == ("reverted", code)
    assert fresh.works()
    assert not fresh.taken.exists()


def test_two_identities_are_a_conflict_before_anything_stops(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    with contextlib.closing(sqlite3.connect(fresh.taken)) as connection, connection:
        connection.execute(f"CREATE TABLE {TABLE} (key TEXT PRIMARY KEY, value TEXT, basis TEXT)")
    fresh.write(fresh.taken, "config:pubkey", "npub-of-its-own")
    outcome = rig.run("switched", stack)
    assert outcome["code"] == "identity-conflict"
    assert "hive_adopt_identity" in outcome["error"]
    assert not [e for e in outcome["journal"] if e["data"].get("step") == "stop"], "nothing was stopped for it"
    assert fresh.works()
    assert rig.run("switched", stack, adopt_identity="monolith")["phase"] == "switched"
    assert fresh.rows(fresh.taken)["config:pubkey"] == "npub-of-the-monolith"
    rig.run("reverted")


def test_rows_that_lie_elsewhere_or_have_no_room_are_refused(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    elsewhere = [stack[0], {**stack[1], "options": {"hive-db-path": "another.db"}}]
    outcome = rig.run("switched", elsewhere)
    assert (outcome["phase"], outcome["code"]) == ("refused", "adopt-other-file")
    outcome = rig.run("switched", stack, min_free_bytes=1 << 60)
    assert (outcome["phase"], outcome["code"]) == ("refused", "disk-full")
    planned = rig.run("switched", stack, check_mode=True)
    assert {"step": "adopt", "plugin": TAKER} in planned["steps"]
    assert fresh.works()
    assert not fresh.taken.exists()


def test_what_a_monolith_of_the_operator_works_with_is_not_purged(fresh: Node) -> None:
    with pytest.raises(HiveError, match=r"hive-monolith.py of rig works with this data") as refused:
        purge(fresh.rig.node, "any", check_mode=False)
    assert refused.value.code == "in-use"
    assert fresh.works()


def test_told_not_to_it_takes_the_place_and_leaves_the_rows(fresh: Node) -> None:
    rig, stack = fresh.rig, fresh.stack()
    outcome = rig.run("switched", stack, adopt="no", deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["adoption"] is None
    assert "event:status" not in fresh.rows_if_any(fresh.taken)
    # Asked again without that, the same stack still has something to do.
    outcome = rig.run("switched", stack, deadman_seconds=0.0)
    assert outcome["changed"]
    assert fresh.taken_over()
    assert rig.run("switched", stack, deadman_seconds=0.0)["changed"] is False


def test_a_monolith_in_a_slot_of_ours_is_replaced_and_comes_back_in_the_same_way(fresh_rig: Rig) -> None:
    rig = fresh_rig
    old, new = (
        [rig.item("2.10.0", "monolith", HEIR)],
        [rig.item("0.1.0", "taker", TAKER), rig.item("0.1.0", "heir", HEIR)],
    )
    monolith, taken = (rig.node.network_dir / name for name in ("cl_hive.db", "hive_fixture_taker.db"))
    rig.settle(old)
    assert rig.call("hive-status")["status"] == "active"
    outcome = rig.run("switched", new, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    with contextlib.closing(sqlite3.connect(taken)) as connection, connection:
        rows = dict(connection.execute(f"SELECT key, value FROM {TABLE}"))
        connection.execute(f"INSERT INTO {TABLE} (key, value) VALUES ('event:new', 'since')")
    assert rows.keys() == {"config:pubkey", "event:status"}
    back = rig.run("rolled_back", deadman_seconds=0.0)
    assert back["phase"] == "confirmed", back.get("error")
    assert rig.call("hive-status")["rows"]["event:new"] == "since"
    assert monolith.exists()


def test_rows_in_somebody_s_home_are_refused_until_they_were_moved(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    place = tmp_path / "home/.lightning/cl_hive.db"
    place.parent.mkdir(parents=True)
    node = Node(rig, f"hive-db-path={place}")
    rig.start()
    try:
        node.write(place, "event:1", "old")
        outcome = rig.run("switched", node.stack())
        assert (outcome["phase"], outcome["code"]) == ("refused", "adopt-elsewhere")
        assert "hive_move_databases=rig" in outcome["error"]
        assert move_databases(rig.node, False, TIMEOUTS)["changed"]
        assert node.works()
        assert rig.settle(node.stack())["phase"] == "confirmed"
        assert node.rows(node.taken)["event:1"] == "old"
        assert node.taken_over()
        strays = [one for one in rig.observe()["problems"] if one["code"] == "stray-option"]
        assert strays == [], "the line is the operator's, and needed on the way back"
        kept = sorted(rig.node.backups_dir.glob(f"*/{HEIR}/cl_hive.db"))
        assert TABLE in tables_of(kept[-1]), "the set has what was there before"
        rig.settle([])
        assert node.works()
    finally:
        rig.stop()


def test_once_the_monolith_gave_its_tables_up_it_does_not_come_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    node = Node(rig)
    rig.start()
    try:
        rig.settle(node.stack())
        # A way back that failed has changed the monolith's table; it was taken over once more.
        node.write(node.taken, "event:5", "new")
        assert rig.crash("carry-back:error-after", "rolled_back", deadman_seconds=0.0)[1]["phase"] == "reverted"
        assert node.rows(node.monolith)["event:5"] == "new"
        request = FinalizeRequest("f1", 1000.0, timeouts=TIMEOUTS)
        with pytest.raises(HiveError) as refused:
            finalize(rig.node, request)
        assert refused.value.code == "too-early"
        early = replace(request, early="rig")
        away = node.taken.rename(node.taken.with_name("away.db"))
        for check_mode in (True, False):
            with pytest.raises(HiveError, match="keeps its tables") as refused:
                finalize(rig.node, replace(early, check_mode=check_mode))
            assert refused.value.code == "adoption-gone"
        assert TABLE in tables_of(node.monolith)
        away.rename(node.taken)
        assert finalize(rig.node, replace(early, check_mode=True))["dropped"] == [TABLE]
        assert TABLE in tables_of(node.monolith), "a forecast changes nothing"
        done = finalize(rig.node, early)
        assert (done["changed"], done["finalized"], done["dropped"]) == (True, True, [TABLE])
        assert TABLE not in tables_of(node.monolith)
        kept = Path(done["backup"]["path"], HEIR, "cl_hive.db")
        assert TABLE in tables_of(kept), "the last set has what went"
        again = finalize(rig.node, early)
        assert (again["changed"], again["finalized"]) == (False, True)
        back = rig.run("rolled_back")
        assert (back["phase"], back["code"]) == ("refused", "handed-over")
        assert node.taken_over()
        # A next release of ours is no way back.
        assert rig.settle(node.stack(version="0.2.0"))["phase"] == "confirmed"
    finally:
        rig.stop()


def test_killed_while_it_is_finalized_the_next_call_finishes_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    node = Node(rig)
    rig.start()
    try:
        rig.settle(node.stack())
        assert rig.crash("finalize-backup:kill-after", "finalized", early="rig")[0] == -9
        assert TABLE in tables_of(node.monolith)
        assert rig.crash("hand-over:kill-after", "finalized", early="rig")[0] == -9
        done = finalize(rig.node, FinalizeRequest("f1", 1000.0, early="rig", timeouts=TIMEOUTS))
        assert done["finalized"]
        assert TABLE not in tables_of(node.monolith)
        assert rig.run("rolled_back")["code"] == "handed-over"
    finally:
        rig.stop()


def tables_of(path: Path) -> set[str]:
    """The tables of a database."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_where_even_the_stack_of_before_does_not_come_up_the_monolith_stays_off(
    fresh: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have given its tables up: on them it would begin anew, with another identity."""
    rig, stack = fresh.rig, fresh.stack()
    rig.settle(stack)
    revive, calls = Lightningd.revive, []

    def fails_first(self: Lightningd) -> None:
        calls.append(self)
        if len(calls) == 1:
            raise HiveError("lightningd does not come up with them", "lightningd-down")
        revive(self)

    monkeypatch.setattr(Lightningd, "revive", fails_first)
    outcome = rig.run("switched", [*stack, rig.item("0.6.6", "kills-lightningd", options={"hive-fixture-mercy": 0})])
    assert "without any of our plugins" in outcome["error"]
    assert rig.running() == {}
    assert fresh.path not in rig.machine.plugins()
    assert rig.run("reverted")["phase"] == "reverted"
    assert fresh.taken_over()
    # For the tests that follow: what was quarantined would be named in the configuration.
    rig.settle(stack)


def test_the_monolith_does_not_come_back_while_a_settlement_payment_may_still_arrive(fresh: Node) -> None:
    """It skips only what has arrived, so it would make that payment again."""
    rig = fresh.rig
    rig.settle(fresh.stack())
    # A column of cl-hive's own table is enough here; that it is that table's, a contract test sees.
    with contextlib.closing(sqlite3.connect(fresh.monolith, timeout=10)) as connection, connection:
        connection.execute("CREATE TABLE hive_settlement_journal (id INTEGER PRIMARY KEY, status TEXT NOT NULL)")
        connection.executemany(
            "INSERT INTO hive_settlement_journal (status) VALUES (?)", [("reserved",), ("completed",), ("failed",)]
        )
    refused = rig.run("rolled_back", deadman_seconds=0.0)
    assert (refused["code"], refused["phase"]) == ("settlement-open", "refused")
    assert fresh.taken_over()
    with contextlib.closing(sqlite3.connect(fresh.monolith, timeout=10)) as connection, connection:
        connection.execute("UPDATE hive_settlement_journal SET status = 'completed'")
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    assert fresh.works()
    with contextlib.closing(sqlite3.connect(fresh.monolith, timeout=10)) as connection, connection:
        connection.execute("DROP TABLE hive_settlement_journal")
