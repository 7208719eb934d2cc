"""Bad releases: each is refused or undone, with one sentence; the old one answers again, and lightningd runs on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from faults.rig import NAME, SECOND, TIMEOUTS, Rig

Stack = list[dict[str, Any]]

NOTE = f"{NAME}-note"


@pytest.fixture
def old(shared_rig: Rig) -> Stack:
    """The stack that must survive."""
    stack = [shared_rig.item("0.1.0", options={NOTE: "old"}), shared_rig.second()]
    shared_rig.settle(stack)
    return stack


def poll(rig: Rig, until: threading.Event, gaps: list[float]) -> None:
    """Ask the plugin every 10 ms and write down for how long it did not answer."""
    rpc = rig.machine.new_rpc()
    last = time.monotonic()
    while not until.is_set():
        if rig.machine.health(f"{NAME}-health", 0.2, rpc) is not None:
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        until.wait(0.01)
    rpc.close()


@pytest.mark.parametrize(
    ("kind", "phase", "words"),
    [
        ("crash-at-init", "reverted", "exited before replying to init"),
        ("disable-at-init", "reverted", "disabled itself"),
        ("unhealthy", "reverted", "reports failed"),
        ("hang-at-init", "reverted", "did not answer init"),
        ("clash-with-builtin", "refused", "getinfo"),
        ("clash-with-plugin", "refused", f"{SECOND}-status"),
        ("clash-of-option", "refused", "alias"),
        ("hang-at-getmanifest", "refused", "getmanifest"),
    ],
)
def test_a_bad_release_leaves_the_node_as_it_was(
    shared_rig: Rig, old: Stack, kind: str, phase: str, words: str
) -> None:
    rig = shared_rig
    lightningd = rig.machine.identity()
    outcome = rig.run("switched", [rig.item("0.9.0", kind, options={NOTE: "old"}), old[1]])
    assert outcome["phase"] == phase
    assert outcome["reverted"] is (phase == "reverted")
    assert words in outcome["error"]
    assert outcome["error"].count(". ") == 0, "one sentence"
    assert outcome["lightningd_restarts"] == 0
    assert rig.machine.identity() == lightningd
    rig.assert_runs(old)
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "old"


def test_after_a_crash_at_init_the_old_release_answers_soon(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    done, gaps = threading.Event(), list[float]()
    watcher = threading.Thread(target=poll, args=(rig, done, gaps))
    watcher.start()
    try:
        outcome = rig.run("switched", [rig.item("0.9.0", "crash-at-init"), old[1]])
    finally:
        done.set()
        watcher.join()
    assert outcome["phase"] == "reverted"
    assert max(gaps) <= 3.0


def test_a_release_that_cannot_start_here_costs_no_downtime(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    broken = rig.item("0.9.1", "good")
    entry = rig.node.slots_dir / NAME / broken["digest"][:12] / "lib/hive_fixture/__init__.py"
    entry.write_text("import a_dependency_that_is_not_there\n")
    rig.remark(broken)
    starts = rig.call(f"{NAME}-status")["starts"]
    outcome = rig.run("switched", [broken, old[1]])
    assert outcome["phase"] == "refused"
    assert "cannot start on this node" in outcome["error"]
    assert outcome["downtime_ms"] == {}
    assert rig.call(f"{NAME}-status")["starts"] == starts, "the old one was never stopped"


def test_a_slot_that_was_edited_is_not_used(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    edited = rig.item("0.9.2", "good")
    (rig.node.slots_dir / NAME / edited["digest"][:12] / "lib/hive_fixture/__init__.py").open("a").write("# mine now\n")
    outcome = rig.run("switched", [edited, old[1]])
    assert outcome["code"] == "slot-changed"
    rig.assert_runs(old)


def test_a_hang_that_only_the_real_start_shows_is_ended_by_its_own_pid(shared_rig: Rig, old: Stack) -> None:
    """lightningd's own parser saw it answer; started for real it hangs, and nothing else may be started meanwhile."""
    rig = shared_rig
    moody = rig.item("0.9.3", "good")
    entry = rig.node.slots_dir / NAME / moody["digest"][:12] / "bin" / NAME
    text = entry.read_text()
    entry.write_text(
        text.replace(
            "import hive_fixture\n",
            "import hive_fixture, os, time\n"
            "if '--hive-manifest' not in sys.argv and '--help' not in open(f'/proc/{os.getppid()}/cmdline').read():\n"
            "    time.sleep(600)\n",
        )
    )
    rig.remark(moody)
    started = time.monotonic()
    outcome = rig.run("switched", [moody, old[1]])
    assert outcome["phase"] == "reverted"
    assert "getmanifest" in outcome["error"]
    assert time.monotonic() - started < TIMEOUTS.getmanifest + 15
    rig.assert_runs(old)


