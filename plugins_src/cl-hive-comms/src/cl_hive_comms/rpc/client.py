"""hive-client-*: what an operator asks of comms."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from hive_kit.app import Json, Method
from hive_kit.errors import InvalidParamsError
from hive_kit.params import NoParams, boolean, csv, integer, json_object, text

from cl_hive_comms.app import Comms
from cl_hive_comms.options import MAX_SATS, PRESETS
from cl_hive_comms.services.advisor_service import ALIAS_PATTERN, PERMISSIONS
from cl_hive_comms.services.spending_service import KINDS
from cl_hive_comms.storage.advisor_store import Advisor

_ALIAS_SHAPE = "1 to 64 letters, digits, dots, dashes or underscores"
ADVISOR_LENGTH = 256


@dataclass(frozen=True, kw_only=True)
class IdentityParams:
    """hive-client-identity."""

    action: str = text(
        default="get",
        choices=("get", "status", "show", "rotate", "import", "set-relays", "set_relays"),
    )
    nsec: str = text(default="", max_length=128)
    relays: tuple[str, ...] = csv(default=())


@dataclass(frozen=True, kw_only=True)
class AuthorizeParams:
    """hive-client-authorize."""

    advisor: str = text(max_length=ADVISOR_LENGTH, aliases=["advisor_id"])
    access: tuple[str, ...] = csv(default=("monitor",), choices=PERMISSIONS)
    daily_limit_sats: int = integer(default=0, minimum=0, maximum=MAX_SATS)
    note: str = text(default="", max_length=500)


@dataclass(frozen=True, kw_only=True)
class RevokeParams:
    """hive-client-revoke."""

    advisor: str = text(max_length=ADVISOR_LENGTH, aliases=["advisor_id"])
    reason: str = text(default="", max_length=500)


@dataclass(frozen=True, kw_only=True)
class PolicyParams:
    """hive-client-policy."""

    action: str = text(
        default="get", choices=("get", "set-preset", "preset", "set-overrides", "update", "set", "reset")
    )
    preset: str = text(default="", choices=("", *PRESETS))
    overrides_json: Json | None = json_object(default=None, aliases=["overrides"])


@dataclass(frozen=True, kw_only=True)
class ReceiptsParams:
    """hive-client-receipts."""

    advisor: str = text(default="", max_length=ADVISOR_LENGTH, aliases=["advisor_id"])
    limit: int = integer(default=50, minimum=1, maximum=500)
    verify: bool = boolean(default=False)


@dataclass(frozen=True, kw_only=True)
class AliasParams:
    """hive-client-alias."""

    action: str = text(default="list", choices=("list", "set", "get", "remove"))
    alias: str = text(default="", pattern=ALIAS_PATTERN, shape=_ALIAS_SHAPE)
    advisor: str = text(default="", max_length=ADVISOR_LENGTH, aliases=["advisor_id"])
    limit: int = integer(default=200, minimum=1, maximum=500)


@dataclass(frozen=True, kw_only=True)
class PaymentsParams:
    """hive-client-payments."""

    action: str = text(default="summary", choices=("summary", "history", "list", "record", "pay"))
    advisor: str = text(default="", max_length=ADVISOR_LENGTH, aliases=["advisor_id"])
    amount_sats: int = integer(default=0, minimum=0, maximum=MAX_SATS)
    kind: str = text(default="bolt11", choices=KINDS)
    note: str = text(default="", max_length=500)
    limit: int = integer(default=100, minimum=1, maximum=500)
    bolt11: str = text(default="", max_length=8_000, aliases=["invstring"])
    nonce: int | None = integer(default=None, minimum=0, maximum=2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class PruneParams:
    """hive-client-prune."""

    days: int = integer(default=90, minimum=1, maximum=365)


def status(app: Comms, _: NoParams) -> Json:
    """Everything at a glance."""
    relays, source = app.identity.relays()
    return {
        "ok": True,
        "identity": {"pubkey": app.identity.pubkey, "relays": relays, "relays_source": source},
        "policy": app.policy.get(),
        **app.advisors.summary(),
        "payments": app.spending.sums(),
        "spending": app.spending.summary(),
        "held_actions": app.management.waiting_count(),
        "restore": app.restore.summary(),
        "receipts": app.receipts.count(),
        "features": app.features.as_dict(),
        "mode": app.mode,
        "version": app.context.version(),
    }


def identity(app: Comms, params: IdentityParams) -> Json:
    """Show or change the Nostr identity. The secret is never part of an answer."""
    service = app.identity
    if params.action == "rotate":
        service.rotate()
        return {"ok": True, "rotated": True, **_shown(app)}
    if params.action == "import":
        if not params.nsec:
            raise InvalidParamsError("missing required parameter: nsec (nsec1... or 64 hex digits)")
        service.import_key(params.nsec)
        return {"ok": True, "imported": True, **_shown(app)}
    if params.action in ("set-relays", "set_relays"):
        service.set_relays(params.relays)
        return {"ok": True, **_shown(app)}
    return {"ok": True, **_shown(app)}


def authorize(app: Comms, params: AuthorizeParams) -> Json:
    """Let an advisor in."""
    if not params.access:
        raise InvalidParamsError(f"access: name at least one of {', '.join(PERMISSIONS)}")
    permissions = tuple(dict.fromkeys(params.access))
    advisor, token, receipt = app.advisors.authorize(params.advisor, permissions, params.daily_limit_sats, params.note)
    return {
        "ok": True,
        "advisor_id": advisor.advisor_id,
        "advisor": advisor.advisor_ref,
        "status": advisor.status,
        "permissions": list(advisor.permissions),
        "daily_limit_sats": advisor.daily_limit_sats,
        "auth_token": token,
        "receipt_id": receipt,
    }


def revoke(app: Comms, params: RevokeParams) -> Json:
    """Shut an advisor out."""
    advisor, receipt = app.advisors.revoke(params.advisor, params.reason)
    return {
        "ok": True,
        "advisor_id": advisor.advisor_id,
        "advisor": advisor.advisor_ref,
        "status": advisor.status,
        "receipt_id": receipt,
    }


def policy(app: Comms, params: PolicyParams) -> Json:
    """Show or change the policy."""
    service = app.policy
    if params.action in ("set-preset", "preset"):
        if not params.preset:
            raise InvalidParamsError(f"preset is required: one of {', '.join(PRESETS)}")
        return {"ok": True, "policy": service.set_preset(params.preset)}
    if params.action in ("set-overrides", "update", "set"):
        if params.overrides_json is None:
            raise InvalidParamsError("overrides_json is required: a JSON object of rules")
        return {"ok": True, "policy": service.set_overrides(params.overrides_json)}
    return {"ok": True, "policy": service.reset() if params.action == "reset" else service.get()}


def receipts(app: Comms, params: ReceiptsParams) -> Json:
    """List receipts, newest first, and prove the chain when asked to."""
    advisor_id = app.advisors.find(params.advisor).advisor_id if params.advisor else ""
    proof = {"verification": app.receipts.prove()} if params.verify else {}
    found = app.receipts.newest(params.limit, advisor_id)
    return {"ok": True, "count": len(found), "receipts": found, **proof}


def alias(app: Comms, params: AliasParams) -> Json:
    """Short names of advisors."""
    service = app.advisors
    if params.action == "list":
        aliases = [asdict(entry) for entry in service.aliases(params.limit)]
        return {"ok": True, "count": len(aliases), "aliases": aliases}
    if not params.alias:
        raise InvalidParamsError("missing required parameter: alias")
    if params.action == "set":
        if not params.advisor:
            raise InvalidParamsError("missing required parameter: advisor")
        return {
            "ok": True,
            "alias": params.alias,
            "advisor_id": service.set_alias(params.alias, params.advisor).advisor_id,
        }
    if params.action == "remove":
        service.remove_alias(params.alias)
        return {"ok": True, "removed": True}
    return {"ok": True, "entry": asdict(service.alias(params.alias))}


def payments(app: Comms, params: PaymentsParams) -> Json:
    """What was spent, and paying within the limits."""
    service = app.spending
    if params.action == "summary" and not params.advisor:
        return {"ok": True, "summary": service.sums()}
    if params.action in ("history", "list") and not params.advisor:
        return _listed(service.history(params.limit))
    if not params.advisor:
        raise InvalidParamsError("missing required parameter: advisor")
    advisor = app.advisors.find(params.advisor)
    if params.action == "summary":
        return {"ok": True, "summary": service.sums(advisor.advisor_id)}
    if params.action in ("history", "list"):
        return _listed(service.history(params.limit, advisor.advisor_id))
    if params.action == "pay":
        return {"ok": True, **_pay(app, advisor, params)}
    if params.amount_sats == 0:
        raise InvalidParamsError("amount_sats must be positive")
    payment, receipt = service.record(advisor, params.amount_sats, params.kind, params.note)
    return {
        "ok": True,
        "payment_id": payment,
        "advisor_id": advisor.advisor_id,
        "amount_sats": params.amount_sats,
        "kind": params.kind,
        "receipt_id": receipt,
    }


def prune(app: Comms, params: PruneParams) -> Json:
    """Remove old receipts, decided actions and idle replay state; what is left of the chain stays provable."""
    pruned = {"receipts": app.receipts.prune(params.days), **app.management.prune(params.days)}
    return {"ok": True, "days": params.days, "pruned": pruned}


def _pay(app: Comms, advisor: Advisor, params: PaymentsParams) -> Json:
    if not params.bolt11:
        raise InvalidParamsError("missing required parameter: bolt11")
    if params.nonce is None:
        raise InvalidParamsError(
            "missing required parameter: nonce (a number of your own: one nonce of an advisor is paid once)"
        )
    known = app.spending.known(advisor, params.nonce, params.bolt11)
    if known is not None:
        return known
    quote = app.spending.quote(params.bolt11, params.amount_sats)
    return app.spending.send(app.spending.reserve(advisor, params.nonce, quote, params.note), quote)


def _listed(found: list[Json]) -> Json:
    return {"ok": True, "count": len(found), "payments": found}


def _shown(app: Comms) -> Json:
    key = app.identity.key
    relays, source = app.identity.relays()
    return {
        "pubkey": key.public_hex,
        "npub": key.npub,
        "relays": relays,
        "relays_source": source,
        "has_private_key": True,
        "placeholder_keygen": False,
    }


METHODS: tuple[Method[Comms], ...] = (
    Method("hive-client-status", status, NoParams, "Identity, policy, advisors, receipts and payments at a glance"),
    Method("hive-client-identity", identity, IdentityParams, "Show, rotate or import the Nostr identity; set relays"),
    Method("hive-client-authorize", authorize, AuthorizeParams, "Let an advisor in, or change what an advisor may do"),
    Method("hive-client-revoke", revoke, RevokeParams, "Shut an advisor out and destroy the token"),
    Method("hive-client-policy", policy, PolicyParams, "Show or change the policy: preset, overrides, reset"),
    Method("hive-client-receipts", receipts, ReceiptsParams, "List receipts; verify=true proves the whole chain"),
    Method("hive-client-alias", alias, AliasParams, "List, set, get or remove short names of advisors"),
    Method("hive-client-payments", payments, PaymentsParams, "Show what was spent, pay an invoice, record a payment"),
    Method("hive-client-prune", prune, PruneParams, "Remove old receipts and keep the chain provable"),
)
