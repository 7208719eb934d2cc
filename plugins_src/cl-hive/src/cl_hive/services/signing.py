"""Signatures of this node: through archon while it is there, else with the node's key. Never an empty one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hive_kit.errors import UnavailableError
from hive_kit.node import RpcError
from hive_kit.siblings import Sibling

from cl_hive.protocol import fields
from cl_hive.services.lightning import Lightning

# archon signs "<domain>|" + text and nothing else, so that no text of ours can be mistaken for one of another purpose.
DOMAIN: Final = "hive"


@dataclass
class SigningCounts:
    """How often which key signed."""

    archon: int = 0
    node: int = 0
    fallbacks: int = 0


@dataclass
class Signer:
    """Signs and checks texts of the protocol. Everybody accepts both forms, with and without the domain."""

    lightning: Lightning
    archon: Sibling | None = None
    counts: SigningCounts = field(default_factory=SigningCounts)

    @property
    def backend(self) -> str:
        """Who would sign now: `archon` or `node`."""
        usable = self.archon is not None and self.archon.present and self.archon.breaker.state != "open"
        return "archon" if usable else "node"

    def sign(self, text: str) -> str:
        """zbase32 signature over the text, or over the text with the domain in front.

        Raises:
            UnavailableError: lightningd does not sign.
        """
        if self.backend == "archon" and (signature := self._by_archon(text)):
            self.counts.archon += 1
            return signature
        signature = self.lightning.sign(text)
        if problem := fields.signature(signature):
            raise UnavailableError(f"lightningd's signature {problem}")
        self.counts.node += 1
        return signature

    def check(self, text: str, signature: str, pubkey: str) -> bool:
        """Whether the node with this id signed the text, in either form.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        if fields.signature(signature):
            return False
        return self.lightning.check(text, signature, pubkey) or self.lightning.check(
            f"{DOMAIN}|{text}", signature, pubkey
        )

    def _by_archon(self, text: str) -> str:
        assert self.archon is not None
        try:
            answer = self.archon.call("hive-archon-sign-message", {"message": text, "domain": DOMAIN}, timeout=5.0)
        except (UnavailableError, RpcError):
            self.counts.fallbacks += 1
            return ""
        signature = str(answer.get("signature", ""))
        if fields.signature(signature):
            self.counts.fallbacks += 1
            return ""
        return signature
