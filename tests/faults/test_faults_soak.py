"""A stage that soaks while nobody looks: what the node remembers, and how it goes back by itself when it must."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import brake, soak_guard, soak_undo
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_list import list_backups
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lock import engine_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import (
    CONFIRM_STEPS,
    FORWARD_STEPS,
    Step,
)
from faults.rig import NAME, SECOND, Rig
from faults.soaking import PLAN, events, looks, soak, stage
from waiting import wait_until

Stack = list[dict[str, Any]]
LIMIT = f"{NAME}-limit"
# A way back by itself never restarts lightningd; LOCK is taken before there is anything to take up.
FORWARD = [step for step in FORWARD_STEPS if step is not Step.RESTART]


@pytest.fixture
def stacks(shared_rig: Rig) -> tuple[Stack, Stack]:
    """What the node ran before, and what soaks on it."""
    rig = shared_rig
    brake.clear_mark(rig.node, brake.BRAKE)
    rig.end_deadman()
    rig.run("reverted")
    rig.lock_file.unlink(missing_ok=True)
    old = [rig.item("0.1.0", options={LIMIT: 5}), rig.second()]
    new = [rig.item("0.2.0"), rig.second("0.2.0")]
    rig.settle(old)
    soak(rig, new)
    return old, new


@pytest.fixture
def unlaunched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The processes that looks would have started; none of them is."""
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(soak_guard, "launch", lambda node, settings: started.append(settings))
    return started


def stop(rig: Rig, name: str = NAME) -> None:
    """Let a plugin be gone, as if it had crashed."""
    (path,) = [path for path in rig.machine.plugins() if path.endswith(f"/{name}")]
    rig.call("plugin", subcommand="stop", plugin=path)


def state(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] | None = rig.observe()["soak"]
    assert found is not None
    return found


def assert_went_back(rig: Rig, old: Stack) -> None:
    """It runs what it ran before, has said so once, and leaves it at that."""
    rig.assert_runs(old)
    found = state(rig)
    assert (found["state"], found["stage"], found["plan"]) == ("self-reverted", "canary", PLAN)
    assert re.search(r"does not run, in [0-9]+ looks in a row", found["reason"])
    (told,) = [entry for entry in events(rig, "self-reverted") if entry["txn"] == events(rig, "confirmed")[-2]["txn"]]
    assert told["data"]["reason"] == found["reason"]
    length = len(rig.journal())
    assert looks(rig, 3) == [{}, {}, {}]
    assert len(rig.journal()) == length


def assert_is_started(rig: Rig) -> None:
    """One of the next looks starts the way back."""
    assert any(look["undo"] == "started" for look in (looks(rig, 1)[0] for _ in range(3)))


