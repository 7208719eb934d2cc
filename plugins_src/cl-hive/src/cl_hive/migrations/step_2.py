"""Settlement: what members earned, what they agreed on, and what this node has paid."""

from __future__ import annotations

from typing import Final

from hive_kit.migrations import Migration

# As the monolith spells them, so that its rows stay usable in place.
_FIELD: Final = (
    """CREATE TABLE fee_reports (
        peer_id TEXT NOT NULL,
        period TEXT NOT NULL,
        fees_earned_sats INTEGER NOT NULL,
        forward_count INTEGER NOT NULL,
        period_start INTEGER NOT NULL,
        period_end INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        rebalance_costs_sats INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (peer_id, period)
    )""",
    "CREATE INDEX idx_fee_reports_period ON fee_reports(period)",
    """CREATE TABLE pending_actions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        action_type TEXT NOT NULL,
        payload TEXT NOT NULL,
        proposed_at INTEGER NOT NULL,
        expires_at INTEGER,
        status TEXT DEFAULT 'pending',
        rejection_reason TEXT
    )""",
    "CREATE INDEX idx_pending_actions_type ON pending_actions(action_type, proposed_at)",
    "CREATE INDEX idx_pending_actions_status ON pending_actions(status, expires_at)",
    """CREATE TABLE settlement_offers (
        peer_id TEXT PRIMARY KEY,
        bolt12_offer TEXT NOT NULL,
        registered_at INTEGER NOT NULL,
        last_verified INTEGER,
        active INTEGER DEFAULT 1
    )""",
    """CREATE TABLE settlement_periods (
        period_id INTEGER PRIMARY KEY AUTOINCREMENT,
        start_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL,
        status TEXT DEFAULT 'pending',
        total_fees_sats INTEGER DEFAULT 0,
        total_members INTEGER DEFAULT 0,
        settled_at INTEGER,
        metadata TEXT
    )""",
    """CREATE TABLE settlement_contributions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        period_id INTEGER NOT NULL,
        peer_id TEXT NOT NULL,
        capacity_sats INTEGER NOT NULL,
        forwards_sats INTEGER NOT NULL,
        fees_earned_sats INTEGER NOT NULL,
        uptime_pct REAL NOT NULL,
        fair_share_sats INTEGER NOT NULL,
        balance_sats INTEGER NOT NULL,
        rebalance_costs_sats INTEGER NOT NULL DEFAULT 0,
        net_profit_sats INTEGER NOT NULL DEFAULT 0,
        UNIQUE (period_id, peer_id),
        FOREIGN KEY (period_id) REFERENCES settlement_periods(period_id)
    )""",
    "CREATE INDEX idx_settlement_contributions_period ON settlement_contributions(period_id)",
    """CREATE TABLE settlement_payments (
        payment_id INTEGER PRIMARY KEY AUTOINCREMENT,
        period_id INTEGER NOT NULL,
        from_peer_id TEXT NOT NULL,
        to_peer_id TEXT NOT NULL,
        amount_sats INTEGER NOT NULL,
        bolt12_offer TEXT NOT NULL,
        status TEXT DEFAULT 'pending',
        payment_hash TEXT,
        paid_at INTEGER,
        error TEXT,
        FOREIGN KEY (period_id) REFERENCES settlement_periods(period_id)
    )""",
    "CREATE INDEX idx_settlement_payments_period ON settlement_payments(period_id)",
    """CREATE TABLE settlement_proposals (
        proposal_id TEXT PRIMARY KEY,
        period TEXT NOT NULL,
        proposer_peer_id TEXT NOT NULL,
        proposed_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        status TEXT DEFAULT 'pending',
        data_hash TEXT NOT NULL,
        plan_hash TEXT,
        total_fees_sats INTEGER NOT NULL,
        member_count INTEGER NOT NULL,
        last_broadcast_at INTEGER,
        contributions_json TEXT,
        UNIQUE (period)
    )""",
    "CREATE INDEX idx_settlement_proposals_status ON settlement_proposals(status)",
    "CREATE INDEX idx_settlement_proposals_period ON settlement_proposals(period)",
    """CREATE TABLE settlement_ready_votes (
        proposal_id TEXT NOT NULL,
        voter_peer_id TEXT NOT NULL,
        data_hash TEXT NOT NULL,
        voted_at INTEGER NOT NULL,
        signature TEXT NOT NULL,
        PRIMARY KEY (proposal_id, voter_peer_id)
    )""",
    "CREATE INDEX idx_settlement_ready_votes_proposal ON settlement_ready_votes(proposal_id)",
    """CREATE TABLE settlement_executions (
        proposal_id TEXT NOT NULL,
        executor_peer_id TEXT NOT NULL,
        payment_hash TEXT,
        amount_paid_sats INTEGER,
        executed_at INTEGER NOT NULL,
        signature TEXT NOT NULL,
        plan_hash TEXT,
        PRIMARY KEY (proposal_id, executor_peer_id)
    )""",
    "CREATE INDEX idx_settlement_executions_proposal ON settlement_executions(proposal_id)",
    """CREATE TABLE settlement_sub_payments (
        proposal_id TEXT NOT NULL,
        from_peer_id TEXT NOT NULL,
        to_peer_id TEXT NOT NULL,
        amount_sats INTEGER NOT NULL,
        payment_hash TEXT,
        status TEXT NOT NULL DEFAULT 'completed',
        created_at INTEGER NOT NULL,
        PRIMARY KEY (proposal_id, from_peer_id, to_peer_id)
    )""",
    """CREATE TABLE settled_periods (
        period TEXT PRIMARY KEY,
        proposal_id TEXT NOT NULL,
        settled_at INTEGER NOT NULL,
        total_distributed_sats INTEGER NOT NULL
    )""",
    """CREATE TABLE settlement_bonds (
        bond_id TEXT PRIMARY KEY,
        peer_id TEXT NOT NULL,
        amount_sats INTEGER NOT NULL,
        token_json TEXT,
        posted_at INTEGER NOT NULL,
        timelock INTEGER NOT NULL,
        tier TEXT NOT NULL DEFAULT 'observer',
        slashed_amount INTEGER NOT NULL DEFAULT 0,
        status TEXT NOT NULL DEFAULT 'active'
    )""",
    "CREATE INDEX idx_settlement_bonds_peer ON settlement_bonds(peer_id, status)",
    """CREATE TABLE settlement_obligations (
        obligation_id TEXT PRIMARY KEY,
        settlement_type TEXT NOT NULL,
        from_peer TEXT NOT NULL,
        to_peer TEXT NOT NULL,
        amount_sats INTEGER NOT NULL,
        window_id TEXT NOT NULL,
        receipt_id TEXT,
        status TEXT NOT NULL DEFAULT 'pending',
        created_at INTEGER NOT NULL
    )""",
    "CREATE INDEX idx_settlement_obligations_peers ON settlement_obligations(from_peer, to_peer)",
    "CREATE INDEX idx_settlement_obligations_window ON settlement_obligations(window_id, status)",
    """CREATE TABLE settlement_disputes (
        dispute_id TEXT PRIMARY KEY,
        obligation_id TEXT NOT NULL,
        filing_peer TEXT NOT NULL,
        respondent_peer TEXT NOT NULL,
        evidence_json TEXT NOT NULL,
        panel_members_json TEXT,
        votes_json TEXT,
        outcome TEXT,
        slash_amount INTEGER DEFAULT 0,
        filed_at INTEGER NOT NULL,
        resolved_at INTEGER,
        FOREIGN KEY (obligation_id) REFERENCES settlement_obligations(obligation_id)
    )""",
)

