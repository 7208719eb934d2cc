"""Fakes among themselves: peers, messages, channels, payments, and what survives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.testing import FakeNode, connect, open_channel
from waiting import wait_until

ECHO = str(Path(__file__).parent / "plugins" / "echo.py")
STRANGER = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
Pair = tuple[FakeNode, FakeNode]


def heard(node: FakeNode, kind: str, name: str) -> list[Any]:
    """Return what the echo plugin of a node has heard of a hook or topic."""
    return [entry for entry in node.rpc("echo-heard")["heard"] if entry.get(kind) == name]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[list[FakeNode]]:
    """Three nodes in a row with channels of a million satoshi, all on the first's side of each."""
    nodes = [FakeNode(tmp_path / name, "--addr=127.0.0.1:0") for name in ("one", "two", "three")]
    for node in nodes:
        node.start()
    first = open_channel(nodes[0], nodes[1])
    second = open_channel(nodes[1], nodes[2])

    def known() -> bool:
        scids = {row["short_channel_id"] for row in nodes[0].rpc("listchannels")["channels"]}
        return {first, second} <= scids

    wait_until(known, 10, "the first node knows both channels")
    yield nodes
    for node in nodes:
        node.close()


class TestPeers:
    def test_both_sides_list_each_other(self, pair: Pair) -> None:
        one, two = pair
        (seen,) = two.rpc("listpeers")["peers"]
        assert (seen["id"], seen["connected"], seen["num_channels"]) == (one.rpc("getinfo")["id"], True, 0)

    def test_the_wrong_key_is_noticed(self, pair: Pair) -> None:
        one, two = pair
        port = two.rpc("getinfo")["binding"][0]["port"]
        code, message = one.refused("connect", {"id": STRANGER, "host": "127.0.0.1", "port": port})
        assert code == 401
        assert "Cryptographic handshake" in message

    def test_messages_arrive_at_hook_and_subscription(self, pair: Pair) -> None:
        one, two = pair
        two.rpc("plugin", ["start", ECHO])
        two_id = two.rpc("getinfo")["id"]
        assert one.rpc("sendcustommsg", [two_id, "8001aabb"]) == {"status": "Message sent to connectd for delivery"}
        (entry,) = wait_until(lambda: heard(two, "hook", "custommsg"), 5, "the message is heard")
        assert (entry["payload"], entry["peer_id"]) == ("8001aabb", one.rpc("getinfo")["id"])

    def test_messages_keep_their_order(self, pair: Pair) -> None:
        one, two = pair
        two.rpc("plugin", ["start", ECHO])
        two_id = two.rpc("getinfo")["id"]
        sent = [f"8001{number:04x}" for number in range(50)]
        for payload in sent:
            one.rpc("sendcustommsg", [two_id, payload])
        wait_until(lambda: len(heard(two, "hook", "custommsg")) == 50, 10, "all are heard")
        assert [entry["payload"] for entry in heard(two, "hook", "custommsg")] == sent

    def test_an_even_type_ends_the_connection(self, pair: Pair) -> None:
        one, two = pair
        one.rpc("sendcustommsg", [two.rpc("getinfo")["id"], "8000aa"])
        wait_until(lambda: two.rpc("listpeers")["peers"] == [], 5, "the receiver has hung up")
        assert "Invalid unknown even msg 8000aa" in two.log()

    @pytest.mark.parametrize("size", [1, 65536])
    def test_too_short_and_too_long_is_lost(self, size: int, pair: Pair) -> None:
        one, two = pair
        two.rpc("plugin", ["start", ECHO])
        two_id = two.rpc("getinfo")["id"]
        one.rpc("sendcustommsg", [two_id, "81" * size])
        one.rpc("sendcustommsg", [two_id, "8001" + "00" * 65533])
        (entry,) = wait_until(lambda: heard(two, "hook", "custommsg"), 5, "the next message is heard")
        assert len(entry["payload"]) == 2 * 65535

    def test_disconnect_is_told(self, pair: Pair) -> None:
        one, two = pair
        two.rpc("plugin", ["start", ECHO])
        one.rpc("disconnect", [two.rpc("getinfo")["id"]])
        wait_until(lambda: heard(two, "topic", "disconnect"), 5, "the disconnect is told")
        connect(one, two)
        assert wait_until(lambda: heard(two, "hook", "peer_connected"), 5, "the hook is asked")
        assert wait_until(lambda: heard(two, "topic", "connect"), 5, "the connect is told")

    def test_both_calling_each_other_at_once_end_with_one_link(self, pair: Pair) -> None:
        import threading

        one, two = pair
        one.rpc("disconnect", [two.rpc("getinfo")["id"]])
        wait_until(lambda: two.rpc("listpeers")["peers"] == [], 5, "they are apart")
        calls = [threading.Thread(target=connect, args=order) for order in (pair, (two, one))]
        for call in calls:
            call.start()
        for call in calls:
            call.join(10)
        wait_until(lambda: all(len(node.rpc("listpeers")["peers"]) == 1 for node in pair), 5, "they are connected")
        two.rpc("plugin", ["start", ECHO])
        one.rpc("sendcustommsg", [two.rpc("getinfo")["id"], "800101"])
        assert wait_until(lambda: heard(two, "hook", "custommsg"), 5, "the link that is left works")

    def test_blocks_reach_every_node(self, pair: Pair) -> None:
        one, two = pair
        two.rpc("plugin", ["start", ECHO])
        height = one.rpc("sandbox-mine", [3])["blockheight"]
        assert two.rpc("waitblockheight", [height, 5]) == {"blockheight": height}
        assert [entry["payload"]["height"] for entry in heard(two, "topic", "block_added")][-1] == height
        assert one.refused("waitblockheight", [height + 1, 0]) == (2000, "Timed out.")


