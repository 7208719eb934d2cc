"""Siblings: found, lost, found again; a breaker that opens and closes; calls that say what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hive_kit.errors import UnavailableError
from hive_kit.node import RpcError
from hive_kit.siblings import Breaker, Probe, Sibling, Siblings
from hive_kit.testing import FakeNode
from hive_kit.workers import Workers
from waiting import wait_until

PROBE = Probe("cl-hive-archon", "hive-archon-status", (("a", 1),))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_sibling_comes_and_goes_and_listeners_hear_each_change_once() -> None:
    node = FakeNode()
    sibling = Sibling(PROBE, node)
    heard: list[bool] = []
    sibling.on_change(heard.append)
    assert sibling.state == "unknown"
    assert not sibling.look()
    node.answers["hive-archon-status"] = {"ok": True}
    assert sibling.look()
    assert sibling.look()
    assert sibling.answer == {"ok": True}
    assert node.calls[-1] == ("hive-archon-status", {"a": 1})
    node.answers["hive-archon-status"] = RpcError("hive-archon-status", -4, "Plugin terminated before replying")
    assert not sibling.look()
    assert heard == [False, True, False]


def test_a_sibling_that_refuses_is_there_and_one_that_hangs_is_not() -> None:
    node = FakeNode({"hive-archon-status": RpcError("hive-archon-status", 6003, "no")})
    sibling = Sibling(PROBE, node)
    assert sibling.look()
    node.answers["hive-archon-status"] = UnavailableError("did not answer within 5 s")
    assert not sibling.look()


def test_calls_pass_and_refusals_are_answers() -> None:
    node = FakeNode({"sign": lambda params: {"signed": params["m"]}})
    sibling = Sibling(PROBE, node)
    assert sibling.call("sign", {"m": 1}) == {"signed": 1}
    node.answers["sign"] = RpcError("sign", 6003, "not that domain")
    for _ in range(5):
        with pytest.raises(RpcError, match="not that domain"):
            sibling.call("sign")
    assert sibling.breaker.state == "closed"


def test_a_sibling_that_vanished_is_named_at_once() -> None:
    node = FakeNode({"hive-archon-status": {"ok": True}})
    sibling = Sibling(PROBE, node)
    sibling.look()
    with pytest.raises(UnavailableError, match="cl-hive-archon does not run on this node; start it and try again"):
        sibling.call("sign")
    calls = len(node.calls)
    with pytest.raises(UnavailableError, match="does not run on this node"):
        sibling.call("sign")
    assert len(node.calls) == calls, "an absent sibling is not called"


def test_the_breaker_opens_after_three_failures_and_closes_after_three_successes() -> None:
    clock = Clock()
    node = FakeNode({"sign": UnavailableError("sign did not answer within 10 s")})
    sibling = Sibling(PROBE, node, Breaker(clock=clock))
    for _ in range(3):
        with pytest.raises(UnavailableError, match="did not answer"):
            sibling.call("sign")
    with pytest.raises(UnavailableError, match="failed repeatedly and is left alone for a while"):
        sibling.call("sign")
    assert len(node.calls) == 3
    clock.now = 60
    assert sibling.breaker.state == "half-open"
    with pytest.raises(UnavailableError, match="did not answer"):
        sibling.call("sign")
    assert sibling.breaker.state == "open", "one failure is enough now"
    clock.now = 120
    node.answers["sign"] = {"ok": True}
    for expected in ("half-open", "half-open", "closed"):
        sibling.call("sign")
        assert sibling.breaker.state == expected


def test_a_returning_sibling_is_called_again_at_once() -> None:
    node = FakeNode({"hive-archon-status": {"ok": True}, "sign": UnavailableError("gone")})
    sibling = Sibling(PROBE, node)
    sibling.look()
    for _ in range(3):
        with pytest.raises(UnavailableError):
            sibling.call("sign")
    assert sibling.breaker.state == "open"
    node.answers["hive-archon-status"] = UnavailableError("gone")
    sibling.look()
    node.answers.update({"hive-archon-status": {"ok": True}, "sign": {"ok": True}})
    sibling.look()
    assert sibling.call("sign") == {"ok": True}


def test_probing_in_the_background_slows_down_and_wakes() -> None:
    answers: dict[str, Any] = {}
    node = FakeNode(answers)
    siblings, workers = Siblings(node, (PROBE,)), Workers("probe")
    siblings.watch(workers)
    workers.start()
    wait_until(lambda: siblings["cl-hive-archon"].state == "absent", 5, "the first probe is done")
    node.answers["hive-archon-status"] = {"ok": True}
    siblings.wake()
    wait_until(lambda: siblings["cl-hive-archon"].present, 1.5, "wake() does not wait for the next turn")
    assert siblings.as_dict() == {"cl-hive-archon": {"state": "present", "breaker": "closed"}}
    workers.stop(2)
    siblings.wake()
