"""The plugin as lightningd and its siblings see it: options, methods, siblings, packets, pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive.app import HiveApplication
from cl_hive.main import SPEC
from cl_hive.options import DECLARED_ONLY, HONOURED, OPTIONS
from cl_hive.protocol import frames, messages, records
from cl_hive.testing import node_id, signature
from hive_kit.errors import HiveError, InvalidParamsError, OptionError, UnavailableError
from hive_kit.manifest import describe
from hive_kit.node import RpcError
from hive_kit.testing import FakeNode, PluginProcess, application
from waiting import wait_until

ALPHA, BRAVO = node_id("alpha"), node_id("bravo")
NOSTR = "ab" * 32
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def node() -> FakeNode:
    """alpha's lightningd: one channel, one connected peer, no sibling."""
    return FakeNode(
        {
            "getinfo": {"id": ALPHA, "binding": [{"type": "ipv4", "address": "127.0.0.1", "port": 9735}]},
            "signmessage": lambda p: {"zbase": signature(ALPHA, p["message"])},
            "checkmessage": lambda p: {"verified": signature(p["pubkey"], p["message"]) == p["zbase"]},
            "listpeers": {"peers": [{"id": BRAVO, "connected": True, "features": ""}]},
            "listpeerchannels": {"channels": [{"peer_id": BRAVO, "state": "CHANNELD_NORMAL", "total_msat": 5000}]},
            "sendcustommsg": {"status": "sent"},
            "plugin": {"plugins": [{"name": "/plugins/cl-hive", "active": True}]},
        }
    )


@pytest.fixture
def plugin(tmp_path: Path, node: FakeNode) -> Iterator[tuple[HiveApplication, Call]]:
    with application(SPEC, tmp_path, {}, node) as (app, call):
        yield app, call


# -- declaration ---


def test_the_manifest_is_complete() -> None:
    manifest = describe(SPEC)
    assert manifest["rpc_methods"] == [
        "hive-approve-action",
        "hive-distributed-settlement-proposals",
        "hive-distributed-settlement-status",
        "hive-fee-reports",
        "hive-genesis",
        "hive-health",
        "hive-inject-packet",
        "hive-invite",
        "hive-join",
        "hive-leave",
        "hive-members",
        "hive-pending-actions",
        "hive-phase6-plugins",
        "hive-reject-action",
        "hive-report-period-costs",
        "hive-settlement-calculate",
        "hive-settlement-execute",
        "hive-settlement-generate-offer",
        "hive-settlement-history",
        "hive-settlement-list-offers",
        "hive-settlement-period-details",
        "hive-settlement-reconcile",
        "hive-settlement-register-offer",
        "hive-status",
    ]
    assert (manifest["start_order"], manifest["database"], manifest["schema_version"]) == (40, "cl_hive.db", 2)
    assert "hive_members" in manifest["tables"]
    assert manifest["hooks"] == []
    assert {"custommsg", "connect", "disconnect", "shutdown"} <= set(manifest["subscriptions"])


FIELD = {
    "hive-db-path", "hive-governance-mode", "hive-neophyte-fee-discount", "hive-member-fee-ppm", "hive-probation-days",
    "hive-vouch-threshold", "hive-min-vouch-count", "hive-max-members", "hive-market-share-cap",
    "hive-membership-enabled", "hive-auto-vouch", "hive-auto-join", "hive-auto-promote", "hive-ban-autotrigger",
    "hive-intent-hold-seconds", "hive-gossip-threshold", "hive-heartbeat-interval", "hive-planner-interval",
    "hive-planner-enable-expansions", "hive-planner-min-channel-sats", "hive-planner-max-channel-sats",
    "hive-planner-default-channel-sats", "hive-failsafe-budget-per-day", "hive-autonomous-budget-per-day",
    "hive-budget-reserve-pct", "hive-budget-max-per-channel-pct", "hive-max-expansion-feerate", "hive-rpc-pool-size",
    "hive-transport-mode", "hive-vpn-subnets", "hive-vpn-bind", "hive-vpn-peers", "hive-vpn-required-messages",
    "hive-cashu-mints", "hive-nostr-relays",
}  # fmt: skip


