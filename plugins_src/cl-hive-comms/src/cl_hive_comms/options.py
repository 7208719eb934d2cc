"""Options of cl-hive-comms: names, defaults and what they mean."""

from __future__ import annotations

from hive_kit.options import Option

DB_PATH = "hive-comms-db-path"
RELAYS = "hive-comms-nostr-relays"
POLICY_PRESET = "hive-comms-policy-preset"
MARKETPLACE_ENABLED = "hive-comms-marketplace-enabled"
MARKETPLACE_PUBLISH = "hive-comms-marketplace-publish"
MARKETPLACE_SUBSCRIBE = "hive-comms-marketplace-subscribe"
LIQUIDITY_ENABLED = "hive-comms-liquidity-enabled"
LIQUIDITY_PUBLISH = "hive-comms-liquidity-publish"
LIQUIDITY_SUBSCRIBE = "hive-comms-liquidity-subscribe"
DAILY_LIMIT = "hive-comms-daily-limit"
WEEKLY_LIMIT = "hive-comms-weekly-limit"
PER_ADVISOR_LIMIT = "hive-comms-per-advisor-daily-limit"
REST_RUNE_REQUIRED = "hive-comms-rest-rune-required"
ALLOW_TOKEN_FOR_KEYS = "hive-comms-allow-token-for-keys"

DATABASE = "cl_hive_comms.db"
MAX_RELAYS = 8
MAX_SATS = 2_100_000_000_000_000
PRESETS = ("conservative", "moderate", "aggressive")


def _flag(name: str, description: str) -> Option:
    return Option(name, True, description, kind="bool", dynamic=True)


def _limit(name: str, sats: int, description: str) -> Option:
    return Option(name, sats, description, kind="int", dynamic=True, minimum=0, maximum=MAX_SATS)


OPTIONS = (
    Option(DB_PATH, DATABASE, "Database file; a relative path starts at the network directory", kind="path"),
    Option(
        RELAYS,
        ("wss://nos.lol", "wss://relay.damus.io"),
        "Nostr relays, comma-separated (1 to 8, wss:// or ws://)",
        kind="csv",
        minimum=1,
        maximum=MAX_RELAYS,
    ),
    Option(POLICY_PRESET, "moderate", "Policy preset: conservative, moderate or aggressive", choices=PRESETS),
    _flag(MARKETPLACE_ENABLED, "Take part in the advisor marketplace"),
    _flag(MARKETPLACE_PUBLISH, "Publish to the advisor marketplace"),
    _flag(MARKETPLACE_SUBSCRIBE, "Listen to the advisor marketplace"),
    _flag(LIQUIDITY_ENABLED, "Take part in the liquidity marketplace"),
    _flag(LIQUIDITY_PUBLISH, "Publish to the liquidity marketplace"),
    _flag(LIQUIDITY_SUBSCRIBE, "Listen to the liquidity marketplace"),
    _limit(DAILY_LIMIT, 50_000, "Satoshis that may be spent within 24 hours, fees included; 0 means none"),
    _limit(WEEKLY_LIMIT, 200_000, "Satoshis that may be spent within 7 days, fees included; 0 means none"),
    _limit(PER_ADVISOR_LIMIT, 25_000, "Satoshis that may be spent for one advisor within 24 hours; 0 means none"),
    Option(REST_RUNE_REQUIRED, False, "hive-comms-rpc needs a rune", kind="bool", dynamic=True),
    Option(
        ALLOW_TOKEN_FOR_KEYS,
        False,
        "Accept the token also of advisors whose reference is a key, who should sign",
        kind="bool",
        dynamic=True,
    ),
)
