"""Fleets for benchmarks: the sandbox as the flows use it, with the real plugins."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from flows.flow_fleet import FIXTURES, ROOT, Fleet, Outcome, Shelf

WORK = ROOT / "var/bench/work"
PATIENCE_SECONDS = 1800
PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")


@dataclass(frozen=True)
class Cost:
    """What a run of a playbook took: seconds, CPU seconds of it and of all that it started on this machine, and the
    largest of its processes in MB."""

    seconds: float
    cpu: float
    megabytes: float


@dataclass
class BenchFleet(Fleet):
    """A fleet whose runs may take long and are measured.

    Attributes:
        cost: of the last run.
    """

    cost: Cost = Cost(0.0, 0.0, 0.0)

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook to its end."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            self.command(playbook, variables, *arguments),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        took, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.cost = Cost(took, cpu, after.ru_maxrss / 1024)
        return Outcome(done.returncode, done.stdout)


def stack(version: str) -> list[dict[str, Any]]:
    """The full stack, every plugin at `version`."""
    return [{"name": name, "version": version} for name in PLUGINS]


def shelf() -> Shelf:
    """Releases 0.1.0 and 0.1.1 of the three plugins, a good and a crashing one of the fixture; kept between runs."""
    built = Shelf(WORK / "shelf")
    settings = _release.Settings(
        releases=built.releases, cache=ROOT / ".cache", keys=built.directory / "keys", workspace=ROOT
    )
    wanted = [
        _release.Wanted(ROOT / "plugins_src" / name, version=version)
        for name in PLUGINS
        for version in ("0.1.0", "0.1.1")
    ]
    wanted += [_release.Wanted(FIXTURES / "good", version=version) for version in ("0.1.0", "0.1.1")]
    wanted += [_release.Wanted(FIXTURES / "crash-at-init", version="0.2.0")]
    _release.release(wanted, {}, settings)
    return built


@contextmanager
def fleet(name: str, nodes: int, **variables: Any) -> Iterator[BenchFleet]:
    """So many fresh nodes; stopped and removed at the end."""
    root = WORK / name
    # On a machine of few processors a large batch takes its time to be confirmed.
    made = BenchFleet(root, shelf(), {"hive_soak_seconds": 0.3, "hive_deadman_seconds": 600, **variables})
    if made.sandbox.exists():
        made.down()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    made.up(nodes)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(root)


def socket_of(made: Fleet, node: str) -> Path:
    """Where lightningd of the node listens."""
    return made.sandbox / node / "lightning/regtest/lightning-rpc"