class TestMemory:
    def test_it_is_there_from_the_confirmation_on_and_gone_after_a_way_back(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack]
    ) -> None:
        rig, (old, new) = shared_rig, stacks
        found = state(rig)
        assert (found["stage"], found["state"], found["rollout"]) == ("canary", "soaking", "r1")
        assert (found["previous"], found["target"]) == (old, new)
        assert abs(found["since"] - time.time()) < 60
        assert found["since_height"] == rig.call("getinfo")["blockheight"]
        assert [wave["name"] for wave in found["waves"]] == ["canary", "wave 1"]
        assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
        assert rig.observe()["soak"] is None
        rig.assert_runs(old)

    def test_it_is_taken_back_once(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        # Two controllers judge at once, or an answer is lost: what "ran before" is then what has just failed.
        rig, (old, _) = shared_rig, stacks
        assert rig.run("rolled_back", stage=stage(name="wave 1"), deadman_seconds=0.0)["changed"] is False
        answers = [rig.run("rolled_back", stage=stage(), deadman_seconds=0.0) for _ in range(2)]
        assert [answer["changed"] for answer in answers] == [True, False]
        assert answers[1]["reason"] == "nothing of stage canary is kept"
        rig.assert_runs(old)
        assert not rig.lock_file.exists()

    def test_what_was_undone_before_it_was_kept_goes_no_further_back(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack]
    ) -> None:
        rig, (_, new) = shared_rig, stacks
        other = stage(plan="b" * 64)
        assert rig.run("switched", [rig.item("0.1.0"), new[1]], stage=other)["phase"] == "switched"
        assert rig.run("reverted")["changed"] is True
        assert rig.run("rolled_back", stage=other, deadman_seconds=0.0)["changed"] is False
        rig.assert_runs(new)

    def test_its_plan_is_dead_before_the_way_back_is_kept(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        """Whoever is interrupted after that leaves nothing that the next run could go on with."""
        rig, (old, _) = shared_rig, stacks
        mine = stage(plan="c" * 64)
        soak(rig, [rig.item("0.2.0", options={LIMIT: 7}), rig.second("0.2.0")], stage=mine)
        begun = len(rig.journal())
        asked: dict[str, Any] = {"stage": mine, "give_up": True, "deadman_seconds": 0.0, "summary": "rolled back"}
        assert rig.run("rolled_back", **asked)["phase"] == "confirmed"
        names = [entry["event"] for entry in rig.journal()[begun:]]
        assert names.count("abandoned") == 1
        assert names.index("abandoned") < names.index("confirmed")
        assert rig.observe()["abandoned"][-1] == mine["plan"]
        assert rig.run("switched", old, stage=mine)["code"] == "abandoned-plan"

    def test_a_stage_has_soaked_once(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig = shared_rig
        asked: dict[str, Any] = {"stage": stage(), "verdict": "accepted", "summary": "no forwards\nfor a week"}
        assert rig.run("soaked", check_mode=True, **asked)["phase"] == "planned"
        assert state(rig)["state"] == "soaking"
        assert [rig.run("soaked", **asked)["changed"] for _ in range(2)] == [True, False]
        assert state(rig)["state"] == "soaked"
        (entry,) = [entry for entry in events(rig, "soaked") if entry["txn"] == events(rig, "confirmed")[-1]["txn"]]
        assert entry["data"]["verdict"] == "accepted"
        assert entry["data"]["summary"] == "no forwards for a week"
        assert rig.run("soaked", stage=stage(name="wave 1"))["code"] == "not-soaking"
        assert rig.run("soaked", stage=stage(plan="f" * 64))["code"] == "not-soaking"
        assert rig.run("soaked")["code"] == "bad-stage"

    def test_a_plan_that_was_given_up_is_not_switched_any_more(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack]
    ) -> None:
        rig, (old, new) = shared_rig, stacks
        dead = stage(plan="d" * 64)
        assert [rig.run("abandoned", stage=dead)["changed"] for _ in range(2)] == [True, False]
        assert rig.observe()["abandoned"].count("d" * 64) == 1
        refused = rig.run("switched", old, stage=dead)
        assert (refused["phase"], refused["code"]) == ("refused", "abandoned-plan")
        assert rig.run("switched", old, stage=dead, check_mode=True)["code"] == "abandoned-plan"
        rig.assert_runs(new)

    def test_repairing_it_restarting_it_and_reverting_another_switch_change_nothing(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack]
    ) -> None:
        rig, (_, new) = shared_rig, stacks
        before = state(rig)
        stop(rig)
        rig.settle(new)
        assert state(rig) == before
        assert rig.run("switched", [rig.item("0.9.0", "unhealthy"), new[1]])["phase"] == "reverted"
        assert state(rig) == before
        rig.stop()
        rig.start()
        assert state(rig) == before

    def test_what_it_would_go_back_to_is_never_pruned(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        held = rig.state().soak
        assert held is not None
        for _ in range(2):
            # Each makes a set, and the node's journal knows of the same two stacks as before.
            stop(rig)
            again = rig.run("switched", new, deadman_seconds=0.0, slots_keep=0, backup_keep=1)
            assert again["phase"] == "confirmed"
        assert {item["digest"] for item in [*old, *new]} <= {slot.digest for slot in _slots.list_slots(rig.node)}
        assert held["backup"] in [item["id"] for item in list_backups(rig.node)]
        assert len(list_backups(rig.node)) == 2


class TestByItself:
    def test_it_goes_back_when_nobody_looks(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        """The whole way: the probe starts the archive, which outlives it."""
        rig, (old, _) = shared_rig, stacks
        stop(rig)
        count = len(events(rig, "self-reverted"))
        assert [look["undo"] for look in looks(rig, 3)] == ["", "", "started"]
        wait_until(lambda: len(events(rig, "self-reverted")) > count, 60, "the node has gone back")
        rig.wait_closed(10)
        assert_went_back(rig, old)
        # Whoever comes next and wants it back finds it back, and not on the way forward again.
        again = rig.run("rolled_back", deadman_seconds=0.0)
        assert (again["changed"], again["reason"]) == (False, state(rig)["reason"])
        assert rig.run("soaked", stage=stage())["code"] == "not-soaking"
        rig.assert_runs(old)

    def test_killed_at_every_step_one_after_the_other_it_is_finished(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]]
    ) -> None:
        """Each look finds what the last one has left, and each process gets one step further."""
        rig, (old, _) = shared_rig, stacks
        # Persisted by `setconfig`, so that the way back has something to clear.
        rig.call("setconfig", config=LIMIT, val=11)
        stop(rig)
        for step in [*FORWARD, *CONFIRM_STEPS]:
            assert_is_started(rig)
            action = "kill" if step in CONFIRM_STEPS else "kill-after"
            code, outcome = rig.crash(f"{step.value}:{action}", "", self_undo=unlaunched[-1])
            assert code == -9, f"the failpoint of {step.value} was not reached: {outcome}"
        assert_is_started(rig)
        soak_undo.undo(rig.node, unlaunched[-1])
        rig.wait_closed(10)
        assert_went_back(rig, old)
        begun = [entry for entry in events(rig, "begin") if entry["data"]["kind"] == "self-revert"]
        assert begun[-1]["txn"] == events(rig, "confirmed")[-1]["txn"]

    @pytest.mark.parametrize("missing", [True, False])
    def test_with_a_broken_slot_to_go_back_to_it_changes_nothing_and_says_so(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]], missing: bool
    ) -> None:
        rig, (old, new) = shared_rig, stacks
        slot = _slots.find_slot(rig.node, NAME, old[0]["digest"])
        mark = _slots.marker_path(rig.node, NAME, old[0]["digest"])
        kept = mark.read_bytes()
        try:
            if missing:
                mark.unlink()
            else:
                marker = {**json.loads(kept), "stat_digest": "0" * 64, "tree_digest": "0" * 64}
                write_atomic(mark, canonical(marker), rig.node.keeper)
            stop(rig)
            looks(rig, 3)
            told = soak_undo.undo(rig.node, unlaunched[-1])
        finally:
            write_atomic(mark, kept, rig.node.keeper)
        assert "cannot go back by itself" in told
        found = state(rig)
        assert found["state"] == "soaking"
        assert str(slot.path) in found["self_revert_failed"] or NAME in found["self_revert_failed"]
        assert rig.running() == {SECOND: new[1]["version"]}
        assert [look["undo"] for look in looks(rig, 3)] == ["", "", ""]
        assert len(unlaunched) == 1
        # A human still can.
        assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
        rig.assert_runs(old)

    def test_it_never_gets_in_the_way_of_a_run(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]]
    ) -> None:
        rig, (old, _) = shared_rig, stacks
        stop(rig)
        looks(rig, 3)
        length = len(rig.journal())
        held = {"owner": "somebody", "rollout": "r2", "since": time.time(), "expires_at": time.time() + 600}
        write_atomic(rig.lock_file, canonical(held), rig.node.keeper)
        assert "not now" in soak_undo.undo(rig.node, unlaunched[-1])
        assert [look["rows"] for look in looks(rig, 3)] == [{}, {}, {}]
        with engine_lock(rig.node, 0.0):
            assert "not now" in soak_undo.undo(rig.node, unlaunched[-1])
        assert len(rig.journal()) == length
        # The lock of a run that is dead is no reason to stay.
        write_atomic(rig.lock_file, canonical({**held, "expires_at": time.time() - 1}), rig.node.keeper)
        assert [look["undo"] for look in looks(rig, 3)] == ["", "", "started"]
        assert "went back" in soak_undo.undo(rig.node, unlaunched[-1])
        assert_went_back(rig, old)

    def test_an_hour_s_difference_of_the_clock_changes_nothing(
        self,
        shared_rig: Rig,
        stacks: tuple[Stack, Stack],
        unlaunched: list[dict[str, Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        rig, (old, _) = shared_rig, stacks
        stop(rig)
        now = time.time
        looks(rig, 1)
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        looks(rig, 1)
        monkeypatch.setattr(time, "time", lambda: now() + 3600)
        assert looks(rig, 1)[0]["undo"] == "started"
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        soak_undo.undo(rig.node, unlaunched[-1])
        monkeypatch.undo()
        assert_went_back(rig, old)

    def test_the_brake_does_not_stop_a_way_back(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]]
    ) -> None:
        rig, (old, _) = shared_rig, stacks
        brake.set_mark(rig.node, brake.BRAKE, "something is wrong")
        stop(rig)
        looks(rig, 3)
        soak_undo.undo(rig.node, unlaunched[-1])
        brake.clear_mark(rig.node, brake.BRAKE)
        assert_went_back(rig, old)

    def test_a_marker_that_is_missing_old_or_no_json_is_made_anew(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]]
    ) -> None:
        rig = shared_rig
        path = soak_guard.soak_file(rig.node)
        for content in (None, b"{", b'{"schema":0}', b'{"schema":1,"journal":[0,0],"soak":null}', b"[]"):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            assert looks(rig, 1)[0]["state"] == "soaking"
            assert json.loads(path.read_bytes())["soak"]["stage"] == "canary"
        assert unlaunched == []


