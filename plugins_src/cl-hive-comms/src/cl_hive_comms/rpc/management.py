"""How envelopes come in, and the operator's word on what waits."""

from __future__ import annotations

from dataclasses import dataclass

from hive_kit.app import Json, Method
from hive_kit.errors import InvalidParamsError, RefusedError
from hive_kit.node import RpcError
from hive_kit.params import boolean, integer, json_object, text

from cl_hive_comms.app import Comms
from cl_hive_comms.options import REST_RUNE_REQUIRED
from cl_hive_comms.rpc.client import ADVISOR_LENGTH
from cl_hive_comms.rpc.schemas import interpreter

_RPC = "hive-comms-rpc"


@dataclass(frozen=True, kw_only=True)
class RpcParams:
    """hive-comms-rpc."""

    request: Json = json_object()
    sender: str = text(max_length=ADVISOR_LENGTH)
    transport: str = text(default="rest", choices=("rest",))
    rune: str = text(default="", max_length=4_000)


@dataclass(frozen=True, kw_only=True)
class IngestParams:
    """hive-comms-nostr-ingest."""

    sender_pubkey: str = text(pattern=r"[0-9a-fA-F]{64}", shape="64 hex digits")
    payload: Json = json_object()


@dataclass(frozen=True, kw_only=True)
class ApproveParams:
    """hive-client-approve."""

    action_id: str = text(default="", max_length=64, aliases=["action-id"])
    reject: bool = boolean(default=False)
    reason: str = text(default="", max_length=500)
    limit: int = integer(default=100, minimum=1, maximum=500)


def rpc(app: Comms, params: RpcParams) -> Json:
    """Take an envelope that came over REST."""

    def admit() -> None:
        if params.rune:
            _check_rune(app, params)
        elif app.context.options.flag(REST_RUNE_REQUIRED):
            raise RefusedError(f"missing rune: {REST_RUNE_REQUIRED} asks for one that permits {_RPC}")

    return app.management.receive(params.request, params.sender, params.transport, interpreter(app), admit)


def ingest(app: Comms, params: IngestParams) -> Json:
    """Take an envelope that came over Nostr and is decrypted."""
    return app.management.receive(params.payload, params.sender_pubkey.lower(), "nostr", interpreter(app))


def approve(app: Comms, params: ApproveParams) -> Json:
    """Decide about a held action; without an id, list those that wait."""
    service = app.management
    if not params.action_id:
        if params.reject:
            raise InvalidParamsError("missing required parameter: action_id")
        held = service.waiting(params.limit)
        return {"ok": True, "count": len(held), "held": held}
    if params.reject:
        service.reject(params.action_id, params.reason)
        return {"ok": True, "action_id": params.action_id, "status": "rejected"}
    result = service.approve(params.action_id, params.reason, interpreter(app))
    return {"ok": True, "action_id": params.action_id, "status": "approved", "result": result}


def _check_rune(app: Comms, params: RpcParams) -> None:
    asked = {
        "rune": params.rune,
        "method": _RPC,
        "params": {"sender": params.sender, "transport": params.transport},
    }
    try:
        valid = app.context.node.call("checkrune", asked).get("valid") is True
    except RpcError as error:
        raise RefusedError(f"rune rejected: {error.message}") from error
    if not valid:
        raise RefusedError(f"invalid rune: it does not permit {_RPC}")


METHODS: tuple[Method[Comms], ...] = (
    Method("hive-client-approve", approve, ApproveParams, "List, approve or reject the actions that wait for you"),
    Method(_RPC, rpc, RpcParams, "Take an advisor's envelope that came over REST"),
    Method("hive-comms-nostr-ingest", ingest, IngestParams, "Take an advisor's envelope that came over Nostr"),
)
