"""The engine on its own: the dead-man, and what an operator may run on a node whose controller is gone.

python3 hive-engine.pyz deadman --state-dir DIR --transaction ID --token TOKEN
python3 hive-engine.pyz ensure --state-dir DIR
python3 hive-engine.pyz revert --state-dir DIR
python3 hive-engine.pyz status --state-dir DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .deadman import ensure
from .deadman_watch import watch
from .errors import HiveError
from .files import read_json
from .journal import Journal
from .node import Node
from .request import Request
from .switch import Switch


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what it was asked to."""
    parser = argparse.ArgumentParser(
        prog="hive-engine", description="The transaction engine of Lightning Hive Rollout, without Ansible."
    )
    parser.add_argument("command", choices=("deadman", "ensure", "revert", "status"))
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--transaction", default="")
    parser.add_argument("--token", default="")
    options = parser.parse_args(arguments)
    try:
        node = node_of(Path(options.state_dir))
        if options.command == "status":
            sys.stdout.write(json.dumps(status(node), indent=1) + "\n")
            return 0
        if options.command == "revert":
            Switch(node, request_for(node, "")).reverted_by("operator", "the operator ran hive-engine revert")
            return 0
        if options.command == "ensure":
            sys.stdout.write(json.dumps(ensure(node)) + "\n")
            return 0
        return watch(node, options.transaction, options.token)
    except HiveError as error:
        sys.stderr.write(f"hive-engine: {error.message}\n")
        return 1


def node_of(state_dir: Path) -> Node:
    """Return the node that was written down when the dead-man was armed."""
    facts = read_json(state_dir / "deadman.json")
    if not isinstance(facts, dict):
        raise HiveError(f"no dead-man is armed in {state_dir}, so there is no open switch to undo", "not-armed")
    return Node.from_params(facts["node"])


def request_for(node: Node, rollout: str) -> Request:
    return Request(state="reverted", rollout=rollout)


def status(node: Node) -> dict[str, Any]:
    """Return the open transaction in short."""
    txn = Journal(node.journal_file, node.keeper).state().transaction
    return {
        "transaction": txn.id if txn else None,
        "phase": txn.phase if txn else None,
        "deadline": txn.deadline if txn else None,
    }
