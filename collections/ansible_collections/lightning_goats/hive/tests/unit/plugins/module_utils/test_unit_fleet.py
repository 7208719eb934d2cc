"""Founding, inviting, joining and waiting, against a node that answers as cl-hive does."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _fleet
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError

Json = dict[str, Any]


class Node:
    """cl-hive's commands on one node; `admits` says after how many looks a join is granted."""

    def __init__(self, me: str, members: list[str] | None = None, admits: int = 2) -> None:
        self.me, self.members, self.admits = me, members or [], admits
        self.refusal = ""
        self.joining = False
        self.calls: list[str] = []

    def call(self, method: str, params: Any = None) -> Json:
        self.calls.append(method)
        reply: Json = getattr(self, method.replace("-", "_"))(params)
        return reply

    def hive_status(self, params: Any) -> Json:
        if self.joining:
            self.admits -= 1
            if self.admits <= 0:
                self.members = ["02a", self.me]
        active = self.me in self.members
        return {
            "status": "active" if active else "no_members",
            "hive_id": "hive_1" if active else None,
            "membership": {"pubkey": self.me},
            "join": {"status": "refused", "reason": self.refusal} if self.refusal and self.joining else None,
        }

    def hive_members(self, params: Any) -> Json:
        return {"count": len(self.members), "members": [{"peer_id": peer} for peer in self.members]}

    def hive_genesis(self, params: Any) -> Json:
        self.members = [self.me]
        return {}

    def hive_invite(self, params: Any) -> Json:
        return {"ticket": f"ticket for {params['peer_id']}"}

    def hive_join(self, params: Any) -> Json:
        assert params == {"ticket": "t"}
        self.joining = True
        return {}


def test_the_first_node_founds_and_invites() -> None:
    result = _fleet.invite(Node("02a"), ["02a", "02b", "02c"], check_mode=False)
    assert result["changed"]
    assert result["hive_id"] == "hive_1"
    assert result["tickets"] == {"02b": "ticket for 02b", "02c": "ticket for 02c"}


def test_a_complete_hive_is_left_alone() -> None:
    node = Node("02a", ["02a", "02b"])
    result = _fleet.invite(node, ["02a", "02b"], check_mode=False)
    assert (result["changed"], result["tickets"]) == (False, {})
    assert "hive-genesis" not in node.calls


def test_check_mode_only_says_so() -> None:
    node = Node("02a")
    assert _fleet.invite(node, ["02b"], check_mode=True)["changed"]
    assert _fleet.join(Node("02b"), "t", 1.0, check_mode=True)["changed"]
    assert set(node.calls) == {"hive-status"}


def test_joining_waits_for_admission() -> None:
    result = _fleet.join(Node("02b"), "t", 10.0, check_mode=False)
    assert result["changed"]
    assert result["members"] == ["02a", "02b"]


def test_a_member_does_not_join_again() -> None:
    node = Node("02b", ["02a", "02b"])
    assert not _fleet.join(node, "t", 1.0, check_mode=False)["changed"]
    assert "hive-join" not in node.calls


def test_a_refusal_is_told_at_once() -> None:
    node = Node("02b", admits=10**9)
    node.refusal = "ticket used up"
    with pytest.raises(HiveError, match="ticket used up"):
        _fleet.join(node, "t", 600.0, check_mode=False)


def test_a_join_that_nobody_grants_says_what_to_do() -> None:
    with pytest.raises(HiveError, match="has not admitted it; look at hive-status"):
        _fleet.join(Node("02b", admits=10**9), "t", 0.2, check_mode=False)


def test_a_missing_member_is_named() -> None:
    with pytest.raises(HiveError, match="1 members are missing"):
        _fleet.wait(Node("02a", ["02a"]), ["02a", "02b"], 0.05)