class TestChannels:
    def test_it_is_locked_in_by_a_block(self, pair: Pair) -> None:
        one, two = pair
        two_id = two.rpc("getinfo")["id"]
        one.rpc("sandbox-fund", {"amount": 2_000_000})
        one.rpc("fundchannel", [two_id, 1_000_000])
        (channel,) = one.rpc("listpeerchannels")["channels"]
        assert (channel["state"], one.rpc("getinfo")["num_pending_channels"]) == ("CHANNELD_AWAITING_LOCKIN", 1)
        one.rpc("sandbox-mine")
        wait_until(lambda: one.rpc("getinfo")["num_active_channels"] == 1, 5, "the channel is active")
        (row,) = one.rpc("listfunds")["channels"]
        assert (row["our_amount_msat"], row["state"]) == (1_000_000_000, "CHANNELD_NORMAL")
        assert one.rpc("listfunds")["outputs"][0]["amount_msat"] == 999_834_000

    @pytest.mark.parametrize(
        ("params", "code"), [([STRANGER, 100_000], 400), (["two", 10**9], 301), (["two", "all"], -32602)]
    )
    def test_what_cannot_be_funded(self, params: list[Any], code: int, pair: Pair) -> None:
        one, two = pair
        asked = [two.rpc("getinfo")["id"] if value == "two" else value for value in params]
        assert one.refused("fundchannel", asked)[0] == code

    def test_a_live_channel_is_disconnected_only_by_force(self, pair: Pair) -> None:
        one, two = pair
        open_channel(one, two)
        two_id = two.rpc("getinfo")["id"]
        assert one.refused("disconnect", [two_id]) == (
            -1,
            "Peer has (at least one) channel in state CHANNELD_NORMAL",
        )
        one.rpc("disconnect", {"id": two_id, "force": True})
        wait_until(lambda: one.rpc("listpeers")["peers"][0]["connected"], 5, "it comes back by itself")

    def test_both_forget_nothing_over_a_restart(self, pair: Pair) -> None:
        one, two = pair
        scid = open_channel(one, two)
        for node in pair:
            assert node.stop() == 0
        # The first has to find the second where it was.
        two.options = (f"--addr=127.0.0.1:{_remembered_port(one)}",)
        for node in pair:
            node.start()
        wait_until(lambda: one.rpc("listpeers")["peers"][0]["connected"], 10, "they are connected again")
        (channel,) = two.rpc("listpeerchannels")["channels"]
        assert (channel["short_channel_id"], channel["state"]) == (scid, "CHANNELD_NORMAL")

    def test_fees_are_told_to_peer_and_network(self, chain: list[FakeNode]) -> None:
        one, two, three = chain
        scid = two.rpc("listpeerchannels", {"id": three.rpc("getinfo")["id"]})["channels"][0]["short_channel_id"]
        (changed,) = two.rpc("setchannel", [scid, 7, 123])["channels"]
        assert (changed["fee_base_msat"], changed["fee_proportional_millionths"]) == (7, 123)

        def fees(node: FakeNode) -> set[int]:
            rows = node.rpc("listchannels", [scid])["channels"]
            return {row["fee_per_millionth"] for row in rows}

        wait_until(lambda: 123 in fees(one), 10, "the first node knows the new fee")
        peer = three.rpc("listpeerchannels")["channels"][0]["updates"]["remote"]
        assert peer["fee_proportional_millionths"] == 123


