"""Tools for tests of the management plane: an advisor that signs, a lightningd with a ledger of payments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from hive_kit.canonical import canonical_json, sha256_hex
from hive_kit.errors import UnavailableError
from hive_kit.keys import SchnorrKey
from hive_kit.node import RpcError
from hive_kit.testing import FakeNode

from cl_hive_comms.services.envelope import bip340_digest, hmac_hex


def envelope(
    signer: str | SchnorrKey,
    schema: str,
    payload: Mapping[str, Any] | None = None,
    *,
    nonce: int,
    timestamp: int,
    recipient: str = "",
) -> dict[str, Any]:
    """A signed envelope.

    Args:
        signer: the token of an advisor, or its key.
        schema: its name, for example "policy".
        recipient: public key of the node's identity, for a key's signature.
    """
    signed: dict[str, Any] = {
        "schema_type": f"hive:{schema}/v1",
        "schema_payload": dict(payload or {}),
        "nonce": nonce,
        "timestamp": timestamp,
    }
    text = canonical_json(signed)
    if isinstance(signer, str):
        return {**signed, "signature": "hmac-sha256:" + hmac_hex(signer, text)}
    return {**signed, "signature": "bip340:" + signer.sign(bip340_digest(recipient, text))}


def invoice(name: str, sats: int | None) -> str:
    """An invoice that `Ledger` understands; its name makes it another one."""
    return f"lnbcrt-{name}-{'any' if sats is None else sats}"


class Ledger(FakeNode):
    """A lightningd that decodes, pays and remembers; every payment costs a fee of one satoshi.

    Args:
        how: what `pay` does next: "pay", "fail", "lose" (pays, and nobody hears of it), "silent" (does not even hear
            of it), "pend" (takes it up without an end).
    """

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        super().__init__({"decode": self._decode, "pay": self._pay, "listsendpays": self._list, **(answers or {})})
        self.parts: list[dict[str, Any]] = []
        self.how = "pay"
        self.down = False
        self.time = 1_700_000_000
        self._numbers = itertools.count(1)

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """See `FakeNode.call`; `down` lets nobody answer."""
        if self.down:
            raise UnavailableError(f"{method} did not answer within {timeout:g} s")
        return super().call(method, params, timeout)

    def paid(self) -> list[str]:
        """The invoices that money left for."""
        return [part["bolt11"] for part in self.parts if part["status"] == "complete"]

    def calls_of(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the calls of one method."""
        return [params for name, params in self.calls if name == method]

    def _decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        text = str(params["string"])
        if not text.startswith("lnbcrt-"):
            raise RpcError("decode", -32602, "string: bad")
        sats = text.rpartition("-")[2]
        amount = {} if sats == "any" else {"amount_msat": int(sats) * 1_000}
        return {"type": "bolt11 invoice", "valid": True, "payment_hash": sha256_hex(text), **amount}

    def _pay(self, params: Mapping[str, Any]) -> dict[str, Any]:
        text = str(params["bolt11"])
        if self.how == "silent":
            raise UnavailableError("pay did not answer within 90 s")
        number = next(self._numbers)
        amount = int(params.get("amount_msat") or self._decode({"string": text})["amount_msat"])
        part = {
            "created_index": number,
            "id": number,
            "payment_hash": sha256_hex(text),
            "bolt11": text,
            "label": params["label"],
            "amount_msat": amount,
            "amount_sent_msat": amount + 1_000,
            "created_at": self.time,
            "status": {"pay": "complete", "lose": "complete", "pend": "pending"}.get(self.how, "failed"),
        }
        self.parts.append(part)
        if self.how == "fail":
            raise RpcError("pay", 210, "Ran out of routes to try after 1 attempt")
        if self.how != "pay":
            raise UnavailableError("pay did not answer within 90 s")
        return part

    def _list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        wanted, start = params.get("payment_hash"), int(params.get("start", 0))
        rows = [p for p in self.parts if wanted in (None, p["payment_hash"]) and p["created_index"] >= start]
        return {"payments": [dict(row) for row in rows[: params.get("limit")]]}
