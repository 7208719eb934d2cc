"""The way forward: the steps of a switch from the guard to the proof."""

from __future__ import annotations

from typing import Any

from .._slots import find_slot
from . import brake, deadman
from .adoption import Adoption, prove_back, refuse
from .backups import BackupRequest, recent_backup, take_backup
from .bundle import engine_archive
from .deadman_unit import persist
from .guard import Guard, Look, Manifests, check, config_files, plan_from
from .machine import Machine
from .options import Past, past_of
from .prune import needed, prune
from .request import Request
from .reserve import keep_reserve
from .session import Session
from .stacks import Plan, Stack, active_items
from .steps import Step

SHORTEST_DEADMAN_SECONDS = 60.0


class Forward:
    """Takes one open transaction to `switched`, from wherever it was left.

    Attributes:
        backup: the set that was made or is recent enough.
    """

    def __init__(self, machine: Machine, request: Request, session: Session) -> None:
        self.machine = machine
        self.node = machine.node
        self.request = request
        self.session = session
        self.record = session.record
        self.target = session.txn.target
        self.backup: dict[str, Any] | None = None
        self.adoption: Adoption | None = None

    def run(self, seen: Look, manifests: Manifests) -> None:
        """Do what is left to do.

        Raises:
            HiveError: something does not hold or did not work; the caller undoes it.
        """
        adoption = self.adoption = Adoption(self.session, self.request, seen, manifests)
        if self.session.txn.phase == "open":
            self._prepare(seen, manifests, adoption)
            self._act(seen, manifests, adoption)
        self._verify(manifests, adoption)

    def _plan(self, seen: Look, manifests: Manifests) -> Plan:
        """Return what is left to do; a plugin that is unhealthy, left half-way or waits for rows counts as changed."""
        waiting = self.adoption.names if self.adoption is not None else set()
        return plan_from(seen, self.target, manifests, seen.unhealthy | waiting)

    def _prepare(self, seen: Look, manifests: Manifests, adoption: Adoption) -> None:
        """Everything that takes time or may refuse, while the old stack still works."""
        with self.record.step(Step.GUARD) as outcome:
            self.refuse_braked()
            guard = Guard(self.machine, self.request, seen, self.target, manifests)
            refuse(guard, adoption.state, self.session.txn.previous)
            files = config_files(self.machine, seen, self.target, manifests)
            reasons = check(guard, self._plan(seen, manifests), files, past_of(self.record.journal.entries, seen.who))
            outcome.update(blockheight=int(seen.info["blockheight"]), restart=reasons[:1])
        with self.record.step(Step.BACKUP) as outcome:
            wanted = BackupRequest(
                reason=f"before {self.session.txn.data['kind']} {self.session.txn.id}", keep=self.request.backup_keep
            )
            # Where rows are to move, the set is also what they are first taken from: the rows of this moment.
            age = 0.0 if adoption.between else self.request.backup_max_age_seconds
            recent = recent_backup(self.node, seen, age)
            self.backup = recent or take_backup(self.node, seen, wanted)
            outcome.update(id=self.backup["id"], reused=self.backup["reused"])
        with self.record.step(Step.PRUNE) as outcome:
            keep = needed(self.record.journal.state(), seen.stack)
            request, engine = self.request, engine_archive()[1]
            outcome.update(prune(self.node, keep, request.slots_keep, request.aside_keep, engine))
        adoption.first_pass(self.backup)
        # A backup may take long; nothing was touched until here.
        self.refuse_braked()
        self.arm()

    def refuse_braked(self) -> None:
        """Go no step further while the brake is set, unless this is a way back."""
        if self.session.txn.data.get("kind") == "switch":
            brake.refuse(self.node)

    def arm(self) -> None:
        """Have the switch undone by itself from now on, unless it is confirmed in time."""
        archive, digest = engine_archive()
        seconds = self.request.deadman_seconds
        if seconds <= 0:
            # Even where the engine itself confirms, it may be killed half-way: something must bring the old stack back.
            worst = self.request.timeouts.worst * max(1, len(self.target))
            seconds = max(SHORTEST_DEADMAN_SECONDS, worst)
        scheduler = self.machine.runtime.deadman_scheduler()
        with self.record.step(Step.ARM, seconds=seconds) as outcome:
            keep_reserve(self.node)
            path = deadman.install_engine(self.node, archive, digest)
            armed = deadman.arm(self.node, self.machine.runtime, path, self.session.txn.id, seconds)
            outcome["persistent"] = persist(self.node, path, scheduler)
        self.record.note("armed", {"deadline": armed["deadline"], "engine": digest})
        self.session.txn.deadline = float(armed["deadline"])

    def _act(self, seen: Look, manifests: Manifests, adoption: Adoption) -> None:
        session = self.session
        files = config_files(self.machine, seen, self.target, manifests)
        done = [entry["data"] for entry in session.txn.entries if entry["event"] == "done"]
        restart = [reason for data in done for reason in data.get("restart", [])]
        plan, between = self._plan(seen, manifests), adoption.second_pass if adoption.between else None
        if not restart:
            session.plugins.swap(plan, seen, manifests, self.target, between)
            self._stop_orphans(seen)
            session.plugins.start_by_hand(adoption.freed, seen)
        elif between is not None:
            session.plugins.clear_way(plan, seen, self.target)
            between()
        session.clear(files)
        session.write(files)
        if restart:
            session.lightningd.restart(restart[-1], self.request.htlc_wait_seconds, self.request.htlc_margin_blocks)
            session.plugins.start_by_hand(adoption.freed, seen)

    def _stop_orphans(self, seen: Look) -> None:
        """Stop what runs from our directory but belongs to no slot any more."""
        root = self.node.to_inside(self.node.slots_dir) + "/"
        wanted = {find_slot(self.node, i["name"], i["digest"]).inside(self.node) for i in active_items(self.target)}
        for path in self.machine.plugins():
            if path.startswith(root) and path not in wanted:
                self.session.plugins.stop(path[len(root) :].split("/", 1)[0], seen)

    def _verify(self, manifests: Manifests, adoption: Adoption) -> None:
        session = self.session
        with self.record.step(Step.VERIFY):
            session.lightningd.prove_same()
            session.proof.stack(self.target, manifests, strict=True)
            prove_back(session, adoption.freed)
            session.validate_in_place()
            session.lightningd.prove_same()
            self.refuse_braked()
        if session.txn.phase == "switched":
            # Taken up again after it was complete: the controller gets its full time to confirm.
            self.arm()
            return
        with self.record.step(Step.SWITCHED):
            pass
        self.record.note("switched", {"downtime_ms": session.plugins.downtime_ms})
        session.txn.phase = "switched"


