"""What lightningd knows of payments: the parts it sent (`listsendpays`), summed up per payment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hive_kit.errors import UnavailableError
from hive_kit.node import Node, RpcError

COMPLETE, PENDING, NONE = "complete", "pending", "none"
_PAGE = 500
_SECONDS = 60.0
_LABEL = re.compile(r"hive-pay:([0-9a-f]{32}):(\d{1,19})")


@dataclass
class Sent:
    """All parts of a payment that left or may leave; failed ones came back and are not in it.

    Args:
        state: "complete" when one part arrived (lightningd then has the preimage), else "pending", or "none".
        sats: of all those parts, fees included, rounded up.
        delivered_sats: without the fees, where lightningd knows it.
    """

    state: str = NONE
    sats: int = 0
    delivered_sats: int = 0
    payment_hash: str = ""
    bolt11: str = ""
    created_at: int = 0
    _sent_msat: int = 0
    _delivered_msat: int = 0

    def add(self, part: dict[str, Any]) -> None:
        """Take up one entry of listsendpays."""
        status = part.get("status")
        if status not in (COMPLETE, PENDING):
            return
        if self.state != COMPLETE:
            self.state = str(status)
        self._sent_msat += int(part.get("amount_sent_msat", 0))
        self._delivered_msat += int(part.get("amount_msat", 0))
        self.sats, self.delivered_sats = sats_of(self._sent_msat), sats_of(self._delivered_msat)
        self.payment_hash = self.payment_hash or str(part.get("payment_hash", ""))
        self.bolt11 = self.bolt11 or str(part.get("bolt11", ""))
        created = int(part.get("created_at", 0))
        self.created_at = min(self.created_at or created, created)


def sats_of(msat: int) -> int:
    """Satoshis, rounded up: what counts must never be less than what left."""
    return -(-msat // 1_000)


def label_of(advisor_id: str, nonce: int) -> str:
    """The label under which a payment of an advisor and nonce is known to lightningd."""
    return f"hive-pay:{advisor_id}:{nonce}"


def sent_for(node: Node, payment_hash: str) -> Sent:
    """What lightningd sent for one invoice.

    Raises:
        UnavailableError: lightningd does not answer, or refuses.
    """
    return _sum(_ask(node, {"payment_hash": payment_hash}))


def sent_by_label(node: Node) -> dict[tuple[str, int], Sent]:
    """Every payment that carries one of our labels: {(advisor id, nonce): what was sent}.

    Raises:
        UnavailableError: as above.
    """
    found: dict[tuple[str, int], Sent] = {}
    for part in _all_parts(node):
        match = _LABEL.fullmatch(str(part.get("label", "")))
        if match is not None:
            found.setdefault((match.group(1), int(match.group(2))), Sent()).add(part)
    return {key: sent for key, sent in found.items() if sent.state != NONE}


def _all_parts(node: Node) -> Iterator[dict[str, Any]]:
    # In pages: a node that rebalances has hundreds of thousands of them.
    start = 0
    while parts := _ask(node, {"index": "created", "start": start, "limit": _PAGE}):
        yield from parts
        start = max(int(part["created_index"]) for part in parts) + 1


def _ask(node: Node, params: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return list(node.call("listsendpays", params, timeout=_SECONDS)["payments"])
    except RpcError as error:
        raise UnavailableError(f"lightningd does not list its payments: {error.message}") from error


def _sum(parts: Iterable[dict[str, Any]]) -> Sent:
    sent = Sent()
    for part in parts:
        sent.add(part)
    return sent