def test_every_option_of_the_field_is_declared() -> None:
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names))
    assert set(names) == FIELD | {"hive-join-requires-channel"}
    assert set(DECLARED_ONLY) | HONOURED == set(names)
    assert [option.name for option in OPTIONS if not option.dynamic] == ["hive-db-path", "hive-rpc-pool-size"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hive-max-members": "1"}, "minimum 2"),
        ({"hive-max-members": 101}, "maximum 100"),
        ({"hive-max-members": "many"}, "not a whole number"),
        ({"hive-governance-mode": "oracle"}, "advisor, failsafe"),
        ({"hive-gossip-threshold": "0.6"}, "between 0.01 and 0.5"),
        ({"hive-gossip-threshold": "nan"}, "between"),
        ({"hive-market-share-cap": "x"}, "not a number"),
        ({"hive-heartbeat-interval": 59}, "minimum 60"),
        ({"hive-transport-mode": "tor"}, "vpn-only"),
        ({"hive-vpn-subnets": "10.8.0.0/40"}, "not a network"),
        ({"hive-vpn-required-messages": "gossip,news"}, "not one of"),
        ({"hive-max-expansion-feerate": 500}, "neither 0 nor between 1000"),
        ({"hive-auto-vouch": "perhaps"}, "not true or false"),
        ({"hive-planner-default-channel-sats": 900_000}, "must lie between"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught, application(SPEC, tmp_path, options):
        pass
    assert next(iter(options)) in caught.value.message


def test_an_operator_s_old_config_is_taken(tmp_path: Path, node: FakeNode) -> None:
    old = {
        "hive-governance-mode": "autonomous",
        "hive-probation-days": "30",
        "hive-max-members": "9",
        "hive-market-share-cap": "0.10",
        "hive-planner-enable-expansions": "true",
        "hive-max-expansion-feerate": "0",
        "hive-vpn-subnets": "10.8.0.0/24, fd00::/8",
        "hive-vpn-required-messages": "gossip",
    }
    with application(SPEC, tmp_path, old, node) as (app, call):
        status = call("hive-status")
        assert status["governance_mode"] == "failsafe"
        assert status["limits"] == {"max_members": 9, "market_share_cap": 0.1}
        assert "hive-probation-days" in status["options_without_effect"]
        app.context.options.set("hive-max-members", "12")
        assert call("hive-status")["limits"]["max_members"] == 12


# -- methods ---


def test_a_founder_s_first_minutes(plugin: tuple[HiveApplication, Call]) -> None:
    _, call = plugin
    status = call("hive-status")
    assert (status["status"], status["hive_id"], status["membership"]["pubkey"]) == ("no_members", "", ALPHA)
    assert call("hive-members") == {"count": 0, "members": []}
    founded = call("hive-genesis", "my-hive")
    assert (founded["hive_id"], founded["admin_pubkey"]) == ("my-hive", ALPHA)
    status = call("hive-status")
    assert (status["status"], status["members"]) == ("active", {"total": 1, "member": 1, "neophyte": 0})
    assert (status["membership"]["tier"], status["mode"]) == ("member", "monolith")
    (row,) = call("hive-members")["members"]
    assert (row["peer_id"], row["tier"], row["addresses"]) == (ALPHA, "member", ["127.0.0.1:9735"])
    ticket = call("hive-invite", valid_hours="2", uses="3")
    assert (ticket["status"], ticket["valid_hours"], ticket["max_uses"]) == ("ticket_generated", 2, 3)


@pytest.mark.parametrize(
    ("method", "params", "code", "said"),
    [
        ("hive-invite", {}, 6102, "belongs to no hive"),
        ("hive-leave", {}, 6102, "belongs to no hive"),
        ("hive-join", {"ticket": "x"}, 6103, "Invalid ticket format"),
        ("hive-join", {}, -32602, "ticket"),
        ("hive-genesis", {"hive_id": "x" * 65}, -32602, "too long"),
        ("hive-genesis", {"hive_id": "a\nb"}, -32602, "unprintable"),
    ],
)
def test_refusals_before_there_is_a_hive(
    plugin: tuple[HiveApplication, Call], method: str, params: dict[str, Any], code: int, said: str
) -> None:
    with pytest.raises(HiveError, match=said) as caught:
        plugin[1](method, **params)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("method", "params", "code", "said"),
    [
        ("hive-genesis", {}, 6101, "already performed"),
        ("hive-invite", {"tier": "member"}, -32602, "by promotion"),
        ("hive-invite", {"tier": "admin"}, -32602, "not one of"),
        ("hive-invite", {"valid_hours": 0}, -32602, "minimum 1"),
        ("hive-invite", {"valid_hours": 9000}, -32602, "maximum 8760"),
        ("hive-invite", {"uses": 101}, -32602, "maximum 100"),
        ("hive-invite", {"requirements": 16}, -32602, "known are 1 splice"),
        ("hive-invite", {"peer_id": "x"}, -32602, "not a node id"),
        ("hive-invite", {"peer_id": ALPHA}, -32602, "member already"),
        ("hive-leave", {}, 6104, "promote"),
        ("hive-leave", {"reason": ""}, -32602, "reason"),
    ],
)
def test_refusals_in_a_hive(
    plugin: tuple[HiveApplication, Call], method: str, params: dict[str, Any], code: int, said: str
) -> None:
    plugin[1]("hive-genesis")
    with pytest.raises(HiveError, match=said) as caught:
        plugin[1](method, **params)
    assert caught.value.code == code


def test_a_full_hive_invites_nobody(tmp_path: Path, node: FakeNode) -> None:
    with application(SPEC, tmp_path, {"hive-max-members": 2}, node) as (app, call):
        call("hive-genesis")
        app.context.store.execute("INSERT INTO hive_members (peer_id, joined_at) VALUES (?, 1)", (BRAVO,))
        with pytest.raises(HiveError, match="raise hive-max-members") as caught:
            call("hive-invite")
        assert caught.value.code == 6007


def test_a_silent_lightningd_is_said_and_not_fatal(tmp_path: Path, node: FakeNode) -> None:
    node.answers["getinfo"] = UnavailableError("getinfo did not answer within 10 s")
    with application(SPEC, tmp_path, {}, node) as (app, call):
        with pytest.raises(UnavailableError, match="did not answer"):
            call("hive-status")
        app._tick()
        lightningd = {check["name"]: check for check in call("hive-health")["checks"]}["lightningd"]
        assert (lightningd["ok"], lightningd["detail"]) == (False, "getinfo did not answer within 10 s")
        node.answers["getinfo"] = {"id": ALPHA}
        app._tick()
        assert call("hive-status")["status"] == "no_members"
        assert {c["name"]: c["ok"] for c in call("hive-health")["checks"]}["lightningd"]


# -- siblings ---


def comms_answers(_: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "pubkey": NOSTR}


def test_the_mode_follows_the_siblings(plugin: tuple[HiveApplication, Call], node: FakeNode) -> None:
    app, call = plugin
    comms, archon = app.context.siblings["cl-hive-comms"], app.context.siblings["cl-hive-archon"]
    seen = []
    for answers in (
        {},
        {"hive-client-identity": comms_answers},
        {"hive-client-identity": comms_answers, "hive-archon-status": {"ok": True}},
        {"hive-archon-status": {"ok": True}},
        {},
    ):
        for name in ("hive-client-identity", "hive-archon-status"):
            node.answers.pop(name, None)
        node.answers.update(answers)
        comms.look()
        archon.look()
        seen.append((call("hive-status")["mode"], call("hive-health")["mode"]))
    expected = ["monolith", "with-comms", "full", "with-archon", "monolith"]
    assert seen == [(mode, mode) for mode in expected]


def test_archon_signs_while_it_is_there(plugin: tuple[HiveApplication, Call], node: FakeNode) -> None:
    app, call = plugin
    node.answers["hive-archon-status"] = {"ok": True}
    node.answers["hive-archon-sign-message"] = lambda p: {
        "signature": signature(ALPHA, f"{p['domain']}|{p['message']}")
    }
    app.context.siblings["cl-hive-archon"].look()
    call("hive-genesis")
    assert call("hive-status")["signer"] == {"backend": "archon", "archon": 3, "node": 0, "fallbacks": 0}
    node.answers["hive-archon-sign-message"] = RpcError("hive-archon-sign-message", -32601, "Unknown command")
    call("hive-invite")
    assert call("hive-status")["signer"] == {"backend": "node", "archon": 3, "node": 1, "fallbacks": 1}


def test_plugin_list_says_what_is_installed(plugin: tuple[HiveApplication, Call], node: FakeNode) -> None:
    app, call = plugin
    assert call("hive-phase6-plugins") == {
        "cl_hive_comms": {"installed": False, "active": False, "name": ""},
        "cl_hive_archon": {"installed": False, "active": False, "name": ""},
        "mode": "monolith",
        "warnings": [],
    }
    node.answers["plugin"] = {
        "plugins": [
            {"name": "/slots/x/bin/cl-hive-comms", "active": False},
            {"name": "/old/cl_hive_archon.py", "active": True},
        ]
    }
    reply = call("hive-phase6-plugins")
    assert reply["cl_hive_comms"] == {"installed": True, "active": False, "name": "cl-hive-comms"}
    assert reply["cl_hive_archon"] == {"installed": True, "active": True, "name": "cl_hive_archon.py"}
    assert len(reply["warnings"]) == 2
    node.answers["plugin"] = RpcError("plugin", -32602, "no")
    with pytest.raises(UnavailableError):
        call("hive-phase6-plugins")
    assert app.mode == "monolith"


# -- packets ---


def bravo_joins(app: HiveApplication) -> None:
    """Put bravo into the member list, with the Nostr key it announced."""
    now = app.context.now()
    app.context.store.execute("INSERT INTO hive_members (peer_id, joined_at) VALUES (?, ?)", (BRAVO, now))
    text = records.nostr_text(BRAVO, NOSTR, now)
    app.hive.bindings.learn(BRAVO, {"pubkey": NOSTR, "timestamp": now, "signature": signature(BRAVO, text)})


def state_hash(app: HiveApplication) -> dict[str, Any]:
    body = {"sender_id": BRAVO, "fleet_hash": "", "timestamp": app.context.now(), "peer_count": 1}
    return {**body, "signature": signature(BRAVO, messages.state_hash_text(body))}


def inject(call: Call, payload: Any, **params: Any) -> dict[str, Any]:
    return call("hive-inject-packet", payload=payload, **params)


def test_a_packet_of_a_bound_key_is_the_members_message(plugin: tuple[HiveApplication, Call], node: FakeNode) -> None:
    app, call = plugin
    call("hive-genesis")
    node.answers["hive-client-identity"] = comms_answers
    app.context.siblings["cl-hive-comms"].look()
    bravo_joins(app)
    packet = {"type": "STATE_HASH", "version": 1, "payload": state_hash(app), "sender": node_id("mallory")}
    assert inject(call, packet, pubkey=NOSTR) == {"result": "queued", "source": "nostr", "sender": BRAVO}
    wait_until(lambda: app.hive.counters.get("received_STATE_HASH") == 1, 5, "the packet was handled")
    raw = {"raw_plaintext": frames.encode(messages.STATE_HASH.number, state_hash(app)).hex()}
    inject(call, raw, pubkey=NOSTR, source="rest")
    wait_until(lambda: app.hive.counters.get("received_STATE_HASH") == 2, 5, "the frame was handled")


def test_packets_without_a_known_sender_are_refused_and_counted(
    plugin: tuple[HiveApplication, Call], node: FakeNode
) -> None:
    app, call = plugin
    call("hive-genesis")
    bravo_joins(app)
    packet = {"type": "STATE_HASH", "payload": state_hash(app)}

    def refusal(**params: Any) -> int:
        with pytest.raises(HiveError) as caught:
            inject(call, params.pop("payload", packet), **params)
        return caught.value.code

    assert refusal(pubkey=NOSTR) == 6107  # comms is not there
    node.answers["hive-client-identity"] = comms_answers
    app.context.siblings["cl-hive-comms"].look()
    assert refusal() == 6106
    assert refusal(pubkey="cd" * 32) == 6106
    assert refusal(pubkey=NOSTR, payload={"type": "NOBODY"}) == 6108
    assert refusal(pubkey="short") == -32602
    assert refusal(pubkey=NOSTR, payload="not json") == -32602
    now = app.context.now()
    charlie = node_id("charlie")
    app.context.store.execute("INSERT INTO hive_members (peer_id, joined_at) VALUES (?, ?)", (charlie, now))
    claim = {"pubkey": NOSTR, "timestamp": now, "signature": signature(BRAVO, records.nostr_text(charlie, NOSTR, now))}
    app.hive.bindings.learn(charlie, claim)  # not signed by charlie: bravo's binding stands
    assert app.hive.bindings.node_of(NOSTR) == BRAVO
    claim["signature"] = signature(charlie, records.nostr_text(charlie, NOSTR, now))
    app.hive.bindings.learn(charlie, claim)  # two claim it: nobody has it
    assert refusal(pubkey=NOSTR) == 6106
    counters = app.hive.counters.as_dict()
    assert {name: n for name, n in counters.items() if name.startswith(("packet", "binding"))} == {
        "binding_refused_signature": 1,
        "packet_refused_disputed": 1,
        "packet_refused_malformed": 1,
        "packet_refused_mode": 1,
        "packet_refused_unmapped": 2,
    }


def test_the_own_nostr_key_is_announced_in_the_gossip(plugin: tuple[HiveApplication, Call], node: FakeNode) -> None:
    app, call = plugin
    node.answers["hive-client-identity"] = comms_answers
    app.context.siblings["cl-hive-comms"].look()
    call("hive-genesis")
    state = app.hive.states.signed(ALPHA)
    assert state is not None
    said = state["nostr"]
    assert said["pubkey"] == NOSTR
    assert said["signature"] == signature(ALPHA, records.nostr_text(ALPHA, NOSTR, said["timestamp"]))
    del node.answers["hive-client-identity"]
    app.context.siblings["cl-hive-comms"].look()
    assert app.hive.bindings.own(app.siblings.comms) == said  # comms is away for a moment: the key stays


# -- pipes ---


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PluginProcess]:
    running = PluginProcess([sys.executable, "-m", "cl_hive.main"], tmp_path)
    yield running
    if running.process.poll() is None:
        running.kill()


