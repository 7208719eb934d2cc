"""docs/design/migration.md: every check of what must and what must not change names a test that exists."""

from __future__ import annotations

import pytest
from contract.repository import ROOT
from contract.test_contract_faults import NAMED, functions, place

PAGE = ROOT / "docs/design/migration.md"
SECTIONS = ("Must change", "Must not change")


def section(name: str) -> list[list[str]]:
    """The cells of the rows below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {name}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells[1:] if not set("".join(row)) <= set("-| ")]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_check_has_its_test(name: str) -> None:
    rows = section(name)
    assert len(rows) >= 8
    for row in rows:
        assert len(row) == 3, row
        named = NAMED.findall(row[-1])
        assert named, f"{row[0]}: no test is named"
        for file, test in named:
            assert test in functions(place(file)), f"{row[0]}: {file}::{test} does not exist"
