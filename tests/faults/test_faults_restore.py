"""Restoring plugin data: fenced, all or nothing, and killed anywhere the data is the old or the set's, and healthy."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import BackupRequest, take_backup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import read_bytes
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import list_backups
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import RESTORE_STEPS, Step
from faults.restoring import backup, call, database, mark, marks, phrase_of
from faults.rig import NAME, Rig

Stack = list[dict[str, Any]]
KILLED = [
    *((step, "kill-after") for step in RESTORE_STEPS if step not in (Step.GUARD, Step.DISARM, Step.UNLOCK)),
    (Step.DATA, "kill"),
]
# The way back of a restore that had exchanged the files already.
UNDOING = [(Step.REVERT_DATA, "kill"), (Step.REVERT_DATA, "kill-after"), (Step.REVERT_START, "kill-after")]


@pytest.fixture
def stack(shared_rig: Rig) -> Stack:
    rig = shared_rig
    wanted = [rig.item("0.1.0", options={f"{NAME}-note": "old"}), rig.second()]
    rig.end_deadman()
    rig.run("reverted")
    rig.settle(wanted)
    return wanted


def starts(rig: Rig) -> int:
    with sqlite3.connect(f"{database(rig).as_uri()}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM fixture_starts").fetchone()[0])


def test_a_dry_run_lists_the_loss_and_changes_nothing(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, "later")
    before = rig.node.journal_file.read_bytes()
    outcome = call(rig, set_id, apply=False)
    assert outcome["phase"] == "planned"
    assert outcome["loss"][NAME]["fixture_starts"]["lost"] == 1
    assert outcome["phrase"] == phrase_of(rig, set_id)
    assert rig.node.journal_file.read_bytes() == before
    assert "later" in marks(rig)


def test_behind_the_fence_only_the_exact_phrase_opens(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, "precious")
    for phrase in ("", "yes", phrase_of(rig, set_id) + "!"):
        outcome = call(rig, set_id, apply=True, phrase=phrase)
        assert (outcome["phase"], outcome["code"]) == ("refused", "fenced")
    assert "precious" in marks(rig)
    outcome = call(rig, set_id, apply=True, phrase=phrase_of(rig, set_id))
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert "precious" not in marks(rig)
    kept = Path(outcome["aside"])
    with sqlite3.connect(kept / "000-hive_fixture.db") as old:
        assert old.execute("SELECT count(*) FROM fixture_starts WHERE version = 'precious'").fetchone()[0] == 1
    assert (rig.node.network_dir / "hive_fixture.db.restored").exists()
    rig.assert_runs(stack)


def test_an_older_set_than_the_last_restore_is_fenced_though_nothing_seems_lost(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    first, second = backup(rig), backup(rig)
    assert call(rig, second, apply=True, phrase=phrase_of(rig, second))["phase"] == "confirmed"
    outcome = call(rig, first, apply=False)
    assert any("older than the change of the databases" in reason for reason in outcome["fence"])


@pytest.mark.parametrize(("step", "action"), KILLED, ids=lambda part: getattr(part, "value", part))
def test_killed_at_a_step_the_next_call_leaves_whole_data(
    shared_rig: Rig, stack: Stack, step: Step, action: str
) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, f"after {step.value} {action}")
    note = database(rig).with_name("hive_fixture.db.restored")
    before = read_bytes(note)
    code, _ = rig.crash(
        f"{step.value}:{action}", "restored", set_id=set_id, phrase=phrase_of(rig, set_id), deadman_seconds=0.0
    )
    assert code == -signal.SIGKILL, "the failpoint was not reached"
    outcome = rig.run("reverted")
    assert outcome["phase"] == "reverted", outcome.get("error")
    rig.assert_runs(stack)
    assert f"after {step.value} {action}" in marks(rig), "undone means the data of before"
    assert read_bytes(note) == before, "and not the note of this restore"
    assert not list(rig.node.network_dir.glob(".*hive-restore")), "no copy of anything is left beside it"


@pytest.mark.parametrize("step", [Step.DISARM, Step.UNLOCK], ids=lambda step: step.value)
def test_killed_once_it_was_confirmed_the_set_s_data_stays(shared_rig: Rig, stack: Stack, step: Step) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, f"lost at {step.value}")
    phrase = phrase_of(rig, set_id)
    code, _ = rig.crash(f"{step.value}:kill", "restored", set_id=set_id, phrase=phrase, deadman_seconds=0.0)
    assert code == -signal.SIGKILL, "the failpoint was not reached"
    assert rig.run("reverted")["changed"] is False
    rig.assert_runs(stack)
    assert f"lost at {step.value}" not in marks(rig)


@pytest.mark.parametrize(("step", "action"), UNDOING, ids=lambda part: getattr(part, "value", part))
def test_killed_while_it_is_undone_the_next_call_ends_it(
    shared_rig: Rig, stack: Stack, step: Step, action: str
) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, f"before {step.value} {action}")
    phrase = phrase_of(rig, set_id)
    code, _ = rig.crash("verify:kill", "restored", set_id=set_id, phrase=phrase, deadman_seconds=0.0)
    assert code == -signal.SIGKILL
    rig.end_deadman()
    code, _ = rig.crash(f"{step.value}:{action}", "reverted")
    assert code == -signal.SIGKILL, "the failpoint was not reached"
    if step is Step.REVERT_START:
        # The first plugin runs on its data again: what it writes from now on must not be lost to the second attempt.
        mark(rig, "written meanwhile")
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(stack)
    assert f"before {step.value} {action}" in marks(rig)
    assert step is not Step.REVERT_START or "written meanwhile" in marks(rig)


def test_failed_after_the_exchange_the_old_data_comes_back_by_itself(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    set_id = backup(rig)
    mark(rig, "kept")
    before = starts(rig)
    code, outcome = rig.crash(
        "verify:error", "restored", set_id=set_id, phrase=phrase_of(rig, set_id), deadman_seconds=0.0
    )
    assert code == 1
    assert (outcome["phase"], outcome["reverted"]) == ("reverted", True)
    assert "kept" in marks(rig)
    assert starts(rig) > before
    rig.assert_runs(stack)


@pytest.mark.parametrize(
    ("damage", "code"),
    [("flip", "set-damaged"), ("remove", "set-damaged"), ("manifest", "no-set"), ("other node", "set-forged")],
)
def test_a_set_that_is_not_whole_or_not_ours_is_refused(shared_rig: Rig, stack: Stack, damage: str, code: str) -> None:
    rig = shared_rig
    set_id = backup(rig)
    folder = rig.node.backups_dir / set_id
    copy = folder / NAME / "hive_fixture.db"
    if damage == "flip":
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
    elif damage == "remove":
        copy.unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text.replace('"node_id":"0', '"node_id":"9'))
    outcome = call(rig, set_id, apply=True, phrase=phrase_of(rig, set_id))
    assert (outcome["phase"], outcome["code"]) == ("refused", code)
    rig.assert_runs(stack)


def test_a_set_of_a_newer_schema_waits_for_its_release(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    newer = [rig.item("0.4.0", "new-schema", options={f"{NAME}-note": "old"}), stack[1]]
    kept = database(rig).read_bytes()
    rig.settle(newer)
    set_id = backup(rig)
    rig.settle([])
    database(rig).write_bytes(kept)
    rig.settle(stack)
    outcome = call(rig, set_id, apply=True, phrase=phrase_of(rig, set_id))
    assert outcome["code"] == "schema-too-new"
    assert "0.4.0" in outcome["error"]
    rig.assert_runs(stack)


def test_the_oldest_set_of_all_is_restored_and_none_is_removed_for_it(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    made = [backup(rig) for _ in range(3)]
    outcome = call(rig, made[0], apply=True, phrase=phrase_of(rig, made[0]), keep=1)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert set(made) < {item["id"] for item in list_backups(rig.node)}


def test_the_newest_verified_set_is_never_removed(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    seen = look(rig.machine, 10.0)
    made = [take_backup(rig.node, seen, BackupRequest("test", 2))["id"] for _ in range(4)]
    # Sets that other tests of this rig have damaged are no sets any more; nobody but a human removes them.
    assert [item["id"] for item in list_backups(rig.node)] == made[-2:]
    assert not list(rig.node.backups_dir.glob(".partial*"))
