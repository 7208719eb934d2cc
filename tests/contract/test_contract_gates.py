"""The gates ask about the plan that runs, the page about them names every check, and the example can be copied."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.action import hive_drill
from ansible_collections.lightning_goats.hive.plugins.module_utils import (
    _exercise,
    _gates,
    _gates_checks,
    _incidents,
    _matrix,
    _registers,
    _security,
    _suites,
    _surface,
)
from contract.repository import ROOT, load

PAGE = ROOT / "docs/design/gates.md"
EXAMPLE = ROOT / "inventories/example-production/registers"
TASKS = ROOT / "roles/hive_gate/tasks"


def test_the_gates_ask_about_the_plan_that_runs() -> None:
    """Another option would give another digest, and nobody's approval would ever fit."""
    asked: dict[str, Any] = load(TASKS / "gates.yml")[0]["lightning_goats.hive.hive_gates"]["plan"]
    runs: dict[str, Any] = load(TASKS / "main.yml")[0]["lightning_goats.hive.hive_plan"]
    assert asked == {name: value for name, value in runs.items() if name != "preview"}


def test_what_the_makers_make_is_what_the_checks_ask_for() -> None:
    assert {name: frozenset(modes) for name, modes in _matrix.SUPPORTED.items()} | {
        _matrix.REFUSED: frozenset((_matrix.ARCHON,))
    } == dict(_gates_checks.COMBINATIONS)
    assert (_matrix.KIND, _matrix.MIXED, _matrix.MONOLITH) == ("matrix", "mixed", "monolith")
    assert (_suites.KIND, hive_drill.KIND) == ("suite", "drill")
    assert {*_gates_checks.EXERCISES, "adoption", "carry-back"} <= set(_exercise.KINDS)
    assert _security.tools(None, _surface.Book({}, {}), []).name == "mcp-tools"
    for kind in ("surface", "runes", "audit", "sbom"):
        assert callable(getattr(_security, kind))


def test_the_page_names_every_check_and_its_fixture() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for check in _gates_checks.CHECKS:
        assert f"| {check.name} | " in text, check.name
        assert f"| [{check.name}](../../tests/fixtures/gates/{check.name}.yml) | " in text, check.name
    never = re.search(r"^(.+) cannot be waived: ", text, re.M)
    assert never is not None
    assert set(re.findall(r"\b[A-Z]\d\b", never.group(1))) == _gates.NEVER_WAIVED


@pytest.mark.parametrize("file", ["defects.yml", "findings.yml", "waivers.yml"])
def test_the_example_registers_are_empty_and_their_examples_can_be_used(file: str, tmp_path: Path) -> None:
    text = (EXAMPLE / file).read_text(encoding="utf-8")
    word = file.removesuffix(".yml")
    shown = "".join(f"{line.removeprefix('#')}\n" for line in text.splitlines() if line.startswith("#   "))
    entries = yaml.safe_load(shown)
    assert entries, "an example beside the empty list"
    path = tmp_path / file
    for content, count in ((text, 0), (yaml.safe_dump({word: entries}), len(entries))):
        path.write_text(content, encoding="utf-8")
        found: list[Any]
        if word == "defects":
            found = [*_registers.read_defects(tmp_path)]
        elif word == "findings":
            found = [*_registers.read_findings(tmp_path)]
        else:
            found = [*_registers.parse_waivers(path, path.read_bytes())]
        assert len(found) == count


def test_the_other_example_registers_can_be_read() -> None:
    assert _registers.read_baseline(EXAMPLE)["tag"]
    assert _incidents.read_incidents(EXAMPLE) == []


def test_what_is_kept_with_an_inventory_is_no_list_of_hosts() -> None:
    names = [path.name for path in EXAMPLE.parent.iterdir() if path.suffix not in (".yml", ".md")]
    line = re.search(r"^inventory_ignore_patterns = (.+)$", (ROOT / "ansible.cfg").read_text(encoding="utf-8"), re.M)
    assert line is not None
    ignored = [re.compile(pattern.strip()) for pattern in line.group(1).split(",")]
    assert [n for n in names if n != "group_vars" and not any(pattern.search(n) for pattern in ignored)] == []
