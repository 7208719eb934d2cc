"""Bindings: signed statements that a Nostr key or a node id belongs to the node's DID.

Siblings trust them to tell who speaks, so a binding is made only for keys that are provably ours: the Nostr key that
comms holds, and the id of the lightningd we run under.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hive_kit.canonical import canonical_json, sha256_hex
from hive_kit.errors import RefusedError, UnavailableError
from hive_kit.siblings import Sibling
from hive_kit.store import Store

from cl_hive_archon.services.identity_service import IdentityService
from cl_hive_archon.services.lightning import Lightning
from cl_hive_archon.storage.binding_store import Binding, BindingStore

NOSTR, CLN = "nostr", "cln"


@dataclass(frozen=True)
class Bound:
    """A binding, and whether it was there before."""

    binding: Binding
    already: bool


class BindingService:
    """Makes and lists bindings."""

    def __init__(
        self, store: Store, identity: IdentityService, lightning: Lightning, comms: Sibling, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._bindings = BindingStore(store)
        self._identity = identity
        self._lightning = lightning
        self._comms = comms
        self._now = now

    def bind_nostr(self, pubkey: str = "", did: str = "") -> Bound:
        """Bind the Nostr key of comms; a key that is given must be that one.

        Args:
            pubkey: 64 hex digits, or empty.
            did: must be the node's own, or empty.

        Raises:
            UnavailableError: comms or lightningd does not answer.
            RefusedError: the key is not the one that comms holds.
            NotFoundError, ConflictError: see IdentityService.require.
        """
        owned = self._identity.require(did).did
        held = str(self._comms.call("hive-client-identity", {"action": "get"}).get("pubkey", "")).lower()
        if not re.fullmatch(r"[0-9a-f]{64}", held):
            raise UnavailableError("cl-hive-comms answered without a Nostr key; see hive-comms-health")
        if pubkey and pubkey.lower() != held:
            raise RefusedError(f"cannot bind a Nostr key that cl-hive-comms does not hold; it holds {held}")
        return self._bind(owned, NOSTR, held)

    def bind_cln(self, pubkey: str = "", did: str = "") -> Bound:
        """Bind the id of this node; an id that is given must be that one. Raises as `bind_nostr`."""
        owned, own_id = self._identity.require(did).did, self._lightning.node_id()
        if pubkey and pubkey.lower() != own_id:
            raise RefusedError(f"cannot bind the id of another node; this one is {own_id}")
        return self._bind(owned, CLN, own_id)

    def of(self, did: str) -> list[Binding]:
        """All bindings of a DID, oldest first."""
        return self._bindings.of(did)

    def _bind(self, did: str, binding_type: str, subject: str) -> Bound:
        present = self._bindings.find(binding_type, subject)
        if present is not None and present.did == did and present.signature:
            return Bound(present, already=True)
        now = self._now()
        attestation = canonical_json(
            {
                "binding_type": binding_type,
                "did": did,
                "subject": subject,
                "node_pubkey": self._lightning.node_id(),
                "timestamp": now,
            }
        )
        made = Binding(
            binding_id=sha256_hex(f"{did}:{binding_type}:{subject}")[:32],
            did=did,
            binding_type=binding_type,
            subject=subject,
            attestation=attestation,
            signature=self._lightning.sign(attestation),  # before the write: an unsigned binding is never stored
            created_at=present.created_at if present is not None else now,
            updated_at=now,
        )
        with self._store.atomic():
            self._bindings.put(made)
        return Bound(made, already=False)
