"""A restore whose disk is full at every write, fills up in the middle, or cannot be written: the old data runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import Guard
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.record import Record
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.restore import Restore
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.mounts import read_only, rig_on_disks, room
from faults.restoring import apply, backup, execute, mark, marks
from faults.rig import Rig

Stack = list[dict[str, Any]]
STATE_KIB, LIGHTNING_KIB = 16384, 16384


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node whose state directory and whose lightning directory are small disks, so that nothing can be linked."""
    with rig_on_disks(tmp_path_factory.mktemp("rig"), hive=STATE_KIB, lightning=LIGHTNING_KIB) as rig:
        yield rig


@pytest.fixture(scope="module")
def stack(disks: Rig) -> Stack:
    wanted = [disks.item("0.1.0"), disks.second()]
    disks.settle(wanted)
    execute(disks, "CREATE TABLE ballast (x BLOB); INSERT INTO ballast VALUES (randomblob(120000))")
    return wanted


@pytest.fixture
def set_id(disks: Rig, stack: Stack) -> str:
    made = backup(disks)
    mark(disks, "later")
    return made


def assert_untouched(rig: Rig, stack: Stack) -> None:
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(stack)
    assert "later" in marks(rig)
    assert not list(rig.node.network_dir.glob(".*hive-restore"))


@pytest.mark.parametrize("disk", ["hive", "lightning"])
def test_full_at_whichever_write_comes_first_the_old_data_runs(
    disks: Rig, stack: Stack, set_id: str, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With some more pages each time; the looks at the disk are left out, as if the room had gone right after them."""
    monkeypatch.setattr(Guard, "disk", lambda guard: None)
    monkeypatch.setattr(Restore, "_guard_room", lambda restore, plan: None)
    codes, who = set(), disks.machine.identity()
    for pages in itertools.accumulate(itertools.count(1, 14)):
        with room(disks.root / disk, pages - 1):
            outcome = apply(disks, set_id)
            if outcome["phase"] == "confirmed":
                break
            codes.add(outcome["code"])
            assert outcome["phase"] in ("refused", "reverted"), outcome["error"]
            assert "later" in marks(disks)
        assert_untouched(disks, stack)
    assert codes <= {"disk-full", "backup-failed"}
    assert "disk-full" in codes
    assert "later" not in marks(disks)
    disks.assert_runs(stack)
    assert disks.machine.identity() == who


@contextmanager
def full_from(step: Step, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let both disks be full from the act of a step on."""
    original = Record.step
    with ExitStack() as full:

        @contextmanager
        def patched(record: Record, now: Step, **data: Any) -> Iterator[dict[str, Any]]:
            with original(record, now, **data) as outcome:
                if now is step:
                    full.enter_context(room(rig.node.state_dir, 0))
                    full.enter_context(room(rig.lightning_dir, 0))
                yield outcome

        with monkeypatch.context() as patch:
            patch.setattr(Record, "step", patched)
            yield


@pytest.mark.parametrize("step", [Step.COPY, Step.DATA], ids=lambda step: step.value)
def test_full_from_a_step_on_the_old_data_is_back_before_there_is_room(
    disks: Rig, stack: Stack, set_id: str, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_from(step, disks, monkeypatch):
        outcome = apply(disks, set_id)
        assert outcome["phase"] == ("refused" if step is Step.COPY else "reverted"), outcome.get("error")
        assert outcome["code"] == "disk-full"
        assert "later" in marks(disks)
    assert_untouched(disks, stack)


@pytest.mark.parametrize("where", ["hive", "lightning/regtest"])
def test_a_read_only_disk_is_named_and_nothing_is_touched(disks: Rig, stack: Stack, set_id: str, where: str) -> None:
    with read_only(disks.root / where):
        outcome = apply(disks, set_id)
        assert (outcome["phase"], outcome["code"]) == ("refused", "read-only")
        assert Path(where).name in outcome["error"]
    assert_untouched(disks, stack)


def test_a_set_that_does_not_fit_beside_what_is_there_is_refused_before_anything(
    disks: Rig, stack: Stack, set_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "disk", lambda guard: None)
    with room(disks.lightning_dir, 20):
        outcome = apply(disks, set_id)
    assert (outcome["phase"], outcome["code"]) == ("refused", "disk-full")
    assert "beside what is there" in outcome["error"]
    assert_untouched(disks, stack)
