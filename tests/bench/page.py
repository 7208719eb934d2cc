"""The figures of docs/design/performance.md, from the JSON files of the last runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PAGE = Path("docs/design/performance.md")
# <!-- figures: suite --> ... <!-- end --> in the page
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.S)


def rows(results: list[Json]) -> str:
    """One suite as a Markdown table."""
    lines = ["| what | measured | goal | beside it, in the same run |", "|---|---|---|---|"]
    for result in results:
        kept = {True: "", False: " **missed**", None: ""}[result["holds"]]
        beside = ", ".join(f"{who} {value}" for who, value in result["peers"].items())
        value = f"{result['value']:g} {result['unit']}"
        lines.append(f"| {result['name']} | {value}{kept} | {result['goal']} | {beside} |")
    return "\n".join(lines) + "\n"


def fill(text: str, measured: Path) -> str:
    """The page with the figures that `measured` holds; suites that were not run keep theirs."""

    def replaced(block: re.Match[str]) -> str:
        file = measured / f"{block[2]}.json"
        if not file.is_file():
            return block[0]
        return f"{block[1]}{rows(json.loads(file.read_text(encoding='utf-8')))}{block[3]}"

    return BLOCK.sub(replaced, text)


def write(root: Path) -> None:
    """Bring the page of the repository at `root` up to date."""
    path = root / PAGE
    path.write_text(fill(path.read_text(encoding="utf-8"), root / "var/bench"), encoding="utf-8")
