"""Backups that die, find no room or come by the clock: earlier sets stay whole, and everybody hears of a failure."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _probe_setup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import backup_state, backup_timer, probe
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backups import (
    Part,
    is_whole,
    verify_set,
    verify_signature,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.bundle import engine_archive
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.deadman import facts_file, install_engine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.lock import engine_lock, take_lock
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import list_backups
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import last_sample
from faults.backup_sets import backup, leftovers, names, path_of, prepare
from faults.mounts import own_mounts, read_only, room, small_disk
from faults.rig import Rig
from waiting import wait_until

HOUR = 3600.0


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node whose state directory is a small disk of its own."""
    root = tmp_path_factory.mktemp("rig")
    with own_mounts():
        small_disk(root / "hive", 16384)
        rig = Rig(root)
        rig.start()
        prepare(rig)
        yield rig
        rig.stop()


@pytest.fixture(scope="module")
def rig(shared_rig: Rig) -> Rig:
    prepare(shared_rig)
    return shared_rig


@pytest.fixture
def timed(rig: Rig) -> Iterator[Rig]:
    """The node with the settings of a probe that takes a set every hour, and no process that would."""
    archive, digest = engine_archive()
    install_engine(rig.node, archive, digest)
    settings = {
        "schema": 1,
        "node": rig.node.as_params(),
        "engine": digest,
        "every": 1.0,
        "keep_seconds": 600.0,
        "max_bytes": 1 << 20,
        "backup_every": HOUR,
        "backup_keep": 3,
        "metrics_dir": str(rig.root / "textfiles"),
        "kind": "process",
    }
    write_atomic(probe.settings_file(rig.node), canonical(settings), rig.node.keeper)
    forget(rig)
    yield rig
    probe.settings_file(rig.node).unlink()


def forget(rig: Rig) -> None:
    """Let nothing be known of earlier backups but the sets themselves."""
    (rig.node.state_dir / backup_state.FILE).unlink(missing_ok=True)


def settings_of(rig: Rig) -> dict[str, Any]:
    return probe.load(probe.settings_file(rig.node))


