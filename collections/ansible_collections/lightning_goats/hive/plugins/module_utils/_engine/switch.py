"""The switch: a node from one stack to another, kept when confirmed, undone when not."""

from __future__ import annotations

import os
import time
from typing import Any

from .._slots import find_slot, list_slots
from . import deadman
from .backups import BackupRequest, recent_backup, take_backup
from .bundle import engine_archive
from .errors import HiveError, NodeDownError
from .files import canonical
from .guard import Guard, Look, Manifests, check, config_files, look, plan_from, unchanged
from .journal import Journal, Stack, State, Transaction
from .lock import engine_lock, read_lock, release_lock, take_lock
from .machine import Machine
from .node import Node
from .request import Request
from .session import Session
from .stacks import Plan, active_items, normalise, same, stack_digest
from .steps import Step, failpoint

Result = dict[str, Any]


class Switch:
    """One call of the engine on one node."""

    def __init__(self, node: Node, request: Request) -> None:
        self.node = node
        self.request = request
        self.machine = Machine(node, request.timeouts.rpc)
        self.lock_file = node.state_dir / "lock.json"
        self._journal: Journal | None = None
        self.state = State()
        self.session: Session | None = None
        self.backup: dict[str, Any] | None = None
        self.broken_lock: dict[str, Any] | None = None
        self.before: Stack = []
        self.started = time.monotonic()

    # --- entry ---------------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Do what the request asks and return what hive_switch returns.

        Raises:
            HiveError: with the same keys in `data`, so that a report can be made of a failure too.
        """
        try:
            if self.request.check_mode:
                return self._load_and_run()
            with engine_lock(self.node.state_dir, self.node.owner, self.request.timeouts.engine):
                return self._load_and_run()
        except HiveError as error:
            raise error if "phase" in error.data else self._fail(error, "refused", self.before, reverted=False) from error

    @property
    def journal(self) -> Journal:
        assert self._journal is not None, "loaded before anything else"
        return self._journal

    def _load(self) -> None:
        self._journal = Journal(self.node.journal_file, self.node.owner)
        self.state = self.journal.state()

    def _load_and_run(self) -> Result:
        self._load()
        act = {"switched": self.switched, "rolled_back": self.rolled_back, "confirmed": self.confirmed, "reverted": self.reverted}
        return act[self.request.state]()

    # --- results -------------------------------------------------------------------------------------------------------

    def result(self, changed: bool, phase: str, after: Stack, **more: Any) -> Result:
        session = self.session
        return {
            "changed": changed, "phase": phase, "transaction": session.txn.id if session else "", "before": self.before, "after": after,
            "downtime_ms": session.plugins.downtime_ms if session else {}, "switch_ms": round((time.monotonic() - self.started) * 1000, 1),
            "lightningd_restarts": session.lightningd.restarts if session else 0, "backup": self.backup, "reverted": False, "reason": "",
            "remarks": session.warnings if session else [], "journal": session.txn.entries if session else [], "journal_head": self._journal.head if self._journal else "",
            "broken_lock": self.broken_lock, **more,
        }  # fmt: skip

    def _fail(self, error: HiveError, phase: str, after: Stack, reverted: bool) -> HiveError:
        facts = self.result(reverted, phase, after)
        facts.update(reverted=reverted, reason=error.message, code=error.code)
        facts["details"] = {key: value for key, value in error.data.items() if key not in facts}
        return HiveError(error.message, error.code, **{key: value for key, value in facts.items() if key != "code"})

    # --- manifests -----------------------------------------------------------------------------------------------------

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

    # --- switched, rolled_back -------------------------------------------------------------------------------------------

    def rolled_back(self) -> Result:
        """Go back to the stack confirmed before the stable one."""
        txn = self.state.transaction
        if txn is not None and txn.data.get("kind") == "rollback":
            return self._switch_to(txn.target, "rollback")
        if self.state.previous is None:
            raise HiveError(f"{self.node.name} has no earlier confirmed stack to go back to; switch to the stack you want instead", "no-previous")
        return self._switch_to(self.state.previous, "rollback")

    def switched(self) -> Result:
        return self._switch_to(normalise(self.request.stack), "switch")

    def _switch_to(self, target: Stack, kind: str) -> Result:
        request = self.request
        self._refuse_foreign_lock()
        txn = self.state.transaction
        if txn is not None and not request.check_mode:
            resumed = self._take_up(txn, target)
            if resumed is not None:
                return resumed
        seen = look(self.machine, request.timeouts.ready)
        self.before = seen.stack
        manifests = self.manifests(target if not request.check_mode else [], seen.stack)
        if request.check_mode:
            return self._forecast(seen, target, manifests)
        files = config_files(self.machine, seen, target, manifests)
        if unchanged(seen, target, self.state.stable, files, self.machine):
            release_lock(self.lock_file, request.rollout)
            return self.result(False, "confirmed", target)
        self._begin(seen, target, kind, manifests)
        return self._forward(seen, manifests)

    def _refuse_foreign_lock(self) -> None:
        """Take the node, or say who has it."""
        request = self.request
        if request.check_mode:
            held = read_lock(self.lock_file)
            if held is not None and held["rollout"] != request.rollout and not held["stale"]:
                raise HiveError(f"rollout {held['rollout']} of {held['owner']} holds this node; wait for it or finish it first", "locked", lock=held)
            return
        failpoint(Step.LOCK)
        self.broken_lock = take_lock(
            self.lock_file, self.node.owner, request.owner or request.rollout, request.rollout, request.lock_ttl_seconds, request.break_lock
        )
        if self.broken_lock is not None:
            self.journal.append("lock-broken", self.broken_lock, "", request.rollout)
        failpoint(Step.LOCK, after=True)

    def _take_up(self, txn: Transaction, target: Stack) -> Result | None:
        """Deal with a transaction that an earlier engine left open; None when the way is free for a new one."""
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        self.before = txn.previous
        mine = txn.rollout == self.request.rollout and same(txn.target, target)
        manifests = self.manifests(txn.target, txn.previous)
        if txn.phase == "switched" and not mine:
            raise HiveError(
                f"rollout {txn.rollout} switched {self.node.name} and nobody confirmed it; confirm it (confirm.yml) or undo it (rollback.yml) first",
                "unconfirmed", transaction=txn.id,
            )  # fmt: skip
        if txn.phase in ("open", "switched") and mine:
            seen = look(self.machine, self.request.timeouts.ready)
            session.record.note("resumed", {"phase": txn.phase})
            return self._forward(seen, manifests)
        session.revert(f"an interrupted switch of rollout {txn.rollout} was found", "engine", manifests)
        self.session = None
        self.state = self.journal.state()
        self._refuse_foreign_lock()
        return None

    def _forecast(self, seen: Look, target: Stack, manifests: Manifests) -> Result:
        """Return what a switch would do, after the same checks; changes nothing."""
        missing = [item["name"] for item in active_items(target) if item["digest"] not in manifests]
        if missing:
            raise HiveError(f"the release of {missing[0]} is neither staged nor described; give its manifest or stage it", "slot-missing")
        slots = {slot.digest for slot in list_slots(self.node) if slot.complete}
        staged = all(item["digest"] in slots for item in active_items(target))
        guard = Guard(self.machine, self.request, seen, target, manifests)
        plan = plan_from(seen, target, manifests, seen.unhealthy)
        steps: list[dict[str, Any]] = []
        if staged:
            files = config_files(self.machine, seen, target, manifests)
            if unchanged(seen, target, self.state.stable, files, self.machine):
                return self.result(False, "confirmed", target, steps=[])
            check(guard, plan, files, self._forgotten(seen))
        else:
            guard.stack()
            guard.lightningd()
            guard.window()
            guard.disk()
            guard.names()
            guard.schemas()
            steps += [{"step": "stage", "plugin": i["name"]} for i in active_items(target) if i["digest"] not in slots]
        steps += [{"step": step.value} for step in (Step.LOCK, Step.GUARD, Step.BACKUP, Step.ARM)]
        steps += [{"step": Step.STOP.value, "plugin": change.name} for change in plan.removals]
        for change in plan.changes:
            steps += [{"step": Step.STOP.value, "plugin": change.name}] if change.before is not None else []
            steps.append({"step": Step.START.value, "plugin": change.name})
        steps += [{"step": step.value} for step in (Step.CLEAR, Step.WRITE, Step.VERIFY, Step.SWITCHED)]
        return self.result(True, "planned", target, steps=steps)

    def _begin(self, seen: Look, target: Stack, kind: str, manifests: Manifests) -> None:
        """Open a transaction: from here on the journal knows what to go back to."""
        stable = self.state.stable
        previous = stable if stable is not None and all(item["digest"] in manifests for item in active_items(stable)) else seen.stack
        data = {
            "kind": kind, "target": target, "previous": previous, "target_digest": stack_digest(target), "found": seen.stack,
            "deadman_seconds": self.request.deadman_seconds, "owner": self.request.owner, "changes_data": changes_data(previous, target, manifests),
            "lightningd": {"pid": seen.who.pid, "started": seen.who.started, "argv": seen.argv, "version": seen.info["version"]},
            "engine": engine_archive()[1], "pid": os.getpid(),
        }  # fmt: skip
        txn = Transaction(
            id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}", rollout=self.request.rollout, phase="open",
            target=target, previous=previous, data=data,
        )  # fmt: skip
        self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        mine = {method for path, slot in seen.by_entry.items() if path in seen.listed for method in slot.manifest["rpc_methods"]}
        self.session.record.keep_baseline({"channels": seen.channel_states, "other_methods": sorted(seen.methods - mine)})
        self.session.record.note("begin", data)

    def _forward(self, seen: Look, manifests: Manifests) -> Result:
        """Run the steps up to `switched`; a failure undoes them and then fails."""
        session = self.session
        assert session is not None
        txn = session.txn
        try:
            if txn.phase == "open":
                self._prepare(seen, manifests)
                self._act(seen, manifests)
            self._verify(manifests)
        except HiveError as error:
            raise self._undo(error, manifests) from error
        if self.request.deadman_seconds <= 0:
            return self._confirm(manifests, "engine")
        return self.result(True, "switched", txn.target)

    def _prepare(self, seen: Look, manifests: Manifests) -> None:
        """Everything that takes time or may refuse, while the old stack still works."""
        session, request = self.session, self.request
        assert session is not None
        target = session.txn.target
        plan = self._plan(seen, manifests)
        with session.record.step(Step.GUARD) as outcome:
            guard = Guard(self.machine, request, seen, target, manifests)
            reasons = check(guard, plan, config_files(self.machine, seen, target, manifests), self._forgotten(seen))
            outcome.update(blockheight=int(seen.info["blockheight"]), restart=reasons[:1])
        with session.record.step(Step.BACKUP) as outcome:
            wanted = BackupRequest(reason=f"before {session.txn.data['kind']} {session.txn.id}", keep=request.backup_keep)
            self.backup = recent_backup(self.node, seen, request.backup_max_age_seconds) or take_backup(self.node, seen, wanted)
            outcome.update(id=self.backup["id"], reused=self.backup.get("reused", False))
        self._arm()

    def _arm(self) -> None:
        session, request = self.session, self.request
        assert session is not None
        archive, digest = engine_archive()
        # Even when the engine itself confirms, it may be killed half-way: something must then bring the old stack back.
        seconds = request.deadman_seconds if request.deadman_seconds > 0 else max(60.0, request.timeouts.worst * max(1, len(session.txn.target)))
        deadline = round(time.time() + seconds, 3)
        with session.record.step(Step.ARM, deadline=deadline):
            path = deadman.install_engine(self.node, archive, digest)
            deadman.arm(self.node, self.machine.runtime, path, session.txn.id, deadline)
        session.record.note("armed", {"deadline": deadline, "engine": digest})
        session.txn.deadline = deadline

    def _forgotten(self, seen: Look) -> set[str]:
        """Return the configured options of plugins that were stopped earlier in this life of lightningd."""
        return self.journal.state().orphans.get(f"{seen.who.pid}-{seen.who.started}", set())

    def _plan(self, seen: Look, manifests: Manifests) -> Plan:
        """Return what is left to do; a plugin that is unhealthy or was left half-way counts as changed."""
        session = self.session
        assert session is not None
        return plan_from(seen, session.txn.target, manifests, seen.unhealthy)

    def _act(self, seen: Look, manifests: Manifests) -> None:
        session = self.session
        assert session is not None
        target = session.txn.target
        files = config_files(self.machine, seen, target, manifests)
        restart = [reason for e in session.txn.entries if e["event"] == "done" for reason in e["data"].get("restart", [])]
        if not restart:
            session.plugins.swap(self._plan(seen, manifests), seen, manifests)
            self._stop_orphans(seen)
        session.clear(files)
        session.write(files)
        if restart:
            session.lightningd.restart(restart[-1])

    def _stop_orphans(self, seen: Look) -> None:
        """Stop what runs from our directory but belongs to no slot any more."""
        session = self.session
        assert session is not None
        root = self.node.to_inside(self.node.slots_dir) + "/"
        wanted = {find_slot(self.node, i["name"], i["digest"]).inside(self.node) for i in active_items(session.txn.target)}
        for path in self.machine.plugins():
            if path.startswith(root) and path not in wanted:
                session.plugins.stop(path[len(root) :].split("/", 1)[0], seen)

    def _verify(self, manifests: Manifests) -> None:
        session = self.session
        assert session is not None
        with session.record.step(Step.VERIFY):
            session.lightningd.prove_same()
            session.proof.stack(session.txn.target, manifests, strict=True)
            session.validate_in_place()
            session.lightningd.prove_same()
        if session.txn.phase == "switched":
            self._arm()
            return
        with session.record.step(Step.SWITCHED):
            pass
        session.record.note("switched", {"downtime_ms": session.plugins.downtime_ms})
        session.txn.phase = "switched"

    def _undo(self, error: HiveError, manifests: Manifests) -> HiveError:
        """Bring the old stack back and return the error to fail with."""
        session = self.session
        assert session is not None
        txn = session.txn
        if not txn.touched:
            session.record.note("refused", {"reason": error.message, "code": error.code})
            txn.phase = "refused"
            session.record.tidy()
            return self._fail(error, "refused", txn.previous, reverted=False)
        try:
            session.revert(error.message, "engine", manifests)
        except HiveError as second:
            return self._fail(second, "revert-failed", txn.previous, reverted=False)
        note = f"; {self.node.name} runs again what it ran before"
        if isinstance(error, NodeDownError) and session.lightningd.restarts:
            note = f"; it was started again without the new plugins, and {self.node.name} runs what it ran before"
        return self._fail(HiveError(error.message + note, error.code, **error.data), "reverted", txn.previous, reverted=True)

    # --- confirmed -----------------------------------------------------------------------------------------------------

    def confirmed(self) -> Result:
        """Keep what was switched."""
        txn, request = self.state.transaction, self.request
        if txn is None:
            return self._confirmed_already()
        self.before = txn.previous
        self.session = Session(self.machine, self.journal, txn, request.timeouts)
        if txn.rollout != request.rollout and request.rollout:
            raise HiveError(
                f"{self.node.name} waits for rollout {txn.rollout}, not for {request.rollout}; confirm with -e hive_rollout={txn.rollout}",
                "other-rollout",
            )
        if txn.phase != "switched":
            raise HiveError(
                f"the switch of rollout {txn.rollout} is not complete ({txn.phase}), so it cannot be confirmed; run rollout.yml or rollback.yml",
                "not-switched",
            )
        if request.check_mode:
            return self.result(True, "planned", txn.target, steps=[{"step": Step.CONFIRM.value}])
        manifests = self.manifests(txn.target, txn.previous)
        try:
            self.session.lightningd.prove_same()
            self.session.proof.stack(txn.target, manifests, strict=False)
        except HiveError as error:
            raise self._undo(error, manifests) from error
        return self._confirm(manifests, "controller")

    def _confirm(self, manifests: Manifests, by: str) -> Result:
        session = self.session
        assert session is not None
        with session.record.step(Step.CONFIRM, by=by):
            pass
        session.record.note("confirmed", {"by": by, "stack_digest": stack_digest(session.txn.target)})
        session.txn.phase = "confirmed"
        session.record.tidy()
        return self.result(True, "confirmed", session.txn.target)

    def _confirmed_already(self) -> Result:
        last, request = self.state.last, self.request
        self.before = self.state.stable or []
        if last is not None and last.phase == "reverted" and last.rollout == request.rollout:
            reason = next((str(e["data"].get("reason", "")) for e in last.entries if e["event"] == "reverted"), "")
            raise HiveError(f"{self.node.name} was reverted before it was confirmed: {reason}", "already-reverted")
        if not request.check_mode:
            self._clean_up(last)
        return self.result(False, "confirmed", self.state.stable or [])

    def _clean_up(self, last: Transaction | None) -> None:
        """Finish what an engine that was killed after its last record left lying about."""
        if last is not None and deadman.watching(self.node) is not None:
            Session(self.machine, self.journal, last, self.request.timeouts).record.tidy()
        release_lock(self.lock_file, self.request.rollout)

    # --- reverted ------------------------------------------------------------------------------------------------------

    def reverted_by(self, by: str, reason: str, only: str = "") -> Result:
        """Undo the open transaction on behalf of somebody else than a controller; `only` names the one that may be undone."""
        with engine_lock(self.node.state_dir, self.node.owner, self.request.timeouts.engine):
            self._load()
            if only and (self.state.transaction is None or self.state.transaction.id != only):
                return self.result(False, "reverted", self.state.stable or [])
            return self.reverted(by, reason)

    def reverted(self, by: str = "controller", reason: str = "") -> Result:
        """Undo an open transaction; nothing to undo is fine."""
        txn = self.state.transaction
        if txn is None:
            self.before = self.state.stable or []
            if not self.request.check_mode:
                self._clean_up(self.state.last)
            return self.result(False, "reverted", self.state.stable or [])
        self.before = txn.target
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        if self.request.check_mode:
            return self.result(True, "planned", txn.previous, steps=[{"step": Step.REVERT.value}])
        text = reason or f"rollout {self.request.rollout or txn.rollout} asked for it"
        try:
            session.revert(text, by, self.manifests(txn.target, txn.previous))
        except HiveError as error:
            raise self._fail(error, "revert-failed", txn.previous, reverted=False) from error
        return self.result(True, "reverted", txn.previous, reverted=True, reason=text)


def changes_data(before: Stack, after: Stack, manifests: Manifests) -> bool:
    """Whether a switch between two stacks moves a database to another schema."""
    old = {item["name"]: int(manifests[item["digest"]]["schema_version"]) for item in active_items(before)}
    return any(old.get(item["name"], -1) != int(manifests[item["digest"]]["schema_version"]) for item in active_items(after) if item["name"] in old)


def switch(node: Node, request: Request) -> Result:
    """Run one request; the function the module calls."""
    return Switch(node, request).run()
