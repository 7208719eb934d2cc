"""Fleets for benchmarks: the sandbox as the flows use it, with the real plugins."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from flows.flow_fleet import FIXTURES, ROOT, Fleet, Shelf

WORK = ROOT / "var/bench/work"
PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")


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
def fleet(name: str, nodes: int, **variables: Any) -> Iterator[Fleet]:
    """So many fresh nodes; stopped and removed at the end."""
    root = WORK / name
    # On a machine of few processors a large batch takes its time to be confirmed.
    made = Fleet(root, shelf(), {"hive_soak_seconds": 0.3, "hive_deadman_seconds": 600, **variables})
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
