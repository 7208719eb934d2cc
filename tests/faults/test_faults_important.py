"""Plugins of ours that somebody's configuration marks as important: lightningd ends with them."""

from __future__ import annotations

from typing import Any

import pytest
from faults.rig import NAME, TIMEOUTS, Rig

Stack = list[dict[str, Any]]
NOTE = f"{NAME}-note"


@pytest.fixture
def stacks(fresh_rig: Rig) -> tuple[Stack, Stack]:
    rig = fresh_rig
    old = [rig.item("0.1.0", options={NOTE: "old"}), rig.second()]
    rig.settle(old)
    return old, [rig.item("0.2.0", options={NOTE: "new"}), old[1]]


def mark(rig: Rig, stack: Stack, option: str = "important-plugin") -> str:
    """Let the operator's own file load the first plugin; gives the line."""
    line = f"{option}={rig.node.slots_dir}/{NAME}/{stack[0]['digest'][:12]}/bin/{NAME}\n"
    text = rig.node.config_file.read_text()
    rig.node.config_file.write_text(line + text)
    # lightningd takes one path once; the operator has moved it from our file to theirs.
    include = rig.node.include_file.read_text()
    rig.node.include_file.write_text(include.replace(line.replace(option, "plugin"), ""))
    return line


@pytest.mark.parametrize(("option", "code"), [("important-plugin", "important-plugin"), ("plugin", "stray-plugin")])
def test_a_plugin_that_somebody_elses_line_loads_is_not_replaced(
    fresh_rig: Rig, stacks: tuple[Stack, Stack], option: str, code: str
) -> None:
    rig, (old, new) = fresh_rig, stacks
    line = mark(rig, old, option)
    before = rig.machine.identity()
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("refused", code)
    assert f"{rig.node.config_file} line 1" in outcome["error"]
    assert "take that line out" in outcome["error"]
    assert code in {problem["code"] for problem in rig.observe()["problems"]}
    assert rig.running()[NAME] == "0.1.0"
    # Taken out, the switch goes through.
    rig.node.config_file.write_text(rig.node.config_file.read_text().replace(line, ""))
    rig.settle(new)
    rig.assert_runs(new)
    assert rig.machine.identity() == before


def test_one_that_lightningd_still_holds_as_important_is_told_to_stop_and_never_ended(
    fresh_rig: Rig, stacks: tuple[Stack, Stack]
) -> None:
    rig, (old, new) = fresh_rig, stacks
    line = mark(rig, old)
    rig.stop()
    rig.start()
    rig.node.config_file.write_text(rig.node.config_file.read_text().replace(line, ""))
    before = rig.machine.identity()
    # `plugin stop` hangs: ending the process would end lightningd.
    rig.fault("slow-plugin-stop", seconds=TIMEOUTS.stop + 2)
    outcome = rig.run("switched", new)
    assert outcome["code"] == "plugin-stays"
    assert "important" in outcome["error"]
    assert rig.machine.identity() == before, "lightningd died"
    rig.fault("clear")
    rig.run("reverted")
    rig.settle(new)
    rig.assert_runs(new)
    assert rig.machine.identity() == before
