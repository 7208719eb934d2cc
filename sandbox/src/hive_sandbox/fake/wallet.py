"""The on-chain wallet: coins that sandbox-fund makes and that funding a channel spends."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any

from .bech32 import taproot_address

if TYPE_CHECKING:
    from .node import Node


class Wallet:
    """Outputs by txid and number, kept in the database."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def unspent(self) -> list[dict[str, Any]]:
        """Return the outputs as listfunds shows them."""
        return [json.loads(row[0]) for row in self.node.database.rows("SELECT document FROM outputs ORDER BY rowid")]

    def total_sat(self) -> int:
        """Return what all outputs are worth."""
        return sum(int(output["amount_msat"]) // 1000 for output in self.unspent())

    def missing(self, amount_sat: int) -> int:
        """Return how much is missing to an amount."""
        return max(0, amount_sat - self.total_sat())

    def receive(self, amount_sat: int) -> dict[str, Any]:
        """Add an output that is confirmed at once, and return it."""
        return self._add(secrets.token_hex(32), 0, amount_sat)

    def _add(self, txid: str, number: int, amount_sat: int) -> dict[str, Any]:
        script = "5120" + hashlib.sha256(f"{self.node.keys.node_id} {txid} {number}".encode()).hexdigest()
        output = {
            "txid": txid,
            "output": number,
            "amount_msat": amount_sat * 1000,
            "scriptpubkey": script,
            "address": taproot_address(script),
            "status": "confirmed",
            "blockheight": self.node.chain.height,
            "reserved": False,
        }
        with self.node.database.transaction() as connection:
            connection.execute("INSERT INTO outputs VALUES (?, ?, ?)", (txid, number, json.dumps(output)))
        return output

    def spend(self, amount_sat: int, fee_sat: int) -> str | None:
        """Spend outputs for an amount and a fee, keep the change, and return the txid; None when it is too much."""
        picked: list[dict[str, Any]] = []
        for output in self.unspent():
            if sum(int(o["amount_msat"]) // 1000 for o in picked) >= amount_sat + fee_sat:
                break
            picked.append(output)
        change = sum(int(o["amount_msat"]) // 1000 for o in picked) - amount_sat - fee_sat
        if change < 0:
            return None
        txid = secrets.token_hex(32)
        with self.node.database.transaction() as connection:
            connection.executemany(
                "DELETE FROM outputs WHERE txid = ? AND outnum = ?", [(o["txid"], o["output"]) for o in picked]
            )
        if change:
            self._add(txid, 1, change)
        return txid
