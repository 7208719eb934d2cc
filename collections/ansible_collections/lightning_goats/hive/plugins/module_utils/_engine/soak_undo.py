"""The way back of a node that soaks and fails while no controller looks: the engine's own switch, begun by the node.

python3 hive-engine.pyz self-undo --node STATE_DIR/probe.json

It moves code and no data. It is begun once for a soak: what was killed is taken up again, what did not work is told.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .adoption import leaves
from .errors import HiveError
from .files import read_json
from .guard import Look, Manifests, ours_running
from .journal import Journal, Stack
from .lock import engine_lock
from .node import Node
from .request import Request, Timeouts
from .soak import SELF_REVERT, SELF_REVERTED, SOAKING, TRIES, Soak
from .soak_guard import rollout_of, soak_file
from .stacks import active_items
from .switch import Switch
from .switch_base import Result

OWNER = "the node itself"
HTLC_WAIT_SECONDS = 60.0
LOCK_SECONDS = 900.0
# Refusals that pass by themselves: the probe asks again after some looks.
PASSING = frozenset(
    {
        "busy",
        "deadman",
        "disk-full",
        "htlc-expiry",
        "lightningd-down",
        "locked",
        "no-process",
        "not-ready",
        "not-synced",
        "rpc-timeout",
        "unconfirmed",
    }
)


class SelfUndo(Switch):
    """One attempt; everything it goes by is read anew under the engine's lock."""

    def _load_and_run(self) -> Result:
        self._load()
        soak, txn = self.state.soak, self.state.transaction
        stable = self.state.stable or []
        begun = txn is not None and txn.data.get("kind") == SELF_REVERT and txn.phase != "revert-failed"
        if soak is not None and soak["state"] == SELF_REVERTED and txn is None:
            self._clean_up(self.state.last)
            self._tell(soak)
            return self.result(False, "confirmed", stable)
        if soak is None or soak["state"] != SOAKING or soak["self_revert_failed"] or (txn is not None and not begun):
            return self.result(False, "confirmed", stable)
        breach = self._breach(soak, dict(txn.data) if txn is not None else {})
        if breach is None:
            return self.result(False, "confirmed", stable)
        if not begun and soak["tries"] >= TRIES:
            raise HiveError(f"it was tried {TRIES} times and never came to an end", "self-revert")
        self.notes = {**breach, "stage": {"plan": soak["plan"], "name": soak["stage"]}}
        if not begun:
            self._end_stuck(soak)
        result = self._switch_to(self.vault.open(soak["previous"]), SELF_REVERT)
        self._load()
        if self.state.soak is not None:
            self._tell(self.state.soak)
        return result

    def _breach(self, soak: Soak, begun: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the probe saw, or what was written down when this way back was begun."""
        kept = read_json(soak_file(self.node))
        found = begun or (kept.get("breach") if isinstance(kept, dict) else None) or {}
        if not begun and found.get("transaction") != soak["transaction"]:
            return None
        return {"reason": str(found.get("reason", "")), "samples": found.get("samples", {})}

    def _end_stuck(self, soak: Soak) -> None:
        """End plugins of the stage that never came up: lightningd waits for them, and so would everything else."""
        listed = self.machine.plugins()
        for item in active_items(soak["target"]):
            for path in ours_running(self.machine, listed, item["name"]):
                if not listed[path]["active"]:
                    slot = str(self.node.to_outside(path).parent.parent)
                    data = {"plugin": item["name"], "path": path}
                    self.journal.append("ended-stuck", data, "", self.request.rollout)
                    self.machine.end_plugin(self.node.to_inside(slot), self.machine.identity())

    def _begin(self, seen: Look, target: Stack, kind: str, manifests: Manifests) -> None:
        if leaves(seen, seen.stack, target, manifests):
            self._free_node()
            raise HiveError(
                "the way back would carry rows over to the monolith, which is for a human to decide; run rollback.yml",
                "self-revert",
            )
        super()._begin(seen, target, kind, manifests)

    def _tell(self, soak: Soak) -> None:
        """Write down that it is done, and why; once."""
        if soak["state"] == SELF_REVERTED and not soak["told"]:
            last = self.state.last
            samples = last.data.get("samples", {}) if last is not None else {}
            told = {"plan": soak["plan"], "stage": soak["stage"], "reason": soak["reason"], "samples": samples}
            self.journal.append("self-reverted", told, soak["transaction"], self.request.rollout)


def request_of(soak: Soak, settings: dict[str, Any]) -> Request:
    """Return the request of a way back. Its engine waits for no other one, its switch for no controller."""
    wanted: dict[str, Any] = {}
    if settings.get("min_free_bytes"):
        wanted["min_free_bytes"] = int(settings["min_free_bytes"])
    return Request(
        state="rolled_back",
        rollout=rollout_of(soak),
        owner=OWNER,
        deadman_seconds=0.0,
        lock_ttl_seconds=LOCK_SECONDS,
        break_lock=True,
        backup_keep=int(settings.get("backup_keep", Request.backup_keep)),
        timeouts=Timeouts(engine=0.0),
        htlc_wait_seconds=HTLC_WAIT_SECONDS,
        **wanted,
    )


def undo(node: Node, settings: dict[str, Any]) -> str:
    """Take a node back to what it ran before its stage.

    Returns:
        What came of it, in a sentence; "" when there was nothing to do.
    """
    soak = Journal(node.journal_file, node.keeper).state().soak
    if soak is None:
        return ""
    try:
        result = SelfUndo(node, request_of(soak, settings)).run()
    except HiveError as error:
        if error.code in PASSING and error.data.get("phase") not in ("reverted", "revert-failed"):
            return f"not now: {error.message}"
        return _give_up(node, soak, error)
    return f"{node.name} went back by itself" if result["changed"] else ""


def _give_up(node: Node, soak: Soak, error: HiveError) -> str:
    """Write down that the node cannot go back by itself, so that nobody tries again and people are told."""
    with engine_lock(node, 0.0):
        journal = Journal(node.journal_file, node.keeper)
        now = journal.state().soak
        if now is not None and now["transaction"] == soak["transaction"] and now["state"] == SOAKING:
            told = {"plan": soak["plan"], "stage": soak["stage"], "reason": error.message, "code": error.code}
            journal.append("self-revert-failed", told, soak["transaction"], rollout_of(soak))
    return f"{node.name} cannot go back by itself: {error.message}"


def main(argv: list[str] | None = None) -> int:
    """Take the node back; 0 unless this process itself could not work."""
    parser = argparse.ArgumentParser(prog="hive-engine", description="Take a node back that fails in its soak.")
    parser.add_argument("command", choices=("self-undo",))
    parser.add_argument("--node", type=Path, required=True)
    options = parser.parse_args(argv)
    from .probe import load

    try:
        settings = load(options.node)
        told = undo(Node.from_params(settings["node"]), settings)
    except HiveError as error:
        sys.stderr.write(f"hive-engine: {error.message}\n")
        return 0 if error.code in PASSING else 1
    sys.stdout.write(f"{told}\n" if told else "")
    return 0
