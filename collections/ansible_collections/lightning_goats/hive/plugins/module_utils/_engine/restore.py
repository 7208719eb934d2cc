"""Restoring plugins' data from a backup set: behind a fence, as a transaction, with what is replaced kept aside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from .aside import aside_dir, stage, swap, unstage
from .backups import BackupRequest, take_backup
from .bundle import engine_archive
from .errors import HiveError
from .forward import Forward
from .guard import Guard, Look, Manifests, look
from .journal import Transaction
from .node import Node
from .observe import free_bytes, list_backups
from .request import Request
from .restore_plan import Plan, Wanted, follows
from .restore_set import named, newest
from .sealed import seal
from .session import Session
from .stacks import active_items, stack_digest
from .steps import Step
from .switch import Switch


@dataclass(frozen=True)
class RestoreRequest:
    """One call of hive_restore.

    Attributes:
        set_id: name of the backup set; "" for the newest that verifies.
        apply: whether to restore, or only to say what that would mean.
        phrase: what the operator typed; must be the exact phrase when data would be lost.
        unsigned: whether a set without a signature will do.
        restore_as: name of this node, when the data of another one is to go there.
        identity: whether that one's keys come along.
    """

    set_id: str
    apply: bool
    phrase: str
    request: Request
    unsigned: bool = False
    restore_as: str = ""
    identity: bool = False


class Restore(Switch):
    """Restores one set on one node."""

    def __init__(self, node: Node, wanted: RestoreRequest) -> None:
        super().__init__(node, wanted.request)
        self.wanted = wanted

    def phrase(self, set_id: str) -> str:
        """What must be typed to go behind the fence."""
        return f"restore {set_id} on {self.node.name} and lose what came after"

    def _load_and_run(self) -> dict[str, Any]:
        self._load()
        wanted = self.wanted
        seen = self._settled()
        self.before = seen.stack
        node_id = str(seen.info["id"])
        if wanted.set_id:
            chosen = named(self.node, self.machine, wanted.set_id, node_id, wanted.unsigned)
        else:
            chosen = newest(self.node, self.machine, node_id, wanted.unsigned, bool(wanted.restore_as))
        plan = Plan(self.node, chosen, seen, Wanted(wanted.restore_as, wanted.identity))
        fence = plan.fence(self.state)
        phrase = self.phrase(chosen.id)
        facts = {**plan.described(), "fence": fence, "phrase": phrase if fence else "", "aside": "", "follows": []}
        if not wanted.apply or self.request.check_mode:
            return self.result(self.request.check_mode and wanted.apply, "planned", seen.stack, **facts)
        if fence and wanted.phrase != phrase:
            refusal = f"{fence[0]}; when that is what you want, run again with -e 'hive_restore_phrase=\"{phrase}\"'"
            error = self._fail(HiveError(refusal, "fenced"), "refused", seen.stack, reverted=False)
            error.data.update(facts)
            raise error
        self._take_node()
        return self._restore(plan, seen, facts)

    def _settled(self) -> Look:
        """Look at the node; what an interrupted switch or restore left open is undone before anything is restored."""
        txn = self.state.transaction
        if txn is not None:
            if not self.wanted.apply or self.request.check_mode:
                raise HiveError(
                    f"rollout {txn.rollout} has an open switch on {self.node.name}; confirm or revert it first",
                    "unconfirmed",
                )
            self._take_node()
            session = Session(self.machine, self.journal, txn, self.request.timeouts)
            session.revert("a restore was asked for", "engine", self.manifests(txn.target, txn.previous))
            self._load()
        return look(self.machine, self.request.timeouts.ready)

    # The transaction

    def _restore(self, plan: Plan, seen: Look, facts: dict[str, Any]) -> dict[str, Any]:
        chosen = plan.chosen
        txn = self._begin_restore(seen, plan)
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        manifests = self.manifests(seen.stack)
        marks = [mark["time"] for mark in self.machine.log_marks()]
        session.record.keep_baseline(
            {"argv": seen.argv, "channels": seen.channel_states, "other_methods": None, "marks": marks}
        )
        session.record.note("begin", txn.data)
        aside = str(txn.data["aside"])
        note = {
            "set": chosen.id,
            "created_at": chosen.manifest["created_at"],
            "restored_at": round(time.time(), 3),
        }
        try:
            self._prepare(plan, seen, manifests, session, aside)
            self._exchange(plan, seen, manifests, session, aside, note)
        except HiveError as error:
            if not txn.touched:
                unstage(self.node, aside)
            raise self._undo(error, manifests) from error
        session.record.note("restored", {**_written_down(plan), "aside": aside})
        facts["aside"], facts["notes"] = str(aside_dir(self.node, aside)), list(plan.notes)
        facts["follows"] = follows(plan, float(note["restored_at"]))
        return {**self._confirm("engine"), **facts}

    def _prepare(self, plan: Plan, seen: Look, manifests: Manifests, session: Session, aside: str) -> None:
        """Everything that takes time or may refuse, while the plugins still run."""
        with session.record.step(Step.GUARD):
            guard = Guard(self.machine, self.request, seen, seen.stack, manifests)
            guard.window()
            guard.disk()
            self._guard_room(plan)
        with session.record.step(Step.BACKUP) as outcome:
            outcome["id"] = self._back_up(plan, seen)
        with session.record.step(Step.COPY):
            stage(self.node, aside, plan.swaps)
        Forward(self.machine, self.request, session).arm()

    def _exchange(
        self, plan: Plan, seen: Look, manifests: Manifests, session: Session, aside: str, note: dict[str, object]
    ) -> None:
        """The plugins stop, the files change places, the plugins start on what is there now, and prove it."""
        names = {part.name for part in plan.parts}
        affected = [item for item in active_items(seen.stack) if item["name"] in names]
        for item in reversed(affected):
            session.plugins.stop(item["name"], seen)
        with session.record.step(Step.DATA, aside=aside):
            swap(self.node, aside, plan.swaps, note)
        for item in affected:
            session.plugins.start(item, manifests[item["digest"]], seen)
        with session.record.step(Step.VERIFY):
            session.lightningd.prove_same()
            session.proof.stack(seen.stack, manifests, strict=False)

    def _back_up(self, plan: Plan, seen: Look) -> str:
        """Take a set of what is there now; where a database is past reading, what is put aside has to do."""
        # No set goes for it: the oldest may be the very one that is restored.
        wanted = BackupRequest(f"before restore of {plan.chosen.id}", len(list_backups(self.node)) + 1)
        try:
            self.backup = take_backup(self.node, seen, wanted)
        except HiveError as error:
            if error.code != "bad-database":
                raise
            plan.notes.append(f"no backup set could be made of what is there now: {error.message}")
            return ""
        return str(self.backup["id"])

    def _guard_room(self, plan: Plan) -> None:
        """Refuse when the new files do not fit beside the old ones, where lightningd needs its room too."""
        free = free_bytes(self.node.network_dir)
        needed = self.request.min_free_bytes + plan.bytes
        if self.node.state_dir.stat().st_dev == self.node.network_dir.stat().st_dev:
            # The set of what is there now goes to the same disk before.
            needed += sum(part.database.stat().st_size for part in plan.parts if part.facts["there"])
        if free < needed:
            raise HiveError(
                f"{self.node.name} has {free // 1048576} MiB free at {self.node.network_dir} and the set needs "
                f"{needed // 1048576} MiB beside what is there; free some space and run again",
                "disk-full",
                free_bytes=free,
                needed_bytes=needed,
            )

    def _begin_restore(self, seen: Look, plan: Plan) -> Transaction:
        self.vault.keep(seen.stack)
        identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        data = {
            "kind": "restore",
            "set": plan.chosen.id,
            "aside": identifier,
            "target": seal(seen.stack),
            "previous": seal(seen.stack),
            "found": seal(seen.stack),
            "target_digest": stack_digest(seal(seen.stack)),
            "plugins": [part.name for part in plan.parts],
            "deadman_seconds": 0,
            "owner": self.request.owner,
            "changes_data": True,
            "lightningd": {"pid": seen.who.pid, "started": seen.who.started, "version": seen.info["version"]},
            "engine": engine_archive()[1],
            "pid": os.getpid(),
        }
        return Transaction(identifier, self.request.rollout, "open", seen.stack, seen.stack, data)


def _written_down(plan: Plan) -> dict[str, Any]:
    """Return what the journal keeps of a restore: what was lost, and where chains of receipts were broken off."""
    changed = {
        name: {table: facts for table, facts in tables.items() if facts["lost"] or facts["back"]}
        for name, tables in plan.rows.items()
    }
    return {
        "set": plan.chosen.id,
        "node_id": plan.manifest["node_id"],
        "signed": plan.chosen.signed,
        "identity": plan.wanted.identity or not plan.chosen.foreign,
        "loss": changed,
        "receipts": plan.broken_chains,
    }


def restore(node: Node, wanted: RestoreRequest) -> dict[str, Any]:
    """Run one request; the function the module calls."""
    return Restore(node, wanted).run()
