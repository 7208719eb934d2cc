"""Databases brought into lightningd's network directory: copied, proven equal, then put in the place of the old ones.

Each original is kept, beside itself under another name; where it was, a link leads to the new place, so that a plugin
that is told by nobody else finds its data after a restart. The plugin is stopped while its database moves and started
again from the same path. Every step is journaled, and what is left of an interrupted move is finished by the next call.
"""

from __future__ import annotations

import enum
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .._sqlite import capture, check_copy, open_read_only, quoted, tables
from .aside import copy_durably
from .database_places import ASIDE_STEP, COMPANIONS, EVENT, KEY_FILES, PLUGINS, Stray
from .errors import HiveError
from .files import Owner, make_dir, remove_tree, sync_dir
from .journal import Journal
from .lock import engine_lock
from .machine import Machine, PluginList
from .monolith import strays_of
from .node import Node
from .observe import options_of
from .request import Timeouts
from .steps import failpoint

ASIDE = ".moved-"
FRESH = ".hive-move"
# Without the index of the log, which SQLite makes anew.
FAMILY = ("", "-wal", "-journal")


class Step(str, enum.Enum):
    """The steps of one database's move, in order."""

    BEGIN = "database-begin"
    STOP = "database-stop"
    COPY = "database-copy"
    PLACE = "database-place"
    ASIDE = ASIDE_STEP
    START = "database-start"


@dataclass(frozen=True)
class Move:
    """One database on its way.

    Attributes:
        plugin: real path of the running plugin that uses it, "" when none does.
    """

    id: str
    name: str
    inside: str
    plugin: str


def move_databases(node: Node, check_mode: bool, timeouts: Timeouts) -> dict[str, Any]:
    """Move every database that lies outside the network directory; the function the module calls.

    Returns:
        changed, moved: [{plugin, from, to, kept, bytes, rows}].
    """
    machine = Machine(node, timeouts.rpc)
    if check_mode:
        found = _find(machine)
        for stray in found:
            _refuse_taken(node, stray)
        return {"changed": bool(found), "moved": [_plan(node, stray) for stray in found]}
    with engine_lock(node, timeouts.engine):
        return Mover(machine, timeouts).run()


def _find(machine: Machine) -> list[Stray]:
    return strays_of(machine, options_of(machine.configs()))


def _plan(node: Node, stray: Stray) -> dict[str, Any]:
    return {"plugin": stray.plugin, "from": stray.inside, "to": node.to_inside(_target(node, stray.plugin))}


def _target(node: Node, plugin: str) -> Path:
    return node.network_dir / PLUGINS[plugin][0]


def _refuse_taken(node: Node, stray: Stray) -> None:
    target = _target(node, stray.plugin)
    if target.exists():
        raise HiveError(
            f"{node.name} has two databases of {stray.plugin}, {stray.inside} and {node.to_inside(target)}; decide "
            "which one counts, and move the other one away",
            "two-databases",
        )


