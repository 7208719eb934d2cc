"""The management plane: which nonces are used, which actions wait for the operator, what was spent."""

from hive_kit.migrations import Migration

MANAGEMENT = Migration(
    version=3,
    name="replay, held actions, spending",
    readable_by="0.1.0",
    statements=(
        """
        CREATE TABLE comms_replay (
            auth_key TEXT PRIMARY KEY,
            advisor_id TEXT NOT NULL,
            last_nonce INTEGER NOT NULL,
            last_timestamp INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE comms_held_actions (
            action_id TEXT PRIMARY KEY,
            advisor_id TEXT NOT NULL REFERENCES comms_advisors (advisor_id),
            schema_type TEXT NOT NULL,
            action TEXT NOT NULL,
            payload_json TEXT NOT NULL,
            nonce INTEGER NOT NULL,
            danger INTEGER NOT NULL,
            status TEXT NOT NULL DEFAULT 'held' CHECK (status IN ('held', 'approved', 'rejected', 'expired')),
            requested_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL,
            decided_at INTEGER NOT NULL DEFAULT 0,
            reason TEXT NOT NULL DEFAULT ''
        )
        """,
        "CREATE INDEX idx_comms_held_actions_status ON comms_held_actions (status, expires_at)",
        # No reference to comms_advisors: a recount may find a payment for an advisor that the restored data lacks.
        """
        CREATE TABLE comms_spending (
            advisor_id TEXT NOT NULL,
            nonce INTEGER NOT NULL,
            payment_hash TEXT NOT NULL,
            bolt11 TEXT NOT NULL,
            amount_sats INTEGER NOT NULL,
            counted_sats INTEGER NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('reserved', 'paid', 'failed')),
            source TEXT NOT NULL CHECK (source IN ('pay', 'recount')),
            note TEXT NOT NULL DEFAULT '',
            created_at INTEGER NOT NULL,
            settled_at INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (advisor_id, nonce)
        )
        """,
        "CREATE INDEX idx_comms_spending_created ON comms_spending (created_at DESC)",
        "CREATE INDEX idx_comms_spending_hash ON comms_spending (payment_hash)",
    ),
)
