"""Runes as the rollout makes them: exact methods, parameters by name, a comment that says whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.lab.daemon import Daemon

NOT_PERMITTED = 1502
BLACKLISTED = 1503


def make(node: Daemon, *restrictions: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = node.rpc("createrune", {"restrictions": list(restrictions)})["result"]
    return made


def may(node: Daemon, rune: str, method: str, params: Any = None) -> bool:
    """What checkrune says of one call."""
    asked = {"rune": rune, "method": method, **({} if params is None else {"params": params})}
    reply = node.rpc("checkrune", asked)
    if "result" in reply:
        return bool(reply["result"]["valid"])
    assert reply["error"]["code"] == NOT_PERMITTED, reply
    return False


def shown(node: Daemon, number: str) -> dict[str, Any]:
    (entry,) = [item for item in node.rpc("showrunes", {})["result"]["runes"] if item["unique_id"] == number]
    return dict(entry)


def test_only_whole_names_are_permitted(node: Daemon) -> None:
    rune = make(node, ["method=getinfo", "method=listpeers"])["rune"]
    assert may(node, rune, "getinfo")
    assert may(node, rune, "listpeers", {"level": "io"})
    for method in ("getinfos", "listpeerchannels", "plugin", "stop", "pay", "hive-genesis"):
        assert not may(node, rune, method), method


@pytest.mark.parametrize(
    ("params", "permitted"),
    [
        ({}, True),
        ([], True),
        ({"action": "list"}, True),
        ({"action": "get"}, True),
        ({"action": "pay"}, False),
        ({"action": "list", "more": "1"}, False),
        (["list"], False),
        (["pay"], False),
        ({"other": "list"}, False),
    ],
)
def test_a_parameter_decides(node: Daemon, params: Any, permitted: bool) -> None:
    only = "method/hive-client-payments"
    rune = make(
        node,
        ["method=hive-client-payments", "method=getinfo"],
        [only, "pnum<2"],
        [only, "pnum=0", "pnameaction=list", "pnameaction=get"],
    )["rune"]
    assert may(node, rune, "hive-client-payments", params) is permitted
    assert may(node, rune, "getinfo", {"a": 1, "b": 2, "c": 3})


def test_every_fixed_parameter_has_to_be_there(node: Daemon) -> None:
    rune = make(node, ["method=hive-comms-rpc"], ["pnamesender=alice"], ["pnametransport=rest"])["rune"]
    assert may(node, rune, "hive-comms-rpc", {"sender": "alice", "transport": "rest", "request": {"a": 1}})
    for params in (
        {"sender": "bob", "transport": "rest"},
        {"sender": "alice"},
        {"sender": "alice", "transport": "nostr"},
        [{}, "alice", "rest"],
        {},
    ):
        assert not may(node, rune, "hive-comms-rpc", params), params


def test_a_comment_permits_everything_and_is_shown(node: Daemon) -> None:
    made = make(node, ["method=getinfo"], ["hiverole#monitor"])
    assert may(node, made["rune"], "getinfo")
    assert not may(node, made["rune"], "stop")
    entry = shown(node, made["unique_id"])
    (comment,) = entry["restrictions"][1]["alternatives"]
    assert (comment["fieldname"], comment["condition"], comment["value"]) == ("hiverole", "#", "monitor")
    (method,) = entry["restrictions"][0]["alternatives"]
    assert (method["fieldname"], method["condition"], method["value"]) == ("method", "=", "getinfo")


def test_a_rune_without_restrictions_shows_none(node: Daemon) -> None:
    made = make(node)
    assert "warning_unrestricted_rune" in made
    assert shown(node, made["unique_id"])["restrictions"] == []
    assert may(node, made["rune"], "stop")


def test_a_blacklisted_rune_counts_no_more(node: Daemon) -> None:
    made = make(node, ["method=getinfo"])
    assert may(node, made["rune"], "getinfo")
    node.rpc("blacklistrune", {"start": int(made["unique_id"])})
    reply = node.rpc("checkrune", {"rune": made["rune"], "method": "getinfo"})
    assert reply["error"]["code"] in (BLACKLISTED, 1501)
    assert shown(node, made["unique_id"])["blacklisted"] is True
