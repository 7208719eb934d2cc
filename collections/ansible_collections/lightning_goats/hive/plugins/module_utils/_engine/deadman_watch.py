"""What the dead-man does while it waits: look at its clock, at lightningd, and whether it is still wanted."""

from __future__ import annotations

import sys
import time
from typing import Any

from . import deadman
from .brake import read_brake
from .errors import HiveError
from .journal import Journal
from .lock import engine_lock
from .machine import Machine
from .node import Node
from .processes import Identity, alive
from .record import identities
from .request import Request
from .switch import Switch

LOOK_SECONDS = 0.25
TRIES = 5
PAUSE_SECONDS = 5.0
DIED = "lightningd died before the switch was confirmed"


def watch(node: Node, txn: str, token: str) -> int:
    """Be the dead-man: wait, then undo the transaction if it is open; try again on failure.

    Returns:
        0 when there is nothing left to do.
    """
    facts = deadman.announce(node, token)
    if facts is None:
        return 0
    reason = wait(node, txn, token, facts)
    for attempt in range(TRIES if reason else 0):
        if not still_open(node, txn):
            break
        try:
            Switch(node, Request(state="reverted", rollout="")).reverted_by("dead-man", reason, only=txn)
        except HiveError as error:
            sys.stderr.write(f"hive-engine: try {attempt + 1}: {error.message}\n")
            # What refused may settle by itself: another engine at work, lightningd on its way up.
            time.sleep(PAUSE_SECONDS)
        else:
            return 0
    if still_open(node, txn) and reason:
        return 1
    if deadman.mine(node, token) is not None:
        deadman.disarm(node)
    return 0


def wait(node: Node, txn: str, token: str, facts: dict[str, Any]) -> str:
    """Wait until the switch has to be undone and return why; "" when this dead-man is not needed any more."""
    machine = Machine(node, 5.0)
    # One that is armed again finds a lightningd that may not be the one the switch was made on.
    known = known_to(node, txn)
    forward = goes_forward(node, txn)
    while True:
        if deadman.mine(node, token) is None:
            return ""
        if deadman.left(facts) <= 0:
            return str(facts.get("reason", deadman.UNCONFIRMED))
        braked = read_brake(node) if forward else ""
        if braked:
            return f"the brake was set: {braked}"
        if not any(alive(who) for who in known):
            known, died = look_after(node, txn, machine, known)
            if died:
                # After a new start of the machine lightningd is another one by nature; that is nobody's fault.
                return deadman.STARTED_ANEW if facts.get("reason") == deadman.STARTED_ANEW else DIED
        # Waiting is its work. In small pieces, so that a death of lightningd and a disarming are seen soon.
        time.sleep(min(LOOK_SECONDS, max(0.01, deadman.left(facts))))


def known_to(node: Node, txn: str) -> set[Identity]:
    """Return every lightningd that belongs to a transaction; none when it is not open any more."""
    found = Journal(node.journal_file, node.keeper).state().transaction
    return identities(found) if found is not None and found.id == txn else set()


def goes_forward(node: Node, txn: str) -> bool:
    """Whether a transaction is one that the brake undoes; a way back and a restore are not."""
    found = Journal(node.journal_file, node.keeper).state().transaction
    return found is not None and found.id == txn and found.data.get("kind") == "switch"


def look_after(node: Node, txn: str, machine: Machine, known: set[Identity]) -> tuple[set[Identity], bool]:
    """Return who lightningd may be now that it is not who it was, and whether that is nobody's plan.

    While an engine is at work on the node, it is that engine's business; this one looks again.
    """
    try:
        with engine_lock(node, 0.0):
            known = known_to(node, txn)
            return known, bool(known) and machine.identity() not in known
    except HiveError as error:
        if error.code != "busy":
            raise
        return known, False


def still_open(node: Node, txn: str) -> bool:
    """Whether the transaction has neither been confirmed nor undone."""
    found = Journal(node.journal_file, node.keeper).state().transaction
    return found is not None and found.id == txn
