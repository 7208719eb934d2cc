"""Which Nostr key speaks for which member. A key that nobody, or more than one member, announced speaks for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hive_kit.siblings import Sibling

from cl_hive.errors import UnmappedSenderError
from cl_hive.protocol import fields, records
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS
from cl_hive.services.limits import Counters
from cl_hive.services.signing import Signer
from cl_hive.storage.bindings import BindingStore

# A member says it in its GOSSIP, with a signature of its own.
ANNOUNCED: Final = "announced"


class Bindings:
    """Learns announcements and looks keys up."""

    def __init__(
        self, me: str, store: BindingStore, signer: Signer, counters: Counters, now: Callable[[], int]
    ) -> None:
        self._me = me
        self._store = store
        self._signer = signer
        self._counters = counters
        self._now = now

    def learn(self, node_id: str, announcement: dict[str, Any]) -> None:
        """Take over what a member's GOSSIP says of its Nostr key, if it is signed and newer than what is known."""
        key, moment = announcement["pubkey"], announcement["timestamp"]
        if self._store.announced(node_id) == (key, moment, announcement["signature"]):
            return
        if moment > self._now() + FUTURE_SKEW_SECONDS:
            return
        if not self._signer.check(records.nostr_text(node_id, key, moment), announcement["signature"], node_id):
            self._counters.add("binding_refused_signature")
            return
        self._store.put(node_id, key, moment, ANNOUNCED, announcement["signature"], self._now())

    def own(self, comms: Sibling | None) -> dict[str, Any] | None:
        """This node's announcement, renewed when cl-hive-comms has another key; the last one while comms is away."""
        known = self._store.announced(self._me)
        key = str(comms.answer.get("pubkey", "")) if comms is not None and comms.present else ""
        if fields.is_hex(key, 64) and (known is None or known[0] != key):
            moment = max(self._now(), known[1] + 1 if known else 0)
            signature = self._signer.sign(records.nostr_text(self._me, key, moment))
            self._store.put(self._me, key, moment, ANNOUNCED, signature, self._now())
            known = (key, moment, signature)
        return None if known is None else {"pubkey": known[0], "timestamp": known[1], "signature": known[2]}

    def node_of(self, nostr_pubkey: str) -> str:
        """The member a verified Nostr key speaks for.

        Raises:
            UnmappedSenderError: nobody, or more than one, announced the key.
        """
        nodes = self._store.nodes(nostr_pubkey)
        if len(nodes) != 1:
            self._counters.add("packet_refused_disputed" if nodes else "packet_refused_unmapped")
            how = f"{len(nodes)} members claim it" if nodes else "no member announced it"
            raise UnmappedSenderError(f"the Nostr key {nostr_pubkey} speaks for no member: {how}", claims=len(nodes))
        return nodes[0]
