"""The switch: a node from one stack to another, kept when confirmed, undone when not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from .._slots import find_slot, list_slots
from . import channels as ch
from . import deadman
from .adoption import leaves, pending, refuse
from .adoption_state import adopted_by, summary
from .bundle import engine_archive
from .clock import boot
from .deadman_unit import withdraw
from .drain import drain, worst_for
from .errors import HiveError, NodeDownError
from .files import canonical, disk_error
from .forward import Forward, changes_data, forecast
from .guard import Guard, Look, Manifests, config_files, look, unchanged
from .journal import Journal, Stack, State, Transaction
from .lock import engine_lock, read_lock, release_lock, take_lock
from .machine import Machine
from .node import Node
from .options import past_of
from .request import Request
from .reserve import spend_reserve
from .sealed import Vault, seal
from .session import Session
from .stacks import active_items, normalise, same, stack_digest
from .steps import Step, failpoint

Result = dict[str, Any]


class Switch:
    """One call of the engine on one node."""

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

    def _load_and_run(self) -> Result:
        self._load()
        act = {
            "switched": self.switched,
            "rolled_back": self.rolled_back,
            "confirmed": self.confirmed,
            "reverted": self.reverted,
        }
        return act[self.request.state]()

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

    # switched, rolled_back

    def switched(self) -> Result:
        """Move the node to the stack of the request."""
        # A plugin must get values, never the fingerprints that stand for them.
        return self._switch_to(self.vault.open(normalise(self.request.stack)), "switch")

    def rolled_back(self) -> Result:
        """Go back to the stack confirmed before the stable one."""
        txn = self.state.transaction
        if txn is not None and txn.data.get("kind") == "rollback":
            return self._switch_to(txn.target, "rollback")
        if self.state.previous is None:
            raise HiveError(
                f"{self.node.name} has no earlier confirmed stack to go back to; switch to the stack you want instead",
                "no-previous",
            )
        return self._switch_to(self.vault.open(self.state.previous), "rollback")

    def _switch_to(self, target: Stack, kind: str) -> Result:
        request = self.request
        self._take_node()
        txn = self.state.transaction
        if txn is not None and not request.check_mode:
            taken_up = self._take_up(txn, target)
            if taken_up is not None:
                return taken_up
        try:
            seen = look(self.machine, request.timeouts.ready, self.state.quarantine)
            self.before = seen.stack
            manifests = self.manifests(target if not request.check_mode else [], seen.stack)
            if request.check_mode:
                return self._forecast(seen, target, manifests)
            files = config_files(self.machine, seen, target, manifests)
            if unchanged(seen, target, self.state.stable, files, self.machine) and not self._adopting(
                seen, target, manifests
            ):
                self._free_node()
                return self.result(False, "confirmed", target)
            seen = self._wait_for_payments(seen, target)
        except HiveError:
            # Refused before there was a transaction: nobody needs to wait for us.
            self._free_node()
            raise
        self._begin(seen, target, kind, manifests)
        return self._forward(seen, manifests)

    def _wait_for_payments(self, seen: Look, target: Stack) -> Look:
        """Wait until no payment in flight can expire within the switch; return a fresh look if that took a while."""
        request = self.request
        if ch.pending(seen.channels)["nearest_expiry"] is None:
            return seen
        seconds, margin = worst_for(request, max(len(target), len(seen.stack))), request.htlc_margin_blocks
        self.drained = drain(self.machine, seconds, request.htlc_wait_seconds, False, margin)
        if not self.drained["waited_seconds"]:
            return seen
        return look(self.machine, request.timeouts.ready, self.state.quarantine)

    def _take_node(self) -> None:
        """Take the node for this rollout, or say who has it."""
        request = self.request
        if request.check_mode:
            held = read_lock(self.lock_file)
            if held is not None and held["rollout"] != request.rollout and not held["stale"]:
                raise HiveError(
                    f"rollout {held['rollout']} of {held['owner']} holds this node; wait for it or finish it first",
                    "locked",
                    lock=held,
                )
            return
        failpoint(Step.LOCK)
        self.broken_lock = take_lock(
            self.lock_file,
            self.node.keeper,
            request.owner or request.rollout,
            request.rollout,
            request.lock_ttl_seconds,
            request.break_lock,
        )
        if self.broken_lock is not None:
            self.journal.append("lock-broken", self.broken_lock, "", request.rollout)
        failpoint(Step.LOCK, after=True)

    def _free_node(self) -> None:
        if not self.request.check_mode:
            release_lock(self.lock_file, self.request.rollout)

    def _take_up(self, txn: Transaction, target: Stack) -> Result | None:
        """Deal with a transaction that an earlier engine left open; None when the way is free for a new one."""
        self.before = txn.previous
        mine = txn.rollout == self.request.rollout and same(txn.target, target)
        if txn.phase == "switched" and not mine:
            self._free_node()
            raise HiveError(
                f"rollout {txn.rollout} switched {self.node.name} and nobody confirmed it; "
                "confirm it (confirm.yml) or undo it (rollback.yml) first",
                "unconfirmed",
                transaction=txn.id,
            )
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        manifests = self.manifests(txn.target, txn.previous)
        if txn.phase in ("open", "switched") and mine:
            session.record.note("resumed", {"phase": txn.phase})
            try:
                seen = look(self.machine, self.request.timeouts.ready, self.state.quarantine)
            except HiveError as error:
                raise self._undo(error, manifests) from error
            return self._forward(seen, manifests)
        session.revert(f"an interrupted switch of rollout {txn.rollout} was found", "engine", manifests)
        self.session = None
        self._load()
        self._take_node()
        return None

    def _forecast(self, seen: Look, target: Stack, manifests: Manifests) -> Result:
        """Return what a switch would do, after the same checks; changes nothing."""
        missing = [item["name"] for item in active_items(target) if item["digest"] not in manifests]
        if missing:
            raise HiveError(
                f"the release of {missing[0]} is neither staged nor described; give its manifest or stage it",
                "slot-missing",
            )
        slots = {slot.digest for slot in list_slots(self.node) if slot.complete}
        if all(item["digest"] in slots for item in active_items(target)):
            files = config_files(self.machine, seen, target, manifests)
            if unchanged(seen, target, self.state.stable, files, self.machine) and not self._adopting(
                seen, target, manifests
            ):
                return self.result(False, "confirmed", target, steps=[])
        guard = Guard(self.machine, self.request, seen, target, manifests)
        refuse(guard, adopted_by(self.journal.entries), self.state.stable or [])
        steps = forecast(guard, slots, past_of(self.journal.entries, seen.who))
        moves = [{"step": "adopt", "plugin": name} for name in self._adopting(seen, target, manifests)]
        return self.result(True, "planned", target, steps=[*steps, *moves])

    def _adopting(self, seen: Look, target: Stack, manifests: Manifests) -> list[str]:
        """Return the plugins that still have to take over what the monolith keeps for them."""
        guard = Guard(self.machine, self.request, seen, target, manifests)
        return [str(item["name"]) for item in pending(guard, adopted_by(self.journal.entries))]

    def _begin(self, seen: Look, target: Stack, kind: str, manifests: Manifests) -> None:
        """Open a transaction: from here on the journal knows what to go back to."""
        stable = self.state.stable
        known = stable is not None and all(item["digest"] in manifests for item in active_items(stable))
        previous = stable if known and stable is not None else seen.stack
        self.vault.keep(target, previous, seen.stack)
        data = {
            "kind": kind,
            "target": seal(target),
            "previous": seal(previous),
            "found": seal(seen.stack),
            "target_digest": stack_digest(seal(target)),
            "deadman_seconds": self.request.deadman_seconds,
            "owner": self.request.owner,
            "changes_data": changes_data(previous, target, manifests)
            or bool(self._adopting(seen, target, manifests))
            or leaves(seen, previous, target, manifests),
            "lightningd": {
                "pid": seen.who.pid,
                "started": seen.who.started,
                "boot": boot(),
                "version": seen.info["version"],
            },
            "engine": engine_archive()[1],
            "pid": os.getpid(),
        }
        identifier = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        txn = Transaction(identifier, self.request.rollout, "open", target, previous, data)
        session = self.session = Session(self.machine, self.journal, txn, self.request.timeouts)
        running = [slot for path, slot in seen.by_entry.items() if path in seen.listed]
        mine = {method for slot in running for method in slot.manifest["rpc_methods"]}
        session.record.keep_baseline(
            {
                "argv": seen.argv,
                "channels": seen.channel_states,
                "other_methods": sorted(seen.methods - mine),
                "marks": [mark["time"] for mark in self.machine.log_marks()],
            }
        )
        session.record.note("begin", data)

    def _forward(self, seen: Look, manifests: Manifests) -> Result:
        """Run the steps up to `switched`; a failure undoes them and then fails."""
        session = self.session
        assert session is not None
        forward = Forward(self.machine, self.request, session)
        try:
            forward.run(seen, manifests)
        except HiveError as error:
            self.backup = forward.backup
            raise self._undo(error, manifests) from error
        self.backup = forward.backup
        if self.request.deadman_seconds <= 0:
            return self._confirm("engine")
        return self.result(True, "switched", session.txn.target)

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
        told = HiveError(error.message + note, error.code, **error.data)
        return self._fail(told, "reverted", txn.previous, reverted=True)

    # confirmed

    def confirmed(self) -> Result:
        """Keep what was switched."""
        txn, request = self.state.transaction, self.request
        if txn is None:
            return self._confirmed_already()
        self.before = txn.previous
        if txn.rollout != request.rollout:
            raise HiveError(
                f"{self.node.name} waits for rollout {txn.rollout}, not for {request.rollout}; "
                "run confirm.yml, which confirms the one that is open",
                "other-rollout",
            )
        session = self.session = Session(self.machine, self.journal, txn, request.timeouts)
        if txn.phase != "switched":
            raise HiveError(
                f"the switch of rollout {txn.rollout} is not complete ({txn.phase}), so it cannot be confirmed; "
                "run rollout.yml or rollback.yml",
                "not-switched",
            )
        if request.check_mode:
            return self.result(True, "planned", txn.target, steps=[{"step": Step.CONFIRM.value}])
        manifests = self.manifests(txn.target, txn.previous)
        try:
            session.lightningd.prove_same()
            session.proof.stack(txn.target, manifests, strict=False)
        except HiveError as error:
            raise self._undo(error, manifests) from error
        return self._confirm("controller")

    def _confirm(self, by: str) -> Result:
        session = self.session
        assert session is not None
        try:
            spend_reserve(self.node)
            with session.record.step(Step.CONFIRM, by=by):
                pass
            session.record.note("confirmed", {"by": by, "stack_digest": stack_digest(seal(session.txn.target))})
            if not active_items(session.txn.target):
                withdraw(self.node)
            session.txn.phase = "confirmed"
            session.record.tidy()
        except HiveError as error:
            # Kept or not is what the journal says now; what was not kept, the dead-man or the controller undoes.
            raise self._fail(error, session.txn.phase, session.txn.target, reverted=False) from error
        return self.result(True, "confirmed", session.txn.target)

    def _confirmed_already(self) -> Result:
        last, request = self.state.last, self.request
        self.before = self.state.stable or []
        if last is not None and last.phase == "reverted" and last.rollout == request.rollout:
            reasons = [str(e["data"].get("reason", "")) for e in last.entries if e["event"] == "reverted"]
            raise HiveError(
                f"{self.node.name} was reverted before it was confirmed: {''.join(reasons)}", "already-reverted"
            )
        self._clean_up(last)
        return self.result(False, "confirmed", self.state.stable or [])

    def _clean_up(self, last: Transaction | None) -> None:
        """Finish what an engine that was killed after its last record left lying about."""
        if self.request.check_mode:
            return
        if last is not None and deadman.watching(self.node) is not None:
            Session(self.machine, self.journal, last, self.request.timeouts).record.tidy()
        self._free_node()

    # reverted

    def reverted_by(self, by: str, reason: str, only: str = "") -> Result:
        """Undo the open transaction for somebody else than a controller; `only` names the one that may be undone."""
        with engine_lock(self.node, self.request.timeouts.engine):
            self._load()
            if only and (self.state.transaction is None or self.state.transaction.id != only):
                return self.result(False, "reverted", self.state.stable or [])
            return self.reverted(by, reason)

    def reverted(self, by: str = "controller", reason: str = "") -> Result:
        """Undo an open transaction; nothing to undo is fine."""
        txn = self.state.transaction
        if txn is None:
            self.before = self.state.stable or []
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


def listing(stack: Stack) -> str:
    """Return a stack as lines, for a diff."""
    lines = []
    for item in stack:
        lines.append(
            f"{item['name']} {item['version']} {item['digest'][:12]}{'' if item['enabled'] else ' (disabled)'}"
        )
        lines += [f"  {name}={value}" for name, value in sorted(item["options"].items())]
    return "".join(f"{line}\n" for line in lines)


def switch(node: Node, request: Request) -> Result:
    """Run one request; the function the module calls."""
    return Switch(node, request).run()