def _remembered_port(node: FakeNode) -> str:
    """Return the port under which a stopped node remembers its only peer."""
    import sqlite3

    with sqlite3.connect(f"file:{node.net}/lightningd.sqlite3?mode=ro", uri=True) as database:
        return str(database.execute("SELECT address FROM peers").fetchone()[0]).rpartition(":")[2]


class TestPayments:
    def test_over_two_channels(self, chain: list[FakeNode]) -> None:
        one, two, three = chain
        two.rpc("plugin", ["start", ECHO])
        invoice = three.rpc("invoice", {"amount_msat": "50000sat", "label": "l", "description": "d"})
        paid = one.rpc("pay", [invoice["bolt11"]])
        assert (paid["amount_msat"], paid["amount_sent_msat"], paid["status"]) == (50_000_000, 50_000_501, "complete")
        (forward,) = two.rpc("listforwards", ["settled"])["forwards"]
        assert (forward["in_msat"], forward["out_msat"], forward["fee_msat"]) == (50_000_501, 50_000_000, 501)
        assert two.rpc("getinfo")["fees_collected_msat"] == 501
        statuses = [entry["payload"]["status"] for entry in heard(two, "topic", "forward_event")]
        assert statuses == ["offered", "settled"]
        (entry,) = three.rpc("listinvoices", {"label": "l"})["invoices"]
        assert (entry["status"], entry["payment_preimage"]) == ("paid", paid["payment_preimage"])
        assert three.rpc("waitanyinvoice", [0, 1])["label"] == "l"
        sums = [sum(c["to_us_msat"] for c in node.rpc("listpeerchannels")["channels"]) for node in chain]
        assert sums == [949_999_499, 1_000_000_501, 50_000_000]

    def test_a_second_payment_of_an_invoice_pays_nothing(self, chain: list[FakeNode]) -> None:
        one, _, three = chain
        invoice = three.rpc("invoice", {"amount_msat": 1000, "label": "l", "description": "d"})
        first = one.rpc("pay", [invoice["bolt11"]])
        again = one.rpc("pay", [invoice["bolt11"]])
        assert again["payment_preimage"] == first["payment_preimage"]
        assert len(one.rpc("listsendpays")["payments"]) == 1

    def test_what_fails_costs_nothing(self, chain: list[FakeNode]) -> None:
        one, two, three = chain
        three.rpc("plugin", ["start", ECHO])
        invoice = three.rpc("invoice", {"amount_msat": 5000, "label": "unwanted", "description": "d"})
        code, message = one.refused("pay", [invoice["bolt11"]])
        assert (code, message) == (203, "failed: WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS (reply from remote)")
        assert one.rpc("listpeerchannels")["channels"][0]["to_us_msat"] == 1_000_000_000
        assert two.rpc("listforwards", ["failed"])["forwards"][0]["fee_msat"] == 1
        assert one.rpc("listpays")["pays"][0]["status"] == "failed"

    def test_more_than_there_is(self, chain: list[FakeNode]) -> None:
        one, _, three = chain
        invoice = three.rpc("invoice", {"amount_msat": "2000000sat", "label": "l", "description": "d"})
        assert one.refused("pay", [invoice["bolt11"]]) == (205, "Could not find a route")

    def test_a_payment_that_was_given_its_route(self, chain: list[FakeNode]) -> None:
        one, _, three = chain
        three_id = three.rpc("getinfo")["id"]
        route = one.rpc("getroute", [three_id, 1_000_000, 1])["route"]
        assert [(hop["amount_msat"], hop["delay"]) for hop in route] == [(1_000_011, 15), (1_000_000, 9)]
        sent = one.rpc("sendpay", {"route": route, "payment_hash": "ab" * 32})
        assert sent["status"] == "pending"
        assert one.refused("waitsendpay", ["ab" * 32])[0] == 203

    def test_an_expired_invoice(self, chain: list[FakeNode]) -> None:
        one, _, three = chain
        invoice = three.rpc("invoice", {"amount_msat": 1, "label": "l", "description": "d", "expiry": 0})
        wait_until(
            lambda: three.rpc("listinvoices")["invoices"][0]["status"] == "expired", 5, "the invoice has expired"
        )
        assert one.refused("pay", [invoice["bolt11"]]) == (207, "Invoice expired")

    @pytest.mark.parametrize(
        ("params", "code"),
        [
            ({"amount_msat": 1, "label": "l", "description": "d"}, 900),
            ({"amount_msat": "x", "label": "m", "description": "d"}, -32602),
            ({"amount_msat": 1, "label": "m", "description": "d", "preimage": "11" * 32}, 901),
        ],
    )
    def test_invoices_that_cannot_be(self, params: dict[str, Any], code: int, running: FakeNode) -> None:
        first = {"amount_msat": 1, "label": "l", "description": "d", "preimage": "11" * 32}
        running.rpc("invoice", first)
        assert running.refused("invoice", params)[0] == code

    def test_a_node_checks_the_signatures_of_the_nodes_it_knows(self, chain: list[FakeNode]) -> None:
        one, _, three = chain
        zbase = three.rpc("signmessage", ["hello"])["zbase"]
        assert one.rpc("checkmessage", ["hello", zbase]) == {"pubkey": three.rpc("getinfo")["id"], "verified": True}
        assert one.refused("checkmessage", ["hellO", zbase])[0] == 1301


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Pair]:
    """Two nodes of v26.06.6 with a channel on which a payment of the first hangs."""
    nodes = tuple(FakeNode(tmp_path / name, "--addr=127.0.0.1:0", release="v26.06.6") for name in ("one", "two"))
    for node in nodes:
        node.start()
    open_channel(nodes[0], nodes[1])
    nodes[0].rpc("sandbox-fault", {"fault": "htlc-expiring", "blocks": 40})
    yield nodes[0], nodes[1]
    for node in nodes:
        node.close()


