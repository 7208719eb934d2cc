"""A stage that soaks on one node, and the looks of its probe, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman, probe
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.bundle import engine_archive
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import canonical, write_atomic
from faults.rig import Rig

PLAN = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
SOAK = {"minutes": 4320, "blocks": 432, "forwards": 20, "extend_minutes": 1440}

Json = dict[str, Any]
Stack = list[Json]


def stage(plan: str = PLAN, name: str = "canary", **soak: Any) -> Json:
    """A stage as the plan gives it."""
    waves = [{"name": "canary", "nodes": ["rig"]}, {"name": "wave 1", "nodes": ["other"]}]
    return {
        "plan": plan,
        "name": name,
        "number": 0,
        "waves": waves,
        "action": "upgrade",
        "soak": {**SOAK, **soak},
    }


def soak(rig: Rig, stack: Stack, **changes: Any) -> Json:
    """Bring a node to a stack that soaks from now on, and return what it says of that."""
    wanted = {"stage": stage(), "deadman_seconds": 0.0, **changes}
    outcome = rig.run("switched", stack, **wanted)
    assert "error" not in outcome, outcome["error"]
    found = rig.state().soak
    assert found is not None
    return found


def settings(rig: Rig) -> Json:
    """The probe's settings, written down as the process that takes a node back reads them."""
    archive, digest = engine_archive()
    deadman.install_engine(rig.node, archive, digest)
    wanted = {
        "node": rig.node.as_params(),
        "engine": digest,
        "kind": "process",
        "keep_seconds": 86400,
        "max_bytes": 1 << 20,
        "min_free_bytes": 1 << 20,
    }
    path: Path = probe.settings_file(rig.node)
    if not path.is_file():
        rig.node.prepare()
        write_atomic(path, canonical(wanted), rig.node.keeper)
    return wanted


def looks(rig: Rig, count: int) -> list[Json]:
    """What so many looks of the probe say of the soak."""
    found = []
    for _ in range(count):
        sample = probe.tick(settings(rig))
        assert sample is not None
        found.append(sample["soak"] or {})
    return found


def events(rig: Rig, name: str) -> list[Json]:
    """The entries of the journal with one name."""
    return [entry for entry in rig.journal() if entry["event"] == name]
