"""For how long a plugin does not answer while its node is upgraded, well or badly; polled every 10 ms."""

from __future__ import annotations

import hashlib
import json
import time

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc
from flows.flow_fleet import PLUGIN, Fleet

from bench.fleets import PLUGINS, fleet, socket_of, stack
from bench.measurement import Measurement, at_most, median_of
from bench.polling import Poller

NODE = "alpha"
HEALTH = {"cl-hive-comms": "hive-comms-health", "cl-hive-archon": "hive-archon-health", "cl-hive": "hive-health"}


def _start_seconds(made: Fleet, name: str) -> float:
    """What the plugin itself needs: from `plugin start` to its first answer, with nobody else involved."""
    rpc = Rpc(socket_of(made, NODE), timeout=30.0)
    listed = rpc.call("plugin", ["list"])["plugins"]
    path = next(p["name"] for p in listed if p["name"].endswith(f"/bin/{name}"))

    def once() -> float:
        rpc.call("plugin", ["stop", path])
        begun = time.perf_counter()
        rpc.call("plugin", ["start", path])
        rpc.call(HEALTH[name])
        return time.perf_counter() - begun

    return median_of(3, once)


def _good_upgrade() -> list[Measurement]:
    results = []
    with fleet("downtime", 1, hive_stack=stack("0.1.0")) as made:
        made.good("rollout")
        before = made.pid(NODE)
        own = {name: _start_seconds(made, name) for name in PLUGINS}
        pollers = {name: Poller(socket_of(made, NODE), HEALTH[name]) for name in PLUGINS}
        with pollers["cl-hive-comms"], pollers["cl-hive-archon"], pollers["cl-hive"]:
            made.good("rollout", hive_stack=stack("0.1.1"))
        for name, poller in pollers.items():
            assert {version for _, version in poller.answers} == {"0.1.0", "0.1.1"}
            gap = poller.longest_gap_ms / 1000
            results.append(at_most(f"{name}: down beyond its own start", gap - own[name], "s", 0.3))
            results.append(Measurement(f"{name}: down", round(gap, 3), "s", peers={"own start": round(own[name], 3)}))
        restarts = int(made.pid(NODE) != before) + made.report["nodes"][NODE]["lightningd_restarts"]
        results.append(at_most("lightningd restarts in a good upgrade", restarts, "count", 0))
    return results


def _bad_upgrades() -> list[Measurement]:
    with fleet("downtime", 1) as made:
        made.good("rollout")
        before = made.pid(NODE)
        with Poller(socket_of(made, NODE), f"{PLUGIN}-health") as crashed:
            made.bad("rollout", hive_stack=[{"name": PLUGIN, "version": "0.2.0"}])
        _break_dependencies(made)
        with Poller(socket_of(made, NODE), f"{PLUGIN}-health") as unbuildable:
            made.bad("rollout", hive_stack=[{"name": PLUGIN, "version": "0.9.0"}])
        return [
            at_most("crashes at init: old version answers after", crashed.longest_gap_ms / 1000, "s", 3),
            # One missed poll on a noisy machine is no downtime; a swapped plugin would miss ten.
            at_most("cannot be installed: down", round(unbuildable.longest_gap_ms / 1000, 1), "s", 0),
            at_most("lightningd restarts in bad upgrades", int(made.pid(NODE) != before), "count", 0),
        ]


def _break_dependencies(made: Fleet) -> None:
    """Release 0.9.0: signed, whole, and nothing in it that could be installed."""
    releases = made.shelf.releases / PLUGIN
    good, bad = releases / "0.1.0", releases / "0.9.0"
    bad.mkdir(exist_ok=True)
    manifest = json.loads((good / "manifest.json").read_text(encoding="utf-8"))
    content = b"PK\x05\x06" + bytes(18)  # an empty archive: no code, no wheels
    name = f"{PLUGIN}-0.9.0.pex"
    (bad / name).write_bytes(content)
    manifest["version"] = "0.9.0"
    manifest["artifact"] = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (bad / "manifest.json").write_bytes(canonical(manifest))
    (bad / "manifest.json.sig").unlink(missing_ok=True)
    keys.sign(bad / "manifest.json", keys.find_signer("", "", made.shelf.directory / "keys"))


def run() -> list[Measurement]:
    """Upgrades of one node, driven by rollout.yml as an operator drives it."""
    return [*_good_upgrade(), *_bad_upgrades()]
