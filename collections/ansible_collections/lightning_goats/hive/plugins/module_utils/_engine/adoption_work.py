"""What moves the monolith's rows: each plugin's own executable, on its own database, as lightningd's user."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
# Plugins asked side by side: a small node has two processors.
RUNNERS = 2
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
    """Return what the journal keeps of a plugin's report; what stays in its file has no digest and is not told."""
    return {
        "source": report.get("source", {}),
        "tables": {
            name: {**{key: int(facts.get(key, 0)) for key in COUNTS}, "digest": str(facts["digest"])}
            for name, facts in report.get("tables", {}).items()
            if facts.get("digest")
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

    def adopt(self, slots: list[Slot], snapshot: Path | None, final: bool) -> dict[str, Report]:
        """Let plugins take their rows over from a copy, or the database itself in place; return what each reports."""
        return self._ask_all(
            slots,
            ADOPT,
            {
                "snapshot": "" if snapshot is None else self.node.to_inside(snapshot),
                "identity": self.identity,
                "final": final,
            },
        )

    def carry_back(self, slots: list[Slot]) -> dict[str, Report]:
        """Let plugins write what changed since adoption back into the monolith's tables, which nobody uses."""
        reports: dict[str, Report] = {}
        for slot in slots:
            # One after the other: they write into one file.
            reports.update(self._ask_all([slot], CARRY_BACK, {"monolith": self.node.to_inside(self.monolith)}))
        return {
            name: {"tables": report.get("tables", {}), "left": list(report.get("left", []))[:SHOWN]}
            for name, report in reports.items()
        }

    def _ask_all(self, slots: list[Slot], flag: str, payload: dict[str, Any]) -> dict[str, Report]:
        """Ask plugins side by side; what lightningd signs for them goes through their stdin and nowhere else."""
        info = self.seen.info
        told = {}
        for slot in slots:
            messages = slot.manifest["adopts"]["signatures"]
            signed = {name: str(self.machine.rpc.call("signmessage", {"message": name})["zbase"]) for name in messages}
            own = {"database": self.node.to_inside(self.database(slot.manifest)), "signatures": signed}
            told[slot.name] = {**payload, **own, "node_id": info["id"], "network": info["network"]}
        size = self.monolith.stat().st_size if self.monolith.is_file() else 0
        seconds = CHILD_SECONDS + size / BYTES_PER_SECOND
        answers: dict[str, Report] = {}

        def work() -> None:
            with ThreadPoolExecutor(RUNNERS) as pool:
                calls = {
                    slot.name: pool.submit(ask, self.machine, slot, flag, told[slot.name], seconds) for slot in slots
                }
            answers.update({name: call.result() for name, call in calls.items()})

        self.session.lightningd.attend(work, seconds * len(slots))
        if slots and not answers:
            raise HiveError(
                f"{slots[0].name} does not finish {flag} on {self.node.name}; look at its load, then run again",
                "adoption-slow",
                plugin=slots[0].name,
            )
        return answers

    @contextmanager
    def copy(self, kept: Path) -> Iterator[Path]:
        """Give a copy that lightningd's user can read: `kept`, of a backup set, where it can, else a fresh one."""
        if kept.is_file() and not self.node.owner.foreign and self.node.runtime != "docker":
            yield kept
            return
        with self._fresh() as path:
            yield path

    @contextmanager
    def settled(self, alone: bool) -> Iterator[Path]:
        """Give the monolith's file itself when all of it is in there, else a copy: a killed writer leaves a log.

        Args:
            alone: whether nobody has it open.
        """
        log = self.monolith.with_name(self.monolith.name + "-wal")
        if alone and (not log.is_file() or log.stat().st_size == 0):
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
