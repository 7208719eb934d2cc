"""Adoption inside a switch: the monolith's rows go to the databases of their new owners, and back on the way back.

While the monolith works, a first pass takes nearly everything from a copy; once it has stopped, a second takes what was
written meanwhile. The monolith's tables are only read, so that it can run on them again at any time before finalize.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .. import _config
from .._slots import Slot, find_slot
from .adoption_place import Place, adopters, in_place
from .adoption_state import ADOPTED, CARRIED, Adopted, adopted_by
from .adoption_work import Report, Work, moved, short, since
from .aside import aside_dir, keep
from .backups import sources
from .errors import HiveError
from .files import make_dir, sync_dir
from .guard import Guard, Look, Manifests
from .monolith import facts_of, open_payments
from .observe import free_bytes
from .request import Request
from .session import Session
from .stacks import Stack, active_items, replaced_by
from .steps import Step

# A copy to read from, the new databases, and what their transactions keep until they are done.
ROOM = 3


def pending(guard: Guard, state: Adopted) -> Stack:
    """Return the plugins of a stack that have not taken their rows over yet; none when there is no monolith."""
    target, manifests, seen = guard.target, guard.manifests, guard.seen
    hive = in_place(target, manifests)
    if hive is None or guard.request.adopt == "no":
        return []
    facts = facts_of(Place(guard.machine, seen, target, manifests, hive).source, guard.node)
    if facts is None or not facts["layout"] or (not facts["tables"] and (facts["ours"] or state.finished)):
        return []
    return [item for item in adopters(target, manifests) if item["name"] not in state.plugins]


def freed(seen: Look, previous: Stack, target: Stack) -> list[str]:
    """Return the plugins of the operator's own configuration whose place nobody takes any more."""
    before = {**replaced_by(previous), **replaced_by(seen.stack)}
    return [path for path in before if path not in replaced_by(target)]


def leaves(seen: Look, previous: Stack, target: Stack, manifests: Manifests) -> bool:
    """Whether the monolith comes back with a switch: as a foreign release, or from the operator's configuration."""
    if in_place(target, manifests) is not None:
        return False
    foreign = {item["name"] for item in active_items(target) if manifests[item["digest"]].get("foreign")}
    gone = {item["name"] for item in adopters([*previous, *seen.stack], manifests)}
    return bool(freed(seen, previous, target)) or bool(foreign & gone)


def refuse(guard: Guard, state: Adopted, previous: Stack) -> None:
    """Refuse a switch whose adoption, or whose way back, cannot work.

    Raises:
        HiveError: the first thing that is in the way.
    """
    node, target, seen = guard.node, guard.target, guard.seen
    if state.plugins and leaves(seen, previous, target, guard.manifests):
        if state.handed:
            _refuse_return(guard, state, freed(seen, previous, target))
        _refuse_open_payments(guard, state)
    hive = in_place(target, guard.manifests)
    if hive is None or guard.request.adopt == "no":
        return
    place = Place(guard.machine, seen, target, guard.manifests, hive)
    if not state.plugins and not place.source.is_file():
        # Nothing is pending that way: what lies in a container's own layer is not seen from here.
        place.refuse_strays(in_layer=True)
    if not pending(guard, state):
        return
    place.refuse()
    size, free = place.source.stat().st_size, free_bytes(node.network_dir)
    needed = ROOM * size + guard.request.min_free_bytes
    if free < needed:
        raise HiveError(
            f"{node.name} has {free >> 20} MiB free at {node.network_dir}, and to take over a monolith of "
            f"{size >> 20} MiB needs {needed >> 20} MiB; free some space and run again",
            "disk-full",
            free_bytes=free,
            needed_bytes=needed,
        )


