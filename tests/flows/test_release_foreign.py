"""A monolith of the field's shape is rolled out, upgraded by one inner module, kept from harm, and replaced by ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import Settings, Wanted
from fixtures import repositories
from fixtures.repositories import DECLARES, NAME
from flows.flow_fleet import ROOT, Fleet, Shelf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OURS = "0.1.0"


@pytest.fixture(scope="module")
def monoliths(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Releases of three commits of the fixture repository, and of our own cl-hive."""
    shelf = Shelf(tmp_path_factory.mktemp("monoliths"))
    repository = repositories.monolith(shelf.directory)
    settings = Settings(
        releases=shelf.releases,
        cache=ROOT / ".cache/release",
        keys=shelf.directory / "keys",
        workspace=ROOT,
        machines=(os.uname().machine,),
    )
    with pytest.MonkeyPatch.context() as patch:
        for key, value in repositories.index(shelf.directory / "index").items():
            patch.setenv(key, value)
        _release.release(
            [
                Wanted(name=NAME, version=version, git=str(repository), ref=f"v{version}", declares=DECLARES)
                for version in ("2.2.5", "2.2.6", "2.2.7")
            ],
            {},
            settings,
        )
    _release.release([Wanted(source=ROOT / "plugins_src" / NAME, version=OURS)], {}, settings)
    return shelf


def stack(version: str, **options: Any) -> list[dict[str, Any]]:
    return [{"name": NAME, "version": version, "options": options}]


def members(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return list(connection.execute("SELECT peer_id, tier FROM hive_members"))


def test_from_the_monolith_to_our_own_release(start_fleet: Callable[..., Fleet], monoliths: Shelf) -> None:
    settings = {"hive-governance-mode": "autonomous"}
    fleet = start_fleet(1, monoliths, hive_stack=stack("2.2.5", **settings))
    (node,) = fleet.nodes
    lightningd = fleet.pid(node)
    database = fleet.sandbox / node / "lightning/regtest/monolith.db"
    fleet.good("rollout")
    assert fleet.cli(node, "hive-version") == {"version": "2.2.5", "library": "1.0"}
    assert fleet.cli(node, "hive-status")["status"] == "active"
    assert fleet.report["nodes"][node]["result"] == "confirmed"
    assert members(database) == [("02aa", "admin")]
    # Nothing to do is told of a foreign plugin too.
    fleet.good("rollout")
    assert fleet.report["result"] == "unchanged"

    # The entry file is the same byte by byte; lightningd itself would not look further. The new module really runs.
    fleet.good("rollout", hive_stack=stack("2.2.6", **settings))
    assert fleet.cli(node, "hive-version")["version"] == "2.2.6"
    slots = sorted((fleet.sandbox / node / "hive/slots" / NAME).iterdir())
    scripts = {next(slot.glob(f"lib/*/site-packages/*/source/{NAME}.py")).read_bytes() for slot in slots}
    assert (len(slots), len(scripts)) == (2, 1)

    # It starts and answers, but says that it is not well.
    text = fleet.bad("rollout", hive_stack=stack("2.2.7", **settings)).text
    assert f"{NAME} 2.2.7 reports failed: hive-status" in text
    assert fleet.cli(node, "hive-version")["version"] == "2.2.6"
    assert fleet.cli(node, "hive-status")["status"] == "active"

    # Ours would open another file than the monolith's, and begin empty: that is no accident only when it is said.
    assert "hive-db-path" in fleet.bad("rollout", hive_stack=stack(OURS)).text
    fleet.good("rollout", hive_stack=stack(OURS), hive_adopt="no")
    health = fleet.cli(node, "hive-health")
    assert (health["status"], health["version"]) == ("ok", OURS)
    assert members(database) == [("02aa", "admin")]

    # And back.
    fleet.good("rollback")
    assert fleet.cli(node, "hive-version")["version"] == "2.2.6"
    assert fleet.pid(node) == lightningd, "lightningd ran through all of it"
