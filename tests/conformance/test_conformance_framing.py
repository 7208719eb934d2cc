"""The JSON-RPC socket: framing, ids, and the errors of requests that are not quite requests."""

from __future__ import annotations

import json

import pytest

from conformance.lab import wire
from conformance.lab.cases import Case, load, play
from conformance.lab.daemon import Daemon


@pytest.mark.parametrize("case", load("framing"))
def test_a_request_is_answered_as_recorded(case: Case, node: Daemon) -> None:
    play(case, node)


def test_a_reply_ends_with_two_newlines_and_nothing_more(node: Daemon) -> None:
    with wire.connection(node.socket) as client:
        client.settimeout(10)
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"listpeers","params":{}}')
        raw = client.recv(1 << 16)
    assert raw == b'{"jsonrpc":"2.0","id":1,"result":{"peers":[]}}\n\n'


def test_a_request_may_come_in_pieces(node: Daemon) -> None:
    with wire.connection(node.socket) as client:
        client.sendall(b'{"jsonrpc":"2.0","id":"a","met')
        assert wire.receive(client, 1, 0.3) == []
        client.sendall(b'hod":"listpeers","params":[]}')
        (reply,) = wire.receive(client, 1, 10)
    assert json.loads(reply) == {"jsonrpc": "2.0", "id": "a", "result": {"peers": []}}


def test_one_connection_carries_many_requests(node: Daemon) -> None:
    with wire.connection(node.socket) as client:
        for number in range(20):
            request = {"jsonrpc": "2.0", "id": number, "method": "listpeers", "params": {}}
            client.sendall(json.dumps(request).encode())
            (reply,) = wire.receive(client, 1, 10)
            assert json.loads(reply)["id"] == number


def test_clients_do_not_wait_for_each_other(node: Daemon) -> None:
    with wire.connection(node.socket) as first, wire.connection(node.socket) as second:
        first.sendall(b'{"jsonrpc":"2.0","id":1,"met')
        second.sendall(b'{"jsonrpc":"2.0","id":2,"method":"listpeers","params":{}}')
        assert len(wire.receive(second, 1, 10)) == 1


def test_a_client_that_goes_away_harms_nobody(node: Daemon) -> None:
    with wire.connection(node.socket) as client:
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"listconfigs","params":{}}')
    assert "result" in node.rpc("listpeers")
