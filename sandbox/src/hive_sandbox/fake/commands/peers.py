"""Commands about peers: connecting, disconnecting, custom messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import INVALID_PARAMS, LIGHTNINGD, RpcError, refused
from ..params import BadValueError, Param, bad_param, boolean, hex_bytes, node_id, number, one_of, string
from ..peers import DEFAULT_PORT
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_LEVEL = one_of("should be 'io', 'debug', 'info', or 'unusual'", "io", "debug", "info", "unusual", "broken")


@command("connect", Param("id", string), Param("host", string, None), Param("port", number, None))
async def connect(node: Node, request: Request) -> Result:
    """Connect to a node, given as id, id@host or id@host:port."""
    wanted, _, where = request.args["id"].partition("@")
    host, port = request.args["host"], request.args["port"]
    if where:
        host, _, port_text = where.partition(":")
        port = int(port_text) if port_text.isdigit() else DEFAULT_PORT
    peer = await node.peers.connect(_checked(wanted), host, port, request.client_id)
    link = peer.link
    if link is None:
        raise RpcError(LIGHTNINGD, "disconnected during connection")
    return {
        "id": peer.node_id,
        "features": peer.features,
        "direction": link.direction,
        "address": {"type": "ipv4", "address": link.host, "port": link.port},
    }


def _checked(text: str) -> str:
    try:
        return str(node_id(text))
    except BadValueError as bad:
        raise bad_param("id", bad.should) from None


@command("disconnect", Param("id", node_id), Param("force", boolean, False))
async def disconnect(node: Node, request: Request) -> Result:
    """Disconnect a peer; one with a live channel only with `force`."""
    peer = node.peers.by_id.get(request.args["id"])
    if peer is None:
        raise RpcError(INVALID_PARAMS, f"Unknown peer '{request.args['id']}'")
    if peer.link is None:
        raise RpcError(LIGHTNINGD, "Peer not connected")
    states = [channel.state for channel in node.channels.with_peer(peer.node_id) if channel.is_live]
    if states and not request.args["force"]:
        raise RpcError(LIGHTNINGD, f"Peer has (at least one) channel in state {states[0]}")
    node.peers.disconnect(peer, for_good=not states)
    return {}


@command(
    "listpeers",
    Param("id", node_id, None),
    Param("level", _LEVEL, None),
)
async def listpeers(node: Node, request: Request) -> Result:
    """Return the peers that are connected or have a channel."""
    rows: list[Result] = []
    for peer in node.peers.by_id.values():
        channels = node.channels.with_peer(peer.node_id)
        if request.args["id"] not in (None, peer.node_id) or not (peer.link or channels):
            continue
        row: Result = {"id": peer.node_id, "connected": peer.link is not None, "num_channels": len(channels)}
        if peer.link is not None:
            row["netaddr"] = [f"{peer.link.host}:{peer.link.port}"]
            row["features"] = peer.features
        rows.append(row)
    return {"peers": rows}


@command("sendcustommsg", Param("node_id", node_id), Param("msg", hex_bytes))
async def sendcustommsg(node: Node, request: Request) -> Result:
    """Send a message of a type that is not lightningd's own to a connected peer."""
    node.peers.send_custom(request.args["node_id"], request.args["msg"])
    return {"status": "Message sent to connectd for delivery"}


@command("ping", Param("id", node_id), Param("len", number, 128), Param("pongbytes", number, 128))
async def ping(node: Node, request: Request) -> Result:
    """Check the parameters; there is nothing to ping between fakes."""
    del node, request
    raise refused("the command ping")
