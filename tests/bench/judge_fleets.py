"""Simulated fleets for the judge: series of nodes that differ, breathe with the day and have their own small troubles.

All of it is made of seeded arrays; the same seed is the same fleet, sample by sample, whatever is done to it: a fault
changes only what it is about.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
Floats = NDArray[np.float64]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
# A Wednesday, some hours after midnight: no soak begins at a moment that suits the judge.
SINCE = 1_790_000_000.0
PLUGINS = ("cl-hive", "cl-hive-archon", "cl-hive-comms")
OLD, NEW = "a" * 64, "b" * 64
DOWN_SECONDS = 600.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong from the switch on.

    Attributes:
        name: for people.
        latency: factor on the latencies of lightningd and of the first plugin.
        errors: samples with error lines an hour.
        pattern: error lines of each sample, over and over; instead of `errors`.
        restarts: of the first plugin, an hour.
        leak: part of its memory that the first plugin takes more, an hour.
        forwards: factor on the forwards.
        failing: share of the forwards that fails; None leaves it.
        everywhere: whether all nodes have it.
    """

    name: str
    latency: float = 1.0
    errors: float = 0.0
    pattern: tuple[int, ...] = ()
    restarts: float = 0.0
    leak: float = 0.0
    forwards: float = 1.0
    failing: float | None = None
    everywhere: bool = False


NOTHING = Fault("nothing")


