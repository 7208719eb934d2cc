"""What our judge is held against: the Mann-Whitney rule of well-known canary judges, and three sigma.

Both are written from their published rules. The Mann-Whitney rule calls a metric too high when the confidence interval
(98 %) of the shift lies beyond a dead band of a quarter of the Hodges-Lehmann estimate; it wants 50 points and more.
One critical metric that is too high fails the canary. Each rule gives a score, so that it can be tried at other levels.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.judge_fleets import SINCE, Fleet, Floats

Json = dict[str, Any]

TOLERANCE = 0.25
# Two-sided 98 % of a normal distribution.
PUBLISHED_SCORE = 2.326
SIGMAS = 3.0
MOST_POINTS = 300
# The node's own columns that the rules compare, and the direction that is worse.
COLUMNS = {"errors": 1, "rpc_ms": 1, "htlcs": 1, "forwards_failed": 1, "forwards": -1, "peers": -1}
PLUGIN_COLUMNS = {"restarts": 1, "rss_bytes": 1, "rpc_ms": 1}


def upto(series: Json, minutes: float) -> Json:
    """A series until so many minutes after the switch."""
    count = series["count"]
    kept = bisect.bisect_left(series["time"], SINCE + 60.0 * minutes + 1.0)

    def part(columns: Mapping[str, Any]) -> Json:
        return {
            name: held[:kept] if isinstance(held, list) and len(held) == count else held
            for name, held in columns.items()
        }

    found = part(series)
    found["plugins"] = {name: part(plugin) for name, plugin in series["plugins"].items()}
    found.update(count=kept, last=found["time"][-1] if kept else None)
    return found


def metrics(series: Json, first: float, last: float) -> dict[str, Floats]:
    """All metrics of a node between two moments, so that more is worse."""
    begin, end = (bisect.bisect_left(series["time"], moment) for moment in (first, last))
    found = {name: sign * np.array(series[name][begin:end], dtype=np.float64) for name, sign in COLUMNS.items()}
    for plugin, held in series["plugins"].items():
        for name, sign in PLUGIN_COLUMNS.items():
            found[f"{plugin} {name}"] = sign * np.array(held[name][begin:end], dtype=np.float64)
    return found


def before_and_after(fleet: Fleet, minutes: float) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The canary's metrics of as long before the switch as after it, which is kinder to the rules than other nodes."""
    series = fleet.series[fleet.canary]
    switch = SINCE - 660.0
    earlier = metrics(series, switch - 60.0 * minutes, switch)
    return metrics(series, SINCE, SINCE + 60.0 * minutes), earlier


def beside(fleet: Fleet, minutes: float) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The canary's metrics and those of the other nodes at the same time, pooled."""
    end = SINCE + 60.0 * minutes
    others = [metrics(series, SINCE, end) for node, series in fleet.series.items() if node != fleet.canary]
    pooled = {name: np.concatenate([other[name] for other in others]) for name in others[0]}
    return metrics(fleet.series[fleet.canary], SINCE, end), pooled


def mann_whitney(later: Floats, earlier: Floats) -> float:
    """How many standard errors the shift is beyond the dead band; too high above PUBLISHED_SCORE."""
    n, m = len(later), len(earlier)
    if not n or not m or (np.ptp(later) == 0 and np.ptp(earlier) == 0 and later[0] == earlier[0]):
        return 0.0
    shifts = (_thinned(later)[:, None] - _thinned(earlier)[None, :]).ravel()
    bound = TOLERANCE * abs(float(np.median(shifts)))
    within = float((shifts <= bound).mean())
    return (0.5 - within) * float(np.sqrt(12.0 * n * m / (n + m + 1.0)))


def three_sigma(later: Floats, earlier: Floats) -> float:
    """How many standard errors of the mean the later mean is above the earlier; too high above SIGMAS."""
    if len(later) < 2 or len(earlier) < 2:
        return 0.0
    above, spread = float(later.mean() - earlier.mean()), float(earlier.std(ddof=1))
    if spread == 0.0:
        return 0.0 if above <= 0 else 1e9
    return above / spread * float(np.sqrt(len(later)))


def scores(rule: Any, pair: tuple[dict[str, Floats], dict[str, Floats]]) -> dict[str, float]:
    """The score of each metric."""
    later, earlier = pair
    return {name: float(rule(later[name], earlier[name])) for name in later}


def _thinned(values: Floats) -> Floats:
    """The same distribution with fewer points: pairs of a day of minutes would be two millions."""
    if len(values) <= MOST_POINTS:
        return values
    return np.asarray(np.quantile(values, (np.arange(MOST_POINTS) + 0.5) / MOST_POINTS))
