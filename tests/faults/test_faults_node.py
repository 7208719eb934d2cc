"""The node around lightningd: full disk, other controllers, stale locks, damaged journals, a dead-man on its own."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lock import read_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.rig import NAME, TIMEOUTS, Rig
from waiting import wait_until

Stack = list[dict[str, Any]]
NOTE = f"{NAME}-note"


@pytest.fixture
def stacks(shared_rig: Rig) -> tuple[Stack, Stack]:
    rig = shared_rig
    old = [rig.item("0.1.0", options={NOTE: "old"}), rig.second()]
    rig.end_deadman()
    (rig.node.state_dir / "lock.json").unlink(missing_ok=True)
    rig.run("reverted")
    rig.settle(old)
    return old, [rig.item("0.2.0", options={NOTE: "new"}), old[1]]


def test_too_little_room_is_refused_before_anything_changes(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    old, new = stacks
    outcome = shared_rig.run("switched", new, min_free_bytes=1 << 60)
    assert (outcome["phase"], outcome["code"]) == ("refused", "disk-full")
    shared_rig.assert_runs(old)


@pytest.mark.parametrize("room", [0, 300, 1500, 2500, 3300, 4100, 5000, 6000])
def test_when_the_disk_fills_up_in_the_middle_the_node_ends_whole(
    shared_rig: Rig, stacks: tuple[Stack, Stack], room: int
) -> None:
    rig, (old, new) = shared_rig, stacks
    journal = Journal(rig.node.journal_file, rig.node.keeper)
    # The journal is to be the largest file that is written, so that it is what hits the limit.
    while rig.node.journal_file.stat().st_size < 400_000:
        journal.append("padding", {"text": "x" * 30_000})
    limit = rig.node.journal_file.stat().st_size + room
    code, outcome = rig.crash("none:none", "switched", new, file_bytes=limit, deadman_seconds=3)
    assert code == 1
    assert "full" in outcome["error"]
    # With room again, whoever comes first finishes: the next call, or the dead-man.
    outcome = rig.run("reverted")
    assert outcome["phase"] == "reverted", outcome.get("error")
    rig.assert_runs(old)


def test_of_two_controllers_one_works_and_the_other_is_told(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = shared_rig, stacks
    calls = [
        rig.engine(
            json.dumps({"node": rig.node.as_params(), "state": "switched", "stack": new, "changes": {"rollout": name}})
        )
        for name in ("first", "second")
    ]
    outcomes = [json.loads(process.communicate(timeout=60)[0]) for process in calls]
    winner = next(outcome for outcome in outcomes if outcome["phase"] == "switched")
    loser = next(outcome for outcome in outcomes if outcome is not winner)
    assert (loser["phase"], loser["code"]) == ("refused", "locked")
    assert "holds this node" in loser["error"]
    rollout = winner["journal"][0]["rollout"]
    assert rig.run("confirmed", rollout=rollout)["phase"] == "confirmed"
    rig.assert_runs(new)


def test_a_stale_lock_names_its_owner_and_is_broken_only_when_asked(
    shared_rig: Rig, stacks: tuple[Stack, Stack]
) -> None:
    rig, (_, new) = shared_rig, stacks
    assert rig.crash(
        f"{Step.LOCK.value}:kill-after", "switched", new, rollout="dead", owner="alice", lock_ttl_seconds=0.1
    )
    wait_until(lambda: (read_lock(rig.lock_file) or {}).get("stale"), 5, "the lock is stale")
    outcome = rig.run("switched", new)
    assert outcome["code"] == "stale-lock"
    assert "alice" in outcome["error"]
    assert "hive_break_lock" in outcome["error"]
    outcome = rig.run("switched", new, break_lock=True, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed"
    assert outcome["broken_lock"]["owner"] == "alice"
    rig.assert_runs(new)


def test_a_switch_nobody_confirms_is_undone_by_the_dead_man(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (old, new) = shared_rig, stacks
    assert rig.run("switched", new, deadman_seconds=1.0)["phase"] == "switched"
    rig.wait_closed(20)
    rig.assert_runs(old)
    late = rig.run("confirmed")
    assert late["code"] == "already-reverted"
    assert "nobody confirmed" in late["error"]


def test_a_confirmed_switch_has_no_dead_man_left(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = shared_rig, stacks
    assert rig.run("switched", new, deadman_seconds=2.0)["phase"] == "switched"
    facts = deadman.watching(rig.node)
    assert facts is not None
    assert facts["alive"]
    pid = int(facts["pid"])
    assert os.getsid(pid) == pid, "in a session of its own"
    assert {str(Path(f"/proc/{pid}/fd/{n}").readlink()) for n in (0, 1, 2)} == {"/dev/null"}
    assert rig.run("confirmed")["phase"] == "confirmed"
    wait_until(lambda: rig.gone(pid), 10, "the dead-man has gone")
    rig.assert_runs(new)


def test_another_rollout_cannot_confirm(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = shared_rig, stacks
    rig.run("switched", new)
    outcome = rig.run("confirmed", rollout="other")
    assert outcome["code"] == "other-rollout"
    blocked = rig.run("switched", stacks[0], rollout="other")
    assert blocked["code"] == "locked"
    assert rig.run("confirmed")["phase"] == "confirmed"


def test_a_torn_last_line_is_repaired(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = shared_rig, stacks
    with rig.node.journal_file.open("ab") as file:
        file.write(b'{"seq":99,"time":1.0,"txn":"","roll')
    outcome = rig.run("switched", new, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed"
    rig.assert_runs(new)
    assert any(entry["event"] == "repaired" for entry in Journal(rig.node.journal_file, rig.node.keeper).entries)


def test_a_changed_journal_is_refused_and_a_new_one_starts_from_what_runs(
    shared_rig: Rig, stacks: tuple[Stack, Stack]
) -> None:
    rig, (old, new) = shared_rig, stacks
    content = rig.node.journal_file.read_bytes()
    rig.node.journal_file.write_bytes(content.replace(b'"confirmed"', b'"CONFIRMED"', 1))
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("refused", "journal-damaged")
    assert "move the file away" in outcome["error"]
    rig.node.journal_file.rename(rig.node.state_dir / "journal.damaged")
    outcome = rig.run("switched", new)
    assert outcome["phase"] == "switched"
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(old)


def test_the_deadline_counts_from_the_boot_clock(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """A dead-man that was killed does not undo; the next call still can, and says so before."""
    rig, (old, new) = shared_rig, stacks
    rig.run("switched", new, deadman_seconds=1.0)
    rig.end_deadman()
    time_out = time.time() + 1.2
    wait_until(lambda: time.time() > time_out, 5, "the deadline has passed")
    assert rig.state().transaction is not None
    facts = rig.observe()
    assert "unconfirmed" in {problem["code"] for problem in facts["problems"]}
    assert facts["transaction"]["armed"] is False
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(old)


def test_the_archive_alone_can_undo_a_switch(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (old, new) = shared_rig, stacks
    rig.run("switched", new)
    facts = deadman.watching(rig.node)
    assert facts is not None
    done = rig.archive("revert", str(facts["archive"]))
    assert done.returncode == 0, done.stderr
    rig.assert_runs(old)
    rig.end_deadman()


def test_a_killed_dead_man_is_replaced_when_the_switch_is_taken_up(
    shared_rig: Rig, stacks: tuple[Stack, Stack]
) -> None:
    rig, (old, new) = shared_rig, stacks
    code, _ = rig.crash(f"{Step.START.value}:kill-after", "switched", new)
    assert code == -signal.SIGKILL
    rig.end_deadman()
    assert rig.run("switched", new, deadman_seconds=1.5)["phase"] == "switched"
    rig.wait_closed(20)
    rig.assert_runs(old)
    assert TIMEOUTS.engine > 0