def _refuse_open_payments(guard: Guard, state: Adopted) -> None:
    """Refuse to let the monolith run while a settlement payment may still arrive: it would make that one again."""
    count = open_payments(Path(state.path), guard.node.owner)
    if count:
        raise HiveError(
            f"{count} settlement payments of {guard.node.name} have no known end yet, and the monolith would make them "
            "again; see hive-settlement-history, and run again once they have ended",
            "settlement-open",
            payments=count,
        )


def _refuse_return(guard: Guard, state: Adopted, paths: list[str]) -> None:
    """Refuse to let the monolith run again after it gave its tables up, also by a line that would load it later."""
    node = guard.node
    explicit = bool(_config.explicit_conf(guard.seen.argv))
    lines = _config.all_lines(node.config_file, node.network_dir, explicit, {})
    named = {line.value: f"{line.file} line {line.number}" for line in lines if line.key == "plugin"}
    folders = {line.value.rstrip("/"): f"{line.file} line {line.number}" for line in lines if line.key == "plugin-dir"}
    where = [named.get(path) or folders.get(str(Path(path).parent)) for path in paths]
    when = time.strftime("%Y-%m-%d", time.gmtime(state.handed))
    if not paths:
        raise HiveError(
            f"the monolith of {node.name} gave its tables up on {when} (finalize.yml), so it cannot run again; stay on "
            "releases of the three plugins",
            "handed-over",
        )
    for path, place in zip(paths, where):
        if place:
            raise HiveError(
                f"the monolith of {node.name} gave its tables up on {when} (finalize.yml), so it cannot run again, "
                f"and {place} would load {path} once nobody takes its place; take that line out first",
                "handed-over",
                path=path,
            )


