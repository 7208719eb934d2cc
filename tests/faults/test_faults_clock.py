"""A clock that is an hour off, or is put right in the middle: deadlines, locks, backups and fences hold."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import backups, deadman, deadman_watch
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import BackupRequest, take_backup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.guard import look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import list_backups
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.restore import RestoreRequest, restore
from faults.rig import NAME, Rig

Stack = list[dict[str, Any]]
HOUR = 3600.0


@pytest.fixture
def stacks(shared_rig: Rig) -> tuple[Stack, Stack]:
    rig = shared_rig
    old = [rig.item("0.1.0", options={f"{NAME}-note": "old"}), rig.second()]
    rig.end_deadman()
    rig.run("reverted")
    rig.settle(old)
    return old, [rig.item("0.2.0", options={f"{NAME}-note": "new"}), old[1]]


@pytest.fixture
def off(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that puts the wall clock of this process off by so many seconds; boot clock and others stay right."""
    real = time.time

    def put(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return put


def new_backup(rig: Rig, keep: int = 20) -> str:
    return str(take_backup(rig.node, look(rig.machine, 10.0), BackupRequest("test", keep))["id"])


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_switch_with_the_clock_off_goes_through_and_back(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None], hours: int
) -> None:
    rig, (old, new) = shared_rig, stacks
    off(hours * HOUR)
    assert rig.run("switched", new)["phase"] == "switched"
    off(0)
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(old)


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_is_put_right_while_the_dead_man_waits(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None], hours: int
) -> None:
    """It counts seconds of the boot clock: neither early by an hour nor late by one."""
    rig, (old, new) = shared_rig, stacks
    rig.run("switched", new, deadman_seconds=3.0)
    rig.end_deadman()
    facts = deadman.watching(rig.node)
    assert facts is not None
    left, began = deadman.left(facts), time.monotonic()
    readings = itertools.chain([time.time()], itertools.repeat(time.time() + hours * HOUR))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: next(readings))
        reason = deadman_watch.wait(rig.node, str(facts["transaction"]), str(facts["token"]), facts)
    assert reason == deadman.UNCONFIRMED
    assert left - 0.5 <= time.monotonic() - began <= left + 3
    assert rig.run("reverted")["phase"] == "reverted"
    rig.assert_runs(old)


def test_a_lock_outlives_a_clock_that_was_put_back_and_is_never_broken_unasked(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None]
) -> None:
    rig, (old, new) = shared_rig, stacks
    assert rig.run("switched", new, lock_ttl_seconds=600)["phase"] == "switched"
    for hours, code in ((-1, "locked"), (1, "stale-lock")):
        off(hours * HOUR)
        assert rig.run("switched", old, rollout="other")["code"] == code
    off(0)
    # The rollout that holds it takes no notice of what the clock says about its own lock.
    off(HOUR)
    assert rig.run("confirmed")["phase"] == "confirmed"
    off(0)
    rig.assert_runs(new)


def test_a_backup_from_the_future_is_not_recent(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None]
) -> None:
    rig, _ = shared_rig, stacks
    off(HOUR)
    ahead = new_backup(rig)
    seen = look(rig.machine, 10.0)
    found = backups.recent_backup(rig.node, seen, HOUR)
    assert found is not None
    assert found["id"] == ahead
    off(0)
    found = backups.recent_backup(rig.node, seen, HOUR)
    assert found is None or found["id"] != ahead


def test_the_set_just_made_is_never_removed_whatever_the_clock_says(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None]
) -> None:
    rig, _ = shared_rig, stacks
    off(HOUR)
    ahead = [new_backup(rig) for _ in range(2)]
    off(0)
    first = new_backup(rig, keep=2)
    second = new_backup(rig, keep=2)
    kept = [item["id"] for item in list_backups(rig.node)]
    assert kept == [first, second]
    assert not set(ahead) & set(kept), "those from the future are the oldest"
    assert all(Path(rig.node.backups_dir / name / "manifest.json").is_file() for name in kept)


def test_a_set_from_the_future_is_fenced(
    shared_rig: Rig, stacks: tuple[Stack, Stack], off: Callable[[float], None]
) -> None:
    rig, _ = shared_rig, stacks
    off(HOUR)
    ahead = new_backup(rig)
    off(0)
    request = rig.request("restored", deadman_seconds=0.0)
    with pytest.raises(HiveError) as refusal:
        restore(rig.node, RestoreRequest(ahead, True, "", request))
    assert refusal.value.code == "fenced"
    assert "put right" in str(refusal.value.data)
