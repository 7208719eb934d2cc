"""An advisor's envelope: who may, what passes, in which order it is refused, and what waits for the operator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.services.danger import danger_of
from cl_hive_comms.services.rate import Rate
from hive_kit.errors import HiveError, LimitError, UnavailableError
from hive_kit.keys import SchnorrKey
from hive_kit.node import RpcError

HOUR = 3_600


def refusal(work: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HiveError) as refused:
        work()
    return refused.value.code, refused.value.message


# -- what passes ------------------------------------------------------------------------------------------------------


def test_an_envelope_is_carried_out_and_receipted_in_the_advisors_name(desk: Any) -> None:
    bob = desk.app.advisors.find("bob").advisor_id
    reply = desk.ask("bob", "alias", {"action": "set", "alias": "b", "advisor": "bob"}, nonce=7)
    assert reply == {
        "ok": True,
        "transport": "rest",
        "schema_type": "hive:alias/v1",
        "nonce": 7,
        "sender": "bob",
        "result": {"ok": True, "alias": "b", "advisor_id": bob},
        "receipt_id": reply["receipt_id"],
    }
    outer, inner = desk.call("hive-client-receipts", limit=2)["receipts"]
    assert (outer["receipt_id"], outer["actor"], inner["actor"]) == (reply["receipt_id"], bob, bob)
    assert outer["params"]["nonce"] == 7
    assert outer["params"]["authenticated_by"] == "hmac"
    assert desk.call("hive-client-alias", "get", "b")["entry"]["advisor_id"] == bob
    desk.call("hive-client-policy", "reset")
    assert desk.call("hive-client-receipts", limit=1)["receipts"][0]["actor"] == "operator"


def test_text_is_as_good_as_an_object_and_the_prefix_may_be_left_out(desk: Any) -> None:
    made = desk.made("bob", "monitor")
    made["signature"] = made["signature"].partition(":")[2].upper()
    assert desk.call("hive-comms-rpc", json.dumps(made), "bob")["result"]["active_advisors"] == 1


def test_an_advisor_with_a_key_signs_with_it_whichever_spelling(desk: Any) -> None:
    key = SchnorrKey.generate()
    desk.advisor(key.npub, "monitor")
    desk.advisor(key.public_hex, "monitor")
    assert desk.send(key.npub, desk.made(key, "monitor", nonce=5))["ok"] is True
    over_nostr = desk.made(key, "monitor", nonce=6)
    reply = desk.call("hive-comms-nostr-ingest", key.public_hex.upper(), over_nostr)
    assert (reply["transport"], reply["sender"]) == ("nostr", key.public_hex)
    # One key, one replay state: neither spelling of its owner takes the other's envelope again.
    assert refusal(lambda: desk.send(key.npub, over_nostr))[0] == 6002


def test_a_token_does_not_stand_in_for_a_key_unless_the_operator_says_so(desk: Any) -> None:
    key = SchnorrKey.generate()
    desk.advisor(key.npub, "monitor")
    code, sentence = refusal(lambda: desk.ask(key.npub, "monitor"))
    assert code == 6003
    assert "signs with it (BIP-340); hive-comms-allow-token-for-keys=true accepts the token too" in sentence
    desk.app.context.options.set("hive-comms-allow-token-for-keys", "true")
    assert desk.ask(key.npub, "monitor")["ok"] is True


def test_what_was_signed_for_one_node_means_nothing_to_another(desk: Any) -> None:
    key = SchnorrKey.generate()
    desk.advisor(key.npub, "monitor")
    for_another = desk.made(key, "monitor", recipient=SchnorrKey.generate().public_hex)
    assert refusal(lambda: desk.send(key.npub, for_another)) == (6003, "invalid sender signature")
    old = desk.made(key, "monitor")
    desk.call("hive-client-identity", "rotate")
    assert refusal(lambda: desk.send(key.npub, old)) == (6003, "invalid sender signature")


def test_another_advisors_token_is_never_in_an_answer(desk: Any) -> None:
    desk.call("hive-client-policy", action="set", overrides={"confirm_from_danger": 9})
    result = desk.ask("bob", "authorize", {"advisor": "eve", "access": "monitor,policy"})["result"]
    assert result["permissions"] == ["monitor", "policy"]
    assert "auth_token" not in result
    assert desk.ask("bob", "authorize", {"action": "revoke", "advisor": "eve"})["result"]["status"] == "revoked"


def test_receipts_are_the_senders_own(desk: Any) -> None:
    desk.advisor("eve", "monitor")
    listed = desk.ask("eve", "receipts", {"limit": 10})["result"]["receipts"]
    assert [receipt["params"]["advisor"] for receipt in listed] == ["eve"]


# -- what does not, and in which order --------------------------------------------------------------------------------

MISSHAPEN = [
    ({"schema_type": None}, "missing schema_type"),
    ({"schema_payload": "text"}, "missing schema_payload object"),
    ({"signature": ""}, "missing signature"),
    ({"signature": "hmac-sha256:abc"}, "invalid signature: give bip340: and 128 hex digits"),
    ({"nonce": -1}, "invalid nonce: give a whole number from 0 to 9223372036854775807"),
    ({"nonce": True}, "invalid nonce"),
    ({"nonce": 2**63}, "invalid nonce"),
    ({"nonce": 1.5}, "invalid nonce"),
    ({"timestamp": "1"}, "invalid timestamp"),
    ({"schema_payload": {"x": "a" * 65_536}}, "message exceeds maximum size (65535 bytes)"),
    ({"schema_payload": {"x": float("nan")}}, "the envelope is not JSON"),
]


@pytest.mark.parametrize(("change", "sentence"), MISSHAPEN)
def test_a_misshapen_envelope_is_named(desk: Any, change: dict[str, Any], sentence: str) -> None:
    code, message = refusal(lambda: desk.send("bob", {**desk.made("bob", "monitor"), **change}))
    assert code == -32602
    assert message.startswith(sentence)


REFUSED = [
    ({"sender": "nobody"}, 6003, "unauthorized sender"),
    ({"timestamp": -301}, 6003, "the timestamp is 301 s old, and 300 are allowed"),
    ({"timestamp": 301}, 6003, "the timestamp is 301 s ahead, and 300 are allowed"),
    ({"schema": "wallet"}, -32602, "unsupported schema_type; this node understands hive:monitor/v1"),
    ({"schema": "Policy"}, -32602, "unsupported schema_type"),
    ({"payload": {"action": "burn"}}, -32602, "action: 'burn' is not one of get, set-preset"),
]


@pytest.mark.parametrize(("given", "code", "sentence"), REFUSED)
def test_a_refusal_uses_no_nonce_up(desk: Any, given: dict[str, Any], code: int, sentence: str) -> None:
    made = desk.made(
        "bob",
        given.get("schema", "policy"),
        given.get("payload"),
        nonce=5,
        timestamp=desk.time + given.get("timestamp", 0),
    )
    before = desk.call("hive-client-status")["receipts"]
    refused = refusal(lambda: desk.send(given.get("sender", "bob"), made))
    assert (refused[0], refused[1][: len(sentence)]) == (code, sentence)
    assert desk.call("hive-client-status")["receipts"] == before
    assert desk.ask("bob", "policy", nonce=5)["ok"] is True


@pytest.mark.parametrize("skew", [-300, 300])
def test_three_hundred_seconds_are_allowed(desk: Any, skew: int) -> None:
    assert desk.ask("bob", "monitor", timestamp=desk.time + skew)["ok"] is True


@pytest.mark.parametrize("member", ["schema_type", "schema_payload", "nonce", "timestamp"])
def test_everything_signed_is_covered_by_the_signature(desk: Any, member: str) -> None:
    made = desk.made("bob", "monitor")
    other = {"schema_type": "hive:policy/v1", "schema_payload": {"x": 1}, "nonce": 99, "timestamp": desk.time + 1}
    made[member] = other[member]
    assert refusal(lambda: desk.send("bob", made)) == (6003, "invalid sender signature")


def test_a_revoked_advisor_and_an_old_token_are_refused(desk: Any) -> None:
    old = desk.tokens["bob"]
    desk.call("hive-client-revoke", "bob")
    assert refusal(lambda: desk.ask("bob", "monitor")) == (6003, "unauthorized sender")
    desk.advisor("bob")
    again = desk.made("bob", "monitor")
    desk.tokens["bob"] = old
    assert refusal(lambda: desk.ask("bob", "monitor")) == (6003, "invalid sender signature")
    assert desk.send("bob", again)["ok"] is True


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        ("monitor", {"monitor", "receipts"}),
        ("policy", {"monitor", "receipts", "policy"}),
        ("payment", {"monitor", "receipts", "payments"}),
        ("alias", {"monitor", "receipts", "alias"}),
        ("admin", {"monitor", "receipts", "policy", "payments", "alias"}),
    ],
)
def test_permissions(desk: Any, access: str, allowed: set[str]) -> None:
    desk.advisor("eve", access)
    for schema in ("monitor", "receipts", "policy", "payments", "alias"):
        if schema in allowed:
            assert desk.ask("eve", schema)["ok"] is True
        else:
            code, sentence = refusal(lambda: desk.ask("eve", schema))  # noqa: B023 - called at once
            assert (code, sentence[:17]) == (6003, "permission denied")
    if access != "admin":
        assert refusal(lambda: desk.ask("eve", "authorize", {"advisor": "x"}))[0] == 6003


def test_the_policy_stands_above_the_permission(desk: Any) -> None:
    rules: dict[str, Any] = {
        "blocked_schemas": ["hive:alias/v1"],
        "forbidden_actions": ["policy/reset"],
        "max_danger": 4,
    }
    desk.call("hive-client-policy", action="set", overrides=rules)
    assert refusal(lambda: desk.ask("bob", "alias"))[1].startswith("schema blocked by local policy")
    assert refusal(lambda: desk.ask("bob", "policy", {"action": "reset"}))[1].startswith("action forbidden")
    sentence = refusal(lambda: desk.ask("bob", "authorize", {"advisor": "eve"}))[1]
    assert sentence == "danger_score 5 exceeds max_danger (4)"
    assert desk.ask("bob", "policy")["ok"] is True


def test_what_the_action_itself_refuses_uses_the_nonce_up_and_is_receipted(desk: Any) -> None:
    asked = desk.made("bob", "alias", {"action": "get", "alias": "none"}, nonce=5)
    assert refusal(lambda: desk.send("bob", asked))[0] == 6001
    receipt = desk.call("hive-client-receipts", limit=1)["receipts"][0]
    assert (receipt["params"]["nonce"], receipt["result"]) == (5, {"ok": False, "code": 6001})
    assert refusal(lambda: desk.send("bob", asked))[0] == 6002


def test_what_could_only_not_be_done_now_may_be_sent_again(desk: Any) -> None:
    asked = desk.made("bob", "payments", {"action": "pay", "bolt11": "lnbcrt-a-100"}, nonce=5)
    desk.node.down = True
    with pytest.raises(UnavailableError):
        desk.send("bob", asked)
    desk.node.down = False
    assert desk.send("bob", asked)["result"]["status"] == "paid"


def test_a_sender_may_ask_sixty_times_a_minute_and_five_times_for_what_is_dangerous(desk: Any) -> None:
    for _ in range(5):
        desk.ask("bob", "authorize", {"advisor": "eve"})
    code, sentence = refusal(lambda: desk.ask("bob", "authorize", {"advisor": "eve"}))
    assert (code, sentence[:45]) == (6007, "rate limit exceeded: at most 5 in 60 s; wait ")
    for _ in range(54):
        desk.ask("bob", "monitor")
    assert refusal(lambda: desk.ask("bob", "monitor"))[0] == 6007
    desk.advisor("eve", "monitor")
    assert desk.ask("eve", "monitor")["ok"] is True


def test_the_rate_slides_and_tracks_a_bounded_number_of_names() -> None:
    now = 0.0
    rate = Rate(2, 60.0, names=2, clock=lambda: now)
    rate.take("a")
    now = 30.0
    rate.take("a")
    rate.take("b")
    for name in ("a", "c"):
        with pytest.raises(LimitError):
            rate.take(name)
    now = 60.0
    rate.take("a")
    now = 91.0
    rate.take("c")


def test_runes(open_desk: Any, tmp_path: Path) -> None:
    with open_desk(tmp_path, {"hive-comms-rest-rune-required": "true"}) as desk:
        desk.advisor("bob")
        made = desk.made("bob", "monitor")
        assert refusal(lambda: desk.send("bob", made))[1].startswith("missing rune")
        desk.node.answers["checkrune"] = RpcError("checkrune", 1502, "Not permitted: method is not equal")
        refused = refusal(lambda: desk.send("bob", made, rune="r"))
        assert refused == (6003, "rune rejected: Not permitted: method is not equal")
        desk.node.answers["checkrune"] = {"valid": True}
        assert desk.send("bob", made, rune="r")["ok"] is True
        asked = {"rune": "r", "method": "hive-comms-rpc", "params": {"sender": "bob", "transport": "rest"}}
        assert desk.node.calls_of("checkrune")[-1] == asked


# -- danger and confirmation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "action", "params", "danger"),
    [
        ("monitor", "status", {}, 1),
        ("policy", "get", {}, 2),
        ("policy", "set-overrides", {}, 6),
        ("policy", "reset", {}, 7),
        ("authorize", "revoke", {"access": ()}, 4),
        ("authorize", "authorize", {"access": ("monitor",)}, 5),
        ("authorize", "authorize", {"access": ("monitor", "admin")}, 8),
        ("payments", "history", {"amount_sats": 0}, 2),
        ("payments", "record", {"amount_sats": 10_000}, 5),
        ("payments", "pay", {"amount_sats": 10_001}, 6),
        ("payments", "pay", {"amount_sats": 100_001}, 7),
        ("alias", "remove", {}, 5),
        ("wallet", "sweep", {}, 9),
    ],
)
def test_danger(schema: str, action: str, params: dict[str, Any], danger: int) -> None:
    assert danger_of(schema, action, params) == danger


def held(desk: Any, spelling: str = "preset") -> str:
    reply = desk.ask("bob", "policy", {"action": spelling, "preset": "aggressive"})
    assert (reply["held"], reply["requires_confirmation"]) == (True, True)
    return str(reply["action_id"])


def test_a_held_action_waits_for_the_operators_word(desk: Any) -> None:
    action = held(desk)
    assert desk.call("hive-client-policy")["policy"]["preset"] == "moderate"
    assert desk.call("hive-client-status")["held_actions"] == 1
    (listed,) = desk.call("hive-client-approve")["held"]
    assert (listed["action_id"], listed["action"], listed["danger"]) == (action, "set-preset", 7)
    assert listed["expires_at"] == desk.time + 4 * HOUR
    approved = desk.call("hive-client-approve", **{"action-id": action})
    assert (approved["status"], approved["result"]["policy"]["preset"]) == ("approved", "aggressive")
    done, word = desk.call("hive-client-receipts", limit=2)["receipts"]
    assert (done["action"], done["actor"]) == ("set-preset", desk.app.advisors.find("bob").advisor_id)
    assert (word["action"], word["actor"]) == ("approve", "operator")
    assert refusal(lambda: desk.call("hive-client-approve", action)) == (
        6002,
        f"action {action} is approved already; the advisor must ask again",
    )


def test_a_held_action_is_not_asked_for_twice(desk: Any) -> None:
    asked = desk.made("bob", "policy", {"action": "reset"})
    desk.send("bob", asked)
    assert refusal(lambda: desk.send("bob", asked))[0] == 6002
    assert desk.call("hive-client-approve")["count"] == 1


def test_the_operator_refuses(desk: Any) -> None:
    action = held(desk)
    assert desk.call("hive-client-approve", action, True, "no")["status"] == "rejected"
    assert desk.call("hive-client-policy")["policy"]["preset"] == "moderate"
    assert desk.call("hive-client-receipts", limit=1)["receipts"][0]["params"]["reason"] == "no"
    assert refusal(lambda: desk.call("hive-client-approve", action))[0] == 6002


@pytest.mark.parametrize(("danger", "hours"), [(6, 24), (7, 4)])
def test_a_held_action_expires(desk: Any, danger: int, hours: int) -> None:
    desk.call("hive-client-policy", action="set", overrides={"confirm_from_danger": danger})
    payload = {"action": "reset"} if danger == 7 else {"action": "set", "overrides_json": {"max_danger": 9}}
    action = desk.ask("bob", "policy", payload)["action_id"]
    desk.time += hours * HOUR - 1
    assert desk.call("hive-client-approve")["count"] == 1
    desk.time += 1
    assert refusal(lambda: desk.call("hive-client-approve", action))[1].startswith(
        f"action {action} is expired already"
    )
    receipt = desk.call("hive-client-receipts", limit=1)["receipts"][0]
    assert (receipt["action"], receipt["actor"]) == ("expire", "cl-hive-comms")
    assert desk.call("hive-client-status")["held_actions"] == 0


def test_what_is_approved_must_still_be_allowed(desk: Any) -> None:
    action = held(desk)
    desk.call("hive-client-policy", action="set", overrides={"blocked_schemas": ["policy"]})
    assert refusal(lambda: desk.call("hive-client-approve", action))[1].startswith("schema blocked")
    desk.call("hive-client-policy", "reset")
    desk.advisor("bob", "monitor")
    assert refusal(lambda: desk.call("hive-client-approve", action))[1].startswith(
        "the advisor may not do that any more"
    )
    desk.advisor("bob", "policy")
    assert desk.call("hive-client-approve", action)["status"] == "approved"


def test_an_advisor_cannot_flood_the_operator(desk: Any) -> None:
    desk.app.management._dangerous_rate = Rate(100, 60.0)
    for _ in range(20):
        held(desk)
    assert refusal(lambda: held(desk))[1].startswith("20 actions of this advisor wait for the operator")


def test_held_actions_and_nonces_survive_a_restart(open_desk: Any, tmp_path: Path) -> None:
    with open_desk(tmp_path) as desk:
        desk.advisor("bob")
        token, action = desk.tokens["bob"], held(desk)
        used = desk.made("bob", "monitor", nonce=50)
        desk.send("bob", used)
    with open_desk(tmp_path) as desk:
        desk.tokens["bob"] = token
        assert refusal(lambda: desk.send("bob", used))[0] == 6002
        assert desk.call("hive-client-approve", action)["status"] == "approved"


def test_pruning_forgets_what_is_decided_and_keys_that_rest(desk: Any) -> None:
    desk.call("hive-client-approve", held(desk), True)
    waits = held(desk)
    desk.time += 2 * 24 * HOUR
    pruned = desk.call("hive-client-prune", 1)["pruned"]
    assert (pruned["held_actions"], pruned["replay_nonces"]) == (1, 1)
    assert desk.app.management.waiting_count() == 0, f"{waits} has expired"
