"""What an advisor's envelope can ask for: each schema's payload, and the operator's method that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hive_kit.app import Json
from hive_kit.errors import InvalidParamsError
from hive_kit.params import NoParams, bind, csv, integer, text

from cl_hive_comms.app import Comms
from cl_hive_comms.options import MAX_SATS
from cl_hive_comms.rpc import client
from cl_hive_comms.services.advisor_service import PERMISSIONS
from cl_hive_comms.services.danger import danger_of
from cl_hive_comms.services.management_service import Command, Interpreter
from cl_hive_comms.services.spending_service import KINDS, Quote
from cl_hive_comms.storage.advisor_store import Advisor
from cl_hive_comms.storage.spending_store import Spend

_SPELLINGS = {"preset": "set-preset", "update": "set-overrides", "set": "set-overrides"}


@dataclass(frozen=True, kw_only=True)
class MonitorPayload:
    """hive:monitor/v1."""

    action: str = text(default="status", choices=("status",))


@dataclass(frozen=True, kw_only=True)
class ReceiptsPayload:
    """hive:receipts/v1: the sender's own."""

    action: str = text(default="list", choices=("list",))
    limit: int = integer(default=50, minimum=1, maximum=500)


@dataclass(frozen=True, kw_only=True)
class AuthorizePayload:
    """hive:authorize/v1."""

    action: str = text(default="authorize", choices=("authorize", "revoke"))
    advisor: str = text(max_length=client.ADVISOR_LENGTH, aliases=["advisor_id"])
    access: tuple[str, ...] = csv(default=("monitor",), choices=PERMISSIONS)
    daily_limit_sats: int = integer(default=0, minimum=0, maximum=MAX_SATS)
    note: str = text(default="", max_length=500)
    reason: str = text(default="", max_length=500)


@dataclass(frozen=True, kw_only=True)
class PaymentsPayload:
    """hive:payments/v1: for the sender; a payment is known by the envelope's nonce."""

    action: str = text(default="history", choices=("summary", "history", "list", "record", "pay"))
    amount_sats: int = integer(default=0, minimum=0, maximum=MAX_SATS)
    kind: str = text(default="bolt11", choices=KINDS)
    note: str = text(default="", max_length=500)
    limit: int = integer(default=100, minimum=1, maximum=500)
    bolt11: str = text(default="", max_length=8_000, aliases=["invstring"])


@dataclass
class _Plain:
    """A command that needs nothing but our own database."""

    schema: str
    action: str
    work: Callable[[Advisor, int], Json]
    deciding: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> None:
        """Nothing to ask."""

    def danger(self) -> int:
        """See `danger_of`."""
        return danger_of(self.schema, self.action, self.deciding)

    def run(self, advisor: Advisor, nonce: int) -> Json:
        """Do it."""
        return self.work(advisor, nonce)

    def finish(self, result: Json) -> Json:
        """Nothing is left to do."""
        return result


class _Pay:
    """Pays an invoice: asked for its amount first, reserved in the transaction, sent after it."""

    schema, action = "payments", "pay"

    def __init__(self, app: Comms, payload: PaymentsPayload) -> None:
        if not payload.bolt11:
            raise InvalidParamsError("missing required parameter: bolt11")
        self._app = app
        self._payload = payload
        self._quote: Quote | None = None
        self._spend: Spend | None = None

    def prepare(self) -> None:
        """Ask lightningd what the invoice says."""
        self._quote = self._app.spending.quote(self._payload.bolt11, self._payload.amount_sats)

    def danger(self) -> int:
        """By the amount that the invoice asks for, whatever the payload says."""
        return danger_of(self.schema, self.action, {"amount_sats": self._known().amount_sats})

    def run(self, advisor: Advisor, nonce: int) -> Json:
        """Reserve."""
        self._spend = self._app.spending.reserve(advisor, nonce, self._known(), self._payload.note)
        return {}

    def finish(self, result: Json) -> Json:
        """Send what was reserved."""
        assert self._spend is not None
        return {**result, **self._app.spending.send(self._spend, self._known())}

    def _known(self) -> Quote:
        assert self._quote is not None
        return self._quote


def interpreter(app: Comms) -> Interpreter:
    """How this application understands envelopes."""

    def interpret(schema: str, payload: Mapping[str, Any]) -> Command:
        make = _SCHEMAS.get(schema)
        if make is None:
            known = ", ".join(f"hive:{name}/v1" for name in _SCHEMAS)
            raise InvalidParamsError(f"unsupported schema_type; this node understands {known}")
        return make(app, payload)

    return interpret


def _monitor(app: Comms, payload: Mapping[str, Any]) -> Command:
    action = bind(MonitorPayload, payload).action
    return _Plain("monitor", action, lambda advisor, nonce: client.status(app, NoParams()))


def _receipts(app: Comms, payload: Mapping[str, Any]) -> Command:
    given = bind(ReceiptsPayload, payload)

    def work(advisor: Advisor, nonce: int) -> Json:
        del nonce
        return client.receipts(app, client.ReceiptsParams(advisor=advisor.advisor_id, limit=given.limit))

    return _Plain("receipts", given.action, work)


def _policy(app: Comms, payload: Mapping[str, Any]) -> Command:
    given = bind(client.PolicyParams, payload)
    action = _SPELLINGS.get(given.action, given.action)
    return _Plain("policy", action, lambda advisor, nonce: client.policy(app, given))


def _alias(app: Comms, payload: Mapping[str, Any]) -> Command:
    given = bind(client.AliasParams, payload)
    return _Plain("alias", given.action, lambda advisor, nonce: client.alias(app, given))


def _authorize(app: Comms, payload: Mapping[str, Any]) -> Command:
    given = bind(AuthorizePayload, payload)

    def work(advisor: Advisor, nonce: int) -> Json:
        del advisor, nonce
        if given.action == "revoke":
            return client.revoke(app, client.RevokeParams(advisor=given.advisor, reason=given.reason))
        answer = client.authorize(
            app,
            client.AuthorizeParams(
                advisor=given.advisor,
                access=given.access,
                daily_limit_sats=given.daily_limit_sats,
                note=given.note,
            ),
        )
        # The token opens the node in somebody else's name: only the operator sees it, by hive-client-authorize.
        return {name: value for name, value in answer.items() if name != "auth_token"}

    return _Plain("authorize", given.action, work, {"access": given.access})


def _payments(app: Comms, payload: Mapping[str, Any]) -> Command:
    given = bind(PaymentsPayload, payload)
    if given.action == "pay":
        return _Pay(app, given)

    def work(advisor: Advisor, nonce: int) -> Json:
        del nonce
        return client.payments(
            app,
            client.PaymentsParams(
                action=given.action,
                advisor=advisor.advisor_id,
                amount_sats=given.amount_sats,
                kind=given.kind,
                note=given.note,
                limit=given.limit,
            ),
        )

    return _Plain("payments", given.action, work, {"amount_sats": given.amount_sats})


_SCHEMAS: Mapping[str, Callable[[Comms, Mapping[str, Any]], Command]] = {
    "monitor": _monitor,
    "receipts": _receipts,
    "policy": _policy,
    "authorize": _authorize,
    "alias": _alias,
    "payments": _payments,
}
