"""Bindings: only of keys that are provably ours, signed before they are stored, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cl_hive_archon.app import Archon
from hive_kit.canonical import sha256_hex
from hive_kit.errors import ConflictError, InvalidParamsError, NotFoundError, RefusedError, UnavailableError
from hive_kit.testing import NODE_ID, FakeNode

NOSTR_KEY = "c0" * 32
Call = Callable[..., dict[str, Any]]


def test_a_nostr_binding_is_attested(running: tuple[Archon, Call], node: FakeNode) -> None:
    app, call = running
    did = call("hive-archon-provision")["did"]
    bound = call("hive-archon-bind-nostr", NOSTR_KEY.upper())
    assert bound["ok"] is True
    assert (bound["did"], bound["binding_type"], bound["subject"]) == (did, "nostr", NOSTR_KEY)
    assert bound["binding_id"] == sha256_hex(f"{did}:nostr:{NOSTR_KEY}")[:32]
    row = app.context.store.one("SELECT attestation_json, signature FROM archon_bindings")
    assert row is not None
    attestation = json.loads(row["attestation_json"])
    assert attestation == {
        "binding_type": "nostr",
        "did": did,
        "subject": NOSTR_KEY,
        "node_pubkey": NODE_ID,
        "timestamp": attestation["timestamp"],
    }
    assert row["signature"] == f"signed:{row['attestation_json']}"
    assert row["attestation_json"] == json.dumps(attestation, sort_keys=True, separators=(",", ":"))


def test_the_key_of_comms_and_the_own_id_are_the_defaults(call: Call) -> None:
    call("hive-archon-provision")
    assert call("hive-archon-bind-nostr")["subject"] == NOSTR_KEY
    assert call("hive-archon-bind-cln")["subject"] == NODE_ID
    assert call("hive-archon-status")["bindings"] == {"nostr": 1, "cln": 1}


def test_binding_twice_signs_once(call: Call, node: FakeNode) -> None:
    call("hive-archon-provision")
    first = call("hive-archon-bind-cln", cln_pubkey=NODE_ID)
    again = call("hive-archon-bind-cln")
    assert again == {**first, "already_bound": True}
    assert sum(method == "signmessage" for method, _ in node.calls) == 1


def test_a_new_nostr_key_gets_a_binding_of_its_own(call: Call, node: FakeNode) -> None:
    call("hive-archon-provision")
    call("hive-archon-bind-nostr")
    node.answers["hive-client-identity"] = {"pubkey": "d1" * 32}
    assert call("hive-archon-bind-nostr")["subject"] == "d1" * 32
    assert call("hive-archon-status")["bindings"]["nostr"] == 2


@pytest.mark.parametrize(
    "key",
    ["", "0x" + "c0" * 31, "c0" * 31 + "_0", "+" + "c0" * 31 + "0", "c0" * 33, "c0" * 31, " " + "c0" * 32, "gg" * 32],
)
def test_only_64_hex_digits_are_a_nostr_key(call: Call, key: str) -> None:
    call("hive-archon-provision")
    if key == "":
        assert call("hive-archon-bind-nostr", nostr_pubkey=key)["subject"] == NOSTR_KEY
        return
    with pytest.raises(InvalidParamsError, match=r"nostr_pubkey: .* is not 64 hex digits"):
        call("hive-archon-bind-nostr", nostr_pubkey=key)


@pytest.mark.parametrize("key", ["04" + "ab" * 32, "0x" + "ab" * 32, "02" + "ab" * 31, "02" + "_b" * 32])
def test_only_a_compressed_key_is_a_node_id(call: Call, key: str) -> None:
    call("hive-archon-provision")
    with pytest.raises(InvalidParamsError, match=r"cln_pubkey: .* is not a node id"):
        call("hive-archon-bind-cln", cln_pubkey=key)


def test_keys_of_others_are_not_bound(call: Call) -> None:
    call("hive-archon-provision")
    with pytest.raises(RefusedError, match="does not hold"):
        call("hive-archon-bind-nostr", nostr_pubkey="ee" * 32)
    with pytest.raises(RefusedError, match="another node"):
        call("hive-archon-bind-cln", cln_pubkey="03" + "ee" * 32)
    assert call("hive-archon-status")["bindings"] == {"nostr": 0, "cln": 0}


def test_a_did_of_others_is_not_bound(call: Call) -> None:
    call("hive-archon-provision")
    with pytest.raises(ConflictError, match="not owned by this node"):
        call("hive-archon-bind-cln", did="did:cid:b" + "a" * 60)
    with pytest.raises(InvalidParamsError, match="did:"):
        call("hive-archon-bind-cln", did="did:web:example.org")


def test_binding_needs_an_identity(call: Call) -> None:
    for method in ("hive-archon-bind-nostr", "hive-archon-bind-cln"):
        with pytest.raises(NotFoundError, match="call hive-archon-provision first"):
            call(method)


def test_an_unsigned_binding_is_not_stored(call: Call, node: FakeNode) -> None:
    call("hive-archon-provision")
    for answer in ({"zbase": ""}, {}, UnavailableError("signmessage did not answer within 10 s")):
        node.answers["signmessage"] = answer
        with pytest.raises(UnavailableError, match="sign"):
            call("hive-archon-bind-cln")
    assert call("hive-archon-status")["bindings"]["cln"] == 0