@dataclass
class Fleet:
    """Nodes of which the first ones are switched at SINCE; the first of all has the fault.

    Attributes:
        seed: of everything.
        nodes: how many there are.
        fault: what the switch does.
        days_before: of history.
        minutes: after the switch.
        interval: seconds between samples.
        switched: how many nodes are the stage; the others are its controls.
    """

    seed: int
    nodes: int
    fault: Fault = NOTHING
    days_before: float = 7.0
    minutes: float = 1280.0
    interval: float = MINUTE
    switched: int = 1
    series: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.nodes):
            self.series[f"node{number:02}"] = self._node(number)

    @property
    def canary(self) -> str:
        return "node00"

    @property
    def stage(self) -> list[str]:
        return sorted(self.series)[: self.switched]

    def expected(self) -> list[Json]:
        """The stack of the nodes of the stage."""
        digests = [NEW, OLD, OLD]
        return [
            {"name": name, "version": "1.0.1" if digest == NEW else "1.0.0", "digest": digest, "enabled": True}
            for name, digest in zip(PLUGINS, digests, strict=True)
        ]

    def _node(self, number: int) -> Json:
        hit = number == 0 or self.fault.everywhere
        fault = self.fault if hit else NOTHING

        def chance(word: str) -> np.random.Generator:
            return np.random.default_rng([self.seed, number, zlib.crc32(word.encode())])

        time = _times(chance("time"), self.days_before * DAY, self.minutes * MINUTE, self.interval)
        after, count = time >= SINCE, len(time)
        hours = np.where(after, (time - SINCE) / HOUR, 0.0)
        up = chance("up").random(count) > 0.0003
        errors = _bursts(chance("errors"), time, 0.3 * chance("rate").gamma(1.0, 1.0), self.interval)
        if fault.errors:
            errors += after * chance("fault").poisson(fault.errors * self.interval / HOUR, count)
        if fault.pattern:
            errors += after * np.resize(np.array(fault.pattern), count)
        settled, failed = _forwards(chance("forwards"), time, after, fault, self.interval)
        plugins = {}
        for place, name in enumerate(PLUGINS):
            hurt = fault if place == 0 else NOTHING
            changed = number < self.switched and place == 0
            restarts = (chance(f"{name} restarts").random(count) < self.interval / (30 * DAY)).astype(np.float64)
            if hurt.restarts:
                restarts += after & (chance("crash").random(count) < hurt.restarts * self.interval / HOUR)
            rss = _memory(chance(f"{name} rss"), time, after & changed) * (1.0 + hurt.leak * hours)
            rpc = _latency(chance(f"{name} rpc"), time, self.interval) * np.where(after, hurt.latency, 1.0)
            plugins[name] = {
                "active": [1] * count,
                "digest": [int(changed and bool(late)) for late in time >= SINCE - DOWN_SECONDS],
                "digests": [OLD, NEW],
                "health": [0] * count,
                "healths": ["ok"],
                "rss_bytes": rss.astype(np.int64).tolist(),
                "rpc_ms": rpc.round(2).tolist(),
                "restarts": np.minimum(restarts, 1).astype(np.int64).tolist(),
            }
        rpc = _latency(chance("rpc"), time, self.interval) * np.where(after, fault.latency, 1.0)
        zeros = [0] * count
        return {
            "schema": 1,
            "count": count,
            "first": float(time[0]),
            "last": float(time[-1]),
            "time": time.round(1).tolist(),
            "up": up.astype(np.int64).tolist(),
            "synced": up.astype(np.int64).tolist(),
            "pid": [100] * count,
            "started_at": [SINCE - 30 * DAY] * count,
            "height": (800_000 + (time - SINCE) // 600).astype(np.int64).tolist(),
            "rpc_ms": rpc.round(2).tolist(),
            "broken": errors.astype(np.int64).tolist(),
            "errors": errors.astype(np.int64).tolist(),
            "restarts": zeros,
            "channels_live": [8] * count,
            "channels_lost": zeros,
            "channels_last": {"CHANNELD_NORMAL": 8},
            "htlcs": chance("htlcs").poisson(1.5, count).tolist(),
            "forwards": settled.tolist(),
            "forwards_failed": failed.tolist(),
            "forwards_known": [1] * count,
            "forwards_msat": (settled * 1_000_000).tolist(),
            "fees_msat": (settled * 500).tolist(),
            "peers": _peers(chance("peers"), time, self.nodes - 1, self.interval).tolist(),
            "brake": "",
            "pause": "",
            "lines": [],
            "plugins": plugins,
        }


def _times(chance: np.random.Generator, before: float, after: float, interval: float) -> Floats:
    """Sample times: a little late each, and one in a hundred missing."""
    planned = np.arange(SINCE - before, SINCE + after + interval, interval)
    times = planned + chance.uniform(0.0, 0.05 * interval, len(planned))
    kept = chance.random(len(planned)) > 0.01
    kept[[0, -1]] = True
    chosen: Floats = times[kept]
    return chosen


def _daily(chance: np.random.Generator, time: Floats, least: float, most: float) -> Floats:
    """The breath of the day, as a logarithm."""
    amplitude, phase = chance.uniform(least, most), chance.uniform(0.0, 0.5)
    return np.asarray(amplitude * np.sin(2 * np.pi * (time / DAY + phase)))


def _wandering(chance: np.random.Generator, count: int, memory: float) -> Floats:
    """A series with variance 1 whose neighbours know of each other (AR 1)."""
    reach = int(np.ceil(np.log(1e-4) / np.log(memory)))
    kernel = np.sqrt(1 - memory**2) * memory ** np.arange(reach)
    return np.convolve(chance.normal(size=count + reach - 1), kernel, mode="valid")


def _latency(chance: np.random.Generator, time: Floats, interval: float) -> Floats:
    count = len(time)
    logs = np.log(chance.uniform(2.0, 12.0)) + _daily(chance, time, 0.0, 0.25)
    logs += 0.2 * _wandering(chance, count, 0.9 ** (interval / MINUTE)) + 0.3 * chance.normal(size=count)
    # Now and then something else has the processor.
    logs += (chance.random(count) < 0.01) * chance.exponential(1.5, count)
    return np.asarray(np.exp(logs))


def _bursts(chance: np.random.Generator, time: Floats, a_day: float, interval: float) -> NDArray[np.int64]:
    """Lines that come in bursts of one to four samples."""
    count = len(time)
    lines = np.zeros(count, dtype=np.int64)
    for begin in np.flatnonzero(chance.random(count) < a_day * interval / DAY):
        for number in range(int(begin), min(count, int(begin) + int(chance.integers(1, 5)))):
            lines[number] += int(chance.integers(1, 6))
    return lines


def _forwards(
    chance: np.random.Generator, time: Floats, after: NDArray[np.bool_], fault: Fault, interval: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = len(time)
    a_day = np.exp(chance.normal(np.log(300.0), 0.7))
    logs = _daily(chance, time, 0.2, 0.7) + 0.4 * _wandering(chance, count, 0.98 ** (interval / MINUTE))
    rate = a_day * interval / DAY * np.exp(logs) * np.where(after, fault.forwards, 1.0)
    failing = chance.uniform(0.1, 0.4)
    odds = np.log(failing / (1 - failing)) + 0.4 * _wandering(chance, count, 0.98 ** (interval / MINUTE))
    share = 1 / (1 + np.exp(-odds))
    if fault.failing is not None:
        share = np.where(after, fault.failing, share)
    return chance.poisson(rate * (1 - share)), chance.poisson(rate * share)


def _memory(chance: np.random.Generator, time: Floats, fresh: NDArray[np.bool_]) -> Floats:
    """What a plugin needs: it fills its caches when it starts, and then wanders a little."""
    count = len(time)
    base = chance.uniform(40.0, 90.0) * (1 << 20)
    walk = np.cumsum(chance.normal(0.0, 0.0002, count))
    walk = 0.05 * np.tanh(walk / 0.05) + 0.003 * chance.normal(size=count)
    warm = np.where(fresh, 0.12 * np.exp(-(time - SINCE) / (1.5 * HOUR)), 0.0)
    return np.asarray(base * (1.0 + walk - warm))


def _peers(chance: np.random.Generator, time: Floats, most: int, interval: float) -> NDArray[np.int64]:
    """Hive peers: each is away for two hours every ten days."""
    seen = np.full(len(time), most, dtype=np.int64)
    for begin in np.flatnonzero(chance.random(len(time)) < most * interval / (10 * DAY)):
        seen[begin : begin + int(2 * HOUR / interval)] -= 1
    return np.maximum(seen, 0)
