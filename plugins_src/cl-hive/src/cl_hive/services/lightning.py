"""What the hive asks of lightningd, in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hive_kit.errors import UnavailableError
from hive_kit.node import Node, RpcError

from cl_hive.protocol import features
from cl_hive.protocol.frames import MAX_BYTES
from cl_hive.protocol.messages import MAX_ADDRESS_LENGTH, MAX_ADDRESSES
from cl_hive.services.amounts import msat
from cl_hive.services.wallet import Wallet

_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 20.0
# A channel that is being opened counts as much as an open one, as in the field.
_LIVE_STATES: Final = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_LOCKIN"})


@dataclass(frozen=True)
class Identity:
    """Who this node is: its id, where it listens (host:port), and its feature vector."""

    node_id: str
    addresses: tuple[str, ...] = ()
    features: int = 0


@dataclass(frozen=True)
class ChannelSummary:
    """What this node says of its channels: amounts in sats, neighbours sorted, fees as medians."""

    capacity_sats: int
    available_sats: int
    topology: tuple[str, ...]
    fee_policy: dict[str, int]


class Lightning:
    """lightningd behind the kit's node. Every call has a deadline."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.wallet = Wallet(node)

    def identity(self) -> Identity:
        """Who this node is. Announced addresses come first; wildcards are no addresses."""
        info = self._node.call("getinfo", timeout=_SECONDS)
        found = [*info.get("address", ()), *info.get("binding", ())]
        addresses = [
            f"[{entry['address']}]:{entry['port']}"
            if ":" in entry["address"]
            else f"{entry['address']}:{entry['port']}"
            for entry in found
            if entry.get("address") not in (None, "0.0.0.0", "::") and entry.get("port")
        ]
        offered = features.parse_features(str((info.get("our_features") or {}).get("init", "")))
        fitting = [address for address in dict.fromkeys(addresses) if len(address) <= MAX_ADDRESS_LENGTH]
        return Identity(str(info["id"]), tuple(fitting[:MAX_ADDRESSES]), offered)

    def sign(self, text: str) -> str:
        """zbase32 signature of the node's key.

        Raises:
            UnavailableError: lightningd does not answer, or refuses.
        """
        try:
            return str(self._node.call("signmessage", {"message": text}, _SECONDS)["zbase"])
        except RpcError as error:
            raise UnavailableError(f"lightningd does not sign: {error.message}") from error

    def check(self, text: str, signature: str, pubkey: str) -> bool:
        """Whether the signature over the text is the node's with this id.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        try:
            answer = self._node.call("checkmessage", {"message": text, "zbase": signature, "pubkey": pubkey}, _SECONDS)
        except RpcError:
            return False  # not even a signature
        return answer.get("verified") is True and answer.get("pubkey", pubkey) == pubkey

    def send(self, peer_id: str, data: bytes) -> bool:
        """Hand a custom message to the connection; whether it arrives is not promised.

        Returns:
            False when the peer is not connected.
        """
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes would crash lightningd")  # sendcustommsg itself does not refuse them
        try:
            self._node.call("sendcustommsg", {"node_id": peer_id, "msg": data.hex()}, _SECONDS)
        except (RpcError, UnavailableError):
            return False
        return True

    def connected(self) -> dict[str, str]:
        """Node ids of connected peers, with the address of the connection ("" when lightningd does not say)."""
        peers = self._node.call("listpeers", timeout=_SECONDS)["peers"]
        return {peer["id"]: str((peer.get("netaddr") or [""])[0]) for peer in peers if peer.get("connected")}

    def features(self, peer_id: str) -> int:
        """Feature vector of a connected peer, 0 when it is not connected."""
        peers = self._node.call("listpeers", {"id": peer_id}, _SECONDS)["peers"]
        return features.parse_features(str(peers[0].get("features", ""))) if peers else 0

    def connect(self, peer_id: str, addresses: Sequence[str]) -> str:
        """Connect to a node, by the addresses given or what gossip knows. Returns "" or why it failed."""
        problem = "no address is known"
        for address in [*addresses, ""]:
            target = f"{peer_id}@{address}" if address else peer_id
            try:
                self._node.call("connect", {"id": target}, _CONNECT_SECONDS)
            except (RpcError, UnavailableError) as error:
                problem = error.message
            else:
                return ""
        return problem

    def has_channel(self, peer_id: str) -> bool:
        """Whether a channel with the peer is open or being opened."""
        channels = self._node.call("listpeerchannels", {"id": peer_id}, _SECONDS)["channels"]
        return any(channel.get("state") in _LIVE_STATES for channel in channels)

    def channels(self) -> ChannelSummary:
        """Sum of the node's open channels."""
        rows: list[dict[str, Any]] = [
            row
            for row in self._node.call("listpeerchannels", timeout=_SECONDS)["channels"]
            if row.get("state") == "CHANNELD_NORMAL"
        ]
        capacity = sum(msat(row.get("total_msat")) for row in rows) // 1000
        available = sum(msat(row.get("to_us_msat")) for row in rows) // 1000
        fees: dict[str, int] = {}
        if rows:
            fees = {
                "base_fee_msat": _median([msat(row.get("fee_base_msat")) for row in rows]),
                "fee_ppm": _median([int(row.get("fee_proportional_millionths") or 0) for row in rows]),
            }
        neighbours = tuple(sorted({str(row["peer_id"]) for row in rows}))
        return ChannelSummary(capacity, min(available, capacity), neighbours, fees)


def _median(values: list[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]
