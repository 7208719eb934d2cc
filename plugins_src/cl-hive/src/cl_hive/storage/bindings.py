"""Which Nostr key speaks for which node: hive_nostr_bindings."""

from __future__ import annotations

from hive_kit.store import Store


class BindingStore:
    """One Nostr key per node, as the node itself announced it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def put(self, node_id: str, nostr_pubkey: str, announced_at: int, source: str, signature: str, now: int) -> bool:
        """Keep a binding whose signature was verified, unless a newer one is known. Returns whether it was kept."""
        changed = self.store.execute(
            "INSERT INTO hive_nostr_bindings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node_id) DO UPDATE SET "
            "nostr_pubkey = excluded.nostr_pubkey, announced_at = excluded.announced_at, source = excluded.source, "
            "signature = excluded.signature, updated_at = excluded.updated_at "
            "WHERE excluded.announced_at > hive_nostr_bindings.announced_at",
            (node_id, nostr_pubkey, announced_at, source, signature, now),
        )
        return changed > 0

    def nodes(self, nostr_pubkey: str) -> list[str]:
        """Members that name this Nostr key. More than one is a dispute, not an answer."""
        rows = self.store.query(
            "SELECT node_id FROM hive_nostr_bindings JOIN hive_members ON peer_id = node_id WHERE nostr_pubkey = ? "
            "ORDER BY node_id",
            (nostr_pubkey,),
        )
        return [str(row["node_id"]) for row in rows]

    def announced(self, node_id: str) -> tuple[str, int, str] | None:
        """(nostr_pubkey, announced_at, signature) of a node."""
        row = self.store.one(
            "SELECT nostr_pubkey, announced_at, signature FROM hive_nostr_bindings WHERE node_id = ?", (node_id,)
        )
        return None if row is None else (row["nostr_pubkey"], row["announced_at"], row["signature"])

    def count(self) -> int:
        """How many nodes are bound."""
        return int(self.store.value("SELECT COUNT(*) FROM hive_nostr_bindings"))
