"""For how long a plugin does not answer while its node is upgraded, well or badly; polled every 10 ms."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable

from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import canonical
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc
from flows.flow_fleet import PLUGIN, Fleet
from waiting import wait_until

from bench.field import Reckless, Repository, Script, Way, reckless
from bench.fleets import PLUGINS, fleet, socket_of, stack
from bench.measurement import Measurement, Peers, at_most, median_of, told
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


def _beside() -> list[Measurement]:
    """The same plugin upgraded well, badly and back: by us, by the plugin manager of CLN, and by a script."""
    ours, restarts = _ours()
    field: dict[str, dict[str, float]] = {}
    ways: list[type[Way]] = [Script, *([Reckless] if reckless() else [])]
    for way in ways:
        field[way.name] = _field(way)
    absent: Peers = {} if reckless() else {"reckless": "not here: put it on PATH or set CLN_PREFIX"}
    goals = {"crashes at init": 3.0, "cannot be installed": 0.0}
    results = []
    for case, value in ours.items():
        peers: Peers = {name: told(found[case]) for name, found in field.items()}
        name = f"{case}: down"
        if case in goals:
            # One missed poll on a noisy machine is no downtime; a swapped plugin would miss ten.
            results.append(at_most(name, round(value, 1), "s", goals[case], peers | absent))
        else:
            results.append(Measurement(name, round(value, 3), "s", peers=peers | absent))
    results.append(at_most("lightningd restarts in all of these", restarts, "count", 0))
    return results


def _ours() -> tuple[dict[str, float], int]:
    """(seconds without an answer per case, restarts of lightningd)."""
    found: dict[str, float] = {}
    with fleet("downtime", 1) as made:
        made.good("rollout")
        before = made.pid(NODE)
        _break_dependencies(made)
        for case, playbook, version in (
            ("good upgrade", "rollout", "0.1.1"),
            ("rollback on demand", "rollback", ""),
            ("cannot be installed", "rollout", "0.9.0"),
            ("crashes at init", "rollout", "0.2.0"),
        ):
            wanted = {"hive_stack": [{"name": PLUGIN, "version": version}]} if version else {}
            with Poller(socket_of(made, NODE), f"{PLUGIN}-health") as poller:
                made.run(playbook, **wanted)
                poller.linger()
            found[case] = poller.down_seconds
        return found, int(made.pid(NODE) != before)


def _field(way: type[Way]) -> dict[str, float]:
    """Seconds without an answer per case."""
    found: dict[str, float] = {}
    with fleet("downtime", 1) as made:
        repository = Repository(made.root / "source" / PLUGIN)
        repository.make()
        first = repository.head
        used = way(made, NODE, repository)
        used.install()
        wait_until(lambda: made.version(NODE) == "0.1.0", 30, f"{way.name} has installed the plugin")

        def measure(act: Callable[[], None]) -> float:
            with Poller(socket_of(made, NODE), f"{PLUGIN}-health") as poller:
                wait_until(lambda: bool(poller.answers), 10, "the plugin answers")
                act()
                poller.linger()
            return poller.down_seconds

        repository.commit("0.1.1", "good")
        found["good upgrade"] = measure(used.upgrade)
        assert made.version(NODE) == "0.1.1", f"{way.name} did not upgrade"
        found["rollback on demand"] = measure(lambda: used.go_back(first))
        assert made.version(NODE) == "0.1.0", f"{way.name} did not go back"
        for case, kind, version in (
            ("cannot be installed", "unresolvable", "0.9.0"),
            ("crashes at init", "crash", "0.2.0"),
        ):
            # Each bad one meets a plugin that runs and follows the newest commit, installed afresh.
            used.remove()
            repository.commit("0.1.1", "good")
            used.install()
            wait_until(lambda: made.version(NODE) == "0.1.1", 30, f"{way.name} has installed the plugin")
            repository.commit(version, kind)
            found[case] = measure(used.upgrade)
    return found


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
    return [*_good_upgrade(), *_beside()]
