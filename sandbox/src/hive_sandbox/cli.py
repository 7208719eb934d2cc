"""The command `hive-sandbox`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .backend import SandboxError
from .fleet import Fleet, Outcome

_STATE = {True: "running", False: "stopped"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run hive-sandbox and return its exit code: 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="hive-sandbox", description="A local fleet of lightning nodes for rehearsals."
    )
    parser.add_argument("action", choices=["up", "down", "reset", "status"])
    parser.add_argument("--root", type=Path, default=Path("var/sandbox"), help="where the nodes live")
    parser.add_argument("--nodes", type=int, default=3, help="how many (up)")
    parser.add_argument("--lightningd", choices=["auto", "real", "fake"], default="auto", help="which one (up)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would change")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args(arguments)
    fleet = Fleet(options.root)
    try:
        if options.dry_run:
            outcome = Outcome(fleet.would(options.action, options.nodes), fleet.status())
        elif options.action == "up":
            outcome = fleet.up(options.nodes, options.lightningd)
        elif options.action == "down":
            outcome = fleet.down()
        elif options.action == "reset":
            outcome = fleet.reset()
        else:
            outcome = Outcome([], fleet.status())
    except SandboxError as error:
        sys.stderr.write(f"hive-sandbox: {error}\n")
        return 1
    if options.json:
        text = json.dumps({"changed": bool(outcome.changes), "changes": outcome.changes, "nodes": outcome.nodes})
    else:
        rows = [
            f"{node['name']:<10} {node['backend']:<5} {_STATE[node['running']]:<8} {node['node_id']}"
            for node in outcome.nodes
        ]
        text = "\n".join([*outcome.changes, *rows])
    if text:
        sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
