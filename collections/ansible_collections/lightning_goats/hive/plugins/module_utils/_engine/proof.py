"""The proof that a stack runs as it should."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .._slots import Slot, find_slot
from .._waiting import wait_for
from . import channels as ch
from .by_hand import methods_of
from .errors import HiveError
from .guard import Manifests
from .machine import Machine
from .options import equal_values, option_value
from .record import Record
from .request import Timeouts
from .stacks import Item, Stack, active_items

GOOD = ("ok", "degraded")
FAILED_SECONDS = 1.0


class Proof:
    """Looks at the node after something was done; changes nothing.

    Attributes:
        warnings: what is not as it could be, but no reason to go back.
    """

    def __init__(self, machine: Machine, record: Record, timeouts: Timeouts) -> None:
        self.machine = machine
        self.node = machine.node
        self.record = record
        self.timeouts = timeouts
        self.warnings: list[str] = []

    def stack(self, stack: Stack, manifests: Manifests, strict: bool) -> None:
        """Prove that a stack runs.

        Args:
            strict: also hold it to the baseline of the transaction (options, methods, channels, log). A revert does
                not: it
                can undo neither a line of the log nor what peers did.

        Raises:
            HiveError: the first thing that is not so.
        """
        listed = self.machine.wait_ready(self.timeouts.ready)
        configs = self.machine.configs()
        wanted = set()
        for item in active_items(stack):
            slot = find_slot(self.node, item["name"], item["digest"])
            path = slot.inside(self.node)
            wanted.add(path)
            if not listed.get(path, {}).get("active"):
                raise HiveError(
                    f"{item['name']} {item['version']} is not active any more: it ended after it was started",
                    "plugin-gone",
                )
            self._health(slot)
            self._options(item, path, configs, strict)
        root = self.node.to_inside(self.node.slots_dir) + "/"
        extra = sorted(Path(path).name for path in listed if path.startswith(root) and path not in wanted)
        if extra:
            raise HiveError(
                f"{extra[0]} still runs though it is not in the stack; stop it by its path in `plugin list`",
                "plugin-stays",
            )
        self._methods(stack, manifests, strict)
        if strict:
            self._channels()
            self._log(stack)

    def _health(self, slot: Slot) -> None:
        report: dict[str, Any] = {}
        patience = time.monotonic() + min(FAILED_SECONDS, self.timeouts.healthy)

        def settled() -> bool:
            nonlocal report
            report = self.machine.health_of(slot.manifest, 2.0) or {}
            # One that is silent may still be coming up; one that says it has failed gets less time to think again.
            return report.get("status") in GOOD or (bool(report) and time.monotonic() >= patience)

        wait_for(lambda: settled() or None, self.timeouts.healthy)
        healthy = report.get("status") in GOOD
        failed = [
            str(check.get("name"))
            for check in report.get("checks", [])
            if isinstance(check, dict) and not check.get("ok")
        ]
        why = f": {', '.join(failed)}" if failed else ""
        if not healthy:
            said = f"reports {report['status']}{why}" if report else "does not answer its health RPC"
            raise HiveError(f"{slot.name} {slot.version} {said}", "unhealthy", plugin=slot.name)
        if str(report.get("version", slot.version)) != slot.version:
            raise HiveError(
                f"{slot.name} answers as version {report['version']}, expected {slot.version}", "wrong-version"
            )
        if int(report.get("schema_version") or slot.manifest["schema_version"]) < int(slot.manifest["schema_version"]):
            raise HiveError(
                f"{slot.name} works on schema {report['schema_version']}, its release on "
                f"{slot.manifest['schema_version']}",
                "wrong-schema",
            )
        if report["status"] == "degraded":
            self.warnings.append(f"{slot.name} {slot.version} is degraded{why}")

    def _options(self, item: Item, path: str, configs: dict[str, dict[str, Any]], strict: bool) -> None:
        for name, wanted in item["options"].items():
            config = configs.get(name, {})
            if config.get("plugin") == path and equal_values(option_value(config), wanted):
                continue
            if strict:
                raise HiveError(
                    f"option {name} of {item['name']} did not take the value of the stack",
                    "option-differs",
                    option=name,
                )
            self.warnings.append(f"option {name} of {item['name']} takes its value at the next restart of lightningd")

    def _methods(self, stack: Stack, manifests: Manifests, strict: bool) -> None:
        now = self.machine.methods()
        for item in active_items(stack):
            missing = sorted(set(manifests[item["digest"]]["rpc_methods"]) - now)
            if missing:
                raise HiveError(
                    f"{item['name']} {item['version']} does not offer {missing[0]}, which its manifest promises",
                    "method-missing",
                )
        others = self.record.baseline().get("other_methods")
        if strict and others is not None:
            promised = {method for item in active_items(stack) for method in manifests[item["digest"]]["rpc_methods"]}
            extra = sorted(now - promised - set(others) - methods_of(self.node))
            if extra:
                raise HiveError(
                    f"the method {extra[0]} appeared with the switch but is in no manifest of the stack",
                    "method-extra",
                    methods=extra,
                )

    def _channels(self) -> None:
        before = self.record.baseline().get("channels")
        if not before:
            return
        lost = ch.lost(before, ch.channel_facts(self.machine.rpc.call("listpeerchannels")["channels"]))
        if lost:
            raise HiveError(
                f"channel {lost[0]} was open before the switch and is not any more", "channel-lost", channels=lost
            )

    def _log(self, stack: Stack) -> None:
        # Lines are known by their own time, which counts from lightningd's start: a clock that was set changes nothing.
        known = set(self.record.baseline().get("marks", []))
        sources = {"lightningd"} | {f"plugin-{item['name']}" for item in active_items(stack)}
        for mark in self.machine.log_marks():
            if mark["time"] not in known and mark["source"].split(":")[0] in sources:
                raise HiveError(
                    f"{mark['source']} wrote at level BROKEN during the switch: {mark['log'][:160]}", "log-broken"
                )
