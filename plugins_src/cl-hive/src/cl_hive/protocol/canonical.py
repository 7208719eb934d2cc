"""The hashes members compare: everybody must compute them from the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hive_kit.canonical import canonical_json, sha256_hex

JSON = dict[str, Any]

__all__ = ["JSON", "batch_hash", "canonical_json", "data_hash", "digest", "fleet_hash", "members_hash", "sha256_hex"]


def digest(value: object) -> str:
    """sha256 of the canonical JSON, 64 hex characters."""
    return sha256_hex(canonical_json(value))


def data_hash(gossip: Mapping[str, Any]) -> str:
    """Hash of the four fields of a GOSSIP that its signature protects."""
    return digest(
        {
            "capacity_sats": gossip.get("capacity_sats", 0),
            "available_sats": gossip.get("available_sats", 0),
            "fee_policy": gossip.get("fee_policy", {}),
            "topology": sorted(gossip.get("topology", [])),
        }
    )


def fleet_hash(states: Iterable[Mapping[str, Any]]) -> str:
    """Hash of which version of whose state is known; empty when nothing is known."""
    rows = sorted(
        ({"peer_id": s["peer_id"], "version": s["version"], "timestamp": s["timestamp"]} for s in states),
        key=lambda row: str(row["peer_id"]),
    )
    return digest(rows) if rows else ""


def members_hash(members: Iterable[Mapping[str, Any]]) -> str:
    """Hash of who is a member, with which tier and since when; empty when there are none."""
    rows = sorted(
        ({"peer_id": m["peer_id"], "tier": m["tier"], "joined_at": m["joined_at"]} for m in members),
        key=lambda row: str(row["peer_id"]),
    )
    return digest(rows) if rows else ""


def batch_hash(items: Iterable[Any]) -> str:
    """First 16 hex characters of the hash of a sorted list, as batch messages sign it."""
    return digest(sorted(items, key=canonical_json))[:16]
