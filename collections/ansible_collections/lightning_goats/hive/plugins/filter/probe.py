# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Whether a node has the very probe that is wanted, going by what was observed: then no module needs to be called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.bundle import engine_digest

# A probe is late when it missed two looks; a busy machine may take a minute longer.
LOOKS, GRACE_SECONDS = 3, 60


def probe_stamp(node: Mapping[str, Any], interval: float, keep_seconds: float, max_bytes: int) -> str:
    """What makes one probe another: the engine, the node's description and the probe's settings, as one digest."""
    facts = [engine_digest(), node, float(interval), float(keep_seconds), int(max_bytes)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def probe_is_current(observed: Mapping[str, Any] | None, stamp: str) -> bool:
    """Whether the probe that ``hive_observe`` saw has this stamp and has taken a sample lately."""
    probe = (observed or {}).get("probe")
    if not observed or not probe or probe["stamp"] != stamp or not probe["last_at"]:
        return False
    return bool(float(observed["time"]) - float(probe["last_at"]) <= LOOKS * float(probe["every"]) + GRACE_SECONDS)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probe_stamp": probe_stamp, "probe_is_current": probe_is_current}
