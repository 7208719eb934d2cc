"""BOLT 11 invoices: bech32, tagged fields, and the payee's signature over them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from coincurve import PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_recoverable, recoverable_convert

from . import bech32
from .bech32 import ALPHABET, number, number_words, to_bytes, to_words
from .keys import NodeKeys

_SIGNATURE_WORDS = 104
_MSAT_PER = {"": 100_000_000_000, "m": 100_000_000, "u": 100_000, "n": 100}
_PREFIX = re.compile(r"ln([a-z]+?)(?:(\d+)([munp]?))?")
DEFAULT_EXPIRY = 3600
DEFAULT_FINAL_CLTV = 18
FEATURES = bytes.fromhex("02024100")


@dataclass(frozen=True)
class Invoice:
    """What an invoice says. Amounts in millisatoshi (None: any), times in unix seconds, hashes in hex."""

    currency: str
    amount_msat: int | None
    created_at: int
    payment_hash: str
    payment_secret: str
    description: str | None
    description_hash: str | None = None
    expiry: int = DEFAULT_EXPIRY
    min_final_cltv: int = DEFAULT_FINAL_CLTV
    features: str = FEATURES.hex()
    payee: str = ""
    signature: str = ""

    @property
    def expires_at(self) -> int:
        """When it cannot be paid any more."""
        return self.created_at + self.expiry


def encode(invoice: Invoice, keys: NodeKeys) -> str:
    """Return the invoice string, signed by the node."""
    prefix = f"ln{invoice.currency}{_amount_text(invoice.amount_msat)}"
    words = number_words(invoice.created_at, 7)
    words += _field("s", to_words(bytes.fromhex(invoice.payment_secret)))
    words += _field("p", to_words(bytes.fromhex(invoice.payment_hash)))
    if invoice.description_hash is not None:
        words += _field("h", to_words(bytes.fromhex(invoice.description_hash)))
    else:
        words += _field("d", to_words((invoice.description or "").encode()))
    words += _field("x", number_words(invoice.expiry))
    words += _field("c", number_words(invoice.min_final_cltv))
    words += _field("9", _trimmed(to_words(bytes.fromhex(invoice.features), left=True)))
    signature = keys.sign_digest(_digest(prefix, words))
    return bech32.encode(prefix, words + to_words(signature))


def decode(text: str) -> Invoice:
    """Return what an invoice string says, its signature checked.

    Raises:
        ValueError: it is no valid invoice; the message says why.
    """
    text = text.lower().removeprefix("lightning:")
    prefix, words = bech32.decode(text)
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        raise ValueError("Prefix does not start with ln")
    if len(words) < 7 + _SIGNATURE_WORDS:
        raise ValueError("Too short to be an invoice")
    signed, signature = words[:-_SIGNATURE_WORDS], to_bytes(words[-_SIGNATURE_WORDS:])
    try:
        payee = PublicKey.from_signature_and_message(signature, _digest(prefix, signed), hasher=None)
    except ValueError:
        raise ValueError("Bad signature") from None
    fields = _fields(signed[7:])
    if "p" not in fields or "s" not in fields:
        raise ValueError("Missing required payment hash or payment secret")
    return Invoice(
        currency=match[1],
        amount_msat=_amount_msat(match[2], match[3] or ""),
        created_at=number(signed[:7]),
        payment_hash=to_bytes(fields["p"]).hex(),
        payment_secret=to_bytes(fields["s"]).hex(),
        description=to_bytes(fields["d"]).decode("utf-8", "replace") if "d" in fields else None,
        description_hash=to_bytes(fields["h"]).hex() if "h" in fields else None,
        expiry=number(fields["x"]) if "x" in fields else DEFAULT_EXPIRY,
        min_final_cltv=number(fields["c"]) if "c" in fields else DEFAULT_FINAL_CLTV,
        features=_feature_hex(fields.get("9", [])),
        payee=payee.format().hex(),
        signature=cdata_to_der(recoverable_convert(deserialize_recoverable(signature))).hex(),
    )


def _amount_text(amount_msat: int | None) -> str:
    if amount_msat is None:
        return ""
    for unit, size in _MSAT_PER.items():
        if amount_msat % size == 0:
            return f"{amount_msat // size}{unit}"
    return f"{amount_msat * 10}p"


def _amount_msat(digits: str | None, unit: str) -> int | None:
    if digits is None:
        return None
    if unit == "p":
        if int(digits) % 10:
            raise ValueError("Invalid amount: a fraction of a millisatoshi")
        return int(digits) // 10
    return int(digits) * _MSAT_PER[unit]


def _digest(prefix: str, words: list[int]) -> bytes:
    return hashlib.sha256(prefix.encode() + to_bytes(words, padded=True)).digest()


def _fields(words: list[int]) -> dict[str, list[int]]:
    fields: dict[str, list[int]] = {}
    at = 0
    while at + 3 <= len(words):
        length = words[at + 1] << 5 | words[at + 2]
        fields.setdefault(ALPHABET[words[at]], words[at + 3 : at + 3 + length])
        at += 3 + length
    return fields


def _field(letter: str, words: list[int]) -> list[int]:
    return [ALPHABET.index(letter), len(words) >> 5, len(words) & 31, *words]


def _trimmed(words: list[int]) -> list[int]:
    while words and words[0] == 0:
        words = words[1:]
    return words


def _feature_hex(words: list[int]) -> str:
    bits = number(words)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "big").hex()
