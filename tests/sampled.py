"""Synthetic samples of a probe: the same for the same seed, so that a test of a judge or of a plot can be repeated."""

from __future__ import annotations

import math
import random
from typing import Any

Sample = dict[str, Any]

WHAT: dict[str, Any] = {
    "plugins": ("cl-hive",),
    "digest": "a" * 64,
    "schema": 2,
    "pid": 1000,
    "rss_mb": 64.0,
    "leak_mb_per_hour": 0.0,
    "rpc_ms": 0.6,
    "rpc_spread": 0.35,
    "broken_per_hour": 0.0,
    "crashes_per_hour": 0.0,
    "restarts_per_hour": 0.0,
    "forwards_per_hour": 6.0,
    "failed_share": 0.1,
    "msat": 50_000_000,
    "channels": 8,
    "lost_at": (),
    "down_at": (),
    "dead_at": (),
    "missing_at": (),
    "health": "ok",
    "peers": 3,
    "height": 800_000,
    "brake": "",
    "pause": "",
}


def samples(start: float, count: int, every: float, seed: int, **what: Any) -> list[Sample]:
    """Return `count` samples, `every` seconds apart from `start` on.

    Args:
        seed: the same seed gives the same samples.
        what: other than WHAT. Of these, `lost_at` (a channel goes), `down_at` (lightningd does not answer), `dead_at`
            (the plugins are not active) and `missing_at` (no sample) are the numbers of samples; `rpc_ms` is the
            median, `rpc_spread` the standard deviation of its logarithm.
    """
    unknown = sorted(set(what) - set(WHAT))
    if unknown:
        raise TypeError(f"samples() knows no {unknown[0]}")
    settings = {**WHAT, **what}
    chance = random.Random(seed)
    hours = every / 3600
    pid, lightningd, live, cursor = settings["pid"] + 1, settings["pid"], settings["channels"], 0
    pids = {name: pid + number for number, name in enumerate(settings["plugins"])}
    born, taken = start - 86400, []
    for number in range(count):
        when = round(start + number * every, 3)
        if _times(chance, settings["restarts_per_hour"] * hours):
            lightningd, born = lightningd + 50, when
            pids = {name: held + 50 for name, held in pids.items()}
        restarted = {name: min(1, _times(chance, settings["crashes_per_hour"] * hours)) for name in pids}
        pids = {name: held + 7 * restarted[name] for name, held in pids.items()}
        settled = _times(chance, settings["forwards_per_hour"] * hours * (1 - settings["failed_share"]))
        failed = _times(chance, settings["forwards_per_hour"] * hours * settings["failed_share"])
        msat = sum(int(settings["msat"] * chance.lognormvariate(0, 1)) for _ in range(settled))
        broken = _times(chance, settings["broken_per_hour"] * hours)
        latencies = {name: _latency(chance, settings) for name in ("", *pids)}
        noise = {name: chance.gauss(0, 0.2) for name in pids}
        cursor += settled + failed
        lost = int(number in settings["lost_at"])
        live -= lost
        if number in settings["missing_at"]:
            continue
        if number in settings["down_at"]:
            taken.append({"schema": settings["schema"], "time": when, "lightningd": {"running": False, "pid": 0}})
            continue
        lines = [f"plugin-{settings['plugins'][0]}: something broke ({number})"] * broken
        active = number not in settings["dead_at"]
        taken.append(
            {
                "schema": settings["schema"],
                "time": when,
                "lightningd": {
                    "running": True,
                    "pid": lightningd,
                    "started_at": born,
                    "height": settings["height"] + int(number * every // 600),
                    "synced": True,
                    "ready": True,
                    "rpc_ms": latencies[""],
                },
                "channels": {"CHANNELD_NORMAL": live},
                "lost": {"count": lost, "channels": [f"{number}x1x0"] * lost},
                "pending_htlcs": {"count": 0, "nearest_expiry": None},
                "forwards": {
                    "settled": settled,
                    "failed": failed,
                    "msat": msat,
                    "fee_msat": msat // 2000,
                    "created": cursor,
                    "updated": cursor,
                },
                "log": {"broken": lines, "count": broken, "errors_count": broken},
                "hive_peers": settings["peers"],
                "brake": settings["brake"],
                "pause": settings["pause"],
                "plugins": [
                    {
                        "name": name,
                        "path": f"/srv/hive/slots/{name}/{settings['digest']}/{name}",
                        "active": active,
                        "pid": held if active else 0,
                        "restarts": restarted[name],
                        "rss_bytes": int(_megabytes(settings, number * hours, noise[name]) * (1 << 20)),
                        "digest": settings["digest"],
                        "health": settings["health"],
                        "rpc_ms": latencies[name],
                    }
                    for name, held in pids.items()
                ],
                "took_ms": 5.0,
                "cpu_ms": 5.0,
            }
        )
    return taken


def _times(chance: random.Random, expected: float) -> int:
    """Return how often something happened that happens `expected` times on average (Poisson)."""
    limit, product, count = math.exp(-expected), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def _latency(chance: random.Random, settings: dict[str, Any]) -> float:
    return round(float(settings["rpc_ms"]) * chance.lognormvariate(0, settings["rpc_spread"]), 2)


def _megabytes(settings: dict[str, Any], hours: float, noise: float) -> float:
    return float(settings["rss_mb"]) + float(settings["leak_mb_per_hour"]) * hours + noise