def forecast(guard: Guard, staged: set[str], past: Past) -> list[dict[str, Any]]:
    """Run every check that needs no slot which is not there yet; return the steps a switch would take.

    Args:
        staged: digests of the finished slots.
        past: what lightningd may hold in memory.

    Raises:
        HiveError: the first check that does not hold.
    """
    seen, target, manifests = guard.seen, guard.target, guard.manifests
    plan = plan_from(seen, target, manifests, seen.unhealthy)
    to_stage = [item for item in active_items(target) if item["digest"] not in staged]
    if to_stage:
        for test in (
            guard.stack,
            guard.lightningd,
            guard.loaders,
            guard.window,
            guard.disk,
            guard.names,
            guard.schemas,
        ):
            test()
    else:
        check(guard, plan, config_files(guard.machine, seen, target, manifests), past)
    steps: list[dict[str, Any]] = [{"step": "stage", "plugin": item["name"]} for item in to_stage]
    steps += [{"step": step.value} for step in (Step.LOCK, Step.GUARD, Step.BACKUP, Step.PRUNE, Step.ARM)]
    steps += [{"step": Step.STOP.value, "plugin": change.name} for change in plan.removals]
    for change in plan.changes:
        steps += [{"step": Step.STOP.value, "plugin": change.name}] if change.before is not None else []
        steps.append({"step": Step.START.value, "plugin": change.name})
    return steps + [{"step": step.value} for step in (Step.CLEAR, Step.WRITE, Step.VERIFY, Step.SWITCHED)]


def changes_data(before: Stack, after: Stack, manifests: Manifests) -> bool:
    """Whether a switch between two stacks moves a database to another schema."""
    old = {item["name"]: int(manifests[item["digest"]]["schema_version"]) for item in active_items(before)}
    new = {item["name"]: int(manifests[item["digest"]]["schema_version"]) for item in active_items(after)}
    return any(name in old and old[name] != schema for name, schema in new.items())