class Adoption(Work):
    """What one transaction does with the monolith's rows on its way forward.

    Attributes:
        items: the plugins that take rows over in this switch.
        returning: whether the monolith comes back with it.
        freed: plugins of the operator's own configuration that are to run again.
    """

    def __init__(self, session: Session, request: Request, seen: Look, manifests: Manifests) -> None:
        target, previous = session.txn.target, session.txn.previous
        self.target = target
        self.manifests = manifests
        self.state = adopted_by(session.record.journal.entries)
        guard = Guard(session.machine, request, seen, target, manifests)
        self.items = [] if _noted(session, ADOPTED) else pending(guard, self.state)
        self.returning = leaves(seen, previous, target, manifests)
        self.freed = [] if self.state.handed else freed(seen, previous, target)
        self.hive = in_place(target, manifests)
        monolith = Path(self.state.path)
        if self.hive is not None:
            monolith = Place(session.machine, seen, target, manifests, self.hive).source
        super().__init__(session, seen, monolith, request.adopt_identity)

    @property
    def names(self) -> set[str]:
        """The plugins that must not run while their rows come."""
        return {str(item["name"]) for item in self.items}

    @property
    def between(self) -> bool:
        """Whether something is to be done while no plugin runs."""
        return bool(self.items) or (self.returning and bool(self.state.plugins) and not _noted(self.session, CARRIED))

    def first_pass(self, backup: dict[str, Any]) -> None:
        """Take over what can be taken while the monolith works, from the copy in the backup set or one of its own."""
        running = {item["name"] for item in self.seen.stack} | {
            name for path, name in replaced_by(self.target).items() if path in self.seen.listed
        }
        # Nobody may write to a database that its plugin has open; such a one gets everything in the second pass.
        slots = [slot for slot in self._takers() if slot.name not in running]
        if not slots or self.hive is None:
            return
        absent = [str(path) for slot in slots for path in self.files(slot.manifest) if not path.exists()]
        with self.record.step(Step.ADOPT, plugins=[slot.name for slot in slots], absent=absent) as outcome:
            started = time.monotonic()
            with self.copy(Path(str(backup["path"])) / str(self.hive["name"]) / self.monolith.name) as snapshot:
                reports = self.adopt(slots, snapshot, False)
            outcome.update(ms=since(started), rows={name: moved(report) for name, report in reports.items()})

    def second_pass(self) -> None:
        """Take over what is left, now that nobody writes, or give it back; prove it, and write down what it was."""
        if self.returning:
            self._return()
            return
        started = time.monotonic()
        with self.record.step(Step.ADOPT_DELTA, plugins=sorted(self.names)) as outcome:
            reports: dict[str, Report] = {}
            # Where our own has gone on with the file for a while already, it goes on.
            alone = self.hive is not None and self.hive["name"] in self.names
            if self.hive is not None and alone:
                # First: it also brings what a killed monolith left in its log into the file that is read next.
                reports.update(self.adopt([self._slot(self.hive)], None, True))
            takers = self._takers()
            if takers:
                with self.settled(alone) as snapshot:
                    reports.update(self.adopt(takers, snapshot, True))
            self._prove(reports)
            outcome["ms"] = since(started)
        self.record.note(
            ADOPTED,
            {
                "path": str(self.monolith),
                "ms": outcome["ms"],
                "delta_rows": sum(moved(report) for report in reports.values()),
                "plugins": {name: short(report) for name, report in reports.items()},
            },
        )

    def _slot(self, item: dict[str, Any]) -> Slot:
        return find_slot(self.node, item["name"], item["digest"])

    def _takers(self) -> list[Slot]:
        """The releases that take rows into a database of their own."""
        slots = [self._slot(item) for item in self.items]
        return [slot for slot in slots if not slot.manifest["adopts"]["in_place"]]

    def _prove(self, reports: dict[str, Report]) -> None:
        """Hold the reports to what the monolith's own file says, now that nobody writes to it.

        Raises:
            HiveError: rows are missing.
        """
        facts = facts_of(self.monolith, self.node)
        there = facts["tables"] if facts is not None else {}
        for name, report in reports.items():
            if report.get("complete") is not True:
                raise HiveError(
                    f"{name} did not take all rows of the monolith over and did not say why; build that release again",
                    "adoption-failed",
                    plugin=name,
                )
            for table, told in report.get("tables", {}).items():
                if table in there and int(told.get("source", 0)) != there[table]:
                    raise HiveError(
                        f"{name} saw {told.get('source', 0)} rows of {table} and the monolith has {there[table]}; "
                        "see who else writes to its database, then run again",
                        "adoption-differs",
                        plugin=name,
                        table=table,
                    )

    def _return(self) -> None:
        """Let every plugin carry back what changed since; the releases that ran know how."""
        found = sources(self.node, self.seen)
        found.update({str(item["name"]): self._slot(item) for item in active_items(self.session.txn.previous)})
        takers = [
            slot
            for name, slot in sorted(found.items())
            if name in self.state.plugins and not slot.manifest.get("adopts", {"in_place": True})["in_place"]
        ]
        started = time.monotonic()
        with self.record.step(Step.CARRY_BACK, plugins=[slot.name for slot in takers]):
            reports = self.carry_back(takers)
        self.record.note(CARRIED, {"path": str(self.monolith), "ms": since(started), "plugins": reports})


