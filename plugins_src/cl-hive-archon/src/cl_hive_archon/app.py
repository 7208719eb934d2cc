"""The running plugin: stores and services, wired once."""

from __future__ import annotations

from collections.abc import Sequence

from hive_kit.app import Application, Context, Json
from hive_kit.errors import RefusedError, UnavailableError
from hive_kit.health import Check

from cl_hive_archon import options as names
from cl_hive_archon.services.binding_service import BindingService
from cl_hive_archon.services.identity_service import IdentityService
from cl_hive_archon.services.lightning import Lightning
from cl_hive_archon.services.signing_service import SigningService
from cl_hive_archon.storage.poll_store import PollStore

COMMS = "cl-hive-comms"
COMMS_PROBE = "hive-client-identity"


class Archon(Application):
    """cl-hive-archon. Refuses to start where comms is neither active nor starting; degrades when it goes later."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        names.check_gateway(context.options)
        self.lightning = Lightning(context.node)
        self.comms = context.siblings[COMMS]
        self._require_comms()
        gateway = context.options.text(names.GATEWAY)
        self.identity = IdentityService(context.store, self.lightning, context.network, gateway, context.now)
        self.bindings = BindingService(context.store, self.identity, self.lightning, self.comms, context.now)
        self.signing = SigningService(self.lightning)
        self.polls = PollStore(context.store)
        context.workers.every(300.0, "compare identity", self._compare_identity)

    @property
    def mode(self) -> str:
        """with-comms, or waiting-for-comms: what needs comms is refused until it is back."""
        return "with-comms" if self.comms.present else "waiting-for-comms"

    def checks(self) -> Sequence[Check]:
        """Comms, and whether the database is this node's."""
        there, foreign = self.comms.present, self.identity.problem()
        identity = self.identity.current()
        detail = foreign or (identity.did if identity is not None else "not provisioned; call hive-archon-provision")
        return (
            Check(COMMS, there, "" if there else f"{COMMS} does not answer; start it"),
            Check("identity", not foreign, detail, critical=True),
        )

    def on_plugins_changed(self, _: Json) -> None:
        """lightningd started or stopped a plugin: look for comms now instead of at the next time."""
        self.context.siblings.wake()

    def _require_comms(self) -> None:
        # Asked of lightningd, not of comms: at start-up comms may still be busy with its own init, and that is fine.
        if self.lightning.registers(COMMS_PROBE) is False:
            own = self.context.name
            raise RefusedError(f"{own} needs {COMMS} on the same node; start {COMMS} first, or remove {own}")
        if not self.context.startup:
            self.comms.look()

    def _compare_identity(self) -> None:
        try:
            self.lightning.node_id()
        except UnavailableError as error:
            self.context.log.info("identity not compared: %s", error)
            return
        problem = self.identity.problem()
        if problem:
            self.context.log.error("the stored identity cannot be used: %s", problem)
