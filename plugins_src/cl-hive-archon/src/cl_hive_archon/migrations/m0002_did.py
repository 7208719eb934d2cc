"""Reputation credentials, column for column as the monolith has them, so that its rows move unchanged."""

from hive_kit.migrations import Migration

DID = Migration(
    2,
    "reputation credentials",
    (
        """
        CREATE TABLE did_credentials (
            credential_id TEXT PRIMARY KEY,
            issuer_id TEXT NOT NULL,
            subject_id TEXT NOT NULL,
            domain TEXT NOT NULL,
            period_start INTEGER NOT NULL,
            period_end INTEGER NOT NULL,
            metrics_json TEXT NOT NULL,
            outcome TEXT NOT NULL DEFAULT 'neutral',
            evidence_json TEXT,
            signature TEXT NOT NULL,
            issued_at INTEGER NOT NULL,
            expires_at INTEGER,
            revoked_at INTEGER,
            revocation_reason TEXT,
            received_from TEXT,
            created_at INTEGER NOT NULL DEFAULT (strftime('%s', 'now'))
        )
        """,
        "CREATE INDEX idx_did_credentials_domain ON did_credentials (domain, issued_at)",
        "CREATE INDEX idx_did_credentials_issuer ON did_credentials (issuer_id)",
        "CREATE INDEX idx_did_credentials_subject ON did_credentials (subject_id, domain)",
        """
        CREATE TABLE did_reputation_cache (
            subject_id TEXT NOT NULL,
            domain TEXT NOT NULL,
            score INTEGER NOT NULL DEFAULT 50,
            tier TEXT NOT NULL DEFAULT 'newcomer',
            confidence TEXT NOT NULL DEFAULT 'low',
            credential_count INTEGER NOT NULL DEFAULT 0,
            issuer_count INTEGER NOT NULL DEFAULT 0,
            computed_at INTEGER NOT NULL,
            components_json TEXT,
            PRIMARY KEY (subject_id, domain)
        )
        """,
    ),
    readable_by="0.1.0",
)
