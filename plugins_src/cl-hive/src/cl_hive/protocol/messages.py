"""The message table: every type this release reads and writes, with its fields, signature, age and limits."""

from __future__ import annotations

from typing import Any, Final

from cl_hive.protocol import fields, records, settlement_messages
from cl_hive.protocol.canonical import canonical_json, data_hash, fleet_hash, members_hash
from cl_hive.protocol.registry import Audience, MessageSpec, MessageTable, Payload, Rate, Signed
from cl_hive.protocol.ticket import HIVE_ID, MAX_ENCODED

HOUR: Final = 3600
DAY: Final = 24 * HOUR
MAX_MEMBERS: Final = 100
MAX_STATES: Final = 500
MAX_ADDRESSES: Final = 16
MAX_ADDRESS_LENGTH: Final = 128
TIERS: Final = ("neophyte", "member")
CHALLENGE_RATE: Final = Rate(1, 10)


def gossip_text(payload: Payload) -> str:
    """Signed text of a GOSSIP: what the author says now, in which version."""
    return canonical_json(
        {
            "sender_id": payload["sender_id"],
            "timestamp": payload["timestamp"],
            "version": payload["version"],
            "fleet_hash": "",
            "data_hash": data_hash(payload),
        }
    )


def state_hash_text(payload: Payload) -> str:
    """Signed text of a STATE_HASH."""
    return canonical_json(
        {
            "sender_id": payload["sender_id"],
            "fleet_hash": payload["fleet_hash"],
            "timestamp": payload["timestamp"],
            "peer_count": payload["peer_count"],
        }
    )


def full_sync_text(payload: Payload) -> str:
    """Signed text of a FULL_SYNC."""
    return canonical_json(
        {
            "sender_id": payload["sender_id"],
            "fleet_hash": payload["fleet_hash"],
            "members_hash": members_hash(payload.get("members") or ()),
            "timestamp": payload["timestamp"],
        }
    )


def msg_ack_text(payload: Payload) -> str:
    """Signed text of a MSG_ACK."""
    return f"MSG_ACK:{payload['sender_id']}:{payload['ack_msg_id']}:{payload['status']}:{payload['timestamp']}"


def manifest_text(manifest: Payload) -> str:
    """Signed text of the manifest inside an ATTEST."""
    return canonical_json({key: manifest[key] for key in ("features", "nonce", "pubkey", "timestamp", "version")})