def run_timer(rig: Rig, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program that the timer starts."""
    engine = rig.node.state_dir / "engine" / engine_archive()[1] / "hive-engine.pyz"
    command = backup_timer.command(engine, probe.settings_file(rig.node))
    return subprocess.run(
        [command[0], "-I", *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def metrics(path: Path) -> dict[str, float]:
    """Return what Prometheus would read."""
    found = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def gauges(rig: Rig) -> dict[str, float]:
    found = metrics(rig.node.state_dir / "metrics" / backup_state.METRICS)
    return {name.partition("{")[0].removeprefix("lightning_hive_backup_"): value for name, value in found.items()}


# Death


def test_killed_at_any_part_earlier_sets_are_whole_and_the_next_call_tidies_up(timed: Rig) -> None:
    rig = timed
    for part in Part:
        before = names(rig)
        done = run_timer(rig, HIVE_FAULTS="1", HIVE_FAILPOINT=f"{part.value}:kill")
        assert done.returncode == -signal.SIGKILL, (part, done.stderr)
        published = set(names(rig)) - set(before)
        assert len(published) == (1 if part is Part.PRUNE else 0), part
        assert all(is_whole(rig.node.backups_dir / name) for name in names(rig)), part
        assert backup(rig, keep=3)["id"] in names(rig)
        assert not leftovers(rig)
        assert len(names(rig)) <= 3
    newest = rig.node.backups_dir / names(rig)[-1]
    verify_signature(newest, verify_set(newest), rig.machine)


# Disks


def test_full_at_whichever_write_comes_first_earlier_sets_are_whole(disks: Rig) -> None:
    """With one more page each time, every write of a backup is the one that fails once."""
    rig = disks
    good = backup(rig, keep=1)
    codes, files, pages = set(), set(), 0
    while True:
        with room(rig.node.state_dir, pages):
            try:
                made = backup(rig, keep=1)
            except HiveError as error:
                codes.add(error.code)
                files.add(Path(str(error.data.get("path", "copy"))).name)
            else:
                break
        assert names(rig) == [good["id"]]
        assert is_whole(path_of(rig, good))
        assert not leftovers(rig)
        pages += 1
    assert codes == {"disk-full", "backup-failed"}
    assert {"copy", "hive.conf", "stack.json", "manifest.json", "manifest.sig"} <= files
    assert names(rig) == [made["id"]]
    assert is_whole(path_of(rig, made))
    # Where there was room for the set but not for what is told of it, it is told next time.
    backup(rig, keep=1)
    assert backup_state.failing(backup_state.read(rig.node)) is None


def test_what_would_leave_lightningd_no_room_is_not_begun(disks: Rig) -> None:
    """lightningd ends when it cannot write, and it may share the disk with its backups."""
    rig = disks
    good = backup(rig, keep=1)
    with pytest.raises(HiveError) as refusal:
        backup(rig, keep=1, min_free_bytes=1 << 40)
    assert refusal.value.code == "disk-full"
    assert "hive_min_free_bytes" in refusal.value.message
    assert (names(rig), leftovers(rig)) == ([good["id"]], [])
    settings = {"node": rig.node.as_params(), "min_free_bytes": 1 << 40}
    with pytest.raises(HiveError) as by_the_clock:
        backup_timer.scheduled(rig.node, settings)
    assert by_the_clock.value.code == "disk-full"
    assert (backup_state.failing(backup_state.read(rig.node)) or {})["code"] == "disk-full"
    made = backup_timer.scheduled(rig.node, {**settings, "min_free_bytes": 1})
    assert made is not None
    assert made["verified"]


def test_on_a_read_only_disk_it_is_refused_and_nothing_is_lost(disks: Rig) -> None:
    rig = disks
    good = backup(rig, keep=1)
    with read_only(rig.node.state_dir), pytest.raises(HiveError) as refusal:
        backup(rig, keep=1)
    assert refusal.value.code == "read-only"
    assert names(rig) == [good["id"]]
    assert is_whole(path_of(rig, good))


def test_an_older_set_that_cannot_be_removed_costs_no_new_one(disks: Rig) -> None:
    rig = disks
    old = backup(rig, keep=1)
    with read_only(path_of(rig, old)):
        made = backup(rig, keep=1)
    assert made["verified"]
    assert any("could not be removed" in remark for remark in made["remarks"])
    assert backup_state.read(rig.node)["success"]["id"] == made["id"]
    assert names(rig) == [old["id"], made["id"]]
    backup(rig, keep=1)
    assert old["id"] not in names(rig)


def test_a_set_that_was_damaged_since_does_not_stand_in_for_a_whole_one(disks: Rig) -> None:
    """However many newer ones there are, and whatever the clock says: the last whole verified set stays."""
    rig = disks
    whole = backup(rig, keep=1)
    rotten = backup(rig, keep=5)
    with (path_of(rig, rotten) / "hive.conf").open("ab") as file:
        file.write(b"#")
    key = rig.node.network_dir / "fixture.secrets"
    key.rename(key.with_name("away"))
    try:
        for _ in range(3):
            assert not backup(rig, keep=2)["verified"]
            assert whole["id"] in names(rig)
    finally:
        key.with_name("away").rename(key)
    assert len(names(rig)) <= 3
    sound = backup(rig, keep=2)
    assert sound["id"] in names(rig)
    assert whole["id"] not in names(rig)


# By the clock


def test_one_that_is_due_is_taken_by_a_process_of_its_own(timed: Rig) -> None:
    rig, before = timed, names(timed)
    sample = probe.tick(settings_of(rig))
    assert sample is not None
    assert sample["backup"] == {"newest": 0.0, "failure": "", "due": True}
    wait_until(lambda: backup_state.read(rig.node)["success"], 30, "the timer's set is there")
    made = backup_state.read(rig.node)["success"]["id"]
    assert made not in before
    manifest = verify_set(rig.node.backups_dir / made)
    assert (manifest["reason"], manifest["verified"]) == ("the timer", True)
    with engine_lock(rig.node, 10.0):
        sample = probe.tick(settings_of(rig))
    assert sample is not None
    assert (sample["backup"]["due"], sample["backup"]["newest"]) == (False, manifest["created_at"])
    assert [entry["data"]["id"] for entry in journal(rig) if entry["event"] == "backup"][-1:] == [made]


def journal(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rig.node.journal_file.read_bytes().splitlines()]


def open_switch(rig: Rig) -> None:
    rig.run("switched", [rig.item("0.2.0"), rig.second()])


def close_switch(rig: Rig) -> None:
    rig.end_deadman()
    rig.run("reverted")


def hold(rig: Rig) -> None:
    take_lock(rig.lock_file, rig.node.keeper, "somebody", "another rollout", 60.0, break_lock=False)


def let_go(rig: Rig) -> None:
    rig.lock_file.unlink()


@pytest.mark.parametrize(("begin", "end"), [(open_switch, close_switch), (hold, let_go)])
def test_none_is_taken_while_somebody_works_on_the_node(
    timed: Rig, begin: Callable[[Rig], None], end: Callable[[Rig], None]
) -> None:
    rig = timed
    begin(rig)
    forget(rig)
    before = names(rig)
    try:
        assert not backup_timer.due(rig.node, backup_state.read(rig.node), HOUR, time.time())
        done = run_timer(rig)
        assert (done.returncode, done.stdout) == (0, "")
        if facts_file(rig.node).exists():
            # The switch is open all the same when nobody watches it any more.
            facts_file(rig.node).rename(rig.root / "deadman.json")
            rig.lock_file.unlink(missing_ok=True)
            assert run_timer(rig).stdout == ""
            (rig.root / "deadman.json").rename(facts_file(rig.node))
        assert names(rig) == before
    finally:
        end(rig)
    assert run_timer(rig).stdout.strip() in names(rig)


def test_none_is_taken_beside_another_engine(timed: Rig) -> None:
    with engine_lock(timed.node, 10.0):
        done = run_timer(timed)
    assert (done.returncode, done.stdout) == (0, "")
    assert backup_state.read(timed.node)["attempt"] == 0, "it is asked again at the next look"


def test_a_failure_is_seen_by_everybody_and_tried_again_later(timed: Rig) -> None:
    rig = timed
    backup(rig)
    key = rig.node.network_dir / "fixture.secrets"
    key.rename(key.with_name("away"))
    key.symlink_to(key.with_name("away"))
    try:
        done = run_timer(rig)
    finally:
        key.unlink()
        key.with_name("away").rename(key)
    assert done.returncode == 1
    assert "plain file" in done.stderr
    state = backup_state.read(rig.node)
    assert not backup_timer.due(rig.node, {**state, "success": None}, HOUR, time.time())
    assert backup_timer.due(rig.node, {**state, "success": None}, HOUR, time.time() + backup_timer.AGAIN_SECONDS)
    sample = probe.tick(settings_of(rig))
    assert sample is not None
    assert sample["backup"]["failure"] == "strange-file"
    kept = last_sample(probe.ring_file(rig.node))
    assert kept is not None
    assert kept["backup"]["failure"] == "strange-file"
    assert gauges(rig)["last_failure_timestamp_seconds"] == state["failure"]["at"]
    seen = rig.observe()["backup"]
    assert (seen["failure"]["code"], seen["failure"]["reason"]) == ("strange-file", "the timer")
    assert run_timer(rig).returncode == 0
    assert rig.observe()["backup"]["failure"] is None


def test_a_set_that_was_removed_or_is_of_the_future_is_not_recent(timed: Rig) -> None:
    rig = timed
    made = backup(rig)
    state, now = backup_state.read(rig.node), time.time()
    assert not backup_timer.due(rig.node, state, HOUR, now)
    assert backup_timer.due(rig.node, state, HOUR, now + HOUR + 60)
    assert backup_timer.due(rig.node, state, HOUR, now - HOUR), "it was made before the clock was put right"
    (path_of(rig, made) / "manifest.json").rename(path_of(rig, made) / "gone")
    assert backup_timer.due(rig.node, state, HOUR, now)
    (path_of(rig, made) / "gone").rename(path_of(rig, made) / "manifest.json")


# What monitoring reads


def test_metrics_say_what_there_is_and_are_readable_by_others(timed: Rig) -> None:
    rig = timed
    made = backup(rig)
    sets = list_backups(rig.node)
    assert gauges(rig) == {
        "last_success_timestamp_seconds": made["created_at"],
        "last_success_bytes": made["bytes"],
        "last_success_duration_seconds": pytest.approx(made["duration_ms"] / 1000),
        "sets": len(sets),
        "verified_sets": sum(item["verified"] for item in sets),
        "last_failure_timestamp_seconds": 0,
        "channel_backup_timestamp_seconds": pytest.approx(
            (rig.node.network_dir / "emergency.recover").stat().st_mtime, abs=0.01
        ),
    }
    own = rig.node.state_dir / "metrics" / backup_state.METRICS
    also = rig.root / "textfiles" / "hive_backup_rig.prom"
    assert also.read_bytes() == own.read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (own, also)} == {0o644}
    assert all('{node="rig"}' in name for name in metrics(also))


def test_a_directory_that_cannot_be_written_costs_no_set(timed: Rig) -> None:
    (timed.root / "file").write_bytes(b"")
    made = backup(timed, metrics_dir=str(timed.root / "file" / "textfiles"))
    assert made["verified"]
    assert any("monitoring" in remark for remark in made["remarks"])
    assert is_whole(path_of(timed, made))


def test_the_probe_that_is_installed_takes_sets(rig: Rig) -> None:
    forget(rig)
    folder = rig.root / "textfiles"
    wanted = _probe_setup.Wanted(1.0, 600.0, 1 << 20, HOUR, 3, str(folder))
    assert _probe_setup.install(rig.node, wanted, check_mode=False)["changed"]
    try:
        wait_until(lambda: backup_state.read(rig.node)["success"], 30, "the installed probe has taken a set")
        with engine_lock(rig.node, 10.0):
            assert rig.observe()["backup"]["every"] == HOUR
        assert list(folder.iterdir()) == [folder / "hive_backup_rig.prom"]
    finally:
        _probe_setup.remove(rig.node, check_mode=False)
    assert list(folder.iterdir()) == [], "nobody takes yesterday's metrics for today's"


@pytest.mark.parametrize("wanted", [{"backup_every": 5.0}, {"metrics_dir": "textfiles"}])
def test_settings_that_make_no_sense_are_refused(rig: Rig, wanted: dict[str, Any]) -> None:
    with pytest.raises(HiveError) as refusal:
        _probe_setup.install(rig.node, _probe_setup.Wanted(1.0, 600.0, 1 << 20, **wanted), check_mode=True)
    assert refusal.value.code == "bad-probe"
