"""What archon takes over from the monolith: the reputation credentials and what was computed from them."""

from __future__ import annotations

from typing import Final

from hive_kit.adoption import Adopts, MovedTable, identifier, json_text, number, text, word

DOMAINS: Final = ("hive:advisor", "hive:node", "hive:client", "agent:general")
_ALL: Final = "_all"  # the cache's name for "over all domains"

CREDENTIALS: Final = MovedTable(
    "did_credentials",
    ("credential_id",),
    (
        identifier("credential_id"),
        identifier("issuer_id"),
        identifier("subject_id"),
        word("domain", *DOMAINS),
        number("period_start"),
        number("period_end"),
        json_text("metrics_json"),
        word("outcome", "renew", "revoke", "neutral"),
        json_text("evidence_json", optional=True),
        identifier("signature"),
        number("issued_at"),
        number("expires_at", optional=True),
        number("revoked_at", optional=True),
        text("revocation_reason", optional=True),
        text("received_from", optional=True),
        number("created_at"),
    ),
)
CACHE: Final = MovedTable(
    "did_reputation_cache",
    ("subject_id", "domain"),
    (
        identifier("subject_id"),
        word("domain", *DOMAINS, _ALL),
        number("score", high=100),
        word("tier", "newcomer", "recognized", "trusted", "senior"),
        word("confidence", "low", "medium", "high"),
        number("credential_count"),
        number("issuer_count"),
        number("computed_at"),
        json_text("components_json", optional=True),
    ),
)
ADOPTS: Final = Adopts(
    (CREDENTIALS, CACHE),
)
