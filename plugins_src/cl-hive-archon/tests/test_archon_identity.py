"""Provisioning: one DID per node, made alone, always the same."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cl_hive_archon.main import SPEC
from cl_hive_archon.services.did import document, is_did, local_did
from hive_kit.errors import ConflictError, InvalidParamsError, UnavailableError
from hive_kit.testing import NODE_ID, FakeNode, application

Call = Callable[..., dict[str, Any]]


def test_a_did_is_the_cid_of_its_document() -> None:
    did = local_did(NODE_ID, "regtest")
    text = did.removeprefix("did:cid:b").upper()
    cid = base64.b32decode(text + "=" * (-len(text) % 8))
    written = json.dumps(document(NODE_ID, "regtest"), sort_keys=True, separators=(",", ":")).encode()
    assert cid == bytes.fromhex("01800412") + b"\x20" + hashlib.sha256(written).digest()
    assert did.startswith("did:cid:bagaaiera")
    assert is_did(did)


def test_another_node_or_network_has_another_did() -> None:
    dids = {local_did(NODE_ID, "regtest"), local_did(NODE_ID, "bitcoin"), local_did("03" + "ab" * 32, "regtest")}
    assert len(dids) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:cid:",
        "did:cid:bAGAA" + "a" * 56,
        "did:key:b" + "a" * 60,
        "did:cid:b" + "1" * 60,
        "did:cid:b" + "a" * 50,
    ],
)
def test_what_is_no_did(text: str) -> None:
    assert not is_did(text)


def test_provisioning_twice_is_provisioning_once(call: Call) -> None:
    first = call("hive-archon-provision", label="alpha")
    again = call("hive-archon-provision", label="other")
    assert first["source"] == "local-fallback"
    assert first["governance_tier"] == "basic"
    assert "already_provisioned" not in first
    assert again == {**first, "already_provisioned": True}


def test_force_takes_the_label_and_keeps_did_bindings_and_first_time(running: tuple[object, Call]) -> None:
    _, call = running
    first = call("hive-archon-provision")
    bound = call("hive-archon-bind-cln")
    before = call("hive-archon-status")
    forced = call("hive-archon-provision", "true", "renamed")
    after = call("hive-archon-status")
    assert (forced["did"], forced["label"]) == (first["did"], "renamed")
    assert after["bindings"] == {"nostr": 0, "cln": 1}
    assert after["attestations"][0]["binding_id"] == bound["binding_id"]
    assert after["identity"]["created_at"] == before["identity"]["created_at"]


def test_the_did_survives_a_lost_database(tmp_path: Path, node: FakeNode) -> None:
    dids = set()
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        with application(SPEC, directory, {}, node) as (_, call):
            dids.add(call("hive-archon-provision")["did"])
    assert len(dids) == 1


def test_the_database_of_another_node_is_refused_and_shown(tmp_path: Path, node: FakeNode) -> None:
    with application(SPEC, tmp_path, {}, node) as (_, call):
        call("hive-archon-provision")
    node.answers["getinfo"] = {"id": "03" + "cd" * 32}
    with application(SPEC, tmp_path, {}, node) as (_, call):
        for method in ("hive-archon-provision", "hive-archon-bind-cln", "hive-archon-bind-nostr"):
            with pytest.raises(ConflictError, match="another node"):
                call(method)
        checks = {check["name"]: check for check in call("hive-archon-health")["checks"]}
        assert not checks["identity"]["ok"]
        assert checks["identity"]["critical"]
        assert "another node's" in checks["identity"]["detail"]


def test_a_label_is_at_most_120_characters(call: Call) -> None:
    assert call("hive-archon-provision", label="x" * 120)["ok"]
    with pytest.raises(InvalidParamsError, match=r"label: is too long \(121 characters, at most 120\)"):
        call("hive-archon-provision", label="x" * 121)


def test_without_an_answer_of_lightningd_nothing_is_written(running: tuple[object, Call], node: FakeNode) -> None:
    _, call = running
    node.answers["getinfo"] = UnavailableError("getinfo did not answer within 10 s")
    with pytest.raises(UnavailableError, match="getinfo"):
        call("hive-archon-provision")
    assert call("hive-archon-status")["identity"] is None


def test_nothing_but_lightningd_is_asked(call: Call, node: FakeNode) -> None:
    call("hive-archon-provision")
    assert {method for method, _ in node.calls} <= {"help", "hive-client-identity", "getinfo"}
