"""Disks that are full, fill up in the middle, or cannot be written at all: the old stack answers, then and afterwards.

Real ones: file systems of a few hundred pages that only the test and its node can see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import Guard
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.record import Record
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.reserve import reserve_file
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.mounts import read_only, rig_on_disks, room
from faults.rig import NAME, Rig

Stack = list[dict[str, Any]]
NOTE = f"{NAME}-note"
PAGE = 4096
STATE_KIB, LIGHTNING_KIB = 8192, 16384


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node whose state directory and whose lightning directory are small disks."""
    with rig_on_disks(tmp_path_factory.mktemp("rig"), hive=STATE_KIB, lightning=LIGHTNING_KIB) as rig:
        yield rig


@pytest.fixture
def stacks(disks: Rig) -> tuple[Stack, Stack]:
    old = [disks.item("0.1.0", options={NOTE: "old"}), disks.second()]
    disks.end_deadman()
    disks.run("reverted")
    disks.settle(old)
    return old, [disks.item("0.2.0", options={NOTE: "new"}), old[1]]


def versions(stack: Stack) -> dict[str, str]:
    return {item["name"]: item["version"] for item in stack}


def test_full_at_whichever_write_comes_first_nothing_is_touched(
    disks: Rig, stacks: tuple[Stack, Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one more page each time, every write before the first stop is the one that fails once.

    The guard's own look at the disk is left out, as if the room had gone right after it.
    """
    monkeypatch.setattr(Guard, "disk", lambda guard: None)
    old, new = stacks
    messages, pages, who = set(), 0, disks.machine.identity()
    while True:
        with room(disks.node.state_dir, pages):
            outcome = disks.run("switched", new, min_free_bytes=0)
            if outcome["phase"] == "switched":
                break
            assert outcome["phase"] == "refused"
            assert outcome["code"] in ("disk-full", "backup-failed")
            assert "full" in outcome["error"]
            assert disks.running() == versions(old)
            messages.add(outcome["error"].split(" is full")[0].split("/.partial")[0])
        assert disks.run("reverted")["phase"] == "reverted"
        disks.assert_runs(old)
        pages += 1 if pages < 16 else 40
    assert {Path(message).name for message in messages} >= {"hive", "transactions", "backups"}
    assert disks.run("reverted")["phase"] == "reverted"
    disks.assert_runs(old)
    assert disks.machine.identity() == who


@contextmanager
def filled_from(step: Step, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the disk be full, to the last byte of the journal's last page, from the act of a step on."""
    original = Record.step
    with ExitStack() as full:

        @contextmanager
        def patched(record: Record, now: Step, **data: Any) -> Iterator[dict[str, Any]]:
            with original(record, now, **data) as outcome:
                if now is step and record.node.journal_file.stat().st_size:
                    _pad(record)
                    full.enter_context(room(disk, 0))
                yield outcome

        with monkeypatch.context() as patch:
            patch.setattr(Record, "step", patched)
            yield


def _pad(record: Record) -> None:
    """Fill the journal's last page; again when a shorter time in an entry left it one byte into the next."""
    for _ in range(20):
        before = record.node.journal_file.stat().st_size
        record.note("padding", {"text": ""})
        after = record.node.journal_file.stat().st_size
        record.note("padding", {"text": "x" * ((-2 * after + before) % PAGE)})
        if record.node.journal_file.stat().st_size % PAGE in (0, PAGE - 1):
            return
    raise AssertionError("the journal never ends with its page")


@pytest.mark.parametrize("step", [Step.STOP, Step.START, Step.WRITE, Step.VERIFY], ids=lambda step: step.value)
def test_filled_up_in_the_middle_the_old_stack_is_back_before_there_is_room(
    disks: Rig, stacks: tuple[Stack, Stack], monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    old, new = stacks
    with filled_from(step, disks.node.state_dir, monkeypatch):
        outcome = disks.run("switched", new, min_free_bytes=0)
        assert (outcome["phase"], outcome["code"]) == ("reverted", "disk-full"), outcome["error"]
        assert disks.running() == versions(old)
    disks.assert_runs(old)
    assert not reserve_file(disks.node).exists()


def test_the_room_for_the_way_back_is_given_back(disks: Rig, stacks: tuple[Stack, Stack]) -> None:
    _, new = stacks
    assert disks.run("switched", new)["phase"] == "switched"
    assert reserve_file(disks.node).stat().st_blocks * 512 >= 512 * 1024
    assert disks.run("confirmed")["phase"] == "confirmed"
    assert not reserve_file(disks.node).exists()


def test_full_where_lightningd_writes_is_refused_before_a_plugin_is_stopped(
    disks: Rig, stacks: tuple[Stack, Stack]
) -> None:
    old, new = stacks
    for pages in (0, 1, 200):
        with room(disks.lightning_dir, pages):
            outcome = disks.run("switched", new, min_free_bytes=1 << 20)
            assert (outcome["phase"], outcome["code"]) == ("refused", "disk-full")
            assert disks.running() == versions(old)
    disks.assert_runs(old)


@pytest.mark.parametrize("where", ["hive", "hive/backups", "hive/transactions", "lightning", "lightning/regtest"])
def test_what_cannot_be_written_is_named_and_nothing_is_touched(
    disks: Rig, stacks: tuple[Stack, Stack], where: str
) -> None:
    old, new = stacks
    who = disks.machine.identity()
    with read_only(disks.root / where):
        outcome = disks.run("switched", new)
        assert (outcome["phase"], outcome["code"]) == ("refused", "read-only")
        assert where in outcome["error"]
        assert "make it writable" in outcome["error"]
        assert disks.running() == versions(old)
    assert disks.run("reverted")["phase"] == "reverted"
    disks.assert_runs(old)
    assert disks.machine.identity() == who


def test_a_fleet_hears_of_a_read_only_disk_before_any_node_is_changed(disks: Rig, stacks: tuple[Stack, Stack]) -> None:
    with read_only(disks.node.network_dir):
        problems = {problem["code"]: problem["message"] for problem in disks.observe()["problems"]}
    assert str(disks.node.network_dir) in problems["read-only"]
    assert stacks
    assert disks.observe()["problems"] == []


def test_slots_may_be_read_only(disks: Rig, stacks: tuple[Stack, Stack]) -> None:
    """As a container sees them."""
    _, new = stacks
    with read_only(disks.node.slots_dir):
        assert disks.run("switched", new, deadman_seconds=0.0)["phase"] == "confirmed"
        disks.assert_runs(new)
