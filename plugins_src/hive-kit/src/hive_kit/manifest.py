"""The part of a release manifest that describes the plugin; the artifact itself prints it (`--hive-manifest`)."""

from __future__ import annotations

from typing import Any

from hive_kit.app import PluginSpec
from hive_kit.store import schema_tables

SHUTDOWN = "shutdown"


def describe(spec: PluginSpec[Any]) -> dict[str, Any]:
    """JSON of what a release of this plugin brings; the same names that `help` and `listconfigs` show on the node."""
    return {
        "name": spec.name,
        "version": spec.version,
        "start_order": spec.start_order,
        "rpc_methods": sorted([*(method.name for method in spec.methods), spec.health_rpc]),
        "options": [
            {
                "name": option.name,
                "type": option.wire_type,
                "default": option.wire_default,
                "dynamic": option.dynamic,
                "description": option.description,
            }
            for option in sorted(spec.options, key=lambda option: option.name)
        ],
        "hooks": sorted(hook.name for hook in spec.hooks),
        "subscriptions": sorted({SHUTDOWN, *(subscription.topic for subscription in spec.subscriptions)}),
        "tables": schema_tables(spec.name, spec.migrations),
        "database": spec.database,
        "database_option": spec.database_option,
        "key_files": list(spec.key_files),
        "schema_version": spec.migrations[-1].version,
        "readable_by": spec.readable_by,
        "requires": {"plugins": list(spec.requires), "cln": spec.cln},
        "conflicts": list(spec.conflicts),
        "health_rpc": spec.health_rpc,
        **({} if spec.adopts is None else {"adopts": spec.adopts.describe()}),
    }
