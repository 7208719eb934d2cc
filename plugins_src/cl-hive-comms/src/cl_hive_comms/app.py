"""The running plugin: stores, services and jobs, wired once."""

from __future__ import annotations

from collections.abc import Sequence

from hive_kit.app import Application, Context
from hive_kit.errors import UnavailableError
from hive_kit.health import Check

from cl_hive_comms import options as names
from cl_hive_comms.services.advisor_service import AdvisorService
from cl_hive_comms.services.features import Features
from cl_hive_comms.services.identity_service import IdentityService, open_seal
from cl_hive_comms.services.management_service import ManagementService
from cl_hive_comms.services.policy_service import PolicyService
from cl_hive_comms.services.receipt_service import ReceiptService
from cl_hive_comms.services.restore_service import RestoreService
from cl_hive_comms.services.spending_service import SpendingService
from cl_hive_comms.services.transport_service import TransportService
from cl_hive_comms.storage.advisor_store import AdvisorStore
from cl_hive_comms.storage.management_store import HeldStore, ReplayStore
from cl_hive_comms.storage.receipt_store import ReceiptStore
from cl_hive_comms.storage.spending_store import SpendingStore
from cl_hive_comms.storage.state_store import StateStore

ARCHON, HIVE = "cl-hive-archon", "cl-hive"
_VERIFY_SECONDS = 3_600.0
_BOOKS_SECONDS = 15.0
_EXPIRE_SECONDS = 60.0
_MODES = {
    (False, False): "standalone",
    (True, False): "with-archon",
    (False, True): "with-hive",
    (True, True): "full",
}


class Comms(Application):
    """cl-hive-comms."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        store, options = context.store, context.options
        state = StateStore(store, context.now)
        advisors = AdvisorStore(store)
        self.receipts = ReceiptService(ReceiptStore(store, state), context.now)
        holds_secrets = IdentityService.stored(state) or advisors.sealed_tokens() > 0
        self.seal = open_seal(store.path, state, holds_secrets)
        self.identity = IdentityService(store, state, self.receipts, self.seal, options.entries(names.RELAYS))
        self.policy = PolicyService(store, state, self.receipts, options.text(names.POLICY_PRESET), context.now)
        self.advisors = AdvisorService(store, advisors, self.receipts, self.seal, context.now)
        self.features = Features(options)
        self.transports = TransportService(self.identity, self.features)
        self.restore = RestoreService(context.restored, store, state, self.receipts, context.now)
        self.spending = SpendingService(
            store, SpendingStore(store), self.receipts, self.restore, options, context.node, context.now
        )
        self.management = ManagementService(
            store,
            ReplayStore(store),
            HeldStore(store),
            self.advisors,
            self.identity,
            self.policy,
            self.receipts,
            self.restore,
            options,
            context.now,
        )
        context.workers.every(_BOOKS_SECONDS, "settle payments", self._settle_payments)
        context.workers.every(_EXPIRE_SECONDS, "expire held actions", self.management.expire)
        context.workers.every(_VERIFY_SECONDS, "verify receipts", self._verify_receipts, first=60.0)

    @property
    def mode(self) -> str:
        """standalone, with-archon, with-hive or full."""
        siblings = self.context.siblings
        return _MODES[siblings[ARCHON].present, siblings[HIVE].present]

    def checks(self) -> Sequence[Check]:
        """Whether the key file is where the next start will look for it."""
        there = self.seal.path.is_file()
        return (
            Check("identity", True, self.identity.pubkey),
            Check("key file", there, "" if there else f"{self.seal.path} is gone; restore it now", critical=True),
            *self.restore.checks(),
        )

    def _settle_payments(self) -> None:
        """Count the spend anew after a restore, and learn what became of payments that were left open."""
        try:
            if self.restore.recount_open:
                self.spending.recount()
            self.spending.resolve()
        except UnavailableError as error:  # at lightningd's start, or when it is busy: the next round tries again
            self.context.log.warning("payments are not settled yet: %s", error.message)

    def _verify_receipts(self) -> None:
        self.receipts.prove()
