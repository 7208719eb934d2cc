"""What each member last said of itself: hive_state (as the field has it), hive_signed_states (with the signature)."""

from __future__ import annotations

import json
from typing import Any

from hive_kit.canonical import canonical_json
from hive_kit.store import Store

from cl_hive.protocol.canonical import data_hash

TRANSPORT_ONLY = ("_relay", "_event_id", "_envelope_version")


class StateStore:
    """Signed states, one per node, the highest version each."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def version(self, peer_id: str) -> int:
        """Highest version known of a node; it survives leaving a hive, for the own node."""
        return int(self.store.value("SELECT version FROM hive_state WHERE peer_id = ?", (peer_id,)) or 0)

    def signed(self, peer_id: str) -> dict[str, Any] | None:
        """The GOSSIP of a node as it signed it."""
        text = self.store.value("SELECT payload_json FROM hive_signed_states WHERE peer_id = ?", (peer_id,))
        return None if text is None else json.loads(text)

    def signed_states(self) -> list[dict[str, Any]]:
        """The GOSSIPs of all present members."""
        rows = self.store.query(
            "SELECT payload_json FROM hive_signed_states JOIN hive_members USING (peer_id) ORDER BY peer_id"
        )
        return [json.loads(row["payload_json"]) for row in rows]

    def rows(self) -> list[dict[str, Any]]:
        """peer_id, version and timestamp of all present members' states: what the fleet hash covers."""
        rows = self.store.query(
            "SELECT peer_id, s.version AS version, timestamp FROM hive_signed_states s "
            "JOIN hive_members USING (peer_id) ORDER BY peer_id"
        )
        return [dict(row) for row in rows]

    def put(self, gossip: dict[str, Any]) -> None:
        """Keep a GOSSIP whose signature was verified. Runs in its own transaction: both tables or none."""
        kept = {key: value for key, value in gossip.items() if key not in TRANSPORT_ONLY}
        peer_id = kept["peer_id"] = kept["sender_id"]
        with self.store.atomic():
            self.store.execute(
                "INSERT OR REPLACE INTO hive_state VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    peer_id,
                    kept["capacity_sats"],
                    kept["available_sats"],
                    canonical_json(kept["fee_policy"]),
                    canonical_json(sorted(kept["topology"])),
                    kept["timestamp"],
                    data_hash(kept),
                    kept["version"],
                ),
            )
            self.store.execute(
                "INSERT OR REPLACE INTO hive_signed_states VALUES (?, ?, ?, ?)",
                (peer_id, kept["version"], kept["timestamp"], canonical_json(kept)),
            )

    def raise_version(self, peer_id: str, version: int) -> None:
        """Remember that a version was used, so that the next one is higher."""
        self.store.execute(
            "INSERT INTO hive_state (peer_id, version) VALUES (?, ?) "
            "ON CONFLICT (peer_id) DO UPDATE SET version = MAX(version, excluded.version)",
            (peer_id, version),
        )
