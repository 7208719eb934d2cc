"""BIP-340 keys, as Nostr uses them: 32-byte secret, x-only public key, Schnorr signatures, bech32 spellings.

libsecp256k1 (coincurve) does the arithmetic. Without it nothing signs: there is no fallback.
"""

from __future__ import annotations

import os
import re

from hive_kit.errors import InvalidParamsError

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX64 = re.compile(r"[0-9a-fA-F]{64}")


class SchnorrKey:
    """A secret key with an even-Y public key; a secret whose point has an odd Y is negated, as BIP-340 says."""

    def __init__(self, secret: bytes) -> None:
        """Args: secret: 32 bytes.

        Raises:
            InvalidParamsError: not 32 bytes, zero, or not below the order of the curve.
        """
        from coincurve import PrivateKey

        number = int.from_bytes(secret, "big")
        if len(secret) != 32 or not 0 < number < _ORDER:
            raise InvalidParamsError("private key is out of the secp256k1 range")
        key = PrivateKey(secret)
        if key.public_key.format(compressed=True)[0] == 3:
            key = PrivateKey((_ORDER - number).to_bytes(32, "big"))
        self._key = key

    def __repr__(self) -> str:
        return f"SchnorrKey(public={self.public_hex})"

    @classmethod
    def generate(cls) -> SchnorrKey:
        """A new key from the system's randomness."""
        while True:
            secret = os.urandom(32)
            if 0 < int.from_bytes(secret, "big") < _ORDER:
                return cls(secret)

    @classmethod
    def from_text(cls, text: str) -> SchnorrKey:
        """Read a secret key written as nsec1... or as 64 hex digits.

        Raises:
            InvalidParamsError: neither of the two; the message never repeats the text.
        """
        return cls(_bytes_of(text, "nsec"))

    @property
    def public_hex(self) -> str:
        """The x-only public key, 64 lower-case hex digits."""
        public: bytes = self._key.public_key.format(compressed=True)
        return public[1:].hex()

    @property
    def secret_hex(self) -> str:
        """The secret as 64 hex digits. For sealing only: never log or return it."""
        secret: bytes = self._key.secret
        return secret.hex()

    @property
    def npub(self) -> str:
        """The public key as npub1..."""
        return to_npub(self.public_hex)

    @property
    def nsec(self) -> str:
        """The secret as nsec1... For export only: never log or return it."""
        return _to_bech32("nsec", self._key.secret)

    def sign(self, digest: bytes) -> str:
        """Schnorr signature over a 32-byte digest, 128 hex digits.

        Raises:
            ValueError: the digest has another length.
        """
        if len(digest) != 32:
            raise ValueError(f"BIP-340 signs 32 bytes, not {len(digest)}")
        signature: bytes = self._key.sign_schnorr(digest, os.urandom(32))
        return signature.hex()


def verify(public_hex: str, digest: bytes, signature_hex: str) -> bool:
    """Whether `signature_hex` is this key's BIP-340 signature over the 32-byte digest. False for anything malformed."""
    from coincurve import PublicKeyXOnly

    try:
        return bool(PublicKeyXOnly(bytes.fromhex(public_hex)).verify(bytes.fromhex(signature_hex), digest))
    except ValueError:
        return False


def to_npub(public_hex: str) -> str:
    """The npub1... spelling of 64 hex digits."""
    return _to_bech32("npub", bytes.fromhex(public_hex))


def public_from_text(text: str) -> str:
    """Read a public key written as npub1... or as 64 hex digits; gives lower-case hex.

    Raises:
        InvalidParamsError: neither of the two, or no point of the curve has this x.
    """
    from coincurve import PublicKeyXOnly

    raw = _bytes_of(text, "npub")
    try:
        PublicKeyXOnly(raw)
    except ValueError as error:
        raise InvalidParamsError("public key is not on the secp256k1 curve") from error
    return raw.hex()


def _to_bech32(prefix: str, raw: bytes) -> str:
    from bech32 import bech32_encode, convertbits

    words = convertbits(list(raw), 8, 5)
    assert words is not None
    encoded: str = bech32_encode(prefix, words)
    return encoded


def _bytes_of(text: str, prefix: str) -> bytes:
    text = text.strip()
    if _HEX64.fullmatch(text):
        return bytes.fromhex(text)
    from bech32 import bech32_decode, convertbits

    found, words = bech32_decode(text)
    raw = convertbits(words, 5, 8, False) if words is not None else None
    if found != prefix or raw is None or len(raw) != 32:
        raise InvalidParamsError(f"invalid {prefix} format: give {prefix}1... or 64 hex digits")
    return bytes(raw)
