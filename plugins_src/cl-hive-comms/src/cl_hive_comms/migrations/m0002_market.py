"""Credentials and both markets, column for column as the monolith has them, so that its rows move unchanged."""

from hive_kit.migrations import Migration

_CREDENTIALS = (
    """
    CREATE TABLE management_credentials (
        credential_id TEXT PRIMARY KEY,
        issuer_id TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        tier TEXT NOT NULL DEFAULT 'monitor',
        allowed_schemas_json TEXT NOT NULL,
        constraints_json TEXT NOT NULL,
        valid_from INTEGER NOT NULL,
        valid_until INTEGER NOT NULL,
        signature TEXT NOT NULL,
        revoked_at INTEGER,
        created_at INTEGER NOT NULL DEFAULT (strftime('%s', 'now'))
    )
    """,
    "CREATE INDEX idx_management_credentials_node ON management_credentials (node_id)",
    "CREATE INDEX idx_management_credentials_agent ON management_credentials (agent_id)",
)

_MARKETPLACE = (
    """
    CREATE TABLE marketplace_profiles (
        advisor_did TEXT PRIMARY KEY,
        profile_json TEXT NOT NULL,
        nostr_pubkey TEXT,
        version TEXT NOT NULL,
        capabilities_json TEXT NOT NULL,
        pricing_json TEXT NOT NULL,
        reputation_score INTEGER DEFAULT 0,
        last_seen INTEGER NOT NULL,
        source TEXT NOT NULL DEFAULT 'gossip'
    )
    """,
    "CREATE INDEX idx_marketplace_profiles_score ON marketplace_profiles (reputation_score DESC)",
    """
    CREATE TABLE marketplace_contracts (
        contract_id TEXT PRIMARY KEY,
        advisor_did TEXT NOT NULL,
        operator_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'proposed',
        tier TEXT NOT NULL,
        scope_json TEXT NOT NULL,
        pricing_json TEXT NOT NULL,
        sla_json TEXT,
        trial_start INTEGER,
        trial_end INTEGER,
        contract_start INTEGER,
        contract_end INTEGER,
        auto_renew INTEGER NOT NULL DEFAULT 0,
        notice_days INTEGER NOT NULL DEFAULT 7,
        created_at INTEGER NOT NULL,
        terminated_at INTEGER,
        termination_reason TEXT
    )
    """,
    "CREATE INDEX idx_marketplace_contracts_status ON marketplace_contracts (status)",
    "CREATE INDEX idx_marketplace_contracts_advisor ON marketplace_contracts (advisor_did, status)",
    """
    CREATE TABLE marketplace_trials (
        trial_id TEXT PRIMARY KEY,
        contract_id TEXT NOT NULL,
        advisor_did TEXT NOT NULL,
        node_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        sequence_number INTEGER NOT NULL DEFAULT 1,
        flat_fee_sats INTEGER NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        evaluation_json TEXT,
        outcome TEXT
    )
    """,
    "CREATE INDEX idx_marketplace_trials_scope ON marketplace_trials (node_id, scope, start_at)",
)

_LIQUIDITY = (
    """
    CREATE TABLE liquidity_offers (
        offer_id TEXT PRIMARY KEY,
        provider_id TEXT NOT NULL,
        service_type INTEGER NOT NULL,
        capacity_sats INTEGER NOT NULL,
        duration_hours INTEGER,
        pricing_model TEXT NOT NULL,
        rate_json TEXT NOT NULL,
        min_reputation INTEGER DEFAULT 0,
        nostr_event_id TEXT,
        status TEXT NOT NULL DEFAULT 'active',
        created_at INTEGER NOT NULL,
        expires_at INTEGER
    )
    """,
    "CREATE INDEX idx_liquidity_offers_service ON liquidity_offers (service_type, status)",
    """
    CREATE TABLE liquidity_leases (
        lease_id TEXT PRIMARY KEY,
        offer_id TEXT,
        provider_id TEXT NOT NULL,
        client_id TEXT NOT NULL,
        service_type INTEGER NOT NULL,
        channel_id TEXT,
        capacity_sats INTEGER NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        heartbeat_interval INTEGER NOT NULL DEFAULT 3600,
        last_heartbeat INTEGER,
        missed_heartbeats INTEGER NOT NULL DEFAULT 0,
        total_paid_sats INTEGER NOT NULL DEFAULT 0,
        status TEXT NOT NULL DEFAULT 'active',
        created_at INTEGER NOT NULL
    )
    """,
    "CREATE INDEX idx_liquidity_leases_provider ON liquidity_leases (provider_id)",
    "CREATE INDEX idx_liquidity_leases_status ON liquidity_leases (status)",
    """
    CREATE TABLE liquidity_heartbeats (
        heartbeat_id TEXT PRIMARY KEY,
        lease_id TEXT NOT NULL,
        period_number INTEGER NOT NULL,
        channel_id TEXT NOT NULL,
        capacity_sats INTEGER NOT NULL,
        remote_balance_sats INTEGER NOT NULL,
        provider_signature TEXT NOT NULL,
        client_verified INTEGER NOT NULL DEFAULT 0,
        preimage_revealed INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL
    )
    """,
    "CREATE INDEX idx_liquidity_heartbeats_lease ON liquidity_heartbeats (lease_id, period_number)",
)

MARKET = Migration(
    version=2,
    name="credentials, marketplace, liquidity market",
    readable_by="0.1.0",
    statements=(*_CREDENTIALS, *_MARKETPLACE, *_LIQUIDITY),
)
