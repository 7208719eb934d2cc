"""`make bench [SUITE=name]`: run the benchmark suites, write var/bench/<suite>.json, print a table.

`make bench PAGE=1` runs nothing and writes the last figures into docs/design/performance.md.

A missed goal makes the exit status 1; CI runs no benchmark, because a noisy machine must not decide what lands.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import bench
from bench import page
from bench.measurement import Measurement, table, write

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "suite_"


def suites() -> list[str]:
    """The names of the suites: one module suite_<name>.py each."""
    return sorted(
        m.name.removeprefix(PREFIX) for m in pkgutil.iter_modules(bench.__path__) if m.name.startswith(PREFIX)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("suite", nargs="*", help="one of: " + ", ".join(suites()))
    parser.add_argument("--page", action="store_true", help="write the last figures into docs/design/performance.md")
    given = parser.parse_args()
    if given.page:
        page.write(ROOT)
        return 0
    chosen = given.suite or suites()
    unknown = sorted(set(chosen) - set(suites()))
    if unknown:
        parser.error(f"no suite named {', '.join(unknown)}; there are: {', '.join(suites())}")
    missed = False
    for name in chosen:
        results: list[Measurement] = importlib.import_module(f"bench.{PREFIX}{name}").run()
        write(ROOT / "var/bench" / f"{name}.json", results)
        print(f"\n{name}\n{table(results)}", flush=True)
        missed = missed or any(r.holds is False for r in results)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