class Undo(Work):
    """What the way back of a switch does with the rows that it moved."""

    def __init__(self, session: Session, seen: Look, manifests: Manifests) -> None:
        self.manifests = manifests
        self.state = adopted_by(session.record.journal.entries)
        entries = session.txn.entries
        self.adopted = [entry["data"] for entry in entries if entry["event"] == ADOPTED]
        # Begun is enough: the monolith's tables may have changed before it was said that they had.
        self.carried = any(
            entry["event"] == "intent" and entry["data"].get("step") == Step.CARRY_BACK.value for entry in entries
        )
        self.absent = [
            str(path)
            for entry in entries
            if entry["event"] == "intent" and entry["data"].get("step") == Step.ADOPT.value
            for path in entry["data"]["absent"]
        ]
        path = str(self.adopted[-1]["path"]) if self.adopted else self.state.path
        super().__init__(session, seen, Path(path), "present")

    def run(self) -> list[str]:
        """Bring the rows back to where the previous stack looks for them; what cannot be is kept aside and told.

        Nothing here keeps the previous stack from coming back: its own rows are where they were.
        """
        remarks: list[str] = []
        if not (self.adopted or self.carried or self.absent):
            return remarks
        with self.record.step(Step.REVERT_ADOPTION) as outcome:
            if self.adopted:
                remarks += self._give_back()
            if self.carried:
                remarks += self._take_again()
            kept = self._put_aside()
            if kept:
                outcome["aside"] = kept
            outcome["remarks"] = remarks
        return remarks

    def _started(self, stack: Stack) -> list[Slot]:
        """The releases of a stack that this switch has started, with rows of their own."""
        return [
            find_slot(self.node, item["name"], item["digest"])
            for item in adopters(stack, self.manifests)
            if self.record.last("intent", Step.START, item["name"]) is not None
            and not self.manifests[item["digest"]]["adopts"]["in_place"]
        ]

    def _give_back(self) -> list[str]:
        """Carry back what the new plugins wrote while they were watched, as far as the monolith is not up again."""
        paths = {*replaced_by(self.session.txn.target), *self._foreign()}
        if paths & set(self.machine.plugins()):
            # lightningd was started anew with the configuration of before.
            return ["what the new plugins wrote meanwhile is kept aside, because the monolith was up before them"]
        return [line for slot in self._started(self.session.txn.target) for line in self._given_back(slot)]

    def _foreign(self) -> set[str]:
        items = [item for item in active_items(self.session.txn.previous) if item["digest"] in self.manifests]
        foreign = [item for item in items if self.manifests[item["digest"]].get("foreign")]
        return {find_slot(self.node, item["name"], item["digest"]).inside(self.node) for item in foreign}

    def _given_back(self, slot: Slot) -> list[str]:
        try:
            left = self.carry_back([slot])[slot.name]["left"]
        except HiveError as error:
            return [f"what {slot.name} wrote meanwhile is kept aside, not carried back: {error.message}"]
        return [f"{one['rows']} rows of {one['table']} stay with {slot.name}: {one['reason']}" for one in left]

    def _take_again(self) -> list[str]:
        """Take over once more what the monolith may have written while it was back."""
        items = adopters(self.session.txn.previous, self.manifests)
        slots = [find_slot(self.node, item["name"], item["digest"]) for item in items]
        slots.sort(key=lambda slot: not slot.manifest["adopts"]["in_place"])
        return [line for slot in slots for line in self._taken_again(slot)]

    def _taken_again(self, slot: Slot) -> list[str]:
        try:
            if slot.manifest["adopts"]["in_place"]:
                self.adopt([slot], None, True)
            else:
                with self.settled(True) as snapshot:
                    self.adopt([slot], snapshot, True)
        except HiveError as error:
            return [f"{slot.name} did not take over what the monolith wrote meanwhile: {error.message}"]
        return []

    def _put_aside(self) -> str:
        """Keep the databases that this switch made, where nobody takes them for those of the next."""
        folder = aside_dir(self.node, f"{self.session.txn.id}-adopted")
        for path in map(Path, self.absent):
            if path.exists():
                make_dir(folder, self.node.keeper)
                keep(path, folder / path.name, self.node)
                path.unlink()
                sync_dir(path.parent)
        return str(folder) if folder.is_dir() else ""


def _noted(session: Session, event: str) -> bool:
    return any(entry["event"] == event for entry in session.txn.entries)


def prove_back(session: Session, paths: list[str]) -> None:
    """Prove that plugins of the operator's own configuration run again.

    Raises:
        HiveError: one does not.
    """
    listed = session.machine.plugins()
    for path in paths:
        if not listed.get(path, {}).get("active"):
            raise HiveError(
                f"{path} is not active any more: it ended after it was started; look at lightningd's log", "plugin-gone"
            )
