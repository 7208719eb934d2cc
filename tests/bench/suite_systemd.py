"""Bare-metal nodes: one goes from stack to stack and back, ten are left as they are."""

from __future__ import annotations

import time

from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc

from bench.fleets import PLUGINS, stack
from bench.machines import Machines, machines, missing
from bench.measurement import Measurement, Peers, at_most, median_of
from bench.polling import Poller
from bench.suite_downtime import HEALTH

NODE = "node00"
FEW, MANY = 1, 10


def _start_seconds(made: Machines, name: str) -> float:
    """What the plugin itself needs: from `plugin start` to its first answer, with nobody else involved."""
    rpc = Rpc(made.lightning(NODE) / "regtest/lightning-rpc", timeout=30.0)
    path = next(p["name"] for p in rpc.call("plugin", ["list"])["plugins"] if p["name"].endswith(f"/bin/{name}"))

    def once() -> float:
        rpc.call("plugin", ["stop", path])
        return _first_answer(rpc, path, HEALTH[name])

    return median_of(3, once)


def _first_answer(rpc: Rpc, path: str, method: str) -> float:
    begun = time.perf_counter()
    rpc.call("plugin", ["start", path])
    rpc.call(method)
    return time.perf_counter() - begun


def _span(made: Machines) -> float:
    """Seconds on the node from the first stop of a plugin to the confirmation, by its journal."""
    events = made.report["nodes"][NODE]["timeline"]
    stops = [event["time"] for event in events if event["step"] == "stop"]
    return float(max(event["time"] for event in events) - min(stops))


def _answering_again(made: Machines) -> float:
    """Seconds on the node from the engine's begin to the last start of a plugin, of a switch that confirms itself."""
    entry = made.report["nodes"][NODE]
    times = [event["time"] for event in entry["timeline"]]
    begun = max(times) - entry["switch_ms"] / 1000
    return float(max(event["time"] for event in entry["timeline"] if event["step"] == "start") - begun)


def _one_node() -> list[Measurement]:
    results = []
    with machines(FEW, hive_stack=stack("0.1.0")) as made:
        made.good("rollout")
        own = {name: _start_seconds(made, name) for name in PLUGINS}
        socket = made.lightning(NODE) / "regtest/lightning-rpc"
        pollers = {name: Poller(socket, HEALTH[name]) for name in PLUGINS}
        with pollers["cl-hive-comms"], pollers["cl-hive-archon"], pollers["cl-hive"]:
            made.good("rollout", hive_stack=stack("0.1.1"))
        entry = made.report["nodes"][NODE]
        results.append(at_most("upgrade of three plugins: first stop to confirmed", _span(made), "s", 4))
        results.append(at_most("lightningd restarts", entry["lightningd_restarts"], "count", 0))
        for name, poller in pollers.items():
            assert {version for _, version in poller.answers} == {"0.1.0", "0.1.1"}
            gap = poller.longest_gap_ms / 1000
            results.append(at_most(f"{name}: down beyond its own start", gap - own[name], "s", 1))
        made.good("rollback")
        back, starts = _answering_again(made), round(sum(own.values()), 3)
        peers: Peers = {"the plugins' own starts": starts}
        results.append(
            at_most("rollback on the node, call to old versions answering, beyond their start", back - starts, "s", 1.5)
        )
        results.append(
            Measurement("rollback on the node, call to old versions answering", round(back, 3), "s", peers=peers)
        )
    return results


def _ten_nodes() -> list[Measurement]:
    with machines(MANY, hive_stack=stack("0.1.0")) as made:
        made.good("rollout")

        def once() -> float:
            made.good("rollout")
            assert made.report["result"] == "unchanged"
            return made.cost.seconds

        seconds = median_of(3, once)
        return [
            at_most(f"no-op rollout, {MANY} systemd nodes", seconds, "s", 12),
            Measurement(f"controller CPU of it, {MANY} systemd nodes", round(made.cost.cpu, 2), "s"),
        ]


def run() -> list[Measurement]:
    """Needs a Docker engine; without one it says so and measures nothing."""
    reason = missing()
    if reason:
        return [Measurement(f"skipped: {reason}", 0, "count")]
    return [*_one_node(), *_ten_nodes()]
