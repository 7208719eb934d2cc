"""The journal: append-only, hash-chained, synced. What it says happened is the only state of the engine."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import soak as soaks
from .clock import boot, uptime
from .errors import HiveError
from .files import Owner, canonical, disk_error, make_dir, sync_dir, write_atomic
from .node import Node
from .processes import TICKS, Identity

GENESIS = "0" * 64

Entry = dict[str, Any]
Stack = list[dict[str, Any]]
Quarantine = dict[str, dict[str, Any]]


def entry_hash(entry: Entry) -> str:
    """Return the hash of an entry, which covers everything but the hash itself."""
    return hashlib.sha256(canonical({key: value for key, value in entry.items() if key != "hash"})).hexdigest()


@dataclass
class Transaction:
    """An open switch.

    Attributes:
        phase: "open" (under way), "switched" (waits for the controller), "reverting", "revert-failed".
        touched: whether a step that changes the node was begun.
        data: what was written when it began (kind, target, previous, lightningd, ...).
        deadline: unix time at which the dead-man reverts; 0 while it is not armed.
    """

    id: str
    rollout: str
    phase: str
    target: Stack
    previous: Stack
    data: dict[str, Any]
    deadline: float = 0.0
    touched: bool = False
    entries: list[Entry] = field(default_factory=list)


@dataclass
class State:
    """What follows from the journal.

    Attributes:
        stable: the last confirmed stack, None when nothing was ever confirmed.
        previous: the confirmed stack before it.
        watermarks: per plugin the newest release time that was accepted.
        orphans: per life of lightningd ("pid-start"), the configured options of plugins that were stopped in it.
        data_changed_at: time of the newest confirmed switch that changed a database schema or moved rows.
        quarantine: by digest, releases with which lightningd died: plugin, version, digest, path, fallback (digest of
            the plugin's release that runs instead, "" for none), reason, since (unix time).
        soak: the stage that soaks or has soaked, as `soak.confirmed` makes it; None when there is none.
        abandoned: digests of the plans that were given up, oldest first.
    """

    stable: Stack | None = None
    previous: Stack | None = None
    transaction: Transaction | None = None
    last: Transaction | None = None
    watermarks: dict[str, int] = field(default_factory=dict)
    orphans: dict[str, set[str]] = field(default_factory=dict)
    data_changed_at: float = 0.0
    quarantine: Quarantine = field(default_factory=dict)
    soak: soaks.Soak | None = None
    abandoned: list[str] = field(default_factory=list)
    head: str = GENESIS
    length: int = 0


class Journal:
    """One node's journal file.

    Reading tolerates a torn last line (the machine stopped while it was written); the next append repairs it.
    Any other damage raises, because nothing that follows from a changed history can be trusted.
    """

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self.owner = owner
        self.entries: list[Entry] = []
        self.torn = b""
        self._good_bytes = 0
        self.load()

    def load(self) -> None:
        """Read and check the whole file."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise HiveError(
                f"cannot read the journal {self.path}: {error.strerror}; run as its owner or as root", "not-allowed"
            ) from error
        self.entries, self._good_bytes = parse(content, self.path)
        self.torn = content[self._good_bytes :]

    @property
    def head(self) -> str:
        """Hash of the newest entry."""
        return str(self.entries[-1]["hash"]) if self.entries else GENESIS

    def append(self, event: str, data: dict[str, Any], txn: str = "", rollout: str = "") -> Entry:
        """Write one entry and return it once it is on disk."""
        if self.torn:
            self._repair()
        entry: Entry = {
            "seq": len(self.entries) + 1,
            "time": round(time.time(), 3),
            "txn": txn,
            "rollout": rollout,
            "event": event,
            "data": data,
            "prev": self.head,
            # The wall clock is for people, and anybody can set it; this one tells what came before what.
            "up": [boot(), round(uptime(), 3)],
        }
        entry["hash"] = entry_hash(entry)
        self._write(canonical(entry) + b"\n")
        self.entries.append(entry)
        return entry

    def _write(self, line: bytes) -> None:
        fresh = not self.path.exists()
        make_dir(self.path.parent, self.owner)
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if fresh and self.owner.foreign:
                    os.fchown(handle, self.owner.uid, self.owner.gid)
                written = os.write(handle, line)
                if written != len(line):
                    os.ftruncate(handle, self._good_bytes)
                    raise OSError(28, "No space left on device")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise disk_error(error, self.path) from error
        self._good_bytes += len(line)
        if fresh:
            sync_dir(self.path.parent)

    def _repair(self) -> None:
        torn, self.torn = self.torn, b""
        write_atomic(self.path.with_name("journal.torn"), torn, self.owner)
        handle = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.ftruncate(handle, self._good_bytes)
            os.fsync(handle)
        finally:
            os.close(handle)
        self.append("repaired", {"bytes": len(torn), "kept_in": "journal.torn"})

    def state(self) -> State:
        """Fold the entries into what they mean."""
        return fold(self.entries)


