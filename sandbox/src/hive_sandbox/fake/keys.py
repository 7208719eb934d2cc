"""The node's secret and everything that follows from it: id, signatures, derived secrets."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from coincurve import PrivateKey, PublicKey

from .errors import StartError

FILE = "hsm_secret"
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_MESSAGE_PREFIX = b"Lightning Signed Message:"


def hkdf(secret: bytes, info: bytes, salt: bytes = b"") -> bytes:
    """Return 32 bytes derived by HKDF-SHA256."""
    key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def zbase32_encode(data: bytes) -> str:
    """Return bytes in z-base-32, without padding."""
    bits, count, letters = 0, 0, []
    for byte in data:
        bits, count = bits << 8 | byte, count + 8
        while count >= 5:
            count -= 5
            letters.append(_ZBASE32[bits >> count & 31])
    if count:
        letters.append(_ZBASE32[bits << (5 - count) & 31])
    return "".join(letters)


def zbase32_decode(text: str) -> bytes:
    """Return the bytes of a z-base-32 text.

    Raises:
        ValueError: a letter that does not belong there.
    """
    bits, count, data = 0, 0, bytearray()
    for letter in text:
        bits, count = bits << 5 | _ZBASE32.index(letter), count + 5
        if count >= 8:
            count -= 8
            data.append(bits >> count & 255)
    return bytes(data)


def message_digest(message: str) -> bytes:
    """Return what signmessage signs: the double SHA-256 of the prefixed message."""
    return hashlib.sha256(hashlib.sha256(_MESSAGE_PREFIX + message.encode()).digest()).digest()


def recover(message: str, zbase: str) -> str:
    """Return the node id that made the signature `zbase` under `message`.

    Raises:
        ValueError: `zbase` is no such signature.
    """
    signature = zbase32_decode(zbase)
    if len(signature) != 65 or not 31 <= signature[0] <= 34:
        raise ValueError("zbase is not valid zbase32")
    # coincurve puts the recovery id last, signmessage puts it first, with 31 added.
    public = PublicKey.from_signature_and_message(
        signature[1:] + bytes([signature[0] - 31]), message_digest(message), hasher=None
    )
    return public.format().hex()


class NodeKeys:
    """The keys of one node, derived from 32 secret bytes as lightningd derives them."""

    def __init__(self, secret: bytes) -> None:
        self._node = PrivateKey(hkdf(secret, b"nodeid", bytes(4)))
        self._derived = hkdf(secret, b"derived secrets")
        self.node_id = self._node.public_key.format().hex()

    @classmethod
    def load(cls, path: Path) -> tuple[NodeKeys, bool]:
        """Read the secret file, or make one; return the keys and whether they are new.

        Raises:
            StartError: the file holds no secret.
        """
        if path.exists():
            secret = path.read_bytes()
            if len(secret) != 32:
                reason = "Failed to load hsm_secret: Invalid hsm_secret format"
                raise StartError(f"lightning_hsmd: {reason}\nlightningd: HSM initialization failed: {reason}", 7)
            return cls(secret), False
        secret = secrets.token_bytes(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
        return cls(secret), True

    def sign_message(self, message: str) -> tuple[bytes, int]:
        """Return the 64 signature bytes for a message and the recovery id."""
        signed = self._node.sign_recoverable(message_digest(message), hasher=None)
        return signed[:64], signed[64]

    def sign_digest(self, digest: bytes) -> bytes:
        """Return 65 bytes: a signature of a 32-byte digest and the recovery id."""
        return self._node.sign_recoverable(digest, hasher=None)

    def sign_schnorr(self, digest: bytes) -> bytes:
        """Return the 64 bytes of a BIP 340 signature of a 32-byte digest."""
        return self._node.sign_schnorr(digest)

    def make_secret(self, info: bytes) -> bytes:
        """Return the secret that makesecret gives for `info`."""
        return hkdf(self._derived, info)


def zbase_signature(signature: bytes, recovery_id: int) -> str:
    """Return a signature in the form that signmessage calls zbase."""
    return zbase32_encode(bytes([31 + recovery_id]) + signature)


_ADJECTIVES = (
    "SLIMY", "JUNIOR", "HAPPY", "SOMBER", "VIOLET", "YELLOW", "RED", "LATENT", "PEEVED", "HOPPING",
    "SLICKER", "SILENT", "STRANGE", "GREEN", "LOUD", "IRATE",
)  # fmt: skip
_NOUNS = (
    "BOUNCE", "AUTO", "SPATULA", "BAGEL", "NET", "SET", "SEAGULL", "SPORK", "SUCKER", "WAFFLE",
    "MONKEY", "RAGE", "WATCH", "CHIPMUNK", "TOLL", "GOPHER",
)  # fmt: skip


def default_alias(node_id: str) -> str:
    """Return the alias of a node that was given none: two words picked by its id."""
    raw = bytes.fromhex(node_id)
    return _ADJECTIVES[raw[3] % len(_ADJECTIVES)] + _NOUNS[raw[4] % len(_NOUNS)]
