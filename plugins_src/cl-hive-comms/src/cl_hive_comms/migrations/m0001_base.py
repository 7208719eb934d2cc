"""Identity, receipts, advisors: the tables that every installation in the field has, column for column."""

from hive_kit.migrations import Migration

BASE = Migration(
    version=1,
    name="identity, receipts, advisors",
    readable_by="0.1.0",
    statements=(
        """
        CREATE TABLE nostr_state (
            key TEXT PRIMARY KEY,
            value TEXT NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE management_receipts (
            receipt_id INTEGER PRIMARY KEY AUTOINCREMENT,
            created_at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            schema_id TEXT NOT NULL,
            action TEXT NOT NULL,
            params_json TEXT NOT NULL,
            result_json TEXT NOT NULL,
            prev_hash TEXT NOT NULL,
            receipt_hash TEXT NOT NULL
        )
        """,
        "CREATE INDEX idx_management_receipts_actor ON management_receipts (actor, created_at DESC)",
        """
        CREATE TABLE comms_advisors (
            advisor_id TEXT PRIMARY KEY,
            advisor_ref TEXT NOT NULL UNIQUE,
            alias TEXT,
            permissions_json TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'active',
            daily_limit_sats INTEGER NOT NULL DEFAULT 0,
            note TEXT NOT NULL DEFAULT '',
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        "CREATE INDEX idx_comms_advisors_status ON comms_advisors (status, updated_at DESC)",
        """
        CREATE TABLE comms_advisor_auth (
            advisor_id TEXT PRIMARY KEY REFERENCES comms_advisors (advisor_id),
            auth_token TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE comms_aliases (
            alias TEXT PRIMARY KEY,
            advisor_id TEXT NOT NULL REFERENCES comms_advisors (advisor_id),
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE comms_trials (
            trial_id TEXT PRIMARY KEY,
            advisor_id TEXT NOT NULL REFERENCES comms_advisors (advisor_id),
            started_at INTEGER NOT NULL,
            ends_at INTEGER NOT NULL,
            status TEXT NOT NULL,
            note TEXT NOT NULL DEFAULT ''
        )
        """,
        "CREATE INDEX idx_comms_trials_advisor ON comms_trials (advisor_id, status, ends_at DESC)",
        """
        CREATE TABLE comms_payments (
            payment_id TEXT PRIMARY KEY,
            advisor_id TEXT NOT NULL REFERENCES comms_advisors (advisor_id),
            amount_sats INTEGER NOT NULL,
            kind TEXT NOT NULL,
            note TEXT NOT NULL DEFAULT '',
            created_at INTEGER NOT NULL
        )
        """,
        "CREATE INDEX idx_comms_payments_advisor ON comms_payments (advisor_id, created_at DESC)",
    ),
)
