"""What every call of the engine has in common: journal, lock and vault of the node, and one form of its result."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from .._slots import find_slot, list_slots
from .adoption_state import summary
from .errors import HiveError
from .files import canonical, disk_error
from .guard import Manifests
from .journal import Journal, Stack, State
from .lock import engine_lock
from .machine import Machine
from .node import Node
from .request import Request
from .sealed import Vault, seal
from .session import Session
from .stacks import active_items

Result = dict[str, Any]


class Call(ABC):
    """One call of the engine on one node: what it knows, what it returns, how it fails; `Switch` says what it does."""

    def __init__(self, node: Node, request: Request) -> None:
        self.node = node
        self.request = request
        self.machine = Machine(node, request.timeouts.rpc)
        self.lock_file = node.state_dir / "lock.json"
        self.vault = Vault(node.state_dir / "secrets.json", node.keeper)
        self._journal: Journal | None = None
        self.state = State()
        self.session: Session | None = None
        self.backup: dict[str, Any] | None = None
        self.drained: dict[str, Any] | None = None
        self.broken_lock: dict[str, Any] | None = None
        self.before: Stack = []
        self.notes: dict[str, Any] = {}
        self.started = time.monotonic()

    def run(self) -> Result:
        """Do what the request asks and return what hive_switch returns.

        Raises:
            HiveError: with the same keys in `data`, so that a report can be made of a failure too.
        """
        try:
            if self.request.check_mode:
                return self._load_and_run()
            with engine_lock(self.node, self.request.timeouts.engine):
                return self._load_and_run()
        except HiveError as error:
            if "phase" in error.data:
                raise
            raise self._fail(error, "refused", self.before, reverted=False) from error
        except OSError as error:
            told = disk_error(error, Path(str(error.filename or self.node.state_dir)))
            raise self._fail(told, "refused", self.before, reverted=False) from error

    @property
    def journal(self) -> Journal:
        assert self._journal is not None, "loaded before anything else"
        return self._journal

    def _load(self) -> None:
        self._journal = Journal(self.node.journal_file, self.node.keeper)
        self.state = self._journal.state()
        if self.state.transaction is not None:
            self.state.transaction.target = self.vault.open(self.state.transaction.target)
            self.state.transaction.previous = self.vault.open(self.state.transaction.previous)
        self.state.stable = None if self.state.stable is None else self.vault.open(self.state.stable)

    @abstractmethod
    def _load_and_run(self) -> Result:
        """Load the journal and do what was asked for; with the engine's lock, but for check mode."""

    # Results

    def result(self, changed: bool, phase: str, after: Stack, **more: Any) -> Result:
        """Return the keys that every outcome has; secrets are sealed."""
        session = self.session
        before, after = seal(self.before), seal(after)
        return {
            "changed": changed,
            "phase": phase,
            "transaction": session.txn.id if session else "",
            "before": before,
            "after": after,
            "downtime_ms": session.plugins.downtime_ms if session else {},
            "switch_ms": round((time.monotonic() - self.started) * 1000, 1),
            "lightningd_restarts": session.lightningd.restarts if session else 0,
            "backup": self.backup,
            "adoption": summary(session.txn.entries) if session else None,
            "reverted": False,
            "reason": "",
            "remarks": session.warnings if session else [],
            "journal": session.txn.entries if session else [],
            "journal_head": self._journal.head if self._journal else "",
            "broken_lock": self.broken_lock,
            "drained": self.drained,
            "diff": {
                "before_header": "stack",
                "after_header": "stack",
                "before": listing(before),
                "after": listing(after),
            },
            **more,
        }

    def _fail(self, error: HiveError, phase: str, after: Stack, reverted: bool) -> HiveError:
        facts = self.result(reverted, phase, after)
        facts.update(reverted=reverted, reason=error.message)
        facts["details"] = {key: value for key, value in error.data.items() if key not in facts}
        return HiveError(error.message, error.code, **facts)

    # What is known of releases

    def manifests(self, *stacks: Stack) -> Manifests:
        """Return the manifests of everything in these stacks and of every finished slot; the node's own win."""
        known: Manifests = dict(self.request.manifests)
        for slot in list_slots(self.node):
            if not slot.complete:
                continue
            given = known.get(slot.digest)
            if given is not None and canonical(given) != canonical(slot.manifest):
                raise HiveError(
                    f"the manifest of {slot.name} {slot.version} differs between controller and {self.node.name}; "
                    "stage the release again from the directory it was built in",
                    "manifest-differs",
                )
            known[slot.digest] = slot.manifest
        for stack in stacks:
            for item in active_items(stack):
                if item["digest"] not in known:
                    find_slot(self.node, item["name"], item["digest"])
        return known


def listing(stack: Stack) -> str:
    """Return a stack as lines, for a diff."""
    lines = []
    for item in stack:
        lines.append(
            f"{item['name']} {item['version']} {item['digest'][:12]}{'' if item['enabled'] else ' (disabled)'}"
        )
        lines += [f"  {name}={value}" for name, value in sorted(item["options"].items())]
    return "".join(f"{line}\n" for line in lines)