def test_it_starts_without_lightningd_and_stops_at_once(process: PluginProcess, tmp_path: Path) -> None:
    assert not process.start()["result"]
    process.notify("connect", {"id": BRAVO, "direction": "in", "address": {"address": "127.0.0.1"}})
    process.notify("custommsg", {"peer_id": BRAVO, "payload": frames.encode(1, {}).hex()})
    process.notify("custommsg", {"peer_id": BRAVO, "payload": "0007ff"})
    reply = process.request("hive-status", {})
    assert reply["error"]["code"] == 6004
    begin = time.monotonic()
    assert process.shutdown() == 0
    assert time.monotonic() - begin < 3
    assert not list(tmp_path.glob("cl_hive.db-*"))
    assert not [line for line in process.log if line.startswith("broken")]


def test_a_bad_option_disables_it_with_the_reason(process: PluginProcess) -> None:
    reply = process.start({"hive-max-members": 1})
    assert reply["result"] == {"disable": "hive-max-members: 1 is less than the minimum 2"}


def test_parameters_are_checked_by_their_model(plugin: tuple[HiveApplication, Call]) -> None:
    with pytest.raises(InvalidParamsError, match="unknown parameter: zz"):
        plugin[1]("hive-members", zz=1)


def test_one_peer_cannot_fill_the_line(plugin: tuple[HiveApplication, Call]) -> None:
    app, call = plugin
    payload = frames.encode(1, {}).hex()
    mine, others = ({"peer_id": peer, "payload": payload} for peer in (BRAVO, node_id("charlie")))
    assert [app.admit_custommsg(mine) for _ in range(70)] == [True] * 64 + [False] * 6
    assert app.admit_custommsg(others)
    app.on_custommsg(mine)
    assert app.admit_custommsg(mine)
    assert not app.admit_custommsg(mine)
    assert call("hive-status")["counters"]["dropped_flood"] == 7
    for odd in ({}, {"peer_id": BRAVO}, {"peer_id": "x", "payload": payload}, {"peer_id": BRAVO, "payload": "0007"}):
        assert not app.admit_custommsg(odd)
