# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Runs the combinations of the matrix, each on a scratch node of its own on the controller, without network.

The scratch node is that of a drill: a directory of its own, the sandbox's verified fake lightningd, and an end in every
case. Its slots are unpacked from the very artifacts, anew each time. Runs on the controller only.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _matrix, _plan_stack
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill import OFFLINE
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_checks import Checks
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import (
    Artifact,
    Scratch,
    alone,
    program,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.machine import Machine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import plugin_processes
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.proof import GOOD
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes import runtime_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging import Wanted, stage
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release
from ansible_collections.lightning_goats.hive.plugins.module_utils._slots import Slot, find_slot
from ansible_collections.lightning_goats.hive.plugins.module_utils._waiting import wait_for

Json = dict[str, Any]

ANSWER_SECONDS, STOP_SECONDS, RPC_SECONDS = 60.0, 20.0, 15.0
GETMANIFEST_SECONDS, INIT_SECONDS = 30.0, 60.0


@dataclass(frozen=True)
class Bench:
    """A place on this machine where releases can be tried: slots of them, and the scratch lightningd.

    Attributes:
        patience: seconds within which plugins have to be well and to know each other.
    """

    node: Node
    program: Path
    artifact: Artifact
    patience: float


@contextmanager
def bench(
    directory: Path, releases: Sequence[Release], signers: Path, artifact: Artifact, patience: float
) -> Iterator[Bench]:
    """Make slots of the releases in an empty directory.

    Raises:
        HiveError: one of them cannot be unpacked on this machine.
    """
    lightning = directory / "lightning"
    lightning.mkdir(parents=True)
    node = Node(
        name="this machine",
        runtime="process",
        lightning_dir=lightning,
        network="regtest",
        state_dir=directory / "hive",
        config_file=lightning / "config",
        python=str(Path(sys.executable).resolve()),
    )
    with alone(node):
        # All at once: that one of them is older than another is what is wanted here.
        wanted = [Wanted(one.name, one.version, one.digest, one.directory) for one in releases]
        stage(node, wanted, signers.read_text(encoding="utf-8"), False)
        unpacked = program(node, runtime_of(node), artifact)
        if unpacked is None:
            raise HiveError("the scratch lightningd was not built; run again", "drill-artifact")
        yield Bench(node, unpacked, artifact, patience)


def run(bench_: Bench, combination: _matrix.Combination) -> tuple[Checks, list[str], Json]:
    """Start a combination and look at it.

    Returns:
        The checks, the titles of those that had to be made and were not, and figures.
    """
    checks, figures = Checks(), dict[str, Any]()
    scratch = Scratch(bench_.node, runtime_of(bench_.node))
    started = time.monotonic()
    try:
        scratch.make()
        scratch.give()
        scratch.start(bench_.program)
        machine = scratch.machine(ANSWER_SECONDS)
        machine.wait_ready(ANSWER_SECONDS)
        figures["network"] = scratch.network
        if combination.modes:
            _Together(bench_, combination, scratch, machine, checks, figures).run()
        else:
            _refusal(bench_, combination, machine, checks)
    except HiveError as error:
        checks.note("scratch node", False, error.message)
    except OSError as error:
        checks.note("scratch node", False, f"{error.filename or 'the disk'}: {error.strerror}")
    finally:
        left = scratch.end()
    checks.note("nothing left", not left, f"processes {left}" if left else "")
    figures["seconds"] = round(time.monotonic() - started, 2)
    made = {(check.plugin, check.name) for check in checks.done if check.ok}
    missing = [" ".join(word for word in pair if word) for pair in sorted(combination.required - made)]
    return checks, missing, figures


class _Together:
    """One supported combination on one scratch node."""

    def __init__(
        self,
        bench_: Bench,
        combination: _matrix.Combination,
        scratch: Scratch,
        machine: Machine,
        checks: Checks,
        figures: Json,
    ) -> None:
        self.bench = bench_
        self.modes = combination.modes
        self.scratch = scratch
        self.machine = machine
        self.checks = checks
        self.figures = figures
        self.slots = [find_slot(bench_.node, one.name, one.digest) for one in combination.releases]

    def run(self) -> None:
        """From start to stop; after a first breach of the start nothing else can be told."""
        own = self.machine.methods()
        for slot in self.slots:
            begun = time.monotonic()
            with self.checks.tried("starts", slot.name, slot.version):
                start(self.bench, self.machine, slot)
            self.figures[f"{slot.name} start_seconds"] = round(time.monotonic() - begun, 2)
            if self.checks.failed:
                return
        # Siblings are found in the background: the time until all say the right mode is one for all of them.
        begun = time.monotonic()
        for slot in self.slots:
            self._healthy(slot, begun + self.bench.patience)
        self.figures["siblings_seconds"] = round(time.monotonic() - begun, 2)
        listed = self.machine.plugins()
        for slot in self.slots:
            active = bool(listed.get(slot.inside(self.bench.node), {}).get("active"))
            self.checks.note("active", active, "" if active else "lightningd does not list it as active", slot.name)
        self._surface(own)
        self._log("log")
        sockets = self.scratch.internet_sockets()
        self.checks.note("offline", not sockets, sockets[0] if sockets else f"kept so by {self.scratch.network}")
        self._stop()

    def _healthy(self, slot: Slot, deadline: float) -> None:
        report: Json = {}

        def settled() -> bool | None:
            nonlocal report
            report = self.machine.health_of(slot.manifest, RPC_SECONDS) or {}
            well = report.get("status") in GOOD and report.get("mode") == self.modes[slot.name]
            return True if well else None

        wait_for(settled, max(0.05, deadline - time.monotonic()), 0.05)
        bad = [f"{one['name']}: {one.get('detail', '')}" for one in report.get("checks", []) if not one.get("ok")]
        status = str(report.get("status") or "silent")
        said = f"{status} ({'; '.join(bad)})" if bad else status
        self.checks.note("healthy", status in GOOD, said, slot.name)
        mode, wanted = str(report.get("mode") or "none"), self.modes[slot.name]
        late = f"{mode}, not {wanted}, after {self.bench.patience:g} s"
        self.checks.note("mode", mode == wanted, mode if mode == wanted else late, slot.name)

    def _surface(self, own: set[str]) -> None:
        """What lightningd offers more than before is what the manifests say, no method less and none more."""
        promised = {str(method) for slot in self.slots for method in slot.manifest["rpc_methods"]}
        found = self.machine.methods() - own
        wrong = [f"{name} is missing" for name in sorted(promised - found)]
        wrong += [f"{name} is in no manifest" for name in sorted(found - promised)]
        self.checks.note("rpc surface", not wrong, wrong[0] if wrong else f"{len(promised)} methods as promised")

    def _log(self, name: str) -> None:
        marks = self.machine.log_marks()
        self.checks.note(name, not marks, f"{marks[0]['source']}: {marks[0]['log']}" if marks else "no BROKEN line")

    def _stop(self) -> None:
        who = self.machine.identity()
        for slot in reversed(self.slots):
            where = self.bench.node.to_inside(slot.path)
            try:
                ended = self.machine.stop_plugin(slot.inside(self.bench.node), where, STOP_SECONDS)
            except HiveError as error:
                self.checks.note("stops", False, error.message, slot.name)
                continue
            gone = wait_for(partial(_gone, who.pid if who else 0, where), STOP_SECONDS)
            wrong = "it had to be ended" if ended else "" if gone else "its process stays"
            self.checks.note("stops", not wrong, wrong, slot.name)
        self._log("log after the stop")


def _gone(lightningd: int, where: str) -> bool | None:
    """Whether nothing of a slot runs below lightningd any more."""
    return None if plugin_processes(lightningd, where) else True


def start(bench_: Bench, machine: Machine, slot: Slot) -> None:
    """Start one plugin as a drill does, offline. Raises HiveError with lightningd's reason."""
    known = {option["name"] for option in slot.manifest["options"]}
    machine.start_plugin(
        slot.inside(bench_.node),
        bench_.node.to_inside(slot.path),
        {name: value for name, value in OFFLINE.items() if name in known},
        str(slot.manifest["rpc_methods"][0]),
        GETMANIFEST_SECONDS,
        INIT_SECONDS,
    )


def _refusal(bench_: Bench, combination: _matrix.Combination, machine: Machine, checks: Checks) -> None:
    """A set that nobody may run: the plan refuses it before anything changes, and the plugin does by itself."""
    release = combination.releases[0]
    entry = {"manifest": release.manifest, "path": str(release.directory)}
    shelf = _plan_stack.Shelf("", {(release.name, release.version): entry}, {release.name: [release.version]})
    wanted = [{"name": release.name, "version": release.version}]
    refusals = [one for one in _plan_stack.resolve("scratch", wanted, shelf)[1] if one.code == "missing-dependency"]
    said = refusals[0].message if refusals else f"the plan takes {release.name} alone"
    checks.note("refused by the plan", bool(refusals), said)
    slot = find_slot(bench_.node, release.name, release.digest)
    try:
        start(bench_, machine, slot)
    except HiveError as error:
        reasoned = "disabled itself" in error.message and _matrix.COMMS in error.message
        checks.note("disables itself", reasoned, error.message)
    else:
        checks.note("disables itself", False, f"{release.name} runs without {_matrix.COMMS}")
    goes_on = machine.answers(RPC_SECONDS) and not machine.plugins().get(slot.inside(bench_.node), {}).get("active")
    checks.note("lightningd goes on", goes_on, "" if goes_on else "it does not answer, or the plugin is active")


def remove_left(cache: Path) -> None:
    """Remove what killed runs have left; their scratch nodes have ended by themselves."""
    for path in cache.glob(".matrix-*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