class TestGraceful:
    def test_it_waits_for_payments_and_says_what_is_left(self, busy: Pair) -> None:
        one, two = busy
        height, two_id = one.rpc("getinfo")["blockheight"], two.rpc("getinfo")["id"]
        assert one.rpc("graceful", {"timeout": 0}) == {
            "pending_htlc_expiries": [height + 40],
            "pending_peers": [two_id],
        }
        one.rpc("sandbox-fault", {"fault": "clear"})
        assert one.rpc("graceful", {"timeout": 10}) == {}
        assert "JSON-RPC graceful: preventing more connections" in one.log()

    def test_idle_peers_go_and_stay_away_until_the_next_start(self, busy: Pair) -> None:
        one, two = busy
        one.rpc("sandbox-fault", {"fault": "clear"})
        assert one.rpc("graceful") == {}
        two.rpc("sandbox-fault", {"fault": "clear"})
        assert one.rpc("listpeers")["peers"][0]["connected"] is False
        one.stop()
        one.start()
        wait_until(lambda: one.rpc("listpeers")["peers"][0]["connected"], 20, "they are connected again")

    def test_a_payment_may_end_by_itself(self, busy: Pair) -> None:
        one, _ = busy
        one.rpc("sandbox-fault", {"fault": "clear"})
        one.rpc("sandbox-fault", {"fault": "htlc-expiring", "blocks": 40, "seconds": 0.3})
        assert one.rpc("graceful", {"timeout": 20}) == {}

    def test_v25_does_not_know_it(self, running: FakeNode) -> None:
        assert running.refused("graceful")[0] == -32601
