"""The brake and the pause: a file made by anybody stops what goes forward, at once, and never a way back."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import brake, deadman
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.modules import hive_brake, hive_observe
from faults.rig import NAME, Rig
from faults.soaking import events, looks
from waiting import wait_until

Stack = list[dict[str, Any]]


@pytest.fixture
def stacks(shared_rig: Rig) -> Iterator[tuple[Stack, Stack]]:
    """What the node runs, and what it is switched to; no brake is left behind."""
    rig = shared_rig
    rig.run("reverted")
    old, new = [rig.item("0.1.0")], [rig.item("0.2.0")]
    rig.settle(old)
    yield old, new
    for kind in brake.KINDS:
        brake.clear_mark(rig.node, kind)


def touch(rig: Rig, kind: str = brake.BRAKE) -> Path:
    """Set it as somebody in a hurry does."""
    path = brake.mark_file(rig.node, kind)
    path.touch()
    return path


def reasons(rig: Rig) -> list[str]:
    """Why transactions were undone, oldest first."""
    return [str(entry["data"]["reason"]) for entry in events(rig, "reverted")]


class TestBrake:
    def test_no_switch_begins(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        path, length = touch(rig), len(rig.journal())
        for check_mode in (True, False):
            refused = rig.run("switched", new, check_mode=check_mode)
            assert (refused["phase"], refused["code"]) == ("refused", "brake")
            assert str(path) in refused["error"]
        assert len(rig.journal()) == length
        rig.assert_runs(old)
        assert rig.observe()["brake"] == f"somebody made {path}, without a word why"
        assert brake.clear_mark(rig.node, brake.BRAKE)
        assert rig.run("switched", new, deadman_seconds=0.0)["phase"] == "confirmed"

    def test_an_open_switch_is_undone_at_once(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        assert rig.run("switched", new, deadman_seconds=3600.0)["phase"] == "switched"
        brake.set_mark(rig.node, brake.BRAKE, "channels are closing")
        # A second one, made by somebody else, is the same brake; why the first was set stays.
        assert not brake.set_mark(rig.node, brake.BRAKE, "me too")
        rig.wait_closed(60)
        rig.assert_runs(old)
        assert reasons(rig)[-1] == "the brake was set: channels are closing"
        assert events(rig, "reverted")[-1]["data"]["by"] == "dead-man"

    def test_also_when_its_dead_man_had_been_killed(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        assert rig.run("switched", new, deadman_seconds=3600.0)["phase"] == "switched"
        rig.end_deadman()
        touch(rig)
        wait_until(lambda: not (deadman.watching(rig.node) or {"alive": False})["alive"], 10, "the dead-man is gone")
        looks(rig, 1)
        rig.wait_closed(60)
        rig.assert_runs(old)
        assert "brake" in reasons(rig)[-1]

    def test_what_it_finds_open_is_not_confirmed(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        assert rig.run("switched", new, deadman_seconds=3600.0)["phase"] == "switched"
        # Without the dead-man, so that it is the confirmation that meets it.
        rig.end_deadman()
        touch(rig)
        refused = rig.run("confirmed")
        assert (refused["phase"], refused["code"], refused["reverted"]) == ("reverted", "brake", True)
        rig.assert_runs(old)

    def test_an_engine_at_work_goes_back_whole(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        """Set between two steps, while the engine holds the node and the dead-man already watches."""
        rig, (old, new) = shared_rig, stacks
        rig.fault("slow-plugin-start", seconds=2)
        try:
            call = {"node": rig.node.as_params(), "state": "switched", "stack": new, "changes": {}}
            count = len(events(rig, "armed"))
            process = rig.engine(json.dumps(call))
            wait_until(lambda: len(events(rig, "armed")) > count, 60, "the switch is armed", 0.01)
            touch(rig)
            out, _ = process.communicate(timeout=60)
        finally:
            rig.fault("slow-plugin-start", seconds=0)
        # It sees the brake before it is done; where this test came too late for that, the dead-man does.
        outcome = json.loads(out)
        assert (outcome["phase"], outcome.get("code")) in (("reverted", "brake"), ("switched", None))
        rig.wait_closed(60)
        rig.assert_runs(old)
        txn = events(rig, "begin")[-1]["txn"]
        ends = [e["event"] for e in rig.journal() if e["txn"] == txn and e["event"] in ("reverted", "confirmed")]
        assert ends == ["reverted"]

    def test_a_way_back_is_never_stopped(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (old, new) = shared_rig, stacks
        rig.settle(new)
        touch(rig)
        # Also one that waits for its confirmation.
        assert rig.run("rolled_back", deadman_seconds=3600.0)["phase"] == "switched"
        facts = deadman.watching(rig.node)
        assert facts is not None
        assert facts["alive"]
        assert rig.run("confirmed")["phase"] == "confirmed"
        rig.assert_runs(old)
        assert rig.run("reverted")["changed"] is False

    @pytest.mark.parametrize("shape", ["directory", "link", "dangling", "pipe", "binary", "unreadable", "long"])
    def test_whatever_has_its_name_is_one(
        self, shared_rig: Rig, stacks: tuple[Stack, Stack], shape: str, tmp_path: Path
    ) -> None:
        rig, path = shared_rig, brake.mark_file(shared_rig.node, brake.BRAKE)
        (tmp_path / "secret").write_text("seed words")
        make: dict[str, Callable[[], object]] = {
            "directory": path.mkdir,
            "link": lambda: path.symlink_to(tmp_path / "secret"),
            "dangling": lambda: path.symlink_to(tmp_path / "nothing"),
            "pipe": lambda: os.mkfifo(path),
            "binary": lambda: path.write_bytes(bytes(range(256))),
            "unreadable": lambda: os.close(os.open(path, os.O_CREAT, 0)),
            "long": lambda: path.write_text("no\n" * 100_000),
        }
        make[shape]()
        try:
            reason = rig.observe()["brake"]
            assert reason
            assert reason.isprintable()
            assert len(reason) <= 400
            assert "seed words" not in reason
            assert rig.run("switched", stacks[1])["code"] == "brake"
        finally:
            if shape == "directory":
                with pytest.raises(HiveError, match="remove it by hand"):
                    brake.clear_mark(rig.node, brake.BRAKE)
                path.rmdir()
        brake.clear_mark(rig.node, brake.BRAKE)
        assert rig.observe()["brake"] == ""

    def test_it_ends_the_samples_before_a_confirmation(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, found = shared_rig, []
        soaking = threading.Thread(target=lambda: found.append(hive_observe.soak(rig.node, 600.0, 60.0, 0.0)))
        soaking.start()
        touch(rig)
        soaking.join(60)
        assert not soaking.is_alive()
        assert found[0]["brake"]
        assert 1 <= len(found[0]["samples"]) <= 2
        assert looks(rig, 1) is not None


class TestPause:
    def test_it_is_seen_and_stops_nothing_on_the_node(self, shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
        rig, (_, new) = shared_rig, stacks
        brake.set_mark(rig.node, brake.PAUSE, "weekend")
        assert (rig.observe()["pause"], rig.observe()["brake"]) == ("weekend", "")
        assert rig.run("switched", new, deadman_seconds=3600.0)["phase"] == "switched"
        assert rig.run("confirmed")["phase"] == "confirmed"
        rig.assert_runs(new)
        assert NAME in rig.running()


class TestModule:
    @pytest.mark.parametrize("kind", brake.KINDS)
    def test_check_real_check_real(self, shared_rig: Rig, stacks: tuple[Stack, Stack], kind: str) -> None:
        node = shared_rig.node

        def call(state: str, check_mode: bool) -> tuple[bool, str, str]:
            parameters = {"node": node.as_params(), "kind": kind, "state": state, "reason": "a\tword\nwhy"}
            result = hive_brake.work(parameters, check_mode)
            return result["changed"], result["reason"], result["diff"]["after"]

        wanted = (True, "a word why", "a word why\n")
        assert call("present", True) == wanted
        assert brake.read_mark(node, kind) == ""
        assert call("present", False) == wanted
        assert [call("present", mode) for mode in (True, False)] == [(False, *wanted[1:])] * 2
        assert call("absent", True) == (True, "", "")
        assert brake.read_mark(node, kind) == "a word why"
        assert call("absent", False) == (True, "", "")
        assert [call("absent", mode) for mode in (True, False)] == [(False, "", "")] * 2
