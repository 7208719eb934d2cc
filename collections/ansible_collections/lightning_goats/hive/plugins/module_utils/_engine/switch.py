"""The switch: a node from one stack to another, kept when confirmed, undone when not."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable

from .._slots import list_slots
from . import brake, deadman
from . import channels as ch
from .adoption import leaves, pending, refuse
from .adoption_state import adopted_by
from .bundle import engine_archive
from .clock import boot
from .deadman_unit import withdraw
from .drain import drain, worst_for
from .errors import HiveError, NodeDownError, RpcRefusedError, RpcTimeoutError
from .forward import Forward, changes_data, forecast
from .guard import Guard, Look, Manifests, config_files, look, unchanged
from .journal import Stack, Transaction
from .lock import engine_lock, read_lock, release_lock, take_lock
from .node import Node
from .options import past_of
from .request import Request
from .reserve import spend_reserve
from .sealed import seal
from .session import Session
from .soak import SELF_REVERTED, about, stage_of
from .stacks import active_items, normalise, same, stack_digest
from .stages import abandon, end_soak, refuse_abandoned
from .steps import Step, failpoint
from .switch_base import Call, Result


class Switch(Call):
    """One call of hive_switch."""

    def _load_and_run(self) -> Result:
        self._load()
        act: dict[str, Callable[[], Result]] = {
            "switched": self.switched,
            "rolled_back": self.rolled_back,
            "confirmed": self.confirmed,
            "reverted": self.reverted,
            "soaked": lambda: end_soak(self),
            "abandoned": lambda: abandon(self),
        }
        return act[self.request.state]()

    # switched, rolled_back

    def switched(self) -> Result:
        """Move the node to the stack of the request."""
        try:
            brake.refuse(self.node)
            refuse_abandoned(self.node, self.state, stage_of(self.request.stage))
        except HiveError:
            # What is open is the dead-man's, which sees the brake as well.
            if self.state.transaction is None:
                self._free_node()
            raise
        # A plugin must get values, never the fingerprints that stand for them.
        return self._switch_to(self.vault.open(normalise(self.request.stack)), "switch")

    def rolled_back(self) -> Result:
        """Go back to the stack confirmed before the stable one."""
        txn = self.state.transaction
        if txn is not None and txn.data.get("kind") == "rollback":
            return self._switch_to(txn.target, "rollback")
        soak = self.state.soak
        if txn is None and soak is not None and soak["state"] == SELF_REVERTED:
            # The one before is what the node has just left by itself.
            self.before = self.state.stable or []
            self._clean_up(self.state.last)
            return self.result(False, "confirmed", self.before, reason=soak["reason"])
        stage = stage_of(self.request.stage)
        if txn is None and stage is not None and (soak is None or not about(soak, stage)):
            # Taken back already, or never kept: the stack before the present one may be the one that failed.
            self.before = self.state.stable or []
            self._clean_up(self.state.last)
            return self.result(False, "confirmed", self.before, reason=f"nothing of stage {stage['name']} is kept")
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
        stage = stage_of(self.request.stage) if kind == "switch" else None
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
            # What was so before the switch is nothing a soak can blame it for.
            "unhealthy": sorted(seen.unhealthy),
            "channels": dict(sorted(Counter(seen.channel_states.values()).items())),
            **({"stage": stage} if stage is not None else {}),
            **self.notes,
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
            if txn.data.get("kind") == "switch":
                brake.refuse(self.node)
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
            digest = stack_digest(seal(session.txn.target))
            self._give_up_plan()
            facts = {"by": by, "stack_digest": digest, "height": self._height(), "backup": self._backup_id()}
            session.record.note("confirmed", facts)
            if not active_items(session.txn.target):
                withdraw(self.node)
            session.txn.phase = "confirmed"
            session.record.tidy()
        except HiveError as error:
            # Kept or not is what the journal says now; what was not kept, the dead-man or the controller undoes.
            raise self._fail(error, session.txn.phase, session.txn.target, reverted=False) from error
        return self.result(True, "confirmed", session.txn.target)

    def _give_up_plan(self) -> None:
        """Write down that a plan is dead before its way back is kept: killed in between, nobody may go on with it."""
        stage, request = stage_of(self.request.stage), self.request
        if request.give_up and stage is not None and stage["plan"] not in self.state.abandoned:
            data = {"plan": stage["plan"], "summary": brake.plain(request.summary)}
            self.journal.append("abandoned", data, "", request.rollout)

    def _done(self, step: Step) -> Result:
        """Return what a step of the transaction left in the journal; empty when it was not taken."""
        entries = self.session.txn.entries if self.session is not None else []
        return next((e["data"] for e in entries if e["event"] == "done" and e["data"].get("step") == step.value), {})

    def _height(self) -> int:
        """Return the height a soak counts its blocks from."""
        try:
            return int(self.machine.rpc.call("getinfo")["blockheight"])
        except (NodeDownError, RpcTimeoutError, RpcRefusedError):
            return int(self._done(Step.GUARD).get("blockheight", 0))

    def _backup_id(self) -> str:
        return str(self._done(Step.BACKUP).get("id", ""))

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


def switch(node: Node, request: Request) -> Result:
    """Run one request; the function the module calls."""
    return Switch(node, request).run()
