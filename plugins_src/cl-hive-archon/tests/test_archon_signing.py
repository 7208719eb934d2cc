"""Signatures are made for registered purposes and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cl_hive_archon.services.signing_service import DOMAINS, MAX_LENGTH
from hive_kit.errors import InvalidParamsError, RefusedError, UnavailableError
from hive_kit.node import RpcError
from hive_kit.testing import FakeNode

Call = Callable[..., dict[str, Any]]


def test_message_and_domain_in_either_form(call: Call) -> None:
    expected = {"ok": True, "signature": "signed:hive|hello", "domain": "hive", "signed_message": "hive|hello"}
    assert call("hive-archon-sign-message", "hive|hello") == expected
    assert call("hive-archon-sign-message", message="hello", domain="hive") == expected
    assert call("hive-archon-sign-message", message_hex=b"hive|hello".hex()) == expected
    assert call("hive-archon-sign-message", "hello", "hive") == expected


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_registered_domain_signs(call: Call, domain: str) -> None:
    assert call("hive-archon-sign-message", f"{domain}|x")["signature"] == f"signed:{domain}|x"


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "hive",
        "hive-|x",
        "Hive|x",
        " hive|x",
        "|x",
        "nostr_key_derivation",
        '{"binding_type":"cln"}',
        "other|x",
    ],
)
def test_a_text_without_a_registered_purpose_is_not_signed(call: Call, node: FakeNode, message: str) -> None:
    with pytest.raises(RefusedError, match="domains: hive, "):
        call("hive-archon-sign-message", message)
    assert not [method for method, _ in node.calls if method == "signmessage"]


@pytest.mark.parametrize(
    "message",
    [
        "nostr_key_derivation",
        "escrow_key_derivation",
        " nostr_key_derivation\n",
        "Nostr_Key_Derivation",
        "hive|nostr_key_derivation",
        "new-key-derivation-v2",
    ],
)
def test_what_keys_are_derived_from_is_not_signed_for_any_domain(call: Call, node: FakeNode, message: str) -> None:
    for domain in DOMAINS:
        with pytest.raises(RefusedError, match="derives an encryption key"):
            call("hive-archon-sign-message", message=message, domain=domain)
    assert not [method for method, _ in node.calls if method == "signmessage"]


def test_a_domain_in_the_message_does_not_stand_for_the_one_given(call: Call) -> None:
    assert call("hive-archon-sign-message", "hive|x", "hive-comms")["signed_message"] == "hive-comms|hive|x"


def test_lengths_and_spellings(call: Call) -> None:
    fits = "x" * (MAX_LENGTH - len("hive|"))
    assert call("hive-archon-sign-message", fits, "hive")["ok"]
    for bad in ({"message": fits + "x", "domain": "hive"}, {}, {"message": ""}, {"message": "hive|"},
                {"message": "hive|a", "message_hex": "00"}, {"message_hex": "0"}, {"message_hex": "0x00"},
                {"message_hex": "ff"}, {"message": "hive|a\0b"}):  # fmt: skip
        with pytest.raises(InvalidParamsError):
            call("hive-archon-sign-message", **bad)


def test_there_is_never_an_empty_signature(call: Call, node: FakeNode) -> None:
    for answer in ({"zbase": ""}, {"zbase": None}, {}, RpcError("signmessage", -32600, "no")):
        node.answers["signmessage"] = answer
        with pytest.raises(UnavailableError):
            call("hive-archon-sign-message", "hive|x")
