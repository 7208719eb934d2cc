"""Stopping and starting plugins inside a transaction, with the time each was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from .._slots import find_slot
from .._waiting import wait_for
from .by_hand import note_replaced, replaced_notes
from .errors import HiveError
from .guard import Look, Manifests, ours_running
from .loaders import important
from .machine import Machine
from .options import UNKNOWN, Memory, Past, members, option_value, past_of, remember
from .record import Record
from .request import Timeouts
from .stacks import Item, Plan, Stack, replaced_by
from .steps import Step


class Plugins:
    """The plugins of one node during one transaction.

    Attributes:
        downtime_ms: per plugin, from its last answer before the stop to its first after the start.
        without_values: plugins that were started without options they should have, because giving them was not safe.
        ended: plugins that did not stop when they were told to.
        told: what the way back has to say of rows that were moved.
    """

    def __init__(self, machine: Machine, record: Record, timeouts: Timeouts) -> None:
        self.machine = machine
        self.node = machine.node
        self.record = record
        self.timeouts = timeouts
        self.downtime_ms: dict[str, float] = {}
        self.without_values: dict[str, str] = {}
        self.ended: list[str] = []
        self.told: list[str] = []
        self._last_answer: dict[str, float] = {}
        self._memory: dict[str, Memory] = {}

    @property
    def include(self) -> str:
        """The managed include as lightningd names it."""
        return self.node.to_inside(self.node.include_file)

    @property
    def warnings(self) -> list[str]:
        """What is worth telling."""
        return [
            *(
                f"{name} runs without its values of {options} until lightningd is restarted"
                for name, options in self.without_values.items()
            ),
            *(
                f"{name} did not stop by itself and was ended; what it had not written yet is lost"
                for name in self.ended
            ),
            *self.told,
        ]

    def answered(self, manifest: dict[str, Any], seconds: float = 2.0) -> bool:
        """Whether the plugin's health RPC answers at all."""
        return self.machine.health_of(manifest, seconds) is not None

    def swap(
        self, plan: Plan, seen: Look, manifests: Manifests, target: Stack, between: Callable[[], None] | None = None
    ) -> None:
        """Bring the plugins from what runs to the target: removals first, then one by one stop and start.

        Args:
            between: what is to be done while none of the plugins that change runs; then all of them stop first.
        """
        if between is not None:
            self.clear_way(plan, seen, target)
            between()
        for change in plan.removals:
            self.stop(change.name, seen)
        self.stop_by_hand(target)
        for change in plan.changes:
            if change.after is None or self._already(change.after):
                continue
            for holder in plan.stop_first.get(change.name, []):
                self.stop(holder, seen)
            self.stop(change.name, seen)
            self.start(change.after, manifests[change.after["digest"]], seen)
        started = [change.after for change in plan.changes if change.after is not None]
        self.give_values(started, manifests, seen, Step.STOP, Step.START)
        if self.without_values:
            name, options = next(iter(self.without_values.items()))
            raise HiveError(
                f"{options} of {name} cannot be given while lightningd runs, because it holds "
                f"{sorted(self.orphans(seen))[0]} of "
                "a plugin that is not loaded and would crash; run again with -e hive_allow_lightningd_restart=true",
                "needs-restart",
            )

    def clear_way(self, plan: Plan, seen: Look, target: Stack) -> None:
        """Stop everything that changes, ours and the operator's own, so that nobody writes to their databases."""
        for change in [*plan.removals, *reversed(plan.changes)]:
            if change.after is None or not self._already(change.after):
                self.stop(change.name, seen)
        self.stop_by_hand(target)

    def _already(self, item: Item) -> bool:
        """Whether this transaction has started the plugin before it was interrupted, and it still runs."""
        done = self.record.started_since_stop(item["name"], Step.START)
        return done is not None and bool(self.machine.plugins().get(str(done["path"]), {}).get("active"))

    def stop(self, name: str, seen: Look, step: Step = Step.STOP) -> None:
        """Stop whatever runs from the slots of one plugin, by the path lightningd shows; nothing running is fine."""
        paths = ours_running(self.machine, self.machine.plugins(), name)
        configs = self.machine.configs() if paths else {}
        who = self.machine.identity()
        for path in paths:
            slot = seen.by_entry.get(path)
            memory = self._memory[name] = remember(configs, path, self.include, self._past())
            slot_dir = str(slot.path) if slot else str(self.node.to_outside(path).parent.parent)
            facts: dict[str, Any] = {
                "plugin": name,
                "path": path,
                "configured": sorted(memory.configured),
                "given": sorted(memory.given),
                "lightningd": f"{who.pid}-{who.started}" if who else "",
            }
            if slot is not None and self.answered(slot.manifest):
                self._last_answer[name] = time.time()
                facts["answered_at"] = round(self._last_answer[name], 4)
            # The line may be gone and lightningd still hold to it: one that is important is never ended by us.
            may_end = path not in important(configs)
            with self.record.step(step, **facts) as outcome:
                if self.machine.stop_plugin(path, self.node.to_inside(slot_dir), self.timeouts.stop, may_end):
                    outcome["ended"] = True
                    self.ended.append(name)

    def stop_by_hand(self, target: Stack, step: Step = Step.STOP) -> None:
        """Stop the plugins of the operator's own configuration whose place a stack takes; it keeps them off from then.

        What they were given at their start is kept, because only they know it otherwise, and they may come back.
        """
        for path, name in replaced_by(target).items():
            if path not in self.machine.plugins():
                continue
            configs, methods = self.machine.configs(), self.machine.methods()
            memory = remember(configs, path, self.include, self._past())
            given = {option: option_value(configs[option]) for option in memory.given}
            who = self.machine.identity()
            facts = {
                "plugin": path,
                "path": path,
                "by_hand": True,
                "configured": sorted(memory.configured),
                "given": sorted(memory.given),
                "lightningd": f"{who.pid}-{who.started}" if who else "",
            }
            self._last_answer.setdefault(name, time.time())
            names = sorted(name for name, config in configs.items() if config.get("plugin") == path)
            note_replaced(self.node, path, {"options": given, "names": names, "methods": []})
            with self.record.step(step, **facts):
                folder, may_end = str(PurePosixPath(path).parent), path not in important(configs)
                self.machine.stop_plugin(path, folder, self.timeouts.stop, may_end)
                gone = sorted(methods - self.machine.methods())
                note_replaced(self.node, path, {"options": given, "names": names, "methods": gone})

    def start_by_hand(self, paths: list[str], seen: Look, step: Step = Step.START) -> None:
        """Start plugins of the operator's own configuration again, as they were started before."""
        for path in paths:
            if path in self.machine.plugins():
                continue
            kept = replaced_notes(self.node).get(path, {})
            options, methods = dict(kept.get("options", {})), list(kept.get("methods", []))
            if options and self.orphans(seen):
                # Given now, they would crash lightningd.
                self.without_values[path] = ", ".join(sorted(options))
                options = {}
            method = next(iter(methods), "")
            # Of one that nobody has seen running no method is known, so its two answers share their time.
            getmanifest = self.timeouts.getmanifest + (0.0 if method else self.timeouts.init)
            before = self.machine.methods()
            with self.record.step(step, plugin=path, path=path, by_hand=True):
                folder = str(PurePosixPath(path).parent)
                self.machine.start_plugin(path, folder, options, method, getmanifest, self.timeouts.init)
            if not methods:
                note_replaced(self.node, path, {**kept, "methods": sorted(self.machine.methods() - before)})

    def start(self, item: Item, manifest: dict[str, Any], seen: Look, step: Step = Step.START) -> None:
        """Start one plugin from its slot with the stack's options and wait until its health RPC answers.

        Raises:
            HiveError: it does not come up, or its options cannot be given without endangering lightningd.
        """
        name = str(item["name"])
        slot = find_slot(self.node, name, item["digest"])
        entry = slot.inside(self.node)
        memory = self._recall(name, item, manifest, step)
        wanted = {} if memory is None else self._safe(item, manifest, memory, seen)
        with self.record.step(step, plugin=name, path=entry, named=sorted(wanted)) as outcome:
            self._start(entry, str(slot.path), wanted, manifest)
            if memory is None:
                # Nobody knows any more what lightningd would hand over; now it shows.
                found = remember(self.machine.configs(), entry, self.include, self._past())
                wanted = self._safe(item, manifest, found, seen)
                if wanted:
                    self.machine.stop_plugin(entry, self.node.to_inside(slot.path), self.timeouts.stop)
                    self._start(entry, str(slot.path), wanted, manifest)
            if wait_for(lambda: self.answered(manifest) or None, self.timeouts.healthy):
                outcome["downtime_ms"] = self._downtime(name)

    def _start(self, entry: str, slot_dir: str, wanted: dict[str, Any], manifest: dict[str, Any]) -> None:
        self.machine.start_plugin(
            entry,
            self.node.to_inside(slot_dir),
            wanted,
            str(manifest["rpc_methods"][0]),
            self.timeouts.getmanifest,
            self.timeouts.init,
        )

    def _recall(self, name: str, item: Item, manifest: dict[str, Any], step: Step) -> Memory | None:
        """Return what lightningd remembers of a plugin's options; None when only its start will show."""
        stopped = self.record.last("intent", Step.STOP, name)
        if step is Step.REVERT_START and stopped is not None:
            # The way back: what was configured is handed over as before, what was given must be given again.
            configured, given = frozenset(stopped["configured"]), frozenset(stopped["given"])
            boot = self._past().boot
            # A configured value that was not hidden by a given one is the one the stack was running with.
            values = {
                option: boot.get(option, UNKNOWN) if option in given else item["options"].get(option, UNKNOWN)
                for option in configured
            }
            return Memory(configured, given, values, configured - frozenset(item["options"]))
        if name in self._memory:
            return self._memory[name]
        mine = {option["name"] for option in manifest["options"]}
        return None if stopped is not None or mine & self._past().names else Memory()

    def _past(self) -> Past:
        """Return what the journal knows of this life of lightningd."""
        return past_of(self.record.journal.entries, self.machine.identity())

    def _safe(self, item: Item, manifest: dict[str, Any], memory: Memory, seen: Look) -> dict[str, Any]:
        """Return the members to start with, none when giving them would crash lightningd."""
        wanted = members(item["options"], manifest, memory)
        if not wanted:
            return {}
        orphans = self.orphans(seen) - {option["name"] for option in manifest["options"]}
        if not orphans:
            return wanted
        names = ", ".join(sorted(wanted))
        self.without_values[str(item["name"])] = names
        return {}

    def give_values(self, items: list[Item], manifests: Manifests, seen: Look, stop: Step, start: Step) -> None:
        """Start again, one by one, what had to be started without its values: no option is without its owner now."""
        for item in items:
            if item["name"] in self.without_values and not self.orphans(seen):
                del self.without_values[item["name"]]
                self.stop(item["name"], seen, stop)
                self.start(item, manifests[item["digest"]], seen, start)

    def orphans(self, seen: Look) -> set[str]:
        """Return the options lightningd holds from its configuration whose plugin is not loaded now."""
        return (self._past().names | seen.unowned) - set(self.machine.configs())

    def _downtime(self, name: str) -> float | None:
        """Return for how long the plugin was away, from its last answer before the stop; None if it was not there."""
        since = self._last_answer.get(name, 0.0)
        if not since:
            stopped = self.record.last("intent", Step.STOP, name) or {}
            since = float(stopped.get("answered_at", 0.0))
        if not since:
            return None
        # One that had to be started twice was away twice.
        self.downtime_ms[name] = round(self.downtime_ms.get(name, 0.0) + (time.time() - since) * 1000, 1)
        return self.downtime_ms[name]
