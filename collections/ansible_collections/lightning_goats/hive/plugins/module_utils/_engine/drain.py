"""Time for work on a node with payments in flight: how much a piece of work may need, and waiting until it is there.

A payment in flight (HTLC) has a block at which it expires. A node that is away when that block is found closes the
channel, or loses the payment. So work begins only when the nearest expiry leaves more blocks than may be found while
everything that can take long does take as long as its time-out allows, and a margin after that in which lightningd
can still settle the payment on the chain.
"""

from __future__ import annotations

import math
import time
from typing import Any

from .._waiting import wait_for
from . import channels as ch
from .errors import HiveError, RpcTimeoutError
from .machine import Machine
from .request import Request, Timeouts
from .stacks import version_key

# Blocks are found at random, one in ten minutes on average: more than this many come about once in ten thousand times.
RARE = 1e-4
SECONDS_PER_BLOCK = 600.0
MARGIN_BLOCKS = 18
# lightningd is given this long to stop by RPC; it waits 30 s for plugins that subscribed to `shutdown`.
STOP_SECONDS = 60.0
GRACEFUL_SINCE = "v26.06"
GRACEFUL_SECONDS = 30
POLL_SECONDS = 0.5


def worst_seconds(timeouts: Timeouts, plugins: int, deadman_seconds: float, restart: bool = False) -> float:
    """Return how long a switch can keep a node from working as it did, if everything takes as long as it may.

    There and back: every plugin is swapped, the configuration is validated, nobody confirms, every plugin is swapped
    back, and lightningd, which died of it, is started again.
    """
    swap = timeouts.worst * max(1, plugins)
    there = swap + timeouts.validate + (STOP_SECONDS + timeouts.ready if restart else 0.0)
    return there + max(0.0, deadman_seconds) + swap + timeouts.ready


def worst_for(request: Request, plugins: int) -> float:
    """Return how long the switch of one request can take."""
    return worst_seconds(request.timeouts, plugins, request.deadman_seconds, request.allow_lightningd_restart)


def restart_seconds(timeouts: Timeouts) -> float:
    """Return how long a planned restart of lightningd can take: draining, stopping, and a second start."""
    return GRACEFUL_SECONDS + STOP_SECONDS + 2 * timeouts.ready


def likely_blocks(seconds: float) -> int:
    """Return how many blocks may be found in a time; more come only once in ten thousand times."""
    mean = max(0.0, seconds) / SECONDS_PER_BLOCK
    blocks, term = 0, math.exp(-mean)
    total = term
    while total < 1.0 - RARE:
        blocks += 1
        term *= mean / blocks
        total += term
    return blocks


def margin_of(machine: Machine, margin: int) -> int:
    """Return the margin, or what lightningd itself leaves for the chain, if that is more: half its `cltv-delta`."""
    delta = machine.rpc.call("listconfigs", {"config": "cltv-delta"})["configs"]["cltv-delta"]
    return max(margin, (int(delta.get("value_int", 0)) + 1) // 2 + 1)


def budget(
    machine: Machine, seconds_needed: float, margin: int = MARGIN_BLOCKS, channels: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return what the payments in flight leave now; changes nothing.

    Args:
        channels: the facts of `channel_facts`, where they were just asked for.

    Returns:
        blocks_needed, blocks_left (null when nothing is in flight), pending (number), nearest_expiry, enough.
    """
    if channels is None:
        channels = ch.channel_facts(machine.rpc.call("listpeerchannels")["channels"])
    flying = ch.pending(channels)
    facts: dict[str, Any] = {
        "pending": flying["count"],
        "nearest_expiry": flying["nearest_expiry"],
        "blocks_left": None,
        "blocks_needed": likely_blocks(seconds_needed) + margin,
        "enough": True,
    }
    if flying["nearest_expiry"] is not None:
        height = int(machine.rpc.call("getinfo")["blockheight"])
        facts["blocks_needed"] = likely_blocks(seconds_needed) + margin_of(machine, margin)
        facts["blocks_left"] = int(flying["nearest_expiry"]) - height
        facts["enough"] = facts["blocks_left"] >= facts["blocks_needed"]
    return facts


def drain(
    machine: Machine, seconds_needed: float, wait_seconds: float, restart: bool = True, margin: int = MARGIN_BLOCKS
) -> dict[str, Any]:
    """Wait until no payment in flight can expire within the work that follows; to be called right before it.

    While it waits nothing is changed: peers stay connected, because a payment settles over the connection. Before a
    restart, and only when the time is there, lightningd >= v26.06 is told to be `graceful`: it takes no new payment,
    lets those in flight end for a while, and lets its peers go. It stays like that until it is restarted, so whoever
    drains for a restart must restart, and nobody drains like that for a switch while lightningd runs.

    Args:
        seconds_needed: how long the work can take at worst; see `worst_seconds` and `restart_seconds`.
        wait_seconds: how long to wait for payments to settle.
        restart: whether lightningd is going to be restarted by that work.
        margin: blocks that must be left after it.

    Returns:
        What `budget` returns, with waited_seconds, graceful (whether lightningd was told) and peers_left.

    Raises:
        HiveError: the time is not there; code htlc-expiry. Nothing was changed.
        NodeDownError: lightningd does not answer.
    """
    started = time.monotonic()
    facts: dict[str, Any] = {}
    waited = 0.0

    def settled() -> bool | None:
        nonlocal waited
        facts.update(budget(machine, seconds_needed, margin))
        # Measured before the pause: what was there at the first look was not waited for.
        waited = time.monotonic() - started
        return True if facts["enough"] else None

    if wait_for(settled, wait_seconds, POLL_SECONDS) is None:
        raise refusal(machine, facts, waited)
    facts.update(waited_seconds=round(waited, 1), graceful=False, peers_left=0)
    if restart:
        facts.update(_graceful(machine))
    return facts


def refusal(machine: Machine, facts: dict[str, Any], waited: float = 0.0) -> HiveError:
    """Return the refusal to work on a node while a payment could expire."""
    return HiveError(
        f"a payment in flight on {machine.node.name} expires in {facts['blocks_left']} blocks and this work may need "
        f"{facts['blocks_needed']}" + (f"; it did not settle within {waited:.0f} s" if waited >= 1 else "") + "; "
        "run again when it has settled, or let the run wait for it longer (hive_htlc_wait_seconds)",
        "htlc-expiry",
        blocks_left=facts["blocks_left"],
        blocks_needed=facts["blocks_needed"],
        waited_seconds=round(waited, 1),
    )


def _graceful(machine: Machine) -> dict[str, Any]:
    """Tell lightningd to take no new payments and to let its peers go, where it can."""
    version = str(machine.rpc.call("getinfo")["version"]).split("-")[0]
    if version_key(version) < version_key(GRACEFUL_SINCE):
        return {}
    try:
        patience = GRACEFUL_SECONDS + machine.rpc_seconds
        left = machine.rpc.call("graceful", {"timeout": GRACEFUL_SECONDS}, timeout=patience)
    except RpcTimeoutError:
        # It heeds the command all the same; the restart that follows does not depend on its answer.
        left = {}
    return {
        "graceful": True,
        "peers_left": len(left.get("pending_peers", [])),
        "pending": len(left.get("pending_htlc_expiries", [])),
    }
