"""How long the gates take to decide from the evidence that is there: twenty nodes and some two hundred statements."""

from __future__ import annotations

import shutil
import time

import gates_world
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _gates, _gates_checks
from gates_world import World

from bench.fleets import WORK
from bench.measurement import Measurement, at_most, median_of

RUNS = 5
NODES = tuple(f"node{number:02}" for number in range(20))
STATEMENTS = 200
BOUND_SECONDS = 3.0


def _world() -> World:
    """A fleet whose gates are all open, with older evidence beside the newest as it piles up."""
    root = WORK / "gates"
    shutil.rmtree(root, ignore_errors=True)
    world = World(root)
    world.people()
    world.register()
    world.approve("alice")
    place, commit = gates_world.repository(root, world)
    named = {"repository": str(place), "tag": "v2.9.0", "commit": commit}
    (world.registers / "baseline.yml").write_text(yaml.safe_dump(named), encoding="utf-8")
    specs = gates_world.good(nodes=NODES)
    written = 0
    for age in range(1, 9):
        for name, spec in specs.items():
            if written < STATEMENTS or age == 1:
                world.add(name, {**spec, "age_days": age})
                written += 1
    return world


def _decide(world: World) -> float:
    begun = time.perf_counter()
    decision = _gates.decide(_gates_checks.CHECKS, world.context(nodes=NODES))
    seconds = time.perf_counter() - begun
    if not decision.allowed:
        raise RuntimeError([finding.detail for finding in decision.findings if finding.state == _gates.BLOCK])
    return seconds


def _one_by_one(world: World) -> float:
    """Each statement read and verified by itself, as for a drill's age."""
    begun = time.perf_counter()
    for path in world.evidence.glob("*.json"):
        _evidence.read(path, world.places.evidence_signers)
    return time.perf_counter() - begun


def run() -> list[Measurement]:
    """Decide, and only read the same statements one after the other."""
    world = _world()
    count = len(list(world.evidence.glob("*.json")))
    decided, alone = (median_of(RUNS, lambda way=way: way(world)) for way in (_decide, _one_by_one))  # type: ignore[misc]
    shutil.rmtree(world.root)
    peers: dict[str, float | str] = {"only reading them one by one": round(alone, 2)}
    name = f"all gates of {len(NODES)} nodes from {count} statements, each verified"
    return [at_most(name, decided, "s", BOUND_SECONDS, peers)]
