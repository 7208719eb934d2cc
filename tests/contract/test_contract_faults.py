"""docs/design/failure-modes.md: every fault has a test that exists, and no fault test is without its fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from contract.repository import COLLECTION, ROOT

PAGE = ROOT / "docs/design/failure-modes.md"
NAMED = re.compile(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`")
# Files that hold nothing but faults: each test of theirs is one that the page has to speak of.
WHOLE = ("test_faults_clock.py", "test_faults_disk.py", "test_faults_identity.py", "test_faults_stop.py")
LEFT = {
    # The same fault as another row, seen from the other side.
    "test_a_fleet_hears_of_a_read_only_disk_before_any_node_is_changed",
    "test_the_way_back_waits_for_last_words_too",
}


@cache
def functions(path: Path) -> frozenset[str]:
    """The names of the test functions of a file; none when there is no such file."""
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def place(file: str) -> Path:
    """Where a test file is: under tests/, with the plugin that it tests, or in the collection's own tests."""
    others = [*(ROOT / "plugins_src").glob(f"*/tests/{file}"), *(COLLECTION / "tests/unit").rglob(file)]
    return next(iter(others), ROOT / "tests" / file)


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, without the heads."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if row[0] != "fault" and not set("".join(row)) <= set("-| ")]


def missing(text: str) -> list[str]:
    """What is wrong with the page."""
    wrong = [f"{row[0]}: {len(row)} cells, not 4" for row in rows(text) if len(row) != 4]
    wrong += [f"{row[0]}: no test is named" for row in rows(text) if not NAMED.search(row[-1])]
    named = NAMED.findall(text)
    return wrong + [f"{file}::{name} does not exist" for file, name in named if name not in functions(place(file))]


def test_every_fault_is_proven_by_a_test_that_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert missing(text) == []
    assert len(rows(text)) > 60


@pytest.mark.parametrize("file", WHOLE)
def test_no_fault_test_is_without_its_fault(file: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    tests = {name for name in functions(ROOT / "tests/faults" / file) if name.startswith("test_")}
    assert tests - LEFT - {name for _, name in NAMED.findall(text)} == set()


@pytest.mark.parametrize(
    "row",
    [
        "| fire | a match | nothing burns | by hand |",
        "| fire | a match | nothing burns | `faults/test_faults_disk.py::test_no_such_test` |",
        "| fire | a match | `faults/test_faults_no_file.py::test_fire` |",
    ],
)
def test_a_row_without_proof_is_noticed(row: str) -> None:
    assert missing(f"| fault | injected by | must hold | proven by |\n|---|---|---|---|\n{row}\n")