def soak_of(node: Node) -> soaks.Soak | None:
    """Return the stage that a node soaks in, or has; None when there is none, or its journal cannot be read."""
    try:
        return Journal(node.journal_file, node.keeper).state().soak
    except HiveError:
        return None


def parse(content: bytes, path: Path) -> tuple[list[Entry], int]:
    """Return the entries of a journal and the number of bytes they take; what follows is one torn line.

    Raises:
        HiveError: a line before the last is damaged, or the chain does not hold.
    """
    entries: list[Entry] = []
    good = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            if number == len(lines):
                return entries, good
            raise damaged(path, number)
        head = str(entries[-1]["hash"]) if entries else GENESIS
        if entry.get("prev") != head or entry.get("hash") != entry_hash(entry):
            raise damaged(path, number)
        entries.append(entry)
        good += len(line)
    return entries, good


def damaged(path: Path, number: int) -> HiveError:
    """Return the refusal to work with a changed history."""
    return HiveError(
        f"line {number} of {path} does not fit the chain of hashes, so it was changed or damaged; find out by "
        "whom, then move the file "
        "away and run again: the engine starts a new journal from the stack that is active now",
        "journal-damaged",
        line=number,
    )


def fold(entries: list[Entry]) -> State:
    """Derive the state from the history; pure."""
    state = State(length=len(entries), head=str(entries[-1]["hash"]) if entries else GENESIS)
    for entry in entries:
        event, data = entry["event"], entry["data"]
        if event == "begin":
            state.transaction = Transaction(
                id=entry["txn"],
                rollout=entry["rollout"],
                phase="open",
                target=data["target"],
                previous=data["previous"],
                data=data,
            )
        elif event == "accepted":
            name = data["name"]
            state.watermarks[name] = max(state.watermarks.get(name, 0), int(data["released_at"]))
        elif event == "quarantined":
            for item in data["plugins"]:
                state.quarantine[str(item["digest"])] = {**item, "since": float(entry["time"])}
        elif event == "restored":
            state.data_changed_at = max(state.data_changed_at, float(entry["time"]))
        elif event == "abandoned" and data["plan"] not in state.abandoned:
            state.abandoned.append(str(data["plan"]))
        state.soak = soaks.noted(state.soak, entry)
        if event == "intent" and data.get("configured"):
            state.orphans.setdefault(str(data["lightningd"]), set()).update(data["configured"])
        txn = state.transaction
        if txn is None or entry["txn"] != txn.id:
            continue
        txn.entries.append(entry)
        _fold_transaction(state, txn, entry)
    return state


def still_held(quarantine: Quarantine, stack: Stack) -> Quarantine:
    """Return what stays quarantined once a stack is confirmed.

    A release is free when its plugin runs another one than when lightningd died, and when all plugins are gone.
    """
    running = {item["name"]: item["digest"] for item in stack if item["enabled"]}
    return {
        digest: entry
        for digest, entry in quarantine.items()
        if running and running.get(entry["plugin"], "") == entry["fallback"]
    }


def written_before(entry: Entry, who: Identity) -> bool:
    """Whether an entry was written before a process of this start of the machine was started."""
    if "up" not in entry:
        return float(entry["time"]) <= who.started_at
    name, seconds = entry["up"]
    return bool(name != boot() or seconds <= who.started / TICKS)


def stacks_at(entries: list[Entry], who: Identity) -> list[Stack]:
    """Return the stacks whose configuration stood on disk when a process started: the stable, or both of a switch."""
    state = fold([entry for entry in entries if written_before(entry, who)])
    if state.transaction is not None:
        back = any(entry["event"] == "configuration-restored" for entry in state.transaction.entries)
        return [state.transaction.previous] if back else [state.transaction.target, state.transaction.previous]
    return [] if state.stable is None else [state.stable]


def _fold_transaction(state: State, txn: Transaction, entry: Entry) -> None:
    event, data = entry["event"], entry["data"]
    if event == "intent":
        txn.touched = txn.touched or bool(data.get("touches"))
    elif event == "armed":
        txn.deadline = float(data["deadline"])
    elif event in ("switched", "reverting", "revert-failed"):
        txn.phase = event
    elif event == "confirmed":
        state.soak = soaks.confirmed(state.soak, state.stable, txn.data, entry)
        if state.stable != txn.target:
            state.previous = state.stable if state.stable is not None else txn.previous
        state.stable = txn.target
        state.quarantine = still_held(state.quarantine, txn.target)
        if txn.data.get("changes_data"):
            state.data_changed_at = float(entry["time"])
        txn.phase = "confirmed"
    elif event == "reverted":
        state.stable = txn.previous if state.stable is None else state.stable
        txn.phase = "reverted"
    elif event == "refused":
        txn.phase = "refused"
    if txn.phase in ("confirmed", "reverted", "refused"):
        state.last, state.transaction = txn, None
