"""Payments in flight: a switch waits for them, or does not begin; a restart is announced to the peers first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.drain import (
    budget,
    drain,
    likely_blocks,
    restart_seconds,
    worst_seconds,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.request import Timeouts
from faults.rig import NAME, Rig
from hive_sandbox.testing import FakeNode, open_channel
from waiting import wait_until

Stack = list[dict[str, Any]]
Pair = tuple[Rig, FakeNode]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A node of v26.06.6 whose channel leads to another one."""
    root = tmp_path_factory.mktemp("htlc")
    rig = Rig(root / "rig", release="v26.06.6")
    rig.start()
    peer = FakeNode(root / "peer", "--addr=127.0.0.1:0")
    peer.start()
    here = FakeNode(rig.lightning_dir)
    open_channel(here, peer)
    yield rig, peer
    rig.stop()
    peer.close()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def stacks(network: Pair) -> tuple[Stack, Stack]:
    rig, _ = network
    rig.fault("clear")
    rig.end_deadman()
    rig.run("reverted")
    old = [rig.item("0.1.0", options={f"{NAME}-note": "old"})]
    rig.settle(old)
    return old, [rig.item("0.2.0", options={f"{NAME}-note": "new"})]


def test_more_time_needs_more_blocks() -> None:
    timeouts = Timeouts()
    assert [likely_blocks(seconds) for seconds in (0, 60, 600, 3600)] == [0, 3, 6, 17]
    plain = worst_seconds(timeouts, 3, 300)
    # Three plugins of 55 s there and back, the validation, nobody confirms, lightningd is started again.
    assert plain == 2 * 3 * timeouts.worst + timeouts.validate + 300 + timeouts.ready
    assert worst_seconds(timeouts, 3, 300, restart=True) - plain == 60 + timeouts.ready
    assert restart_seconds(timeouts) >= 60 + timeouts.ready


def test_a_payment_that_expires_too_soon_is_waited_for_and_then_refused(
    network: Pair, stacks: tuple[Stack, Stack]
) -> None:
    rig, (old, new) = network[0], stacks
    rig.fault("htlc-expiring", blocks=12)
    outcome = rig.run("switched", new, htlc_wait_seconds=1.2)
    assert (outcome["phase"], outcome["code"]) == ("refused", "htlc-expiry")
    assert "expires in 12 blocks" in outcome["error"]
    assert "did not settle within 1 s" in outcome["error"]
    assert outcome["details"]["blocks_needed"] > 12
    assert outcome["journal"] == [], "no transaction was begun"
    rig.assert_runs(old)


def test_a_payment_that_settles_in_time_only_delays_the_switch(network: Pair, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = network[0], stacks
    rig.fault("htlc-expiring", blocks=12, seconds=0.7)
    outcome = rig.run("switched", new, deadman_seconds=0.0, htlc_wait_seconds=20.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["drained"]["waited_seconds"] > 0
    assert outcome["drained"]["graceful"] is False
    rig.assert_runs(new)


def test_a_payment_with_time_enough_is_no_obstacle_and_no_peer_is_sent_away(
    network: Pair, stacks: tuple[Stack, Stack]
) -> None:
    rig, (_, new) = network[0], stacks
    rig.fault("htlc-expiring", blocks=144)
    outcome = rig.run("switched", new, deadman_seconds=0.0, htlc_wait_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["drained"]["blocks_left"] == 144
    assert rig.call("listpeers")["peers"][0]["connected"] is True


def test_the_margin_is_at_least_what_lightningd_keeps_for_the_chain(network: Pair, stacks: tuple[Stack, Stack]) -> None:
    rig = network[0]
    rig.fault("htlc-expiring", blocks=40)
    assert stacks
    # cltv-delta is 6 on regtest: lightningd goes on chain 3 blocks before, so 4 is the least margin.
    assert budget(rig.machine, 0.0, 1)["blocks_needed"] == 4
    assert budget(rig.machine, 0.0, 18)["blocks_needed"] == 18


def test_before_a_restart_peers_are_told_and_only_when_there_is_time(
    network: Pair, stacks: tuple[Stack, Stack]
) -> None:
    rig, _ = network
    assert stacks
    rig.fault("htlc-expiring", blocks=12)
    with pytest.raises(HiveError) as refused:
        drain(rig.machine, 600.0, 0.0)
    assert refused.value.code == "htlc-expiry"
    assert rig.call("listpeers")["peers"][0]["connected"] is True, "a refusal leaves the node as it was"
    rig.fault("clear")
    facts = drain(rig.machine, 600.0, 5.0)
    assert (facts["graceful"], facts["peers_left"], facts["pending"]) == (True, 0, 0)
    assert rig.call("listpeers")["peers"][0]["connected"] is False
    rig.call("stop")
    rig.machine.rpc.close()
    rig.start()
    wait_until(lambda: rig.call("listpeers")["peers"][0]["connected"], 20, "the peers are back")


def test_a_version_without_graceful_is_only_looked_at(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", release="v25.12.1")
    rig.start()
    try:
        facts = drain(rig.machine, 600.0, 0.0)
        assert (facts["graceful"], facts["pending"], facts["blocks_left"]) == (False, 0, None)
    finally:
        rig.stop()