def test_one_that_refuses_to_stop_is_ended_and_replaced(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    stubborn = [rig.item("0.3.0", "refuses-shutdown", options={NOTE: "old"}), old[1]]
    rig.settle(stubborn)
    outcome = rig.run("switched", old, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    rig.assert_runs(old)


def test_a_flood_on_stderr_does_no_harm(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    noisy = [rig.item("0.3.1", "floods-stderr", options={NOTE: "old"}), old[1]]
    assert rig.run("switched", noisy, deadman_seconds=0.0)["phase"] == "confirmed"
    rig.assert_runs(noisy)


def test_a_newer_schema_needs_its_release(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    newer = [rig.item("0.4.0", "new-schema", options={NOTE: "old"}), old[1]]
    rig.settle(newer)
    outcome = rig.run("switched", old)
    assert outcome["code"] == "schema-too-new"
    assert outcome["phase"] == "refused"
    rig.assert_runs(newer)
    # The tests after this one need the old schema back.
    rig.settle([])
    (rig.node.network_dir / "hive_fixture.db").unlink()


def test_dead_within_seconds_is_noticed_when_it_is_confirmed(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    outcome = rig.run("switched", [rig.item("0.9.4", "dies-soon", options={NOTE: "old"}), old[1]])
    if outcome["phase"] == "switched":
        rig.wait_until_gone(NAME)
        outcome = rig.run("confirmed")
    assert outcome["phase"] == "reverted"
    rig.assert_runs(old)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"options": {"hive-fixture-nonsense": 1}}, "bad-option"),
        ({"options": {"hive-fixture-limit": "many"}}, "bad-option"),
        ({"digest": "0" * 64}, "slot-missing"),
        ({"digest": "nonsense"}, "bad-stack"),
    ],
)
def test_a_bad_stack_is_refused_before_anything_changes(
    shared_rig: Rig, old: Stack, change: dict[str, Any], code: str
) -> None:
    outcome = shared_rig.run("switched", [{**shared_rig.item("0.2.0"), **change}, old[1]])
    assert (outcome["phase"], outcome["code"]) == ("refused", code)
    shared_rig.assert_runs(old)


def test_archon_without_comms_is_refused(shared_rig: Rig, old: Stack) -> None:
    outcome = shared_rig.run("switched", [shared_rig.second()])
    assert outcome["code"] == "matrix"
    assert NAME in outcome["error"]
    shared_rig.assert_runs(old)


def test_the_second_run_changes_nothing(shared_rig: Rig, old: Stack) -> None:
    before = shared_rig.node.journal_file.read_bytes()
    outcome = shared_rig.run("switched", old)
    assert (outcome["changed"], outcome["phase"]) == (False, "confirmed")
    assert shared_rig.node.journal_file.read_bytes() == before


def test_check_mode_says_the_steps_and_changes_nothing(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    before = rig.node.journal_file.read_bytes()
    outcome = rig.run("switched", [rig.item("0.2.0", options={NOTE: "new"}), old[1]], check_mode=True)
    assert (outcome["changed"], outcome["phase"]) == (True, "planned")
    assert {"step": "stop", "plugin": NAME} in outcome["steps"]
    assert {"step": "start", "plugin": SECOND} not in outcome["steps"]
    assert rig.node.journal_file.read_bytes() == before
    rig.assert_runs(old)


def test_code_rollback_goes_to_the_stack_before_and_back_again(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    new = [rig.item("0.2.0", options={NOTE: "new"}), old[1]]
    rig.settle(new)
    outcome = rig.run("rolled_back", deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed"
    rig.assert_runs(old)
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    rig.assert_runs(new)


def test_uninstall_leaves_no_trace_in_the_configuration_and_keeps_the_data(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    rig.call("setconfig", config=f"{NAME}-limit", val=7)
    outcome = rig.run("switched", [], deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    rig.assert_runs([])
    assert not rig.node.include_file.exists()
    assert "hive" not in rig.node.config_file.read_text()
    persisted = rig.node.network_dir / "config.setconfig"
    assert f"{NAME}-limit=7" not in persisted.read_text()
    assert (rig.node.network_dir / "hive_fixture.db").exists()
    rig.settle(old)
