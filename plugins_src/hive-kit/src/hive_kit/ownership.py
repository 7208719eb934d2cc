"""Who owns which table. The data is in ownership.toml, beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType


@cache
def table_owners() -> Mapping[str, str]:
    """Every known table with the plugin that may write it, for example {"nostr_state": "cl-hive-comms"}.

    Raises:
        ValueError: the map names one table twice.
    """
    import tomllib  # not before lightningd has its manifest

    document = tomllib.loads(Path(__file__).with_name("ownership.toml").read_text("utf-8"))
    owners: dict[str, str] = {}
    for plugin, entry in document["plugins"].items():
        for table in entry["tables"]:
            if table in owners:
                raise ValueError(f"ownership.toml gives {table} to {owners[table]} and to {plugin}; keep one")
            owners[table] = plugin
    return MappingProxyType(owners)


def tables_of(plugin: str) -> frozenset[str]:
    """The tables that `plugin` may write; empty for a plugin the map does not know."""
    return frozenset(table for table, owner in table_owners().items() if owner == plugin)
