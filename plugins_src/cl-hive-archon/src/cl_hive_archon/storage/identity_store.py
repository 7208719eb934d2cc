"""`archon_identity`: at most one row, who this node is."""

from __future__ import annotations

from dataclasses import dataclass

from hive_kit.store import Store


@dataclass(frozen=True)
class Identity:
    """The node's DID. `source` says who made it: local-fallback or archon-gateway. Times are unix seconds."""

    did: str
    governance_tier: str
    status: str
    source: str
    gateway_url: str
    label: str
    created_at: int
    updated_at: int


class IdentityStore:
    """Read and write the identity."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self) -> Identity | None:
        """The identity, None before it was provisioned."""
        row = self._store.one(
            "SELECT did, governance_tier, status, source, gateway_url, label, created_at, updated_at "
            "FROM archon_identity WHERE singleton_id = 1"
        )
        if row is None:
            return None
        return Identity(
            did=row["did"],
            governance_tier=row["governance_tier"],
            status=row["status"],
            source=row["source"],
            gateway_url=row["gateway_url"] or "",
            label=row["label"],
            created_at=row["created_at"],
            updated_at=row["updated_at"],
        )

    def put(self, identity: Identity) -> None:
        """Write the identity; the time of its creation stays that of the first one."""
        self._store.execute(
            "INSERT INTO archon_identity "
            "(singleton_id, did, governance_tier, status, source, gateway_url, label, created_at, updated_at) "
            "VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (singleton_id) DO UPDATE SET did = excluded.did, "
            "governance_tier = excluded.governance_tier, status = excluded.status, source = excluded.source, "
            "gateway_url = excluded.gateway_url, label = excluded.label, updated_at = excluded.updated_at",
            (
                identity.did,
                identity.governance_tier,
                identity.status,
                identity.source,
                identity.gateway_url,
                identity.label,
                identity.created_at,
                identity.updated_at,
            ),
        )
