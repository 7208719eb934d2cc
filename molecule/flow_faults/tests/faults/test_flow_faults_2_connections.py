"""Connections that break while a rollout is under way."""

from __future__ import annotations

from typing import Any

from waiting import wait_until


def version(node: Any) -> str:
    """What runs on a node; "" when nothing answers."""
    answer = node.ask("hive-fixture-status")
    return str(answer["version"]) if answer else ""


def test_ssh_drops_between_switch_and_confirm(
    operator: Any, stack: Any, before: dict[str, Any], other: str, metal12: Any
) -> None:
    """The node that nobody can reach any more goes back by itself, and the others with the run."""
    run = operator.start("playbooks/rollout.yml", hive_stack=stack(other), hive_soak_seconds=4, hive_deadman_seconds=25)
    try:
        wait_until(lambda: metal12.node.journal()[-1]["event"] == "switched", 120, "metal12 is switched", 0.1)
        metal12.cut()
        assert version(metal12.node) == other
        rc, text = run.end()
        assert rc != 0, text
        assert wait_until(lambda: metal12.node.journal()[-1]["event"] == "reverted", 60, "the dead-man reverts", 0.2)
    finally:
        metal12.mend()
    for name, was in before.items():
        assert was.holds(), name


def test_a_node_is_away_when_its_batch_begins(
    operator: Any, stack: Any, before: dict[str, Any], other: str, metal13: Any
) -> None:
    """The canary is kept, the batch of the lost node goes back, and the same command goes on when it is there again."""
    canary, *others = waves(operator, stack(other))
    assert "metal13" in others
    run = operator.start("playbooks/rollout.yml", hive_stack=stack(other), hive_soak_seconds=3, hive_waves=[1, "100%"])
    try:
        wait_until(lambda: before[canary].node.journal()[-1]["event"] == "switched", 120, "the canary is switched", 0.1)
        metal13.cut()
        rc, text = run.end()
    finally:
        metal13.mend()
    assert rc != 0, text
    assert version(before[canary].node) == other
    for name in others:
        assert before[name].holds(), name

    rc, text = operator.rollout(stack(other))
    assert rc == 0, text
    assert {version(was.node) for was in before.values()} == {other}
    # What was quarantined is let go once the node runs another release well.
    assert not [name for name, was in before.items() if "disable-plugin=" in was.node.config()]


def waves(operator: Any, stack: Any) -> list[str]:
    """The nodes in the order in which a rollout would take them, the canary first."""
    run = operator.start("playbooks/rollout.yml", "--check", hive_stack=stack, hive_waves=[1, "100%"])
    rc, text = run.end()
    assert rc == 0, text
    stages = [line.partition(":") for line in text.splitlines() if line.startswith(("  canary: ", "  wave "))]
    return [name.strip() for _, _, names in stages for name in names.split(",")]
