"""Advisors: who may manage this node, under which names, with which permissions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hive_kit.canonical import sha256_hex
from hive_kit.errors import ConflictError, NotFoundError
from hive_kit.sealed import Seal
from hive_kit.store import Store

from cl_hive_comms.services.receipt_service import ReceiptService
from cl_hive_comms.storage.advisor_store import Advisor, AdvisorStore, Alias

PERMISSIONS = ("monitor", "admin", "policy", "payments", "payment", "fee_policy", "trial", "alias")
ALIAS_PATTERN = r"[a-zA-Z0-9._-]{1,64}"
ACTIVE, REVOKED = "active", "revoked"
SCHEMA_AUTHORIZE = "hive:authorize/v1"
SCHEMA_ALIAS = "hive:alias/v1"
_ID = re.compile(r"[0-9a-f]{32}")


def advisor_id_of(reference: str) -> str:
    """The id of an advisor: first 32 hex digits of SHA-256 over the lower-cased reference."""
    return sha256_hex(reference.lower())[:32]


class AdvisorService:
    """Authorises, revokes, names."""

    def __init__(
        self, store: Store, advisors: AdvisorStore, receipts: ReceiptService, seal: Seal, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._advisors = advisors
        self._receipts = receipts
        self._seal = seal
        self._now = now

    def find(self, name: str) -> Advisor:
        """An advisor by id, then reference, then alias.

        Raises:
            NotFoundError: nobody has that name.
        """
        advisor = self._lookup(name)
        if advisor is None:
            raise NotFoundError(f"advisor not found: {name}; hive-client-alias lists the short names")
        return advisor

    def authorize(
        self, name: str, permissions: tuple[str, ...], daily_limit_sats: int, note: str
    ) -> tuple[Advisor, str, int]:
        """Let somebody in, or change what an advisor may do. Gives (advisor, token, receipt id).

        The token stays the same while the advisor is active; after a revocation there is a new one.

        Args:
            name: a reference (DID, npub, any text), or the id or alias of a known advisor.
            permissions: of `PERMISSIONS`, at least one.
            daily_limit_sats: 0 means no limit of its own.
        """
        now = self._now()
        with self._store.atomic():
            known = self._lookup(name)
            base = known or Advisor(advisor_id_of(name), name, (), ACTIVE, 0, "")
            advisor = replace(
                base, permissions=permissions, status=ACTIVE, daily_limit_sats=daily_limit_sats, note=note
            )
            self._advisors.save(advisor, now)
            sealed = self._advisors.sealed_token(advisor.advisor_id)
            if sealed is None:
                token = secrets.token_hex(32)
                self._advisors.set_sealed_token(advisor.advisor_id, self._seal.seal(token), now)
            else:
                token = self._seal.unseal(sealed)
            receipt = self._receipts.write(
                SCHEMA_AUTHORIZE,
                "authorize",
                {
                    "advisor_id": advisor.advisor_id,
                    "advisor": advisor.advisor_ref,
                    "permissions": list(permissions),
                    "daily_limit_sats": daily_limit_sats,
                    "note": note,
                },
                {"status": ACTIVE, "new_token": sealed is None},
            )
        return advisor, token, receipt

    def token(self, advisor: Advisor) -> str | None:
        """The token of an advisor, None after a revocation."""
        sealed = self._advisors.sealed_token(advisor.advisor_id)
        return None if sealed is None else self._seal.unseal(sealed)

    def revoke(self, name: str, reason: str) -> tuple[Advisor, int]:
        """Shut an advisor out and destroy the token. Gives (advisor, receipt id). Revoking again is fine.

        Raises:
            NotFoundError: nobody has that name.
        """
        with self._store.atomic():
            advisor = replace(self.find(name), status=REVOKED)
            self._advisors.save(advisor, self._now())
            self._advisors.delete_token(advisor.advisor_id)
            receipt = self._receipts.write(
                SCHEMA_AUTHORIZE,
                "revoke",
                {"advisor_id": advisor.advisor_id, "advisor": advisor.advisor_ref, "reason": reason},
                {"status": REVOKED},
            )
        return advisor, receipt

    def aliases(self, limit: int) -> list[Alias]:
        """Aliases in order of name."""
        return self._advisors.aliases(limit)

    def alias(self, alias: str) -> Alias:
        """One alias.

        Raises:
            NotFoundError: there is none.
        """
        entry = self._advisors.alias(alias)
        if entry is None:
            raise NotFoundError(f"alias not found: {alias}; set it with action=set")
        return entry

    def set_alias(self, alias: str, name: str) -> Advisor:
        """Give an advisor a short name.

        Raises:
            NotFoundError: there is no such advisor.
            ConflictError: the name already means another advisor by id or reference, so the alias would never be found.
        """
        with self._store.atomic():
            advisor = self.find(name)
            direct = self._by_id_or_reference(alias)
            if _ID.fullmatch(alias) or (direct is not None and direct.advisor_id != advisor.advisor_id):
                raise ConflictError(f"{alias} already names an advisor directly; choose another alias")
            self._advisors.set_alias(alias, advisor.advisor_id, self._now())
            self._receipts.write(
                SCHEMA_ALIAS,
                "set",
                {"alias": alias, "advisor_id": advisor.advisor_id},
                {"advisor": advisor.advisor_ref},
            )
        return advisor

    def remove_alias(self, alias: str) -> None:
        """Forget a short name.

        Raises:
            NotFoundError: there is none.
        """
        with self._store.atomic():
            entry = self.alias(alias)
            self._advisors.remove_alias(alias)
            self._receipts.write(
                SCHEMA_ALIAS, "remove", {"alias": alias, "advisor_id": entry.advisor_id}, {"removed": True}
            )

    def summary(self) -> dict[str, Any]:
        """{active_advisors, revoked_advisors, active_trials}."""
        now = self._now()
        return {
            "active_advisors": self._advisors.count(ACTIVE),
            "revoked_advisors": self._advisors.count(REVOKED),
            "active_trials": self._advisors.active_trials(now),
        }

    def _lookup(self, name: str) -> Advisor | None:
        return self._by_id_or_reference(name) or self._advisors.by_alias(name)

    def _by_id_or_reference(self, name: str) -> Advisor | None:
        return self._advisors.by_id(name) or self._advisors.by_id(advisor_id_of(name))
