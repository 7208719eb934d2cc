"""Finding the cheapest way through the public channels."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Hop:
    """One channel to send over: where it leads, and what has to arrive there."""

    node_id: str
    short_channel_id: str
    direction: int
    amount_msat: int
    delay: int

    def listed(self) -> dict[str, Any]:
        """Return the hop as getroute and sendpay write it."""
        return {
            "id": self.node_id,
            "channel": self.short_channel_id,
            "direction": self.direction,
            "amount_msat": self.amount_msat,
            "delay": self.delay,
            "style": "tlv",
        }


def fee_msat(amount_msat: int, base_msat: int, millionths: int) -> int:
    """Return the fee for forwarding an amount."""
    return base_msat + amount_msat * millionths // 1_000_000


def find_route(
    channels: Iterable[dict[str, Any]],
    source: str,
    destination: str,
    amount_msat: int,
    final_delay: int,
    spendable: dict[str, int],
) -> list[Hop] | None:
    """Return the cheapest route, None when there is none.

    Args:
        channels: entries as of listchannels.
        source: node id where it starts.
        destination: node id where `amount_msat` has to arrive.
        amount_msat: without fees.
        final_delay: blocks that the destination wants.
        spendable: by short channel id, what the source can send over its own channels.
    """
    into: dict[str, list[dict[str, Any]]] = {}
    for channel in channels:
        if channel["active"]:
            into.setdefault(channel["destination"], []).append(channel)
    # Backwards from the destination, because fees are known only for an amount that is to arrive.
    best: dict[str, tuple[int, int, list[Hop]]] = {destination: (amount_msat, final_delay, [])}
    queue: list[tuple[int, int, str]] = [(amount_msat, 0, destination)]
    done: set[str] = set()
    while queue:
        _, _, here = heapq.heappop(queue)
        if here in done:
            continue
        done.add(here)
        if here == source:
            return best[here][2]
        amount, delay, hops = best[here]
        for channel in into.get(here, []):
            before, scid = channel["source"], channel["short_channel_id"]
            limit = spendable.get(scid, 0) if before == source else channel["htlc_maximum_msat"]
            if not channel["htlc_minimum_msat"] <= amount <= limit:
                continue
            hop = Hop(here, scid, channel["direction"], amount, delay)
            needed, later = amount, delay
            if before != source:
                needed += fee_msat(amount, channel["base_fee_millisatoshi"], channel["fee_per_millionth"])
                later += channel["delay"]
            if before not in best or needed < best[before][0]:
                best[before] = (needed, later, [hop, *hops])
                heapq.heappush(queue, (needed, len(hops), before))
    return None
