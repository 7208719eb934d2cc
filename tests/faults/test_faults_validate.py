"""lightningd's own parser judges what it is going to read: once, and again when somebody has changed it meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes_process import ProcessRuntime
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.session import Session
from faults.rig import Rig

Stack = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines with which lightningd is asked to judge a configuration."""
    lines: list[list[str]] = []
    run = ProcessRuntime.run

    def noted(self: ProcessRuntime, argv: list[str], *more: Any, **named: Any) -> Any:
        if "--help" in argv:
            lines.append(argv)
        return run(self, argv, *more, **named)

    monkeypatch.setattr(ProcessRuntime, "run", noted)
    return lines


def test_what_was_accepted_a_moment_ago_is_not_asked_again(shared_rig: Rig, asked: list[list[str]]) -> None:
    shared_rig.settle([shared_rig.item("0.1.0")])
    asked.clear()
    shared_rig.settle([shared_rig.item("0.1.1")])
    assert len(asked) == 1
    # Another process knows nothing of it.
    shared_rig.settle([shared_rig.item("0.1.0")])
    assert len(asked) == 2


def test_a_configuration_that_somebody_changed_during_the_switch_is_judged(
    shared_rig: Rig, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, old = shared_rig, [shared_rig.item("0.1.0")]
    rig.settle(old)
    config = rig.node.config_file
    good = config.read_text()
    write = Session.write

    def disturbed(self: Session, *arguments: Any) -> None:
        write(self, *arguments)
        config.write_text(f"{good}no-such-option=1\n")

    monkeypatch.setattr(Session, "write", disturbed)
    asked.clear()
    outcome = rig.run("switched", [rig.item("0.1.1")], deadman_seconds=0.0)
    assert len(asked) >= 2
    assert "no-such-option" in outcome["error"]
    monkeypatch.undo()
    config.write_text(good)
    rig.run("reverted")
    rig.assert_runs(old)
