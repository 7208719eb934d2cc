"""Every method of comms, positional and named, and every bad value by its sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.main import SPEC
from hive_kit.errors import HiveError
from hive_kit.keys import SchnorrKey
from hive_kit.testing import application

Call = Callable[..., dict[str, Any]]
# The example of NIP-19, in both spellings.
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
NSEC_HEX = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"
DEFAULT_RELAYS = ["wss://nos.lol", "wss://relay.damus.io"]


@pytest.fixture
def call(tmp_path: Path) -> Iterator[Call]:
    with application(SPEC, tmp_path) as (_, method):
        yield method


def test_status_of_a_new_node(call: Call) -> None:
    status = call("hive-client-status")
    pubkey = status["identity"].pop("pubkey")
    assert len(bytes.fromhex(pubkey)) == 32
    policy = status.pop("policy")
    assert (policy["preset"], policy["overrides"]) == ("moderate", {})
    assert status.pop("version")
    assert status == {
        "ok": True,
        "identity": {"relays": DEFAULT_RELAYS, "relays_source": "option"},
        "active_advisors": 0,
        "revoked_advisors": 0,
        "active_trials": 0,
        "receipts": 1,
        "payments": {"total_sats": 0, "day_sats": 0, "week_sats": 0},
        "spending": {
            "limits": {"day_sats": 50_000, "week_sats": 200_000, "per_advisor_day_sats": 25_000},
            "spent": {"total_sats": 0, "day_sats": 0, "week_sats": 0},
            "left": {"day_sats": 50_000, "week_sats": 200_000},
            "in_flight_sats": 0,
        },
        "held_actions": 0,
        "restore": None,
        "features": {
            "marketplace": {"enabled": True, "publish": True, "subscribe": True},
            "liquidity": {"enabled": True, "publish": True, "subscribe": True},
        },
        "mode": "standalone",
    }


def test_status_counts(call: Call, tmp_path: Path) -> None:
    call("hive-client-authorize", "alice")
    call("hive-client-authorize", "bob")
    call("hive-client-revoke", "bob")
    status = call("hive-client-status")
    assert (status["active_advisors"], status["revoked_advisors"], status["receipts"]) == (1, 1, 4)


@pytest.mark.parametrize("action", ["get", "status", "show"])
def test_identity_get(call: Call, action: str) -> None:
    shown = call("hive-client-identity", action)
    assert shown == call("hive-client-identity", action=action) == call("hive-client-identity")
    assert shown["npub"].startswith("npub1")
    assert shown["has_private_key"] is True
    assert shown["placeholder_keygen"] is False
    assert shown["relays"] == DEFAULT_RELAYS


def test_identity_rotate(call: Call) -> None:
    before = call("hive-client-identity")["pubkey"]
    rotated = call("hive-client-identity", "rotate")
    assert rotated["rotated"] is True
    assert rotated["pubkey"] != before
    assert call("hive-client-status")["identity"]["pubkey"] == rotated["pubkey"]
    receipt = call("hive-client-receipts", limit=1)["receipts"][0]
    assert receipt["params"] == {"previous_pubkey": before}
    assert receipt["result"] == {"pubkey": rotated["pubkey"]}


@pytest.mark.parametrize("secret", [NSEC, NSEC_HEX, NSEC_HEX.upper(), f" {NSEC} "])
def test_identity_import(call: Call, secret: str) -> None:
    imported = call("hive-client-identity", action="import", nsec=secret)
    assert imported["imported"] is True
    assert imported["pubkey"] == SchnorrKey.from_text(NSEC).public_hex


def test_identity_set_relays(call: Call) -> None:
    changed = call("hive-client-identity", "set-relays", "", "wss://a.example, ws://127.0.0.1:7777/x,wss://a.example")
    assert (changed["relays"], changed["relays_source"]) == (["wss://a.example", "ws://127.0.0.1:7777/x"], "rpc")
    assert call("hive-client-identity")["relays"] == changed["relays"]


def test_authorize_and_authorize_again(call: Call) -> None:
    first = call("hive-client-authorize", "did:cid:bob", "monitor,policy,monitor", "5000", "my advisor")
    token = first.pop("auth_token")
    assert len(bytes.fromhex(token)) == 32
    assert first == {
        "ok": True,
        "advisor_id": hashlib.sha256(b"did:cid:bob").hexdigest()[:32],
        "advisor": "did:cid:bob",
        "status": "active",
        "permissions": ["monitor", "policy"],
        "daily_limit_sats": 5000,
        "receipt_id": 2,
    }
    again = call("hive-client-authorize", advisor="DID:CID:BOB", access=["admin"])
    assert (again["advisor_id"], again["advisor"], again["auth_token"]) == (first["advisor_id"], "did:cid:bob", token)
    assert (again["permissions"], again["daily_limit_sats"]) == (["admin"], 0)
    assert call("hive-client-status")["active_advisors"] == 1


def test_revoke_by_reference_id_and_alias_and_a_new_token_afterwards(call: Call) -> None:
    first = call("hive-client-authorize", "bob")
    call("hive-client-alias", "set", "b", "bob")
    for name in ("bob", first["advisor_id"], "b"):
        revoked = call("hive-client-revoke", name, "gone")
        assert (revoked["status"], revoked["advisor"]) == ("revoked", "bob")
    assert revoked["receipt_id"] == 6
    again = call("hive-client-authorize", "b")
    assert (again["advisor"], again["status"]) == ("bob", "active")
    assert again["auth_token"] != first["auth_token"]


def test_aliases(call: Call) -> None:
    bob = call("hive-client-authorize", "bob")["advisor_id"]
    assert call("hive-client-alias") == {"ok": True, "count": 0, "aliases": []}
    assert call("hive-client-alias", "set", "b.ob_1-x", "bob") == {"ok": True, "alias": "b.ob_1-x", "advisor_id": bob}
    assert call("hive-client-alias", action="set", alias="a", advisor_id=bob)["ok"] is True
    assert call("hive-client-alias", "get", "a")["entry"]["advisor_id"] == bob
    listed = call("hive-client-alias", action="list", limit="1")
    assert [entry["alias"] for entry in listed["aliases"]] == ["a"]
    assert call("hive-client-alias", "remove", "a") == {"ok": True, "removed": True}
    assert [entry["alias"] for entry in call("hive-client-alias")["aliases"]] == ["b.ob_1-x"]
    actions = [receipt["action"] for receipt in call("hive-client-receipts", "bob")["receipts"]]
    assert actions == ["remove", "set", "set", "authorize"]


PRESETS = {"conservative": (15, 100_000, 5), "moderate": (30, 500_000, 7), "aggressive": (50, 2_000_000, 9)}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_the_documented_numbers(call: Call, preset: str) -> None:
    rules = call("hive-client-policy", "set-preset", preset)["policy"]["rules"]
    numbers = (rules["max_fee_change_per_24h_pct"], rules["max_rebalance_sats"], rules["confirm_from_danger"])
    assert numbers == PRESETS[preset]
    assert rules["require_confirmation_above"] == rules["confirm_from_danger"] - 1
    assert call("hive-client-policy", action="preset", preset=preset)["policy"]["rules"] == rules


def test_overrides_merge_go_back_one_by_one_and_end_with_another_preset(call: Call) -> None:
    overrides = {"max_danger": "8", "require_confirmation_above": 3, "blocked_schemas": "hive:wallet/v1,hive:plugin/v1"}
    policy = call("hive-client-policy", "set-overrides", None, json.dumps(overrides))["policy"]
    assert policy["overrides"] == {
        "max_danger": 8,
        "confirm_from_danger": 4,
        "blocked_schemas": ["hive:wallet/v1", "hive:plugin/v1"],
    }
    assert policy["rules"]["confirm_from_danger"] == 4
    assert policy["rules"]["max_fee_change_per_24h_pct"] == 30, "rules without override stay"
    policy = call("hive-client-policy", action="update", overrides={"max_danger": None})["policy"]
    assert "max_danger" not in policy["overrides"]
    assert policy["rules"]["max_danger"] == 10
    assert call("hive-client-policy", "set-preset", "aggressive")["policy"]["overrides"] == {}


def test_reset_goes_back_to_the_option(tmp_path: Path) -> None:
    with application(SPEC, tmp_path, {"hive-comms-policy-preset": "conservative"}) as (_, call):
        call("hive-client-policy", "set-preset", "aggressive")
        call("hive-client-policy", "set", "", '{"max_danger": 2}')
        policy = call("hive-client-policy", "reset")["policy"]
        assert (policy["preset"], policy["overrides"]) == ("conservative", {})


def test_receipts_are_listed_filtered_and_proved(call: Call) -> None:
    bob = call("hive-client-authorize", "bob", "admin")
    call("hive-client-authorize", "alice")
    call("hive-client-policy", "set-preset", "aggressive")
    newest = call("hive-client-receipts", limit="2", verify="true")
    assert newest["count"] == 2
    assert [receipt["action"] for receipt in newest["receipts"]] == ["set-preset", "authorize"]
    assert newest["verification"]["checked"] == 4
    assert newest["verification"]["head"] == newest["receipts"][0]["receipt_hash"]
    about_bob = call("hive-client-receipts", "bob")["receipts"]
    assert [receipt["receipt_id"] for receipt in about_bob] == [bob["receipt_id"]]
    assert about_bob[0] == {
        "receipt_id": 2,
        "created_at": about_bob[0]["created_at"],
        "actor": "operator",
        "schema_id": "hive:authorize/v1",
        "action": "authorize",
        "params": {
            "advisor_id": bob["advisor_id"],
            "advisor": "bob",
            "permissions": ["admin"],
            "daily_limit_sats": 0,
            "note": "",
        },
        "result": {"status": "active", "new_token": True},
        "prev_hash": about_bob[0]["prev_hash"],
        "receipt_hash": about_bob[0]["receipt_hash"],
    }


def test_transports_follow_identity_and_flags(tmp_path: Path) -> None:
    with application(SPEC, tmp_path, {"hive-comms-liquidity-publish": "false"}) as (app, call):
        rotated = call("hive-client-identity", "rotate")["pubkey"]
        listed = call("hive-comms-transports")
        assert (listed["ok"], listed["count"]) == (True, 1)
        assert listed["transports"] == [
            {
                "name": "nostr",
                "enabled": True,
                "connected": False,
                "metadata": {
                    "pubkey": rotated,
                    "relays": DEFAULT_RELAYS,
                    "relays_source": "option",
                    "topics": {"publish": ["hive-advisor"], "subscribe": ["hive-advisor", "hive-liquidity"]},
                },
            }
        ]
        app.context.options.set("hive-comms-marketplace-enabled", "false")
        topics = call("hive-comms-transports")["transports"][0]["metadata"]["topics"]
        assert topics == {"publish": [], "subscribe": ["hive-liquidity"]}


FLAGS = [
    ("hive-comms-marketplace-enabled", "marketplace", {"enabled": False, "publish": False, "subscribe": False}),
    ("hive-comms-marketplace-publish", "marketplace", {"enabled": True, "publish": False, "subscribe": True}),
    ("hive-comms-marketplace-subscribe", "marketplace", {"enabled": True, "publish": True, "subscribe": False}),
    ("hive-comms-liquidity-enabled", "liquidity", {"enabled": False, "publish": False, "subscribe": False}),
    ("hive-comms-liquidity-publish", "liquidity", {"enabled": True, "publish": False, "subscribe": True}),
    ("hive-comms-liquidity-subscribe", "liquidity", {"enabled": True, "publish": True, "subscribe": False}),
]


@pytest.mark.parametrize(("flag", "area", "expected"), FLAGS)
def test_each_flag_is_honoured_alone_at_start_and_while_running(
    tmp_path: Path, flag: str, area: str, expected: dict[str, bool]
) -> None:
    everything = {"enabled": True, "publish": True, "subscribe": True}
    other = {"marketplace": "liquidity", "liquidity": "marketplace"}[area]
    with application(SPEC, tmp_path, {flag: "false"}) as (app, call):
        assert call("hive-client-status")["features"] == {area: expected, other: everything}
        app.context.options.set(flag, True)
        assert call("hive-client-status")["features"] == {area: everything, other: everything}


BAD = [
    ("hive-client-status", {"x": 1}, -32602, "unknown parameter: x (parameters: none)"),
    ("hive-comms-transports", [1], -32602, "too many parameters: got 1, expected at most 0"),
    ("hive-client-identity", ["erase"], -32602, "action: 'erase' is not one of get, status, show, rotate, import"),
    ("hive-client-identity", ["import"], -32602, "missing required parameter: nsec (nsec1... or 64 hex digits)"),
    ("hive-client-identity", ["import", "nsec1wrong"], -32602, "invalid nsec format: give nsec1... or 64 hex digits"),
    ("hive-client-identity", ["import", "0" * 64], -32602, "private key is out of the secp256k1 range"),
    ("hive-client-identity", ["set-relays"], -32602, "relays cannot be empty; give 1 to 8 addresses"),
    ("hive-client-identity", ["set-relays", "", "http://x"], -32602, "'http://x' is not a relay address"),
    (
        "hive-client-identity",
        {"action": "set_relays", "relays": [f"wss://r{n}" for n in range(9)]},
        -32602,
        "9 relays are too many; give at most 8",
    ),
    ("hive-client-authorize", [], -32602, "missing required parameter: advisor"),
    ("hive-client-authorize", [""], -32602, "advisor: must not be empty"),
    ("hive-client-authorize", ["x" * 257], -32602, "advisor: is too long (257 characters, at most 256)"),
    ("hive-client-authorize", ["bob", "god"], -32602, "access: 'god' is not one of monitor, admin, policy"),
    ("hive-client-authorize", ["bob", ","], -32602, "access: name at least one of monitor, admin"),
    ("hive-client-authorize", ["bob", "admin", "-1"], -32602, "daily_limit_sats: -1 is less than the minimum 0"),
    ("hive-client-authorize", ["bob", "admin", "many"], -32602, "daily_limit_sats: 'many' is not a whole number"),
    ("hive-client-authorize", ["bob", "admin", 0, "n" * 501], -32602, "note: is too long"),
    ("hive-client-revoke", [], -32602, "missing required parameter: advisor"),
    ("hive-client-revoke", ["nobody"], 6001, "advisor not found: nobody; hive-client-alias lists the short names"),
    ("hive-client-policy", ["drop"], -32602, "action: 'drop' is not one of get, set-preset"),
    ("hive-client-policy", ["set-preset"], -32602, "preset is required: one of conservative, moderate, aggressive"),
    ("hive-client-policy", ["set-preset", "wild"], -32602, "preset: 'wild' is not one of"),
    ("hive-client-policy", ["set-overrides"], -32602, "overrides_json is required: a JSON object of rules"),
    ("hive-client-policy", ["set", "", "[]"], -32602, "overrides_json: must decode to an object"),
    ("hive-client-policy", ["set", "", "{"], -32602, "overrides_json: is not valid JSON"),
    ("hive-client-policy", ["set", "", '{"zz": 1}'], -32602, "overrides_json: there is no rule zz (rules: max_danger"),
    (
        "hive-client-policy",
        ["set", "", '{"max_danger": 11}'],
        -32602,
        "overrides_json: max_danger: 11 is not between 0 and 10",
    ),
    (
        "hive-client-policy",
        ["set", "", '{"require_confirmation_above": "x"}'],
        -32602,
        "overrides_json: require_confirmation_above: 'x' is not a whole number",
    ),
    ("hive-client-receipts", ["nobody"], 6001, "advisor not found: nobody"),
    ("hive-client-receipts", ["", 0], -32602, "limit: 0 is less than the minimum 1"),
    ("hive-client-receipts", ["", 501], -32602, "limit: 501 is more than the maximum 500"),
    ("hive-client-receipts", {"verify": "perhaps"}, -32602, "verify: 'perhaps' is not true or false"),
    ("hive-client-alias", ["rename"], -32602, "action: 'rename' is not one of list, set, get, remove"),
    ("hive-client-alias", ["set"], -32602, "missing required parameter: alias"),
    ("hive-client-alias", ["set", "a"], -32602, "missing required parameter: advisor"),
    ("hive-client-alias", ["set", "a", "nobody"], 6001, "advisor not found: nobody"),
    ("hive-client-alias", ["set", "a b", "x"], -32602, "alias: 'a b' is not 1 to 64 letters, digits, dots, dashes"),
    ("hive-client-alias", ["get", "a"], 6001, "alias not found: a; set it with action=set"),
    ("hive-client-alias", ["remove", "a"], 6001, "alias not found: a"),
    ("hive-client-payments", ["steal"], -32602, "action: 'steal' is not one of summary, history, list, record, pay"),
    ("hive-client-payments", ["record"], -32602, "missing required parameter: advisor"),
    ("hive-client-payments", ["record", "nobody", 1], 6001, "advisor not found: nobody"),
    ("hive-client-payments", ["record", "", -1], -32602, "amount_sats: -1 is less than the minimum 0"),
    ("hive-client-payments", {"kind": "cash"}, -32602, "kind: 'cash' is not one of bolt11, bolt12, l402, cashu"),
    ("hive-client-approve", ["a"], 6001, "there is no action a; hive-client-approve lists what waits"),
    ("hive-client-approve", {"reject": True}, -32602, "missing required parameter: action_id"),
    ("hive-comms-rpc", [], -32602, "missing required parameter: request"),
    ("hive-comms-rpc", ["no", "bob"], -32602, "request: is not valid JSON"),
    ("hive-comms-rpc", [{}, "bob", "smoke"], -32602, "transport: 'smoke' is not one of rest"),
    ("hive-comms-nostr-ingest", ["ab", {}], -32602, "sender_pubkey: 'ab' is not 64 hex digits"),
    ("hive-client-prune", [0], -32602, "days: 0 is less than the minimum 1"),
    ("hive-client-prune", [366], -32602, "days: 366 is more than the maximum 365"),
]


@pytest.mark.parametrize(("method", "given", "code", "sentence"), BAD)
def test_bad_values_are_named_and_change_nothing(call: Call, method: str, given: Any, code: int, sentence: str) -> None:
    before = call("hive-client-status")
    with pytest.raises(HiveError) as refused:
        call(method, *given) if isinstance(given, list) and given else call(method, **dict(given))
    assert refused.value.code == code
    assert refused.value.message.startswith(sentence)
    assert call("hive-client-status") == before


def test_an_alias_that_would_never_be_found_is_refused(call: Call) -> None:
    call("hive-client-authorize", "bob")
    alice = call("hive-client-authorize", "alice")["advisor_id"]
    for shadowed in ("alice", "ALICE", alice, "0" * 32):
        with pytest.raises(HiveError, match="already names an advisor directly; choose another alias") as refused:
            call("hive-client-alias", "set", shadowed, "bob")
        assert refused.value.code == 6002
    call("hive-client-alias", "set", "bob", "bob")


def test_every_method_is_tested() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_comms_*.py"))
    missing = [method.name for method in SPEC.methods if f'"{method.name}"' not in source]
    assert missing == []
