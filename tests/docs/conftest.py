"""What the executed guides need: releases of the three plugins, and nodes to run the guides on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from flows.flow_fleet import ROOT, Fleet, Shelf

PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")


@pytest.fixture(scope="session")
def plugins_shelf() -> Shelf:
    """Releases 0.1.0 of the three plugins and 0.1.1 of comms, for this machine; kept between sessions."""
    shelf = Shelf(ROOT / ".cache/docs")
    settings = _release.Settings(
        releases=shelf.releases,
        cache=ROOT / ".cache/release",
        keys=shelf.directory / "keys",
        workspace=ROOT,
        machines=(platform.machine(),),
    )
    wanted = [_release.Wanted(ROOT / "plugins_src" / name) for name in PLUGINS]
    wanted.append(_release.Wanted(ROOT / "plugins_src/cl-hive-comms", version="0.1.1"))
    _release.release(wanted, {}, settings)
    return shelf


@pytest.fixture
def start_fleet(plugins_shelf: Shelf, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A function that starts a fleet of so many nodes; it is stopped after the test."""
    fleets: list[Fleet] = []

    def start(count: int, **variables: Any) -> Fleet:
        fleet = Fleet(tmp_path / f"fleet{len(fleets)}", plugins_shelf, variables)
        fleet.root.mkdir()
        fleets.append(fleet)
        fleet.up(count)
        return fleet

    yield start
    for fleet in fleets:
        fleet.down()
