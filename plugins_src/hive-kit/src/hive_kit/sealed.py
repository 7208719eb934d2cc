"""Secrets at rest: sealed with a key in a file of its own, so that a copied database alone tells nothing."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from hive_kit.errors import SecretError
from hive_kit.files import read_key_file, write_key_file

_KEY_BYTES = 32


class Seal:
    """Seals and opens texts (NaCl secret box: XSalsa20-Poly1305, 32-byte key, random nonce, base64)."""

    def __init__(self, key: bytes, path: Path) -> None:
        """Use `open` or `create`. Args: key: 32 bytes. path: where it came from, for messages."""
        if len(key) != _KEY_BYTES:
            raise SecretError(
                f"{path} has {len(key)} bytes instead of {_KEY_BYTES}; restore it from the newest backup set"
            )
        self._key = key
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Seal:
        """Read the key file.

        Raises:
            SecretError: it is missing, damaged, or readable by others.
        """
        return cls(read_key_file(path), path)

    @classmethod
    def create(cls, path: Path) -> Seal:
        """Make a new key file, mode 0400 from its first moment.

        Raises:
            SecretError: it exists already.
        """
        key = os.urandom(_KEY_BYTES)
        write_key_file(path, key)
        return cls(key, path)

    def seal(self, text: str) -> str:
        """Encrypt a text; the result is base64 and differs every time."""
        from nacl.secret import SecretBox  # 20 ms to load: only plugins that seal pay for it

        return base64.b64encode(bytes(SecretBox(self._key).encrypt(text.encode()))).decode()

    def unseal(self, sealed: str) -> str:
        """Decrypt what `seal` made.

        Raises:
            SecretError: this key did not seal it, or it was changed. Never returns anything else.
        """
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox

        try:
            return bytes(SecretBox(self._key).decrypt(base64.b64decode(sealed, validate=True))).decode()
        except (CryptoError, binascii.Error, ValueError) as error:
            raise SecretError(
                f"a stored secret does not open with {self.path}; restore both from one backup set"
            ) from error
