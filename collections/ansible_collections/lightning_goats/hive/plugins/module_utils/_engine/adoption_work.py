"""What moves the monolith's rows: each plugin's own executable, on its own database, as lightningd's user."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._slots import Slot
from .._sqlite import capture
from .aside import COMPANIONS
from .errors import HiveError
from .files import make_dir, remove_tree
from .guard import Look
from .machine import Machine
from .observe import database_path, options_of
from .session import Session

ADOPT, CARRY_BACK, HAND_OVER = "--hive-adopt", "--hive-carry-back", "--hive-hand-over"
# A child gets this long, and a second more for each so many bytes of the monolith.
CHILD_SECONDS = 300.0
BYTES_PER_SECOND = 1 << 20
SHOWN = 20
COUNTS = ("source", "adopted", "inserted", "updated", "deleted", "quarantined")
# For a copy that lightningd's user can read, also in a container; on the disk that the new databases are on.
SCRATCH = ".hive-adopt"

Report = dict[str, Any]


def ask(machine: Machine, slot: Slot, flag: str, told: dict[str, Any], seconds: float) -> Report:
    """Run a plugin's executable beside lightningd with one JSON object on its stdin; return the one it answers.

    Raises:
        HiveError: it refuses, with its sentence, or does not answer.
    """
    done = machine.runtime.tell([slot.inside(machine.node), flag], json.dumps(told).encode(), seconds)
    if done.rc is None:
        raise HiveError(
            f"{slot.name} does not finish {flag} within {seconds:g} s; look at the load and the disk of "
            f"{machine.node.name}, then run again",
            "adoption-slow",
            plugin=slot.name,
        )
    try:
        answer = json.loads(done.out)
    except ValueError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict) and error.get("code") == "identity-conflict":
        raise HiveError(
            f"{error.get('message')}; choose with -e hive_adopt_identity=monolith or -e hive_adopt_identity=present",
            "identity-conflict",
            plugin=slot.name,
        )
    if isinstance(error, dict):
        raise HiveError(
            f"{slot.name} refuses the monolith's rows: {error.get('message')}",
            "adoption-failed",
            plugin=slot.name,
            cause=str(error.get("code")),
        )
    if done.rc != 0 or not isinstance(answer, dict):
        reason = (done.err.strip() or f"exit status {done.rc}").splitlines()[-1][:300]
        raise HiveError(
            f"{slot.name} ends {flag} without an answer ({reason}); build that release again",
            "adoption-failed",
            plugin=slot.name,
        )
    return answer


def short(report: Report) -> Report:
    """Return what the journal keeps of a plugin's report."""
    return {
        "source": report.get("source", {}),
        "tables": {
            name: {**{key: int(facts.get(key, 0)) for key in COUNTS}, "digest": str(facts.get("digest", ""))}
            for name, facts in report.get("tables", {}).items()
        },
        "identity": report.get("identity", {"action": "none", "pubkey": ""}),
        "quarantine": list(report.get("quarantine", []))[:SHOWN],
    }


def moved(report: Report) -> int:
    """Return how many rows one pass changed."""
    tables = report.get("tables", {}).values()
    return sum(int(facts.get(key, 0)) for facts in tables for key in ("inserted", "updated", "deleted"))


def since(started: float) -> float:
    """Return the milliseconds since then."""
    return round((time.monotonic() - started) * 1000, 1)


class Work:
    """The parts that the way there and the way back share.

    Attributes:
        monolith: its database.
        identity: which Nostr identity stays when there are two.
    """

    def __init__(self, session: Session, seen: Look, monolith: Path, identity: str) -> None:
        self.session = session
        self.machine = session.machine
        self.node = session.node
        self.record = session.record
        self.seen = seen
        self.monolith = monolith
        self.identity = identity

    def database(self, manifest: dict[str, Any]) -> Path:
        """Return where a plugin has its rows."""
        if manifest["adopts"]["in_place"]:
            return self.monolith
        return database_path(self.node, manifest, options_of(self.seen.configs))

    def files(self, manifest: dict[str, Any]) -> list[Path]:
        """Return the database of a plugin and what belongs to it."""
        database = self.database(manifest)
        keys = [database.with_name(str(name)) for name in manifest.get("key_files", [])]
        return [database, *(database.with_name(database.name + suffix) for suffix in COMPANIONS), *keys]

    def adopt(self, slot: Slot, snapshot: Path | None, final: bool) -> Report:
        """Let one plugin take its rows over from a copy, or the database itself in place."""
        return self._ask(
            slot,
            ADOPT,
            {
                "snapshot": "" if snapshot is None else self.node.to_inside(snapshot),
                "database": self.node.to_inside(self.database(slot.manifest)),
                "identity": self.identity,
                "final": final,
            },
        )

    def carry_back(self, slot: Slot) -> Report:
        """Let one plugin write what changed since adoption back into the monolith's tables, which nobody uses."""
        report = self._ask(
            slot,
            CARRY_BACK,
            {
                "database": self.node.to_inside(self.database(slot.manifest)),
                "monolith": self.node.to_inside(self.monolith),
            },
        )
        return {"tables": report.get("tables", {}), "left": list(report.get("left", []))[:SHOWN]}

    def _ask(self, slot: Slot, flag: str, payload: dict[str, Any]) -> Report:
        """Ask a plugin; what lightningd signs for it goes through its stdin and nowhere else."""
        messages = slot.manifest["adopts"]["signatures"]
        signed = {name: str(self.machine.rpc.call("signmessage", {"message": name})["zbase"]) for name in messages}
        info = self.seen.info
        told = {**payload, "signatures": signed, "node_id": info["id"], "network": info["network"]}
        size = self.monolith.stat().st_size if self.monolith.is_file() else 0
        seconds = CHILD_SECONDS + size / BYTES_PER_SECOND
        answer: list[Report] = []
        self.session.lightningd.attend(lambda: answer.append(ask(self.machine, slot, flag, told, seconds)), seconds)
        if not answer:
            raise HiveError(
                f"{slot.name} does not finish {flag} on {self.node.name}; look at its load, then run again",
                "adoption-slow",
                plugin=slot.name,
            )
        return answer[0]

    @contextmanager
    def copy(self, kept: Path) -> Iterator[Path]:
        """Give a copy that lightningd's user can read: `kept`, of a backup set, where it can, else a fresh one."""
        if kept.is_file() and not self.node.owner.foreign and self.node.runtime != "docker":
            yield kept
            return
        with self._fresh() as path:
            yield path

    @contextmanager
    def settled(self) -> Iterator[Path]:
        """Give the monolith's file itself when all of it is in there, else a copy: a killed writer leaves a log."""
        log = self.monolith.with_name(self.monolith.name + "-wal")
        if not log.is_file() or log.stat().st_size == 0:
            yield self.monolith
            return
        with self._fresh() as path:
            yield path

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        place, owner = self.node.network_dir / SCRATCH, self.node.owner
        # Also what one that was killed has left.
        remove_tree(place)
        make_dir(place, owner)
        try:
            path = place / self.monolith.name
            capture({"monolith": (self.monolith, path)}, owner)
            if owner.foreign:
                os.chown(path, owner.uid, owner.gid)
            yield path
        finally:
            remove_tree(place)
