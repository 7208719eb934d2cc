# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Which nodes need a probe, going by what was observed: where it is already at work, no module is called for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.lightning_goats.hive.plugins.filter.rollout import NOBODY
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.bundle import engine_digest

# A probe is late when it missed two looks; a busy machine may take a minute longer.
LOOKS, GRACE_SECONDS = 3, 60
# The defaults of the roles, which other plays do not see; a test compares them.
DEFAULTS: Mapping[str, Any] = {
    "hive_probe": True,
    "hive_probe_interval_seconds": 60,
    "hive_probe_keep_seconds": 604800,
    "hive_probe_max_bytes": 67108864,
    "hive_backup_every_seconds": 86400,
    "hive_backup_keep": 10,
    "hive_metrics_dir": "",
    "hive_min_free_bytes": 268435456,
}
KEPT_AS = {
    "every": "hive_probe_interval_seconds",
    "keep_seconds": "hive_probe_keep_seconds",
    "max_bytes": "hive_probe_max_bytes",
    "backup_every": "hive_backup_every_seconds",
    "backup_keep": "hive_backup_keep",
    "min_free_bytes": "hive_min_free_bytes",
}


def probing_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes that are to have a probe and do not have this one at work, as a host pattern."""
    return ",".join(node for node, seen in _seen(hostvars) if _wanted(hostvars[node], seen)) or NOBODY


def probed_hosts(hostvars: Mapping[str, Any]) -> str:
    """The nodes that have a probe, as a host pattern."""
    return ",".join(node for node, seen in _seen(hostvars) if seen.get("probe")) or NOBODY


def _seen(hostvars: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The nodes that this run has observed, each with what was seen."""
    found = []
    for node in hostvars:
        result = hostvars[node].get(_plan_hosts.OBSERVED)
        if isinstance(result, Mapping) and isinstance(result.get("observed"), Mapping):
            found.append((node, result["observed"]))
    return found


def _wanted(variables: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    settings = {name: variables.get(name, default) for name, default in DEFAULTS.items()}
    return boolean(settings["hive_probe"], strict=False) and not is_current(seen, settings)


def is_current(seen: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the probe that was seen is this engine's, of this node, has these settings, and looked lately."""
    probe = seen.get("probe")
    if not probe or not probe["same_node"] or not probe["last_at"] or probe["engine"] != engine_digest():
        return False
    # One of an earlier release knows fewer settings.
    if any(probe.get(key) is None or float(probe[key]) != float(settings[name]) for key, name in KEPT_AS.items()):
        return False
    if probe.get("metrics_dir") != settings["hive_metrics_dir"]:
        return False
    return bool(float(seen["time"]) - float(probe["last_at"]) <= LOOKS * float(probe["every"]) + GRACE_SECONDS)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probing_hosts": probing_hosts, "probed_hosts": probed_hosts}
