"""hive_gates: when a closed gate fails a run, holds it, or is only told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.action import hive_gates
from ansible_collections.lightning_goats.hive.plugins.module_utils import _gates, _gates_lines
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError

Json = dict[str, Any]

SHUT = _gates.Decision([_gates.Finding("A1", "A", "suites are green", _gates.BLOCK, "there is none")])
OPEN = _gates.Decision([_gates.Finding("A1", "A", "suites are green", _gates.PASS, "all green")])


class Hosts:
    """Two nodes, of which one may soak."""

    names = ("alpha", "bravo")

    def __init__(self, soak: str) -> None:
        self._soak = soak

    def result(self, node: str, name: str) -> Json:
        soaks = {"state": self._soak} if self._soak and node == "bravo" else None
        return {"observed": {"soak": soaks}}


def enforced(
    decision: _gates.Decision, enforce: str = "changes", changes: int = 1, check: bool = False, soak: str = ""
) -> Json:
    action: Any = object.__new__(hive_gates.ActionModule)
    action._task = SimpleNamespace(check_mode=check)
    result: Json = {"msg": "The gates do not let this rollout start.", "hold": ""}
    action._enforce(result, {"enforce": enforce}, {"changes": changes}, Hosts(soak), decision)
    return result


def test_open_gates_stop_nobody() -> None:
    for enforce in ("always", "changes"):
        assert "failed" not in enforced(OPEN, enforce)


def test_a_closed_gate_fails_what_asks_and_a_rollout_that_changes_something() -> None:
    for found in (enforced(SHUT, "always", changes=0, check=True), enforced(SHUT)):
        assert (found["failed"], found["code"], found["hold"]) == (True, "gates", "")


@pytest.mark.parametrize("how", [{"changes": 0}, {"check": True}])
def test_a_run_that_changes_nothing_is_only_told(how: Json) -> None:
    found = enforced(SHUT, **how)
    assert "failed" not in found
    assert found["hold"] == ""


@pytest.mark.parametrize(("soak", "held"), [("soaking", True), ("self-reverted", True), ("soaked", False), ("", False)])
def test_a_stage_that_soaks_is_judged_and_nothing_new_begins(soak: str, held: bool) -> None:
    found = enforced(SHUT, soak=soak)
    assert found.get("failed", False) == (not held)
    assert found["hold"] == (found["msg"] if held else "")


def test_whoever_only_looks_does_not_need_the_key(tmp_path: Any) -> None:
    """The decision is then not written; whose evidence counts is known all the same."""
    listed = tmp_path / "evidence_signers"
    listed.write_text("")
    found = hive_gates._signer(str(tmp_path / "key"), str(listed), tmp_path)
    assert (found.allowed_signers, found.key.is_file()) == (listed, False)
    with pytest.raises(ReleaseError):
        hive_gates._signer(str(tmp_path / "key"), "", tmp_path)


def test_commands_are_for_the_inventory_that_was_asked_about() -> None:
    told = ["  A1: ansible-playbook playbooks/suites.yml", "  B1: ansible-playbook -i <a lab> playbooks/rollout.yml"]
    assert _gates_lines.with_inventory(told, []) == told
    assert _gates_lines.with_inventory(told, ["inventories/mine", "two words"]) == [
        "  A1: ansible-playbook -i inventories/mine -i 'two words' playbooks/suites.yml",
        told[1],
    ]
