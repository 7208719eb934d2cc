"""Nodes among each other: connections, custom messages, channels, payments, forwards and HTLCs under way."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.fleet import Fleet
from waiting import wait_until

from conformance.lab.fleet import FleetNode, messages, wait_message
from conformance.lab.matching import difference
from conformance.lab.scripted import ScriptedPlugin

SHAPES = json.loads((Path(__file__).parent / "data" / "peers.json").read_text(encoding="utf-8"))["shapes"]
LISTENER = {"manifest": {"subscriptions": ["*"], "hooks": [{"name": "custommsg"}, {"name": "peer_connected"}]}}
SENT = {"status": "Message sent to connectd for delivery"}


def check(shape: str, actual: Any) -> None:
    """Compare with a recorded shape."""
    sentence = difference(SHAPES[shape], actual)
    assert sentence is None, sentence


class Background(threading.Thread):
    """A call that takes its time."""

    def __init__(self, node: FleetNode, method: str, params: Any) -> None:
        super().__init__(daemon=True)
        self._ask: Callable[[], dict[str, Any]] = lambda: node.rpc(method, params, 90)
        self.reply: dict[str, Any] = {}
        self.start()

    def run(self) -> None:
        self.reply = self._ask()


@pytest.fixture
def listeners(fleet: list[FleetNode], tmp_path: Path) -> Iterator[list[ScriptedPlugin]]:
    """A plugin on every node that hears everything."""
    plugins = [node.start_plugin(tmp_path / f"listen-{node.name}.py", LISTENER) for node in fleet]
    yield plugins
    for node, plugin in zip(fleet, plugins, strict=True):
        node.rpc("plugin", ["stop", str(plugin.path)])
        plugin.kill()


def test_a_node_counts_its_peers_and_channels(fleet: list[FleetNode]) -> None:
    for node in fleet:
        info = node.ok("getinfo")
        assert (info["num_peers"], info["num_active_channels"], info["num_pending_channels"]) == (2, 2, 0)
        assert info["binding"] == [{"type": "ipv4", "address": "127.0.0.1", "port": node.file.p2p_port}]
        assert info["alias"] == node.name


def test_a_peer_as_listpeers_shows_it(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    for peer in alpha.ok("listpeers")["peers"]:
        check("peer", peer)
    assert alpha.connected(bravo)
    assert alpha.ok("listpeers", {"id": fleet[2].id}) == {"peers": []}


def test_both_ends_see_the_same_channel(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    ours, theirs = alpha.channel(bravo), bravo.channel(alpha)
    for channel in (ours, theirs):
        check("channel", channel)
        assert channel["state"] == "CHANNELD_NORMAL"
    same = ("short_channel_id", "channel_id", "funding_txid", "total_msat")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert ours["to_us_msat"] + theirs["to_us_msat"] == ours["total_msat"]
    assert {ours["opener"], theirs["opener"]} == {"local", "remote"}
    assert {ours["direction"], theirs["direction"]} == {0, 1}


def test_alpha_has_the_least_to_lose(fleet: list[FleetNode]) -> None:
    def at_risk(node: FleetNode) -> int:
        return sum(channel["to_us_msat"] for channel in node.ok("listpeerchannels")["channels"])

    assert min(fleet, key=at_risk).name == "alpha"


def test_connecting_again_says_who_is_there(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    where = {"id": bravo.id, "host": "127.0.0.1", "port": bravo.file.p2p_port}
    reply = alpha.ok("connect", where)
    check("connect", reply)
    assert reply["id"] == bravo.id


class TestCustomMessages:
    def test_odd_types_arrive(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, bravo = fleet[:2]
        for sender, receiver, at in ((alpha, bravo, 1), (bravo, alpha, 0)):
            assert sender.ok("sendcustommsg", [receiver.id, "8001aabbcc"]) == SENT
            heard = wait_message(listeners[at], "custommsg", payload="8001aabbcc")
            assert heard == {"peer_id": sender.id, "payload": "8001aabbcc"}
        kinds = {"id" in m for m in listeners[1].received() if m["method"] == "custommsg"}
        assert kinds == {True, False}, "the hook and the notification of the same name"

    def test_the_largest_message(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, bravo = fleet[:2]
        payload = "8003" + "ab" * 65533
        assert alpha.ok("sendcustommsg", [bravo.id, payload]) == SENT
        assert wait_message(listeners[1], "custommsg", payload=payload)["peer_id"] == alpha.id

    def test_messages_keep_their_order(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, bravo = fleet[:2]
        payloads = [f"8005{number:04x}" for number in range(30)]
        for payload in payloads:
            alpha.ok("sendcustommsg", {"node_id": bravo.id, "msg": payload})
        wait_message(listeners[1], "custommsg", payload=payloads[-1])
        heard = [m["custommsg"]["payload"] for m in messages(listeners[1], "custommsg") if "custommsg" in m]
        assert [payload for payload in heard if payload.startswith("8005")] == payloads

    def test_nobody_but_peers(self, fleet: list[FleetNode]) -> None:
        alpha, charlie = fleet[0], fleet[2]
        error = alpha.error("sendcustommsg", [charlie.id, "8001aa"])
        assert error == {"code": -32600, "message": f"No such peer: {charlie.id}"}

    def test_what_lightningd_says_itself_is_refused(self, fleet: list[FleetNode]) -> None:
        error = fleet[0].error("sendcustommsg", [fleet[1].id, "00120000"])
        assert error["code"] == -32600
        assert error["message"].startswith("Cannot send messages of type 18 (WIRE_PING). It is not possible")

    def test_an_even_type_ends_the_connection(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, bravo = fleet[:2]
        assert alpha.ok("sendcustommsg", [bravo.id, "8002aa"]) == SENT
        wait_message(listeners[0], "disconnect", id=bravo.id)


class TestConnections:
    def test_a_connection_with_a_channel_is_ended_only_by_force(
        self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]
    ) -> None:
        alpha, bravo = fleet[:2]
        error = alpha.error("disconnect", {"id": bravo.id})
        assert error == {"code": -1, "message": "Peer has (at least one) channel in state CHANNELD_NORMAL"}
        assert alpha.ok("disconnect", {"id": bravo.id, "force": True}) == {}
        for listener, other in ((listeners[0], bravo), (listeners[1], alpha)):
            assert wait_message(listener, "disconnect", id=other.id) == {"id": other.id}

    def test_a_connection_is_announced(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, bravo = fleet[:2]
        alpha.ok("disconnect", {"id": bravo.id, "force": True})
        wait_message(listeners[1], "disconnect", id=alpha.id)
        alpha.reconnect(bravo)
        ours = wait_message(listeners[0], "connect", id=bravo.id)
        theirs = wait_message(listeners[1], "connect", id=alpha.id)
        for notice in (ours, theirs):
            check("connect notification", notice)
        assert {ours["direction"], theirs["direction"]} == {"in", "out"}
        hook = next(m["peer"] for m in messages(listeners[1], "peer_connected") if m["peer"]["id"] == alpha.id)
        check("peer_connected", hook)

    def test_a_neighbour_that_stops_and_returns(self, fleet: list[FleetNode], fleet_root: Path, flavour: Any) -> None:
        alpha, bravo = fleet[:2]
        before = alpha.channel(bravo)
        assert bravo.ok("stop") == {"result": "Shutdown complete"}
        wait_until(lambda: not alpha.connected(bravo), 20, "alpha notices")
        channel = alpha.channel(bravo)
        assert channel["peer_connected"] is False
        assert channel["state"] == "CHANNELD_NORMAL"
        Fleet(fleet_root).up(len(fleet), flavour.name)
        wait_until(lambda: alpha.connected(bravo), 30, "they meet again")
        after = alpha.channel(bravo)
        kept = ("short_channel_id", "to_us_msat", "total_msat", "channel_id")
        assert [after[name] for name in kept] == [before[name] for name in kept]


class TestPayments:
    AMOUNT = 5_000_000

    def invoice(self, node: FleetNode, label: str, amount: int | str = AMOUNT) -> dict[str, Any]:
        result = node.ok("invoice", {"amount_msat": amount, "label": label, "description": f"for {label}"})
        check("invoice", result)
        return result

    def test_a_payment_over_two_channels(self, fleet: list[FleetNode], listeners: list[ScriptedPlugin]) -> None:
        alpha, charlie = fleet[0], fleet[2]
        invoice = self.invoice(charlie, "two channels")
        paid = alpha.ok("pay", [invoice["bolt11"]], timeout=90)
        check("pay", paid)
        assert (paid["amount_msat"], paid["status"], paid["destination"]) == (self.AMOUNT, "complete", charlie.id)
        assert paid["amount_sent_msat"] > self.AMOUNT
        fee = paid["amount_sent_msat"] - self.AMOUNT

        (received,) = charlie.ok("listinvoices", {"label": "two channels"})["invoices"]
        check("paid invoice", received)
        assert received["payment_preimage"] == paid["payment_preimage"]
        notice = wait_message(listeners[2], "invoice_payment", label="two channels")
        assert notice["preimage"] == paid["payment_preimage"]

        def forwards() -> list[dict[str, Any]]:
            between = [node.ok("listforwards", {"status": "settled"})["forwards"] for node in (fleet[1], fleet[3])]
            return [forward for side in between for forward in side]

        found = wait_until(lambda: [f for f in forwards() if f["out_msat"] == self.AMOUNT], 20, "a forward is settled")
        check("settled forward", found[0])
        assert found[0]["fee_msat"] == fee == found[0]["in_msat"] - found[0]["out_msat"]
        assert fee == 1 + self.AMOUNT // 100_000, "one millisatoshi and ten parts in a million"
        forwarder = fleet[1] if fleet[1].ok("listforwards")["forwards"] else fleet[3]
        settled = wait_message(listeners[fleet.index(forwarder)], "forward_event", status="settled")
        check("forward_event", settled)
        assert forwarder.ok("getinfo")["fees_collected_msat"] >= fee

        (pay,) = alpha.ok("listpays", {"bolt11": invoice["bolt11"]})["pays"]
        check("listpays", pay)

    def test_a_payment_moves_the_balance(self, fleet: list[FleetNode]) -> None:
        alpha, bravo = fleet[:2]
        before = alpha.channel(bravo)["to_us_msat"]
        alpha.ok("pay", [self.invoice(bravo, "moves")["bolt11"]], timeout=90)
        wait_until(alpha.settled, 20, "no HTLC is left")
        after = alpha.channel(bravo)
        assert after["to_us_msat"] == before - self.AMOUNT
        assert bravo.channel(alpha)["to_us_msat"] == after["total_msat"] - after["to_us_msat"]

    def test_paying_twice_pays_once(self, fleet: list[FleetNode]) -> None:
        alpha, bravo = fleet[:2]
        bolt11 = self.invoice(bravo, "once")["bolt11"]
        first = alpha.ok("pay", [bolt11], timeout=90)
        wait_until(alpha.settled, 20, "no HTLC is left")
        balance = alpha.channel(bravo)["to_us_msat"]
        second = alpha.rpc("pay", [bolt11], timeout=90)
        if "result" in second:
            assert second["result"]["payment_preimage"] == first["payment_preimage"]
        assert alpha.channel(bravo)["to_us_msat"] == balance

    def test_an_invoice_says_what_it_is(self, fleet: list[FleetNode]) -> None:
        alpha, bravo = fleet[:2]
        invoice = self.invoice(bravo, "decoded")
        decoded = alpha.ok("decode", [invoice["bolt11"]])
        check("decode", decoded)
        assert decoded["payee"] == bravo.id
        assert (decoded["amount_msat"], decoded["description"]) == (self.AMOUNT, "for decoded")
        assert decoded["payment_hash"] == invoice["payment_hash"]

    def test_more_than_there_is_is_not_paid(self, fleet: list[FleetNode]) -> None:
        alpha, bravo = fleet[:2]
        bolt11 = self.invoice(bravo, "too much", 90_000_000_000)["bolt11"]
        error = alpha.rpc("pay", [bolt11], timeout=90)["error"]
        assert 200 <= error["code"] <= 219
        (kept,) = bravo.ok("listinvoices", {"label": "too much"})["invoices"]
        assert kept["status"] == "unpaid"

    def test_listforwards_refuses_an_unknown_status(self, fleet: list[FleetNode]) -> None:
        error = fleet[1].error("listforwards", {"status": "bogus"})
        assert error["code"] == -32602
        assert error["message"].startswith("status: Unrecognized status: invalid token")

    def test_an_htlc_under_way_shows_everywhere(self, fleet: list[FleetNode], tmp_path: Path) -> None:
        alpha, bravo = fleet[:2]
        height = alpha.ok("getinfo")["blockheight"]
        holder = bravo.start_plugin(
            tmp_path / "hold.py",
            {
                "manifest": {"hooks": [{"name": "htlc_accepted"}]},
                "on": {"htlc_accepted": {"delay_ms": 2500, "result": {"result": "continue"}}},
            },
        )
        invoice = self.invoice(bravo, "held")
        paying = Background(alpha, "pay", [invoice["bolt11"]])
        wait_until(lambda: messages(holder, "htlc_accepted"), 20, "bravo is offered the HTLC")
        for node, other, direction in ((alpha, bravo, "out"), (bravo, alpha, "in")):
            (htlc,) = node.channel(other)["htlcs"]
            check("htlc of a channel", htlc)
            assert (htlc["direction"], htlc["payment_hash"]) == (direction, invoice["payment_hash"])
            assert htlc["amount_msat"] == self.AMOUNT
            assert height < htlc["expiry"] < height + 2016
            (listed,) = [h for h in node.ok("listhtlcs")["htlcs"] if h["payment_hash"] == invoice["payment_hash"]]
            check("listhtlcs", listed)
        paying.join(60)
        assert paying.reply["result"]["status"] == "complete"
        wait_until(lambda: alpha.settled() and bravo.settled(), 20, "nothing is under way any more")
        bravo.ok("plugin", ["stop", str(holder.path)])


def test_a_signature_of_a_node_in_the_graph_needs_no_key(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    zbase = bravo.ok("signmessage", ["hello"])["zbase"]
    assert alpha.ok("checkmessage", ["hello", zbase]) == {"pubkey": bravo.id, "verified": True}
    error = alpha.error("checkmessage", ["hellO", zbase])
    assert error["code"] == 1301
    assert re.fullmatch("0[23][0-9a-f]{64}", error["data"]["claimed_key"])


def test_the_wrapper_behaves_like_lightning_cli(fleet: list[FleetNode]) -> None:
    alpha = fleet[0]
    assert json.loads(alpha.cli("getinfo").stdout)["id"] == alpha.id
    assert alpha.cli("nosuch").rc == 1


def test_the_wrapper_of_lightningd_validates_the_configuration(fleet: list[FleetNode]) -> None:
    alpha = fleet[0]
    for option, code in (("--alias=x", 0), ("--no-such-option=1", 1)):
        done = subprocess.run([*alpha.file.lightningd, option, "--help"], capture_output=True, check=False, timeout=60)
        assert done.returncode == code, done.stderr
