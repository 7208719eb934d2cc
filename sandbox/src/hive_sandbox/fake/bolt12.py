"""BOLT 12 offers and invoices: streams of typed records in bech32 without a checksum.

The records are the protocol's. Two things are not: the signature covers a plain hash instead of a Merkle root, and an
invoice names its payment secret openly, where a real one hides it in a blinded path. So these texts are only good
between fakes, which is where they stay.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coincurve import PublicKeyXOnly

from .bech32 import ALPHABET, to_bytes, to_words
from .keys import NodeKeys

Records = dict[int, bytes]
# Record types of the protocol.
CHAINS, METADATA, OFFER_AMOUNT, DESCRIPTION, ISSUER, ISSUER_ID = 2, 4, 8, 10, 18, 22
INVREQ_METADATA, INVREQ_AMOUNT, PAYER_ID, PAYER_NOTE = 0, 82, 88, 89
CREATED_AT, RELATIVE_EXPIRY, PAYMENT_HASH, AMOUNT, NODE_ID, SIGNATURE = 164, 166, 168, 170, 176, 240
# From the range for experiments: see above.
PAYMENT_SECRET = 1_000_000_001
# The genesis block of regtest, as the chain's name.
REGTEST = bytes.fromhex("06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f")
DEFAULT_EXPIRY = 7200
FINAL_CLTV = 18


@dataclass(frozen=True)
class Offer:
    """What an offer says. `amount_msat` is None for any amount."""

    text: str
    issuer_id: str
    description: str
    amount_msat: int | None
    issuer: str | None

    @property
    def offer_id(self) -> str:
        """Names the offer."""
        return _offer_id(_records(self.text)[1])


@dataclass(frozen=True)
class Invoice:
    """What an invoice says, under the names that a BOLT 11 invoice has."""

    text: str
    records: Records
    payee: str
    amount_msat: int
    payment_hash: str
    payment_secret: str
    created_at: int
    expiry: int
    min_final_cltv: int = FINAL_CLTV

    @property
    def expires_at(self) -> int:
        """When it cannot be paid any more."""
        return self.created_at + self.expiry

    @property
    def offer_id(self) -> str:
        """Names the offer it was made for."""
        return _offer_id(self.records)


def make_offer(keys: NodeKeys, amount_msat: int | None, description: str, issuer: str | None) -> Offer:
    """Return the offer of a node: always the same for the same terms."""
    metadata = keys.make_secret(f"offer {amount_msat} {description} {issuer}".encode())[:16]
    records: Records = {CHAINS: REGTEST, METADATA: metadata, DESCRIPTION: description.encode()}
    if amount_msat is not None:
        records[OFFER_AMOUNT] = _number(amount_msat)
    if issuer is not None:
        records[ISSUER] = issuer.encode()
    records[ISSUER_ID] = bytes.fromhex(keys.node_id)
    return read_offer(_text("lno", records))


def read_offer(text: str) -> Offer:
    """Return what an offer says.

    Raises:
        ValueError: it is none.
    """
    prefix, records = _records(text)
    if prefix != "lno" or ISSUER_ID not in records:
        raise ValueError("Not an offer")
    amount = records.get(OFFER_AMOUNT)
    issuer = records.get(ISSUER)
    return Offer(
        text,
        records[ISSUER_ID].hex(),
        records.get(DESCRIPTION, b"").decode("utf-8", "replace"),
        None if amount is None else int.from_bytes(amount, "big"),
        None if issuer is None else issuer.decode("utf-8", "replace"),
    )


def make_invoice(
    keys: NodeKeys, offer: Offer, payer_id: str, note: str | None, amount_msat: int, secrets: tuple[str, str], now: int
) -> Invoice:
    """Return the signed invoice for an offer of this node.

    Args:
        secrets: payment hash and payment secret, in hex.
        now: unix time.
    """
    records = dict(_records(offer.text)[1])
    records |= {
        INVREQ_METADATA: bytes.fromhex(secrets[0])[:16],
        INVREQ_AMOUNT: _number(amount_msat),
        PAYER_ID: bytes.fromhex(payer_id),
        CREATED_AT: _number(now),
        RELATIVE_EXPIRY: _number(DEFAULT_EXPIRY),
        PAYMENT_HASH: bytes.fromhex(secrets[0]),
        AMOUNT: _number(amount_msat),
        NODE_ID: bytes.fromhex(keys.node_id),
        PAYMENT_SECRET: bytes.fromhex(secrets[1]),
    }
    if note is not None:
        records[PAYER_NOTE] = note.encode()
    records[SIGNATURE] = keys.sign_schnorr(_digest(records))
    return read_invoice(_text("lni", records))


def read_invoice(text: str) -> Invoice:
    """Return what an invoice says, its signature checked.

    Raises:
        ValueError: it is no valid invoice.
    """
    prefix, records = _records(text)
    needed = (CREATED_AT, PAYMENT_HASH, AMOUNT, NODE_ID, PAYMENT_SECRET, SIGNATURE)
    if prefix != "lni" or any(kind not in records for kind in needed):
        raise ValueError("Not an invoice")
    if not PublicKeyXOnly(records[NODE_ID][1:]).verify(records[SIGNATURE], _digest(records)):
        raise ValueError("Bad signature")
    return Invoice(
        text,
        records,
        records[NODE_ID].hex(),
        int.from_bytes(records[AMOUNT], "big"),
        records[PAYMENT_HASH].hex(),
        records[PAYMENT_SECRET].hex(),
        int.from_bytes(records[CREATED_AT], "big"),
        int.from_bytes(records.get(RELATIVE_EXPIRY, _number(DEFAULT_EXPIRY)), "big"),
    )


def _offer_id(records: Records) -> str:
    return hashlib.sha256(_stream({kind: data for kind, data in records.items() if 1 <= kind < 80})).hexdigest()


def _digest(records: Records) -> bytes:
    signed = {kind: data for kind, data in records.items() if kind != SIGNATURE}
    return hashlib.sha256(b"sandbox bolt12" + _stream(signed)).digest()


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _text(prefix: str, records: Records) -> str:
    return prefix + "1" + "".join(ALPHABET[word] for word in to_words(_stream(records)))


def _records(text: str) -> tuple[str, Records]:
    prefix, separator, rest = text.lower().partition("1")
    if not separator or any(letter not in ALPHABET for letter in rest):
        raise ValueError("Bad bech32 string")
    data = to_bytes([ALPHABET.index(letter) for letter in rest])
    records: Records = {}
    while data:
        kind, data = _take_size(data)
        length, data = _take_size(data)
        if length > len(data):
            raise ValueError("Truncated record")
        records[kind], data = data[:length], data[length:]
    return prefix, records


def _stream(records: Records) -> bytes:
    return b"".join(_size(kind) + _size(len(data)) + data for kind, data in sorted(records.items()))


def _size(value: int) -> bytes:
    if value < 0xFD:
        return bytes([value])
    if value < 0x10000:
        return b"\xfd" + value.to_bytes(2, "big")
    return b"\xfe" + value.to_bytes(4, "big")


def _take_size(data: bytes) -> tuple[int, bytes]:
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(data[0] if data else 0, 0)
    if len(data) < 1 + width:
        raise ValueError("Truncated record")
    return (int.from_bytes(data[1 : 1 + width], "big") if width else data[0]), data[1 + width :]