# Ours: the invoice of every payment is written down before money leaves, under what it is paid for. A second live row
# for the same period, payer and receiver is impossible, whatever the code above it believes.
_JOURNAL: Final = (
    """CREATE TABLE hive_settlement_journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        period TEXT NOT NULL,
        from_peer_id TEXT NOT NULL,
        to_peer_id TEXT NOT NULL,
        amount_sats INTEGER NOT NULL,
        invoice TEXT NOT NULL,
        payment_hash TEXT NOT NULL,
        invoice_expires_at INTEGER NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('reserved', 'completed', 'failed')),
        source TEXT NOT NULL,
        reserved_at INTEGER NOT NULL,
        ended_at INTEGER,
        error TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE UNIQUE INDEX idx_hive_settlement_journal_live ON hive_settlement_journal(period, from_peer_id, to_peer_id) "
    "WHERE status <> 'failed'",
    """CREATE TABLE hive_restores (
        restore_key TEXT PRIMARY KEY,
        set_id TEXT NOT NULL,
        set_created_at REAL NOT NULL,
        restored_at REAL NOT NULL,
        reconciled_at INTEGER NOT NULL,
        findings_json TEXT NOT NULL
    )""",
)

MIGRATION: Final = Migration(
    version=2,
    name="settlement, with every payment written down before it is made",
    statements=(*_FIELD, *_JOURNAL),
    readable_by="0.1.0",
)