def state_rows(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The three values of each state that the fleet hash covers; the field calls the time `last_update`."""
    return [
        {
            "peer_id": state.get("peer_id"),
            "version": state.get("version"),
            "timestamp": state.get("last_update", state.get("timestamp")),
        }
        for state in states
    ]


def _scalars(value: object) -> str:
    if problem := fields.table(20)(value):
        return problem
    assert isinstance(value, dict)
    for key, item in value.items():
        if len(key) > 64:
            return "has a key longer than 64 characters"
        if isinstance(item, str) and len(item) > 256:
            return f"has {key} longer than 256 characters"
        if isinstance(item, dict | list):
            return f"has {key} which is neither a number nor text"
    return ""


def _check_gossip(payload: Payload) -> str:
    if payload.get("peer_id", payload["sender_id"]) != payload["sender_id"]:
        return "speaks for another node than its sender"
    if payload["available_sats"] > payload["capacity_sats"]:
        return "has more available than its capacity"
    return ""


def _check_full_sync(payload: Payload) -> str:
    rows = state_rows(payload["states"])
    for row in rows:
        if not (fields.is_pubkey(row["peer_id"]) and fields.is_integer(row["version"])):
            return "has a state without peer_id and version"
        if not fields.is_integer(row["timestamp"]):
            return "has a state without a time"
    if fleet_hash(rows) != payload["fleet_hash"]:
        return "has a fleet_hash which is not the hash of its states"
    return ""


_NOSTR: Final = fields.record(
    {"pubkey": fields.hex_text(64), "timestamp": fields.timestamp, "signature": fields.signature}
)

GOSSIP_REQUIRED: Final[dict[str, fields.Validator]] = {
    "sender_id": fields.pubkey,
    "timestamp": fields.timestamp,
    "version": fields.integer(1, 2**31 - 1),
    "capacity_sats": fields.sats,
    "available_sats": fields.sats,
    "fee_policy": _scalars,
    "topology": fields.list_of(fields.pubkey, 200),
    "signature": fields.signature,
}
GOSSIP_OPTIONAL: Final[dict[str, fields.Validator]] = {
    "peer_id": fields.pubkey,
    "state_hash": fields.text(64, empty=True),
    "capabilities": fields.list_of(fields.text(64), 20),
    "addresses": fields.list_of(fields.text(MAX_ADDRESS_LENGTH), MAX_ADDRESSES),
    "budget_available_sats": fields.sats,
    "budget_reserved_until": fields.integer(),
    "budget_last_update": fields.integer(),
    "nostr": _NOSTR,
    "_relay": fields.table(10),
}

# A member as it travels; without the record it proves nothing, and is only good for the hash.
MEMBER_ITEM: Final = fields.record(
    {"peer_id": fields.pubkey, "tier": fields.choice(TIERS), "joined_at": fields.timestamp},
    {"addresses": fields.list_of(fields.text(MAX_ADDRESS_LENGTH), MAX_ADDRESSES), "record": fields.table(20)},
)

HELLO: Final = MessageSpec(
    number=32769,
    name="HELLO",
    required={"pubkey": fields.pubkey},
    optional={
        "protocol_version": fields.integer(1, 1000),
        "supported_versions": fields.list_of(fields.integer(1, 1000), 20),
        "ticket": fields.text(MAX_ENCODED),
    },
    audience=Audience.ANYONE,
    rate=Rate(12, 60),
)
CHALLENGE: Final = MessageSpec(
    number=32771,
    name="CHALLENGE",
    # 64 hex characters and nothing else: the joiner signs this text as it is.
    required={"nonce": fields.hex_text(64), "hive_id": HIVE_ID},
    audience=Audience.ANYONE,
    rate=CHALLENGE_RATE,
)
ATTEST: Final = MessageSpec(
    number=32773,
    name="ATTEST",
    required={
        "pubkey": fields.pubkey,
        "version": fields.text(64),
        "features": fields.list_of(fields.text(64), 32),
        "nonce_signature": fields.signature,
        "manifest_signature": fields.signature,
        "manifest": fields.record(
            {
                "pubkey": fields.pubkey,
                "version": fields.text(64),
                "features": fields.list_of(fields.text(64), 32),
                "timestamp": fields.timestamp,
                "nonce": fields.hex_text(64),
            }
        ),
    },
    optional={"consent": fields.record({"timestamp": fields.timestamp, "signature": fields.signature})},
    audience=Audience.ANYONE,
    rate=Rate(12, 60),
)
WELCOME: Final = MessageSpec(
    number=32775,
    name="WELCOME",
    required={
        "hive_id": HIVE_ID,
        "tier": fields.choice(TIERS),
        "member_count": fields.integer(1, 1000),
        "state_hash": fields.text(64, empty=True),
    },
    optional={
        "admission": fields.table(20),
        "lineage": fields.list_of(MEMBER_ITEM, MAX_MEMBERS),
        "departed": fields.list_of(fields.record(records.DEPARTURE), MAX_MEMBERS),
    },
    audience=Audience.ANYONE,
    rate=Rate(12, 60),
)
GOSSIP: Final = MessageSpec(
    number=32777,
    name="GOSSIP",
    required=GOSSIP_REQUIRED,
    optional=GOSSIP_OPTIONAL,
    check=_check_gossip,
    signed=Signed("sender_id", gossip_text),
    max_age_seconds=HOUR,
    rate=Rate(300, 60),
    relayed=True,
    identity=("sender_id", "version", "timestamp"),
)
STATE_HASH: Final = MessageSpec(
    number=32779,
    name="STATE_HASH",
    required={
        "sender_id": fields.pubkey,
        "fleet_hash": fields.hash_or_empty,
        "timestamp": fields.timestamp,
        "peer_count": fields.integer(0, 1000),
        "signature": fields.signature,
    },
    optional={"membership_hash": fields.hash_or_empty},
    signed=Signed("sender_id", state_hash_text),
    max_age_seconds=HOUR,
    rate=Rate(60, 60),
)
FULL_SYNC: Final = MessageSpec(
    number=32781,
    name="FULL_SYNC",
    required={
        "sender_id": fields.pubkey,
        "fleet_hash": fields.hash_or_empty,
        "timestamp": fields.timestamp,
        "states": fields.list_of(fields.table(40), MAX_STATES),
        "signature": fields.signature,
    },
    optional={
        "members": fields.list_of(MEMBER_ITEM, MAX_STATES),
        "departed": fields.list_of(fields.record(records.DEPARTURE), MAX_STATES),
    },
    check=_check_full_sync,
    signed=Signed("sender_id", full_sync_text),
    max_age_seconds=HOUR,
    rate=Rate(60, 60),
)
MEMBER_LEFT: Final = MessageSpec(
    number=32797,
    name="MEMBER_LEFT",
    required=records.DEPARTURE,
    optional={"_relay": fields.table(10), "_event_id": fields.text(64)},
    # Who has left is no member any more, and still waits for the acknowledgement.
    audience=Audience.ANYONE,
    signed=Signed("peer_id", records.leave_text),
    max_age_seconds=DAY,
    rate=Rate(60, 60),
    reliable=True,
    relayed=True,
    identity=("peer_id", "timestamp"),
)
MSG_ACK: Final = MessageSpec(
    number=32881,
    name="MSG_ACK",
    required={
        "ack_msg_id": fields.text(64),
        "status": fields.choice(("ok", "invalid", "retry_later")),
        "sender_id": fields.pubkey,
        "timestamp": fields.timestamp,
        "signature": fields.signature,
    },
    optional={"reason": fields.text(fields.MAX_REASON)},
    audience=Audience.ANYONE,
    signed=Signed("sender_id", msg_ack_text),
    max_age_seconds=HOUR,
    rate=Rate(300, 60),
)

TABLE: Final = MessageTable(
    (
        *(HELLO, CHALLENGE, ATTEST, WELCOME, GOSSIP, STATE_HASH, FULL_SYNC, MEMBER_LEFT, MSG_ACK),
        *settlement_messages.MESSAGES,
    )
)
