"""Identity, bindings, polls, votes and the gateway's outbox; names and meanings as they are in the field."""

from hive_kit.migrations import Migration

BASE = Migration(
    1,
    "identity, bindings, polls, outbox",
    (
        """
        CREATE TABLE archon_identity (
            singleton_id INTEGER PRIMARY KEY CHECK (singleton_id = 1),
            did TEXT NOT NULL,
            governance_tier TEXT NOT NULL DEFAULT 'basic',
            status TEXT NOT NULL DEFAULT 'active',
            source TEXT NOT NULL DEFAULT 'local-fallback',
            gateway_url TEXT,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            label TEXT NOT NULL DEFAULT ''
        )
        """,
        """
        CREATE TABLE archon_bindings (
            binding_id TEXT PRIMARY KEY,
            did TEXT NOT NULL,
            binding_type TEXT NOT NULL,
            subject TEXT NOT NULL,
            attestation_json TEXT NOT NULL,
            signature TEXT,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            UNIQUE (binding_type, subject)
        )
        """,
        "CREATE INDEX archon_bindings_did ON archon_bindings (did, binding_type)",
        """
        CREATE TABLE archon_polls (
            poll_id TEXT PRIMARY KEY,
            remote_poll_id TEXT,
            poll_type TEXT NOT NULL,
            title TEXT NOT NULL,
            options_json TEXT NOT NULL,
            metadata_json TEXT,
            created_by TEXT NOT NULL,
            deadline INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT 'active',
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        "CREATE INDEX archon_polls_status ON archon_polls (status, deadline)",
        """
        CREATE TABLE archon_votes (
            vote_id TEXT PRIMARY KEY,
            poll_id TEXT NOT NULL REFERENCES archon_polls (poll_id),
            voter_id TEXT NOT NULL,
            choice TEXT NOT NULL,
            reason TEXT,
            voted_at INTEGER NOT NULL,
            signature TEXT,
            UNIQUE (poll_id, voter_id)
        )
        """,
        "CREATE INDEX archon_votes_voter ON archon_votes (voter_id, voted_at DESC)",
        """
        CREATE TABLE archon_outbox (
            entry_id TEXT PRIMARY KEY,
            operation TEXT NOT NULL,
            payload_json TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'pending',
            retry_count INTEGER NOT NULL DEFAULT 0,
            max_retries INTEGER NOT NULL DEFAULT 5,
            created_at INTEGER NOT NULL,
            next_retry_at INTEGER NOT NULL,
            last_error TEXT
        )
        """,
        "CREATE INDEX archon_outbox_due ON archon_outbox (status, next_retry_at)",
    ),
    readable_by="0.1.0",
)
