"""hive-archon-*: identity, bindings, signatures. (Health is the kit's.)"""

from __future__ import annotations

import json
from dataclasses import dataclass

from hive_kit.app import Json, Method
from hive_kit.errors import InvalidParamsError
from hive_kit.params import NoParams, boolean, text

from cl_hive_archon import options as names
from cl_hive_archon.app import Archon
from cl_hive_archon.services.binding_service import CLN, NOSTR, Bound
from cl_hive_archon.services.did import NODE_ID, PATTERN
from cl_hive_archon.services.signing_service import MAX_LENGTH
from cl_hive_archon.storage.identity_store import Identity


@dataclass(frozen=True, kw_only=True)
class ProvisionParams:
    force: bool = boolean(default=False)
    label: str = text(default="", max_length=120)


@dataclass(frozen=True, kw_only=True)
class BindNostrParams:
    nostr_pubkey: str = text(default="", pattern="[0-9a-fA-F]{64}", shape="64 hex digits")
    did: str = text(default="", max_length=128, pattern=PATTERN, shape="a did:cid: identifier")


@dataclass(frozen=True, kw_only=True)
class BindClnParams:
    cln_pubkey: str = text(default="", pattern=f"(?i:{NODE_ID})", shape="a node id (66 hex digits)")
    did: str = text(default="", max_length=128, pattern=PATTERN, shape="a did:cid: identifier")


@dataclass(frozen=True, kw_only=True)
class SignParams:
    message: str = text(default="", max_length=MAX_LENGTH)
    domain: str = text(default="", max_length=64)
    message_hex: str = text(default="", max_length=8 * MAX_LENGTH, pattern="(?:[0-9a-fA-F]{2})+", shape="hex of UTF-8")


def provision(app: Archon, params: ProvisionParams) -> Json:
    """Make the node's DID, or give the one that is there."""
    identity, already = app.identity.provision(force=params.force, label=params.label)
    answer: Json = {
        "ok": True,
        "did": identity.did,
        "source": identity.source,
        "governance_tier": identity.governance_tier,
        "gateway_url": identity.gateway_url,
        "label": identity.label,
    }
    return {**answer, "already_provisioned": True} if already else answer


def status(app: Archon, _: NoParams) -> Json:
    """Identity, bindings, polls and how the plugin runs."""
    identity, options = app.identity.current(), app.context.options
    bindings = app.bindings.of(identity.did) if identity is not None else []
    return {
        "ok": True,
        "version": app.context.version(),
        "mode": app.mode,
        "identity": _shown(identity) if identity is not None else None,
        "bindings": {kind: sum(one.binding_type == kind for one in bindings) for kind in (NOSTR, CLN)},
        "attestations": [
            {"attestation": json.loads(one.attestation), "signature": one.signature, "binding_id": one.binding_id}
            for one in bindings
        ],
        **app.polls.counts(),
        "network_enabled": options.flag(names.NETWORK_ENABLED),
        "gateway_url": options.text(names.GATEWAY),
        "min_governance_bond_sats": options.number(names.MIN_BOND),
        "siblings": app.context.siblings.as_dict(),
    }


def bind_nostr(app: Archon, params: BindNostrParams) -> Json:
    """Attest that the Nostr key of comms belongs to the node's DID."""
    return _bound(app.bindings.bind_nostr(params.nostr_pubkey, params.did))


def bind_cln(app: Archon, params: BindClnParams) -> Json:
    """Attest that the node's id belongs to its DID."""
    return _bound(app.bindings.bind_cln(params.cln_pubkey, params.did))


def sign_message(app: Archon, params: SignParams) -> Json:
    """Sign a message for a registered purpose."""
    if bool(params.message) == bool(params.message_hex):
        raise InvalidParamsError("give either message or message_hex")
    try:
        message = params.message or bytes.fromhex(params.message_hex).decode()
    except UnicodeDecodeError as error:
        raise InvalidParamsError("message_hex: is not the hex of UTF-8 text") from error
    signed = app.signing.sign(message, params.domain)
    return {"ok": True, "signature": signed.signature, "domain": signed.domain, "signed_message": signed.text}


def _shown(identity: Identity) -> Json:
    return {
        "did": identity.did,
        "governance_tier": identity.governance_tier,
        "status": identity.status,
        "source": identity.source,
        "gateway_url": identity.gateway_url,
        "label": identity.label,
        "created_at": identity.created_at,
        "updated_at": identity.updated_at,
    }


def _bound(bound: Bound) -> Json:
    binding = bound.binding
    answer: Json = {
        "ok": True,
        "binding_id": binding.binding_id,
        "did": binding.did,
        "binding_type": binding.binding_type,
        "subject": binding.subject,
    }
    return {**answer, "already_bound": True} if bound.already else answer


METHODS: tuple[Method[Archon], ...] = (
    Method("hive-archon-provision", provision, ProvisionParams, "Make the node's decentralised identifier (DID)"),
    Method("hive-archon-status", status, NoParams, "Show identity, bindings and polls"),
    Method("hive-archon-bind-nostr", bind_nostr, BindNostrParams, "Bind the node's Nostr key to its DID"),
    Method("hive-archon-bind-cln", bind_cln, BindClnParams, "Bind the node's id to its DID"),
    Method("hive-archon-sign-message", sign_message, SignParams, "Sign a message for a registered domain"),
)
