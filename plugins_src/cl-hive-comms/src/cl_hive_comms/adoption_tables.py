"""The tables that comms takes over from the monolith as they are, and what a valid row of each is."""

from __future__ import annotations

from typing import Final

from hive_kit.adoption import MovedTable, identifier, json_text, number, text, word

TIERS: Final = ("monitor", "standard", "advanced", "admin")
_SERVICES: Final = 9

CREDENTIALS: Final = MovedTable(
    "management_credentials",
    ("credential_id",),
    (
        identifier("credential_id"),
        identifier("issuer_id"),
        identifier("agent_id"),
        identifier("node_id"),
        word("tier", *TIERS),
        json_text("allowed_schemas_json"),
        json_text("constraints_json"),
        number("valid_from"),
        number("valid_until"),
        identifier("signature"),
        number("revoked_at", optional=True),
        number("created_at"),
    ),
)
PROFILES: Final = MovedTable(
    "marketplace_profiles",
    ("advisor_did",),
    (
        identifier("advisor_did"),
        json_text("profile_json"),
        text("nostr_pubkey", optional=True),
        text("version"),
        json_text("capabilities_json"),
        json_text("pricing_json"),
        number("reputation_score", optional=True, low=None),
        number("last_seen"),
        text("source"),
    ),
)
CONTRACTS: Final = MovedTable(
    "marketplace_contracts",
    ("contract_id",),
    (
        identifier("contract_id"),
        identifier("advisor_did"),
        identifier("operator_id"),
        identifier("node_id"),
        word("status", "proposed", "trial", "active", "terminated"),
        text("tier"),
        json_text("scope_json"),
        json_text("pricing_json"),
        json_text("sla_json", optional=True),
        number("trial_start", optional=True),
        number("trial_end", optional=True),
        number("contract_start", optional=True),
        number("contract_end", optional=True),
        number("auto_renew", high=1),
        number("notice_days"),
        number("created_at"),
        number("terminated_at", optional=True),
        text("termination_reason", optional=True),
    ),
)
TRIALS: Final = MovedTable(
    "marketplace_trials",
    ("trial_id",),
    (
        identifier("trial_id"),
        identifier("contract_id"),
        identifier("advisor_did"),
        identifier("node_id"),
        text("scope"),
        number("sequence_number", low=1),
        number("flat_fee_sats"),
        number("start_at"),
        number("end_at"),
        json_text("evaluation_json", optional=True),
        word("outcome", "pass", "fail", "extended", optional=True),
    ),
)
OFFERS: Final = MovedTable(
    "liquidity_offers",
    ("offer_id",),
    (
        identifier("offer_id"),
        identifier("provider_id"),
        number("service_type", low=1, high=_SERVICES),
        number("capacity_sats"),
        number("duration_hours", optional=True),
        text("pricing_model"),
        json_text("rate_json"),
        number("min_reputation", optional=True, low=None),
        text("nostr_event_id", optional=True),
        word("status", "active", "filled", "expired", "withdrawn"),
        number("created_at"),
        number("expires_at", optional=True),
    ),
)
LEASES: Final = MovedTable(
    "liquidity_leases",
    ("lease_id",),
    (
        identifier("lease_id"),
        text("offer_id", optional=True),
        identifier("provider_id"),
        identifier("client_id"),
        number("service_type", low=1, high=_SERVICES),
        text("channel_id", optional=True),
        number("capacity_sats"),
        number("start_at"),
        number("end_at"),
        number("heartbeat_interval"),
        number("last_heartbeat", optional=True),
        number("missed_heartbeats"),
        number("total_paid_sats"),
        word("status", "active", "completed", "terminated"),
        number("created_at"),
    ),
)
HEARTBEATS: Final = MovedTable(
    "liquidity_heartbeats",
    ("heartbeat_id",),
    (
        identifier("heartbeat_id"),
        identifier("lease_id"),
        number("period_number"),
        text("channel_id"),
        number("capacity_sats"),
        number("remote_balance_sats"),
        text("provider_signature"),
        number("client_verified", high=1),
        number("preimage_revealed", high=1),
        number("created_at"),
    ),
)
TABLES: Final = (CREDENTIALS, PROFILES, CONTRACTS, TRIALS, OFFERS, LEASES, HEARTBEATS)
