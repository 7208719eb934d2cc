"""One open transaction and its journal: every act is written before it is done, and when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .deadman import disarm
from .files import canonical, disk_error, make_dir, read_json, sync_dir, write_atomic
from .journal import Entry, Journal, Transaction
from .lock import release_lock
from .node import Node
from .processes import Identity
from .reserve import spend_reserve
from .steps import Step, failpoint

TOUCHING = {Step.ADOPT, Step.STOP, Step.START, Step.CLEAR, Step.WRITE, Step.RESTART, Step.DATA}


def identities(txn: Transaction) -> set[Identity]:
    """Return every lightningd that a transaction knows of: the one it began with, and those it started itself."""
    facts = txn.data["lightningd"]
    known = {Identity(int(facts["pid"]), int(facts["started"]))}
    for entry in txn.entries:
        data = entry["data"]
        if entry["event"] == "done" and data.get("step") in (Step.RESTART.value, Step.QUARANTINE.value):
            known.add(Identity(int(data["pid"]), int(data["started"])))
    return known


class Record:
    """The written side of a transaction."""

    def __init__(self, node: Node, journal: Journal, txn: Transaction) -> None:
        self.node = node
        self.journal = journal
        self.txn = txn

    def note(self, event: str, data: dict[str, Any]) -> Entry:
        """Append an entry of this transaction."""
        entry = self.journal.append(event, data, self.txn.id, self.txn.rollout)
        self.txn.entries.append(entry)
        return entry

    @contextmanager
    def step(self, step: Step, **data: Any) -> Iterator[dict[str, Any]]:
        """Write the intent, run the body, write that it is done with what the body put into the yielded dict."""
        intent: dict[str, Any] = {"step": step.value, **data}
        if step in TOUCHING:
            intent["touches"] = True
            self.txn.touched = True
        self.note("intent", intent)
        failpoint(step)
        outcome: dict[str, Any] = {}
        try:
            yield outcome
        except OSError as error:
            # Whatever the operating system refuses is a failure that is undone, like any other.
            raise disk_error(error, Path(str(error.filename or self.node.state_dir))) from error
        failpoint(step, after=True)
        self.note("done", {"step": step.value, **data, **outcome})

    def last(self, event: str, step: Step, plugin: str) -> dict[str, Any] | None:
        """Return the newest entry of one kind about one plugin."""
        for entry in reversed(self.txn.entries):
            data = entry["data"]
            if entry["event"] == event and data.get("plugin") == plugin and data.get("step") == step.value:
                return dict(data)
        return None

    def started_since_stop(self, plugin: str, step: Step) -> dict[str, Any] | None:
        """Return the record that a plugin was started in this transaction and not stopped since."""
        for entry in reversed(self.txn.entries):
            data = entry["data"]
            if data.get("plugin") != plugin:
                continue
            if data["step"] in (Step.STOP.value, Step.REVERT_STOP.value):
                return None
            if entry["event"] == "done" and data["step"] == step.value:
                return dict(data)
        return None

    @property
    def original(self) -> Identity:
        """The lightningd that ran when the transaction began."""
        facts = self.txn.data["lightningd"]
        return Identity(int(facts["pid"]), int(facts["started"]))

    @property
    def restarted(self) -> Identity | None:
        """The lightningd that this transaction started on purpose, if it did."""
        for entry in reversed(self.txn.entries):
            data = entry["data"]
            if entry["event"] == "done" and data.get("step") == Step.RESTART.value:
                return Identity(int(data["pid"]), int(data["started"]))
        return None

    @property
    def argv(self) -> list[str]:
        """How lightningd was started."""
        return [str(word) for word in self.baseline().get("argv", self.node.lightningd)]

    @property
    def _baseline_file(self) -> Path:
        return self.node.state_dir / "transactions" / f"{self.txn.id}.json"

    def keep_baseline(self, facts: dict[str, Any]) -> None:
        """Keep facts that are too long for the journal, or secret, until the transaction has ended."""
        make_dir(self._baseline_file.parent, self.node.keeper)
        write_atomic(self._baseline_file, canonical(facts), self.node.keeper)

    def baseline(self) -> dict[str, Any]:
        """Return what was kept; empty when nothing was."""
        facts = read_json(self._baseline_file)
        return facts if isinstance(facts, dict) else {}

    def tidy(self) -> None:
        """Disarm, forget the baseline, free the node; the journal already says that the transaction has ended."""
        failpoint(Step.DISARM)
        disarm(self.node)
        spend_reserve(self.node)
        if self._baseline_file.exists():
            self._baseline_file.unlink()
            sync_dir(self._baseline_file.parent)
        failpoint(Step.UNLOCK)
        release_lock(self.node.state_dir / "lock.json", self.txn.rollout)
