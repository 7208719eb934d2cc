"""What is left on a node: nothing in lightningd's configuration after an uninstall, no more slots than asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman_unit
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.rig import NAME, SECOND, Rig

Stack = list[dict[str, Any]]
NOTE, LIMIT = f"{NAME}-note", f"{NAME}-limit"


@pytest.fixture
def old(shared_rig: Rig) -> Stack:
    rig = shared_rig
    rig.end_deadman()
    rig.run("reverted")
    stack = [rig.item("0.1.0", options={NOTE: "old"}), rig.second()]
    rig.settle(stack)
    return stack


def versions(rig: Rig, name: str = NAME) -> set[str]:
    return {slot.version for slot in _slots.list_slots(rig.node) if slot.name == name and slot.complete}


def age(rig: Rig, item: dict[str, Any], days: int) -> None:
    """Make a slot as if it had been built so many days ago, with the release it was made from."""
    mark = _slots.marker_path(rig.node, item["name"], item["digest"])
    facts = json.loads(mark.read_bytes())
    facts["built_at"] = 1_700_000_000 - days * 86400
    mark.write_text(json.dumps(facts))
    release = _slots.release_path(rig.node, item["digest"])
    release.mkdir(parents=True, exist_ok=True)
    os.utime(release, (facts["built_at"], facts["built_at"]))


def test_an_uninstall_leaves_no_line_and_no_file_and_lightningd_starts(fresh_rig: Rig) -> None:
    rig = fresh_rig
    before = rig.node.config_file.read_bytes()
    rig.settle([rig.item("0.1.0", options={NOTE: "old"}), rig.second()])
    # Persisted by lightningd itself: without its plugin it would refuse to start.
    rig.call("setconfig", config=LIMIT, val=11)
    crashed = rig.node.config_file.parent / ".hive-candidate.conf.4194000"
    crashed.write_text("left by an engine that was killed")
    rig.settle([])
    assert rig.node.config_file.read_bytes() == before
    assert not rig.node.include_file.exists()
    assert not crashed.exists()
    lines = [
        line
        for path in rig.lightning_dir.rglob("*")
        if path.is_file() and path.suffix != ".db" and path.name.startswith(("config", "hive", ".hive", ".config"))
        for line in path.read_text().splitlines()
    ]
    assert [line for line in lines if NAME in line and not line.startswith("#")] == []
    rig.stop()
    rig.start()
    rig.assert_runs([])
    assert (rig.node.network_dir / "hive_fixture.db").exists(), "the data stays"
    # The slots stay for the way back.
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    assert rig.running() == {NAME: "0.1.0", SECOND: "0.1.0"}


def test_a_top_file_that_only_we_needed_goes_and_comes_with_us(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    options = " ".join(f"--{line}" for line in rig.node.config_file.read_text().splitlines() if "network" not in line)
    rig.program.write_text(rig.program.read_text().replace('"$@"', f'{options} "$@"'))
    rig.node.config_file.unlink()
    rig.start()
    try:
        stack = [rig.item("0.1.0", options={NOTE: "old"})]
        rig.settle(stack)
        rig.assert_runs(stack)
        assert rig.node.config_file.exists()
        code, _ = rig.crash(f"{Step.WRITE.value}:error-after", "switched", [])
        assert code == 1
        rig.assert_runs(stack)
        rig.settle([])
        assert not rig.node.config_file.exists()
        assert rig.run("switched", [])["changed"] is False
        rig.stop()
        rig.start()
    finally:
        rig.stop()


def test_old_slots_go_and_those_that_are_needed_stay(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    spare = [rig.item(f"0.4.{number}") for number in range(4)]
    for number, item in enumerate(spare):
        age(rig, item, days=number + 1)
    quarantined = rig.item("0.6.6", "kills-lightningd", options={f"{NAME}-mercy": 0})
    assert rig.run("switched", [quarantined, old[1]], slots_keep=9)["phase"] == "reverted"
    age(rig, quarantined, days=99)
    age(rig, old[0], days=98)
    target = [rig.item("0.2.0", options={NOTE: "new"}), old[1]]
    outcome = rig.run("switched", target, deadman_seconds=0.0, slots_keep=2)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert versions(rig) == {"0.1.0", "0.2.0", "0.6.6", "0.4.0", "0.4.1"}
    (done,) = [e["data"] for e in outcome["journal"] if e["event"] == "done" and e["data"]["step"] == "prune"]
    assert len(done["slots"]) == 2
    assert len(done["releases"]) == 2
    for item in spare[2:]:
        assert not _slots.slot_path(rig.node, NAME, item["digest"]).exists()
        assert not _slots.release_path(rig.node, item["digest"]).exists()
    assert rig.run("rolled_back", deadman_seconds=0.0)["phase"] == "confirmed"
    rig.assert_runs(old)


@pytest.mark.parametrize("action", ["kill", "kill-after"])
def test_killed_while_it_prunes_no_half_slot_passes_for_a_whole_one(shared_rig: Rig, old: Stack, action: str) -> None:
    rig = shared_rig
    age(rig, rig.item("0.5.0"), days=50)
    # One that was installed by hand has no marker, and is nobody's to remove but staging's.
    by_hand = rig.item("0.5.1")
    _slots.marker_path(rig.node, NAME, by_hand["digest"]).unlink()
    target = [rig.item("0.3.0"), old[1]]
    code, _ = rig.crash(f"{Step.PRUNE.value}:{action}", "switched", target, slots_keep=0)
    assert code == -9
    assert rig.run("switched", target, slots_keep=0, deadman_seconds=0.0)["phase"] == "confirmed"
    assert "0.5.0" not in versions(rig)
    assert [slot.path for slot in _slots.list_slots(rig.node) if not slot.complete] == [
        _slots.slot_path(rig.node, NAME, by_hand["digest"])
    ]
    rig.assert_runs(target)


def test_replaced_files_beyond_what_was_asked_for_go(shared_rig: Rig, old: Stack) -> None:
    rig = shared_rig
    for number in range(5):
        folder = rig.node.state_dir / "aside" / f"set-{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_text("data that a restore replaced")
        os.utime(folder, (1_700_000_000 + number, 1_700_000_000 + number))
    rig.run("switched", [rig.item("0.2.0"), old[1]], deadman_seconds=0.0, aside_keep=2)
    assert sorted(path.name for path in (rig.node.state_dir / "aside").iterdir()) == ["set-3", "set-4"]


def test_the_unit_names_this_node_and_survives_odd_paths(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "a rig with 100% $odd name")
    text = deadman_unit.text_of(rig.node)
    assert "100%% $$odd" in text
    assert f"ConditionPathExists={str(rig.node.state_dir).replace('%', '%%')}/deadman.json" in text
    assert deadman_unit.unit_of(rig.node) != deadman_unit.unit_of(Rig(tmp_path / "b").node)
    archive = rig.node.state_dir / "engine" / "d1" / "hive-engine.pyz"
    assert deadman_unit.persist(rig.node, archive, []) is False, "no systemd, no unit"
