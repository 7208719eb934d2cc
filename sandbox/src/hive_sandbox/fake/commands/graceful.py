"""The command graceful of v26.06: let payments in flight end and peers go, before the node is stopped."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from ..params import Param, number
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_LOOK_SECONDS = 0.02


@command("graceful", Param("timeout", number, None))
async def graceful(node: Node, request: Request) -> Result:
    """Use no idle channel any more, until the next start; return what is still pending after `timeout` seconds."""
    node.log.unusual("lightningd", "JSON-RPC graceful: preventing more connections")
    node.graceful = True
    seconds = request.args["timeout"]
    deadline = None if seconds is None else time.monotonic() + float(seconds)
    said = ""
    while True:
        expiries = sorted(h.expiry for c in node.channels.by_id.values() for h in c.htlcs if h.pending)
        connected = node.peers.connected()
        if not expiries and not connected:
            return {}
        now = _status(node, expiries, len(connected))
        if now != said:
            _tell(request, now)
            said = now
        if deadline is not None and time.monotonic() >= deadline:
            peers = [peer.node_id for peer in connected]
            found: Result = {"pending_htlc_expiries": expiries, "pending_peers": peers}
            return {key: value for key, value in found.items() if value}
        for peer in connected:
            if node.peers.is_idle(peer):
                node.peers.disconnect(peer)
        await asyncio.sleep(_LOOK_SECONDS)


def _status(node: Node, expiries: list[int], connected: int) -> str:
    if not expiries:
        return f"{connected} peers still connected"
    first = next(
        (channel, htlc)
        for channel in node.channels.by_id.values()
        for htlc in channel.htlcs
        if htlc.pending and htlc.expiry == expiries[0]
    )
    channel, htlc = first
    left = expiries[0] - node.chain.height
    where = "coming from" if htlc.direction == "in" else "going to"
    link = "connected" if node.peers.peer(channel.peer_id).link else "disconnected"
    return (
        f"Next HTLC {htlc.state} expires at block #{expiries[0]} ({abs(left)} blocks "
        f"{'from now' if left >= 0 else 'ago'}) {where} peer {channel.peer_id} ({link})"
    )


def _tell(request: Request, message: str) -> None:
    """Send a `message` notification, if the client asked for them."""
    if request.connection.wants_notifications:
        identifier = request.message.raw("id") or "null"
        params = f'{{"id":{identifier},"level":"info","message":{json.dumps(message)}}}'
        request.connection.send(f'{{"jsonrpc":"2.0","method":"message","params":{params}}}')