class TestNotByItself:
    def test_without_a_stage_or_with_one_that_has_soaked(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], unlaunched: list[dict[str, Any]]
    ) -> None:
        rig, (old, new) = shared_rig, stacks
        rig.run("soaked", stage=stage())
        stop(rig)
        assert looks(rig, 4) == [{}, {}, {}, {}]
        rig.settle(old)
        rig.settle(new)
        stop(rig)
        assert looks(rig, 4) == [{}, {}, {}, {}]
        assert unlaunched == []

    def test_a_lightningd_that_is_down_and_one_that_comes_back(
        self, fresh_rig: Rig, unlaunched: list[dict[str, Any]]
    ) -> None:
        rig = fresh_rig
        soak(rig, [rig.item("0.2.0")])
        stop(rig)
        assert [look["rows"] for look in looks(rig, 2)][-1] == {f"plugin:{NAME}": 2}
        rig.stop()
        assert [look["rows"] for look in looks(rig, 4)] == [{}, {}, {}, {}]
        rig.start()
        assert [look["rows"] for look in looks(rig, 3)] == [{}, {}, {}]
        assert unlaunched == []
        # One that stays down beside a lightningd that runs is counted from its first look on.
        stop(rig)
        assert [look["undo"] for look in looks(rig, 3)] == ["", "", "started"]
        # Before it there was nothing, so that is where it goes back to.
        assert "went back" in soak_undo.undo(rig.node, unlaunched[-1])
        rig.assert_runs([])
