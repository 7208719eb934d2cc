"""What a node has at stake: channels, HTLCs in flight, and how long they let us work; all pure."""

from __future__ import annotations

from typing import Any

OPEN_STATES = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE", "CHANNELD_AWAITING_LOCKIN", "DUALOPEND_AWAITING_LOCKIN")


def channel_facts(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the part of `listpeerchannels` that decisions are made from."""
    facts = []
    for channel in listed:
        htlcs = channel.get("htlcs") or []
        expiries = [int(htlc["expiry"]) for htlc in htlcs if "expiry" in htlc]
        facts.append(
            {
                "peer_id": str(channel.get("peer_id", "")),
                "short_channel_id": str(channel.get("short_channel_id", "")),
                "channel_id": str(channel.get("channel_id", "")),
                "state": str(channel.get("state", "")),
                "total_msat": int(channel.get("total_msat", 0)),
                "to_us_msat": int(channel.get("to_us_msat", 0)),
                "htlcs": len(htlcs),
                "htlc_msat": sum(int(htlc.get("amount_msat", 0)) for htlc in htlcs),
                "nearest_expiry": min(expiries) if expiries else None,
            }
        )
    return facts


def pending(channels: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many HTLCs are in flight and the block at which the first expires."""
    expiries = [channel["nearest_expiry"] for channel in channels if channel["nearest_expiry"] is not None]
    return {
        "count": sum(channel["htlcs"] for channel in channels),
        "nearest_expiry": min(expiries) if expiries else None,
    }


def value_at_risk(channels: list[dict[str, Any]]) -> int:
    """Return our balance in channels plus everything in flight, in msat."""
    return sum(channel["to_us_msat"] + channel["htlc_msat"] for channel in channels)


def lost(before: dict[str, str], now: list[dict[str, Any]]) -> list[str]:
    """Return the channels that were open and are gone or closing now.

    Args:
        before: channel id to state, as it was when the switch began.
    """
    states = {key_of(channel): channel["state"] for channel in now}
    return sorted(
        key for key, state in before.items() if state in OPEN_STATES and states.get(key, "gone") not in OPEN_STATES
    )


def key_of(channel: dict[str, Any]) -> str:
    """Return what names a channel through its life."""
    return str(channel["channel_id"] or channel["short_channel_id"])
