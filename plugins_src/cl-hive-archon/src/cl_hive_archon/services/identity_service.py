"""The node's DID: made once, the same every time, and never taken over from another node's database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hive_kit.errors import ConflictError, NotFoundError
from hive_kit.store import Store

from cl_hive_archon.services.did import local_did
from cl_hive_archon.services.lightning import Lightning
from cl_hive_archon.storage.identity_store import Identity, IdentityStore

LOCAL = "local-fallback"
BASIC = "basic"


class IdentityService:
    """Provisions and guards the identity."""

    def __init__(
        self, store: Store, lightning: Lightning, network: str, gateway_url: str, now: Callable[[], int]
    ) -> None:
        """Args: network: lightningd's. gateway_url: recorded beside the DID, not called. now: unix seconds."""
        self._store = store
        self._identities = IdentityStore(store)
        self._lightning = lightning
        self._network = network
        self._gateway_url = gateway_url
        self._now = now

    def current(self) -> Identity | None:
        """The identity, None before it was provisioned."""
        return self._identities.get()

    def provision(self, *, force: bool = False, label: str = "") -> tuple[Identity, bool]:
        """Make the identity, or give the one that is there; returns it and whether it was there before.

        With `force` an identity that is there takes the label and the gateway as they are now. The DID does not
        change, so its bindings stay valid.

        Raises:
            ConflictError: the database belongs to another node.
            UnavailableError: lightningd does not tell its id.
        """
        did = local_did(self._lightning.node_id(), self._network)
        with self._store.atomic():
            present = self._identities.get()
            if present is None:
                now = self._now()
                made = Identity(
                    did=did,
                    governance_tier=BASIC,
                    status="active",
                    source=LOCAL,
                    gateway_url=self._gateway_url,
                    label=label,
                    created_at=now,
                    updated_at=now,
                )
                self._identities.put(made)
                return made, False
            self._refuse_foreign(present, did)
            if force:
                present = replace(present, label=label, gateway_url=self._gateway_url, updated_at=self._now())
                self._identities.put(present)
            return present, True

    def require(self, did: str = "") -> Identity:
        """The identity, when it is this node's own and, unless empty, has this DID.

        Raises:
            NotFoundError: it is not provisioned yet.
            ConflictError: the database belongs to another node, or the DID is somebody else's.
            UnavailableError: lightningd does not tell its id.
        """
        present = self._identities.get()
        if present is None:
            raise NotFoundError("identity not provisioned; call hive-archon-provision first")
        self._refuse_foreign(present, local_did(self._lightning.node_id(), self._network))
        if did and did != present.did:
            raise ConflictError(f"cannot bind to a DID not owned by this node; this node's is {present.did}")
        return present

    def problem(self) -> str:
        """Why the stored identity cannot be this node's, or an empty text. Asks nobody."""
        present, node_id = self._identities.get(), self._lightning.known_id
        if present is None or not node_id or present.source != LOCAL:
            return ""
        return "" if present.did == local_did(node_id, self._network) else f"{present.did} is another node's"

    def _refuse_foreign(self, present: Identity, own: str) -> None:
        if present.source == LOCAL and present.did != own:
            raise ConflictError(
                f"this database holds the identity of another node ({present.did}, ours is {own}); stop the plugin and "
                "put this node's own database there"
            )
