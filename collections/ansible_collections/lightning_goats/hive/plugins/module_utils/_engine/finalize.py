"""The end of an adoption: the monolith's tables that have new owners go, and with them the way back to the monolith."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._slots import Slot
from .adoption_state import HANDED, HANDING, Adopted, adopted_by
from .adoption_work import BYTES_PER_SECOND, CHILD_SECONDS, HAND_OVER, ask
from .backups import BackupRequest, sources, take_backup
from .errors import HiveError
from .guard import Look, look
from .journal import Journal
from .lock import engine_lock, read_lock
from .machine import Machine
from .monolith import facts_of, took
from .node import Node
from .observe import database_path, free_bytes, options_of
from .request import Timeouts
from .steps import failpoint


class Step(str, enum.Enum):
    """The steps of giving up the way back, in order."""

    BACKUP = "finalize-backup"
    HAND_OVER = "hand-over"


@dataclass(frozen=True)
class FinalizeRequest:
    """One call of hive_finalize.

    Attributes:
        stability_seconds: how long the adopted stack must have stood, confirmed.
        early: name of the node, typed by the operator, to do it before that.
        rollout: name of the run, for the journal.
    """

    rollout: str
    stability_seconds: float
    early: str = ""
    backup_keep: int = 10
    timeouts: Timeouts = field(default_factory=Timeouts)
    check_mode: bool = False


def finalize(node: Node, request: FinalizeRequest) -> dict[str, Any]:
    """Give the monolith's tables up; the function the module calls.

    Returns:
        changed, finalized, dropped, kept: [{table, reason}], adopted_at, backup, reason (why there was nothing to do),
        lines (for people).

    Raises:
        HiveError: it is too early, something is open, or the tables could not be given up.
    """
    if request.check_mode:
        return Finalizer(node, request).forecast()
    with engine_lock(node, request.timeouts.engine):
        return Finalizer(node, request).run()


class Finalizer:
    """One call on one node."""

    def __init__(self, node: Node, request: FinalizeRequest) -> None:
        self.node = node
        self.request = request
        self.machine = Machine(node, request.timeouts.rpc)
        self.journal = Journal(node.journal_file, node.keeper)
        self.state: Adopted = adopted_by(self.journal.entries)

    def forecast(self) -> dict[str, Any]:
        """Return what a run would do, after the same checks."""
        reason = self._nothing()
        if reason:
            return self._result(False, [], [], None, reason)
        self._refuse()
        return self._result(True, sorted(self._left(look(self.machine, self.request.timeouts.ready))), [], None, "")

    def run(self) -> dict[str, Any]:
        """Back up, hand over, write it down."""
        reason = self._nothing()
        if reason:
            return self._result(False, [], self.state.kept, None, reason)
        self._refuse()
        seen = look(self.machine, self.request.timeouts.ready)
        slot, left = self._owner(seen), self._left(seen)
        backup = None
        if not self.state.handed:
            failpoint(Step.BACKUP)
            backup = self._back_up(seen)
            failpoint(Step.BACKUP, after=True)
            # From here on tables may be gone, so the monolith must not come back.
            self.journal.append(HANDING, {"set": backup["id"], "tables": sorted(self.state.tables)}, "", self._rollout)
        path = Path(self.state.path)
        told = {"database": self.node.to_inside(path), "tables": left}
        failpoint(Step.HAND_OVER)
        answer = ask(self.machine, slot, HAND_OVER, told, CHILD_SECONDS + path.stat().st_size / BYTES_PER_SECOND)
        failpoint(Step.HAND_OVER, after=True)
        dropped = sorted(str(name) for name in answer.get("dropped", []))
        kept = [{"table": str(one["table"]), "reason": str(one["reason"])} for one in answer.get("kept", [])]
        changed = backup is not None or bool(dropped) or kept != self.state.kept
        if changed or not self.state.finished:
            self.journal.append(HANDED, {"dropped": dropped, "kept": kept}, "", self._rollout)
        return self._result(changed, dropped, kept, backup, "")

    def _left(self, seen: Look) -> dict[str, dict[str, Any]]:
        """Return the tables that are still in the monolith's file, as they were taken over.

        Their new owners say what they took: they may have done so once more since the journal was told.

        Raises:
            HiveError: a plugin works on another database than the one that it took rows into; the monolith's are all
                there is then.
        """
        facts = facts_of(Path(self.state.path), self.node)
        there = facts["tables"] if facts is not None else {}
        slots, options = sources(self.node, seen), options_of(seen.configs)
        left: dict[str, dict[str, Any]] = {}
        for name, report in self.state.plugins.items():
            path = database_path(self.node, slots[name].manifest, options) if name in slots else None
            taken = took(path, self.node) if path is not None else {}
            for table, told in report["tables"].items():
                if not told["digest"] or table not in there:
                    continue
                if table not in taken:
                    raise HiveError(
                        f"{name} has taken {table} over and its database {path or 'of an unknown place'} says nothing "
                        f"of it, so the monolith of {self.node.name} keeps its tables; restore a backup set made since "
                        "then (restore.yml), or go back with rollback.yml",
                        "adoption-gone",
                        plugin=name,
                    )
                left[table] = taken[table]
        return left

    @property
    def _rollout(self) -> str:
        return self.request.rollout

    def _nothing(self) -> str:
        """Return why there is nothing to do, "" when there is something."""
        if not self.state.plugins:
            return "no plugin has taken rows of a monolith over"
        if self.state.finished:
            return "the monolith's tables were given up before"
        return ""

    def _refuse(self) -> None:
        """Refuse while anything is open, or the stack has not stood for long enough."""
        node, request = self.node, self.request
        txn = self.journal.state().transaction
        if txn is not None:
            raise HiveError(
                f"rollout {txn.rollout} has an open switch on {node.name}; confirm or revert it first", "unconfirmed"
            )
        lock = read_lock(node.state_dir / "lock.json")
        if lock is not None and lock["rollout"] != request.rollout:
            raise HiveError(
                f"rollout {lock['rollout']} of {lock['owner']} holds this node; wait for it or finish it first",
                "locked",
                lock=lock,
            )
        stood = time.time() - self.state.since
        if self.state.handed or stood >= request.stability_seconds or request.early == node.name:
            # What was begun is finished: half a monolith is no way back.
            return
        raise HiveError(
            f"the stack of {node.name} has taken the monolith's place for {stood / 86400:.1f} days, fewer than the "
            f"{request.stability_seconds / 86400:.1f} of hive_stability_seconds; wait, or give the way back up now "
            f"with -e hive_finalize_early={node.name}",
            "too-early",
            stood_seconds=round(stood),
        )

    def _owner(self, seen: Look) -> Slot:
        """Return the release that runs on the monolith's file."""
        for path, slot in seen.by_entry.items():
            if path in seen.listed and slot.manifest.get("adopts", {}).get("in_place"):
                return slot
        raise HiveError(
            f"no plugin of {self.node.name} that goes on with the monolith's database runs; run rollout.yml first",
            "no-owner",
        )

    def _back_up(self, seen: Look) -> dict[str, Any]:
        """Take a set that has the tables which go, whatever other sets there are."""
        path = Path(self.state.path)
        free = free_bytes(self.node.state_dir)
        if free < path.stat().st_size:
            raise HiveError(
                f"{self.node.name} has {free >> 20} MiB free at {self.node.state_dir}, too few for a last backup of "
                f"the monolith's {path.stat().st_size >> 20} MiB; free some space and run again",
                "disk-full",
                free_bytes=free,
            )
        wanted = BackupRequest(reason="before the monolith's tables are given up", keep=self.request.backup_keep)
        backup = take_backup(self.node, seen, wanted)
        if not backup["verified"]:
            raise HiveError(
                f"the last backup of {self.node.name} is not sound, so nothing was given up; look at its disk, then "
                "run again",
                "backup-failed",
            )
        return backup

    def _result(
        self,
        changed: bool,
        dropped: list[str],
        kept: list[dict[str, str]],
        backup: dict[str, Any] | None,
        reason: str,
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "finalized": bool(self.state.plugins) and not kept and not self.request.check_mode,
            "dropped": dropped,
            "kept": kept,
            "adopted_at": self.state.since,
            "backup": backup,
            "reason": reason,
            "lines": self._lines(dropped, kept, backup, reason),
        }

    def _lines(
        self, dropped: list[str], kept: list[dict[str, str]], backup: dict[str, Any] | None, reason: str
    ) -> list[str]:
        """Return what was done, for people."""
        if reason:
            return [f"{self.node.name}: nothing to give up, because {reason}"]
        lines = []
        names = ", ".join(dropped) or "no table"
        if self.request.check_mode:
            lines.append(f"{self.node.name} would give up {names} of {self.state.path}, after a last backup of them")
        else:
            where = f"; backup set {backup['id']} has them" if backup is not None else ""
            lines.append(f"{self.node.name} gave up {names} of {self.state.path}{where}: there is no way back now")
        return [*lines, *(f"{one['table']} stays: {one['reason']}" for one in kept)]
