"""The transports that management and marketplace messages can take, and how each stands."""

from __future__ import annotations

from typing import Any

from cl_hive_comms.services.features import Features
from cl_hive_comms.services.identity_service import IdentityService


class TransportService:
    """Knows the built-in transport: Nostr, under this node's identity."""

    def __init__(self, identity: IdentityService, features: Features) -> None:
        self._identity = identity
        self._features = features

    def transports(self) -> list[dict[str, Any]]:
        """[{name, enabled, connected, metadata}].

        Nostr says what it would use; this release opens no relay connection, so it is never connected.
        """
        relays, source = self._identity.relays()
        return [
            {
                "name": "nostr",
                "enabled": True,
                "connected": False,
                "metadata": {
                    "pubkey": self._identity.pubkey,
                    "relays": relays,
                    "relays_source": source,
                    "topics": self._features.topics(),
                },
            }
        ]
