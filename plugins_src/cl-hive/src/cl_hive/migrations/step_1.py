"""Members, states and the reliable part of the protocol, as the field has them, and what proves each of them."""

from __future__ import annotations

from typing import Final

from hive_kit.migrations import Migration

# As the monolith spells them, so that its rows can be carried over unchanged.
_FIELD: Final = (
    """CREATE TABLE hive_members (
        peer_id TEXT PRIMARY KEY,
        tier TEXT NOT NULL DEFAULT 'neophyte',
        joined_at INTEGER NOT NULL,
        promoted_at INTEGER,
        contribution_ratio REAL DEFAULT 0.0,
        uptime_pct REAL DEFAULT 0.0,
        vouch_count INTEGER DEFAULT 0,
        last_seen INTEGER,
        metadata TEXT,
        addresses TEXT
    )""",
    """CREATE TABLE hive_state (
        peer_id TEXT PRIMARY KEY,
        capacity_sats INTEGER,
        available_sats INTEGER,
        fee_policy TEXT,
        topology TEXT,
        last_gossip INTEGER,
        state_hash TEXT,
        version INTEGER DEFAULT 0
    )""",
    """CREATE TABLE hive_bans (
        peer_id TEXT PRIMARY KEY,
        reason TEXT,
        reporter TEXT NOT NULL,
        signature TEXT,
        banned_at INTEGER NOT NULL,
        expires_at INTEGER
    )""",
    """CREATE TABLE peer_capabilities (
        peer_id TEXT PRIMARY KEY,
        features TEXT NOT NULL DEFAULT '[]',
        max_protocol_version INTEGER NOT NULL DEFAULT 1,
        plugin_version TEXT DEFAULT '',
        updated_at INTEGER NOT NULL
    )""",
    """CREATE TABLE proto_events (
        event_id TEXT PRIMARY KEY,
        event_type TEXT NOT NULL,
        actor_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        received_at INTEGER NOT NULL
    )""",
    "CREATE INDEX idx_proto_events_created ON proto_events(created_at)",
    """CREATE TABLE proto_outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        msg_id TEXT NOT NULL,
        peer_id TEXT NOT NULL,
        msg_type INTEGER NOT NULL,
        payload_json TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'queued',
        created_at INTEGER NOT NULL,
        sent_at INTEGER,
        next_retry_at INTEGER NOT NULL,
        retry_count INTEGER NOT NULL DEFAULT 0,
        expires_at INTEGER NOT NULL,
        last_error TEXT,
        acked_at INTEGER,
        UNIQUE(msg_id, peer_id)
    )""",
    "CREATE INDEX idx_proto_outbox_peer ON proto_outbox(peer_id, status)",
    "CREATE INDEX idx_proto_outbox_retry ON proto_outbox(status, next_retry_at)",
)

# Ours: a membership, a departure and a state are believed for their signatures, so these are kept, to be shown on.
_PROOFS: Final = (
    """CREATE TABLE hive_admissions (
        peer_id TEXT NOT NULL,
        joined_at INTEGER NOT NULL,
        hive_id TEXT NOT NULL,
        admitted_by TEXT NOT NULL,
        ticket_digest TEXT NOT NULL DEFAULT '',
        record_json TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        PRIMARY KEY (peer_id, joined_at)
    )""",
    "CREATE INDEX idx_hive_admissions_ticket ON hive_admissions(ticket_digest)",
    """CREATE TABLE hive_departures (
        peer_id TEXT PRIMARY KEY,
        left_at INTEGER NOT NULL,
        tier TEXT NOT NULL,
        joined_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        signature TEXT NOT NULL,
        received_at INTEGER NOT NULL
    )""",
    """CREATE TABLE hive_signed_states (
        peer_id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        payload_json TEXT NOT NULL
    )""",
    """CREATE TABLE hive_join_requests (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        ticket TEXT NOT NULL,
        target TEXT NOT NULL,
        hive_id TEXT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,
        next_try_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )""",
    """CREATE TABLE hive_nostr_bindings (
        node_id TEXT PRIMARY KEY,
        nostr_pubkey TEXT NOT NULL,
        announced_at INTEGER NOT NULL,
        source TEXT NOT NULL,
        signature TEXT NOT NULL,
        updated_at INTEGER NOT NULL
    )""",
    "CREATE INDEX idx_hive_nostr_bindings_pubkey ON hive_nostr_bindings(nostr_pubkey)",
)

MIGRATION: Final = Migration(
    version=1,
    name="members, states, reliable delivery and their proofs",
    statements=(*_FIELD, *_PROOFS),
    readable_by="0.1.0",
)
