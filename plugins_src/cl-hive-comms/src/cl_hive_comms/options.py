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

DATABASE = "cl_hive_comms.db"
MAX_RELAYS = 8
PRESETS = ("conservative", "moderate", "aggressive")


def _flag(name: str, description: str) -> Option:
    return Option(name, True, description, kind="bool", dynamic=True)


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
)
