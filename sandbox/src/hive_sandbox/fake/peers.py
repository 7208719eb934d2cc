"""Peers: connecting, being connected, losing each other, and the messages between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import (
    CONNECT_ALL_ADDRESSES_FAILED,
    CONNECT_NO_KNOWN_ADDRESS,
    INVALID_REQUEST,
    LIGHTNINGD,
    RpcError,
    StartError,
)
from .wire import INTERNAL_TYPES, LINE_BYTES, HandshakeError, Link, handshake

if TYPE_CHECKING:
    from .node import Node

Handler = Callable[["Peer", dict[str, Any]], Awaitable[None]]

DEFAULT_PORT = 19846
CUSTOM_MESSAGE_BYTES_MAX = 65535
_RECONNECT_SECONDS = (0.2, 0.5, 1, 2, 5, 10)


@dataclass(eq=False)
class Peer:
    """Another node: its id, where it can be called, and the link while there is one."""

    node_id: str
    address: tuple[str, int] | None = None
    link: Link | None = None
    features: str = ""
    # The operator disconnected it: do not call it again.
    left_alone: bool = False

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; without a link it is lost."""
        if self.link is not None:
            self.link.send(message)


class Peers:
    """All nodes this one knows as peers. `handlers` holds what to do with each type of link message."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.by_id: dict[str, Peer] = {}
        self.bindings: list[tuple[str, int]] = []
        self.handlers: dict[str, Handler] = {"custommsg": self._on_custom_message, "block": self._on_block}
        # Called with a peer whose link has just come up, before anything arrives over it.
        self.on_connected: list[Callable[[Peer], None]] = []
        self._servers: list[asyncio.Server] = []
        self._reconnecting: set[str] = set()

    async def listen(self, addresses: list[str]) -> None:
        """Listen where `addr` and `bind-addr` say.

        Raises:
            StartError: an address is not on loopback, or is taken.
        """
        for address in addresses:
            host, _, port_text = address.rpartition(":") if ":" in address else (address, "", "")
            port = int(port_text) if port_text.isdigit() else DEFAULT_PORT
            if host not in ("127.0.0.1", "localhost"):
                raise StartError(f"lightningd: the sandbox's fake listens on 127.0.0.1 only, not on {address}")
            try:
                server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=LINE_BYTES)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise StartError(f"lightningd: Failed to bind socket for 127.0.0.1:{port}: {reason}") from None
            self._servers.append(server)
            self.bindings.append(("127.0.0.1", server.sockets[0].getsockname()[1]))

    def peer(self, node_id: str) -> Peer:
        """Return the peer with this id, new if it was not known."""
        return self.by_id.setdefault(node_id, Peer(node_id))

    def is_idle(self, peer: Peer) -> bool:
        """Whether no HTLC is under way over the channels with a peer."""
        return not any(htlc.pending for channel in self.node.channels.with_peer(peer.node_id) for htlc in channel.htlcs)

    def connected(self) -> list[Peer]:
        """Return the peers that have a link."""
        return [peer for peer in self.by_id.values() if peer.link is not None]

    async def connect(self, node_id: str, host: str | None, port: int | None, client_id: str) -> Peer:
        """Return the peer after connecting to it; a peer that is connected already stays so.

        Raises:
            RpcError: 400 without an address, 401 when nobody with this id answers there.
        """
        peer = self.by_id.get(node_id)
        if peer is not None and peer.link is not None:
            return peer
        address = (host, port or DEFAULT_PORT) if host else peer.address if peer else None
        if address is None:
            raise RpcError(CONNECT_NO_KNOWN_ADDRESS, "Unable to connect, no address known for peer")
        try:
            link = await self._call(node_id, *address)
        except OSError as error:
            reason = f"Connection establishment: {os.strerror(error.errno)}" if error.errno else str(error)
            raise _all_failed(address, reason) from None
        except (HandshakeError, TimeoutError) as error:
            raise _all_failed(address, str(error) or "Connection establishment: Timed out") from None
        peer = self.peer(node_id)
        peer.address = address
        peer.left_alone = False
        if not await self._take(peer, link, client_id):
            raise RpcError(LIGHTNINGD, "disconnected during connection")
        return peer

    async def _call(self, node_id: str, host: str, port: int) -> Link:
        reader, writer = await asyncio.open_connection(host, port, limit=LINE_BYTES)
        try:
            return await handshake(self.node.keys, self.node.release.features["init"], node_id, reader, writer)
        except (OSError, HandshakeError, TimeoutError):
            writer.close()
            raise

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.node.stopping or self.node.faults.has("disconnect-peers"):
                writer.close()
                return
            link = await handshake(self.node.keys, self.node.release.features["init"], None, reader, writer)
        except (OSError, HandshakeError, TimeoutError):
            writer.close()
            return
        await self._take(self.peer(link.peer_id), link, "")

    async def _take(self, peer: Peer, link: Link, client_id: str) -> bool:
        """Make `link` the link of `peer`; return False when a plugin or an older link stands against it.

        When both called each other at once, both keep the link that the node with the lower id opened.
        """
        if peer.link is not None and peer.link.direction != link.direction:
            lower_is_here = self.node.keys.node_id < peer.node_id
            if (peer.link.direction == "out") == lower_is_here:
                link.close()
                return True
        answer = await self.node.hooks.call(
            "peer_connected",
            {
                "peer": {
                    "id": peer.node_id,
                    "direction": link.direction,
                    "addr": f"{link.host}:{link.port}",
                    "features": link.features,
                }
            },
            client_id,
        )
        if answer.get("result") == "disconnect":
            link.close()
            return False
        if self.node.graceful and self.is_idle(peer):
            # The real one keeps such a link and leaves its channels asleep; here the link is the channel.
            link.close()
            return False
        old, peer.link, peer.features = peer.link, link, link.features
        if old is not None:
            old.close()
        else:
            self._notify_connect(peer, link)
        link.send({"type": "block", "height": self.node.chain.height})
        for connected in self.on_connected:
            connected(peer)
        self.node.spawn(self._serve(peer, link))
        return True

    def _notify_connect(self, peer: Peer, link: Link) -> None:
        address = {"type": "ipv4", "address": link.host, "port": link.port}
        self.node.topics.publish("connect", {"id": peer.node_id, "direction": link.direction, "address": address})

    async def _serve(self, peer: Peer, link: Link) -> None:
        while (message := await link.receive()) is not None:
            handler = self.handlers.get(str(message.get("type")))
            if handler is not None:
                await handler(peer, message)
        if peer.link is link:
            self._lost(peer)

    def _lost(self, peer: Peer) -> None:
        if peer.link is not None:
            peer.link.close()
            peer.link = None
        self.node.topics.publish("disconnect", {"id": peer.node_id})
        if not self.node.stopping:
            self.keep_trying(peer)

    # -- reconnecting -----------------------------------------------------------------------------------------

    def keep_trying(self, peer: Peer) -> None:
        """Call a peer with a channel again and again until it answers, as lightningd does."""
        if peer.address is None or peer.left_alone or peer.node_id in self._reconnecting:
            return
        if self.node.options.value("offline") or not self.node.channels.with_peer(peer.node_id):
            return
        self._reconnecting.add(peer.node_id)
        self.node.spawn(self._reconnect(peer))

    async def _reconnect(self, peer: Peer) -> None:
        attempt = 0
        try:
            while peer.link is None and not peer.left_alone and not self.node.stopping:
                with contextlib.suppress(RpcError):
                    await self.connect(peer.node_id, None, None, "")
                    return
                await asyncio.sleep(_RECONNECT_SECONDS[min(attempt, len(_RECONNECT_SECONDS) - 1)])
                attempt += 1
        finally:
            self._reconnecting.discard(peer.node_id)

    def disconnect(self, peer: Peer, *, for_good: bool = False) -> None:
        """Close the link to a peer."""
        peer.left_alone = for_good
        self._lost(peer)

    def close(self) -> None:
        """Stop listening and close all links."""
        for server in self._servers:
            server.close()
        for peer in self.connected():
            if peer.link is not None:
                peer.link.close()

    # -- messages ---------------------------------------------------------------------------------------------

    def send_custom(self, node_id: str, payload: bytes) -> None:
        """Send a custom message to a peer.

        Raises:
            RpcError: the type is lightningd's own, or the node is no connected peer.
        """
        kind = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else -1
        if kind in INTERNAL_TYPES:
            raise RpcError(
                INVALID_REQUEST,
                f"Cannot send messages of type {kind} ({INTERNAL_TYPES[kind]}). It is not possible to send messages "
                "that have a type managed internally since that might cause issues with the internal state tracking.",
            )
        peer = self.by_id.get(node_id)
        if peer is None or peer.link is None:
            raise RpcError(INVALID_REQUEST, f"No such peer: {node_id}")
        if 2 <= len(payload) <= CUSTOM_MESSAGE_BYTES_MAX:
            peer.send({"type": "custommsg", "payload": payload.hex()})

    async def _on_custom_message(self, peer: Peer, message: dict[str, Any]) -> None:
        payload = str(message.get("payload"))
        kind = int(payload[:4], 16)
        if kind % 2 == 0 and not self._takes_even(kind):
            source = f"{peer.node_id}-connectd"
            self.node.log.unusual(source, f"Invalid unknown even msg {payload}")
            self.node.log.debug(source, "peer_out WIRE_WARNING")
            self._lost(peer)
            return
        self.node.topics.publish("custommsg", {"peer_id": peer.node_id, "payload": payload})
        self.node.spawn(self.node.hooks.call("custommsg", {"payload": payload, "peer_id": peer.node_id}))

    def _takes_even(self, kind: int) -> bool:
        return any(plugin.manifest and kind in plugin.manifest.custom_messages for plugin in self.node.plugins.all)

    async def _on_block(self, peer: Peer, message: dict[str, Any]) -> None:
        if self.node.chain.advance_to(int(message.get("height", 0))):
            self.announce_height(but=peer)

    def announce_height(self, but: Peer | None = None) -> None:
        """Tell the peers how high the chain is."""
        for peer in self.connected():
            if peer is not but:
                peer.send({"type": "block", "height": self.node.chain.height})


def _all_failed(address: tuple[str, int], reason: str) -> RpcError:
    return RpcError(CONNECT_ALL_ADDRESSES_FAILED, f"All addresses failed: {address[0]}:{address[1]}: {reason}. ")
