"""Signatures for siblings, each bound to a purpose: only `<domain>|<message>` is ever signed.

Without a domain a caller could have a text signed that means something elsewhere: another protocol's statement, or one
of the constant texts whose signature is some plugin's encryption key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hive_kit.errors import InvalidParamsError, RefusedError

from cl_hive_archon.services.lightning import Lightning

MAX_LENGTH = 16_384
# Who signs what. A new purpose gets a line here, never a caller's free choice.
DOMAINS = {
    "hive": "messages of the fleet (cl-hive)",
    "hive-settlement": "settlement between members (cl-hive)",
    "hive-comms": "marketplace and management (cl-hive-comms)",
    "hive-archon": "credentials and polls (cl-hive-archon)",
}
# Plugins of the field take the signature over such a text as a key: nostr_key_derivation, escrow_key_derivation.
_DERIVATION = re.compile(r"[a-z0-9_.-]*key[_-]?derivation[a-z0-9_.-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Signed:
    """A signature and the exact text that it signs."""

    domain: str
    text: str
    signature: str


class SigningService:
    """Signs with the node's key."""

    def __init__(self, lightning: Lightning) -> None:
        self._lightning = lightning

    def sign(self, message: str, domain: str = "") -> Signed:
        """Sign `message` for `domain`; without one, `message` must begin with "<domain>|" itself.

        Raises:
            InvalidParamsError: empty, too long, or with characters that look like other ones when shown.
            RefusedError: an unregistered domain, or a text that others derive keys from.
            UnavailableError: lightningd does not sign.
        """
        if not domain:
            domain, separator, message = message.partition("|")
            if not separator:
                raise RefusedError(
                    "only texts with a purpose are signed; give a domain, or begin the message with '<domain>|' "
                    f"(domains: {', '.join(DOMAINS)})"
                )
        if domain not in DOMAINS:
            raise RefusedError(f"{domain!r} is not a registered signing domain (domains: {', '.join(DOMAINS)})")
        if not message:
            raise InvalidParamsError("message: must not be empty")
        if "\0" in message:
            raise InvalidParamsError("message: must not contain a null character")
        if _DERIVATION.fullmatch(message.strip().rpartition("|")[2].strip()):
            raise RefusedError("this text is what a plugin derives an encryption key from; it is never signed")
        text = f"{domain}|{message}"
        if len(text) > MAX_LENGTH:
            raise InvalidParamsError(
                f"message: is too long ({len(text)} characters with its domain, at most {MAX_LENGTH})"
            )
        return Signed(domain, text, self._lightning.sign(text))