class Mover:
    """Moves all strays of one node, one after the other."""

    def __init__(self, machine: Machine, timeouts: Timeouts) -> None:
        self.machine = machine
        self.node = machine.node
        self.timeouts = timeouts
        self.journal = Journal(self.node.journal_file, self.node.keeper)
        self.moved: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Finish what was interrupted, then move the rest."""
        self._refuse_open_switch()
        if self.machine.identity() is None:
            raise HiveError(
                f"lightningd of {self.node.name} does not run, so nobody can tell where its plugins' databases are; "
                "start it, then run again",
                "lightningd-down",
            )
        self.machine.wait_ready(self.timeouts.ready)
        done = [self._finish(move) for move in unfinished(self.journal)]
        for stray in _find(self.machine):
            # One that an interrupted move had placed is known from the journal, every other one is somebody's data.
            _refuse_taken(self.node, stray)
            self._move(stray)
        return {"changed": bool(done or self.moved), "moved": self.moved}

    def _refuse_open_switch(self) -> None:
        txn = self.journal.state().transaction
        if txn is not None:
            raise HiveError(
                f"rollout {txn.rollout} has an open switch on {self.node.name}; confirm or revert it first",
                "unconfirmed",
            )

    def _note(self, move: Move, step: str, **data: Any) -> None:
        self.journal.append(EVENT, {"step": step, "plugin": move.name, "inside": move.inside, **data}, move.id)

    def _move(self, stray: Stray) -> None:
        listed = self.machine.plugins()
        user = user_of(stray, listed, self.machine)
        identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        move = Move(identifier, stray.plugin, stray.inside, user)
        self._note(move, Step.BEGIN.value, path=user, size=stray.size)
        failpoint(Step.BEGIN, after=True)
        try:
            self._carry_out(move, stray)
        except HiveError:
            # Nothing was taken away yet, or the link leads to a proven copy: either way the plugin finds its data.
            self._start(move)
            raise

    def _finish(self, move: Move) -> str:
        """Go on with a move that was interrupted."""
        stray = next((item for item in _find(self.machine) if item.inside == move.inside), None)
        if stray is not None:
            self._carry_out(move, stray)
        else:
            self._link(move)
            self._start(move)
        return move.id

    def _carry_out(self, move: Move, stray: Stray) -> None:
        node, target = self.node, _target(self.node, move.name)
        failpoint(Step.STOP)
        if move.plugin and move.plugin in self.machine.plugins():
            self.machine.stop_plugin(move.plugin, str(PurePosixPath(move.plugin).parent), self.timeouts.stop)
        failpoint(Step.STOP, after=True)
        rows = self._copy(move, stray, target)
        failpoint(Step.ASIDE)
        kept = put_aside(stray.path, move.id)
        for name in KEY_FILES.get(move.name, ()):
            key = stray.path.with_name(name)
            if key.is_file() and not key.is_symlink():
                put_aside(key, move.id)
        self._note(move, Step.ASIDE.value, kept=kept.name)
        failpoint(Step.ASIDE, after=True)
        self._link(move)
        self._start(move)
        self.moved.append(
            {
                **_plan(node, stray),
                "kept": str(PurePosixPath(stray.inside).with_name(kept.name)),
                "bytes": target.stat().st_size,
                "rows": rows,
            }
        )

    def _copy(self, move: Move, stray: Stray, target: Path) -> int:
        """Copy the database and its key files, prove the copy equal, and put it in place; return its rows.

        SQLite follows links to where they lead on this machine, which is elsewhere in a container; so the files are
        copied first, while nobody has them open, and SQLite reads the copy.
        """
        node = self.node
        scratch = node.state_dir / "tmp" / f"move-{move.id}"
        remove_tree(scratch)
        make_dir(scratch, node.keeper)
        copied = scratch / stray.path.name
        fresh = target.with_name(f".{target.name}{FRESH}")
        fresh.unlink(missing_ok=True)
        failpoint(Step.COPY)
        try:
            before = family_digest(stray.path)
            for suffix in FAMILY:
                source = stray.path.with_name(stray.path.name + suffix)
                if source.exists():
                    copy_durably(source, scratch / source.name, 0o600, node.keeper)
            same = family_digest(stray.path) == before == family_digest(copied)
            capture({move.name: (copied, fresh)}, node.keeper)
            found = check_copy(fresh)
            equal = same and content_digest(fresh, node.keeper) == content_digest(copied, node.keeper)
        finally:
            remove_tree(scratch)
        if found["check"] != "ok" or not equal:
            fresh.unlink(missing_ok=True)
            raise HiveError(
                f"the copy of {stray.inside} is not what was copied ({found['check']}), so the original stays where it "
                "is; see who else writes to it, and look at that disk",
                "copy-differs",
            )
        if node.owner.foreign:
            os.chown(fresh, node.owner.uid, node.owner.gid)
        failpoint(Step.COPY, after=True)
        failpoint(Step.PLACE)
        for name in KEY_FILES.get(move.name, ()):
            key, place = stray.path.with_name(name), target.with_name(name)
            if key.is_file() and not key.is_symlink() and not place.exists():
                copy_durably(key, place.with_name(f".{name}{FRESH}"), 0o400, node.owner)
                place.with_name(f".{name}{FRESH}").replace(place)
        fresh.replace(target)
        sync_dir(target.parent)
        self._note(move, Step.PLACE.value, rows=found["rows"], bytes=target.stat().st_size)
        failpoint(Step.PLACE, after=True)
        return sum(found["rows"].values())

    def _link(self, move: Move) -> None:
        """Let the old path lead to the new one, for a plugin that is told by nobody else."""
        who = self.machine.identity()
        if who is None:
            return
        outside = Path(move.inside)
        if self.node.runtime == "docker":
            outside = Path("/proc") / str(who.pid) / "root" / move.inside.lstrip("/")
        target = _target(self.node, move.name)
        keys = [(outside.with_name(name), target.with_name(name)) for name in KEY_FILES.get(move.name, ())]
        for place, goal in [(outside, target), *keys]:
            if goal.exists() and not place.exists() and not place.is_symlink():
                place.symlink_to(self.node.to_inside(goal))
                sync_dir(place.parent)

    def _start(self, move: Move) -> None:
        failpoint(Step.START)
        if move.plugin and move.plugin not in self.machine.plugins():
            slot = str(PurePosixPath(move.plugin).parent)
            self.machine.start_plugin(move.plugin, slot, {}, "", self.timeouts.getmanifest, self.timeouts.init)
        self._note(move, Step.START.value)


def user_of(stray: Stray, listed: PluginList, machine: Machine) -> str:
    """Return the running plugin whose option names the database; "" when none runs.

    The field's file names differ (`cl-hive-comms.py`, `cl_hive_comms.py`), so lightningd is asked who has the option.
    """
    config = machine.configs().get(PLUGINS[stray.plugin][1]) or {}
    path = str(config.get("plugin", ""))
    if path not in listed:
        return ""
    if not listed[path].get("dynamic", True):
        raise HiveError(
            f"{path} cannot be stopped while lightningd runs, so its database {stray.inside} cannot be moved; take it "
            "out of lightningd's configuration and restart lightningd in a quiet hour, then run again",
            "plugin-static",
        )
    return path


def put_aside(path: Path, move: str) -> Path:
    """Keep an original beside itself, with its write-ahead log; nothing is deleted."""
    kept = path.with_name(f"{path.name}{ASIDE}{move}")
    # The database goes first: without its log it would be read as older than it is.
    path.replace(kept)
    for suffix in COMPANIONS:
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.replace(kept.with_name(kept.name + suffix))
    sync_dir(path.parent)
    return kept


def family_digest(path: Path) -> str:
    """Return a digest over the bytes of a database and of what belongs to its contents."""
    digest = hashlib.sha256()
    for suffix in FAMILY:
        file = path.with_name(path.name + suffix)
        if not file.exists():
            continue
        digest.update(f"{suffix} {file.stat().st_size} ".encode())
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def content_digest(path: Path, owner: Owner) -> str:
    """Return a digest over the schema and every row of a database, however its pages are arranged."""
    connection = open_read_only(path, owner)
    digest = hashlib.sha256()
    try:
        for row in connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name"):
            digest.update(repr(tuple(row)).encode())
        for name in tables(connection):
            # Their own order will do: a copy has the same pages.
            digest.update(name.encode())
            for row in connection.execute(f"SELECT * FROM {quoted(name)}"):
                digest.update(repr(tuple(row)).encode())
    finally:
        connection.close()
    return digest.hexdigest()


def unfinished(journal: Journal) -> list[Move]:
    """Return the moves that were begun and not ended, oldest first."""
    begun: dict[str, Move] = {}
    for entry in journal.entries:
        if entry["event"] != EVENT:
            continue
        data = entry["data"]
        if data["step"] == Step.BEGIN.value:
            begun[entry["txn"]] = Move(entry["txn"], data["plugin"], data["inside"], str(data.get("path", "")))
        elif data["step"] == Step.START.value:
            begun.pop(entry["txn"], None)
    return list(begun.values())
