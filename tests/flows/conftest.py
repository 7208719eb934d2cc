"""Fleets and releases for the flows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flows.flow_fleet import ROOT, Fleet, Shelf


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    """Two good releases of the fixture plugin, and one for each way to be bad.

    Kept between sessions: a release made from the same sources is taken as it is.
    """
    built = Shelf(ROOT / ".cache/flows")
    built.build(
        ("good", "0.1.0"),
        ("good", "0.1.1"),
        ("good-second", "0.1.0"),
        ("crash-at-init", "0.2.0"),
        ("hang-at-getmanifest", "0.3.0"),
        ("unhealthy", "0.5.0"),
        ("dies-soon", "0.6.0"),
        ("disable-at-init", "0.7.0"),
    )
    return built


@pytest.fixture
def own_shelf(shelf: Shelf, tmp_path: Path) -> Shelf:
    """A copy of the releases that a test may damage."""
    shutil.copytree(shelf.releases, tmp_path / "shelf/releases")
    shutil.copytree(shelf.directory / "keys", tmp_path / "shelf/keys")
    return Shelf(tmp_path / "shelf")


@pytest.fixture(scope="module")
def running(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node that runs 0.1.0, for the tests of a module that leave it as it is."""
    fleet = Fleet(tmp_path_factory.mktemp("running"), shelf)
    fleet.up(1)
    fleet.good("rollout")
    yield fleet
    fleet.down()


@pytest.fixture
def start_fleet(shelf: Shelf, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """A function that starts a fleet of so many nodes; it is stopped after the test."""
    fleets: list[Fleet] = []

    def start(count: int, shelf: Shelf = shelf, **variables: Any) -> Fleet:
        fleet = Fleet(tmp_path / f"fleet{len(fleets)}", shelf, variables)
        fleet.root.mkdir()
        fleets.append(fleet)
        fleet.up(count)
        return fleet

    yield start
    for fleet in fleets:
        fleet.down()


@pytest.fixture
def fleet(start_fleet: Callable[..., Fleet]) -> Fleet:
    """Three nodes with no plugin."""
    return start_fleet(3)


@pytest.fixture
def one_node(start_fleet: Callable[..., Fleet]) -> Fleet:
    """One node with no plugin."""
    return start_fleet(1)
