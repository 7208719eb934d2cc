# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The judge's statistics: pure functions over numbers. The tests hold each against scipy, which takes too long to load.

All tests are one-sided and have a dead band inside: a p-value speaks against "not worse than the band", not against
"exactly as before", so that no amount of data makes a shift count that nobody would feel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ITERATIONS = 100_000
TINY = 1e-300
# Fisher's test writes down every table there can be; of more than so many it takes a part, which only makes it milder.
MOST_COUNTED = 200_000


def incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    # The fraction converges fast only on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, ITERATIONS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for step in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + step * d)
            c = _away_from_zero(1.0 + step / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-13:
            break
    return min(1.0, math.exp(logarithm) * value / a)


def _away_from_zero(value: float) -> float:
    return TINY if abs(value) < TINY else value


def more_often(count: float, time: float, count_before: float, time_before: float, band: float) -> float:
    """p-value of "at most `band` times as often as before": exact for two Poisson counts, given their sum.

    Given the sum, the later count is binomial with the share of its time. Counts divided by a dispersion need not be
    whole: the incomplete beta function goes on between them.
    """
    if count <= 0.0 or time <= 0.0 or time_before <= 0.0:
        return 1.0
    share = band * time / (band * time + time_before)
    return incomplete_beta(count, count_before + 1.0, share)


def less_often(count: float, time: float, count_before: float, time_before: float, band: float) -> float:
    """p-value of "at least 1 / `band` times as often as before": the same test, to the other side."""
    return more_often(count_before, time_before, count, time, band)


def larger_share(hits: float, total: float, hits_before: float, total_before: float, band: float) -> float:
    """p-value of "the odds of a hit are at most `band` times those before": Fisher's exact test, with that odds ratio.

    Args:
        hits: and `total`, `hits_before`, `total_before`: rounded down, which is to the safe side.
    """
    part = min(1.0, MOST_COUNTED / max(1.0, total + total_before))
    a, n, b, m = (math.floor(value * part + 1e-9) for value in (hits, total, hits_before, total_before))
    if a <= 0 or n <= 0 or m <= 0:
        return 1.0
    every = np.arange(max(0, a + b - m), min(a + b, n) + 1, dtype=np.float64)
    weights = every * math.log(band) - _log_factorials(every) - _log_factorials(n - every)
    weights -= _log_factorials(a + b - every) + _log_factorials(m - (a + b) + every)
    chances = np.exp(weights - weights.max())
    return float(min(1.0, chances[every >= a].sum() / chances.sum()))


def _log_factorials(values: Floats) -> Floats:
    """log(n!) of whole numbers, by Stirling's series where that is exact; math.lgamma takes one number at a time."""
    small = np.array([math.lgamma(n + 1.0) for n in range(32)])
    large = np.maximum(values, 31.0) + 1.0
    series = (large - 0.5) * np.log(large) - large + 0.5 * math.log(2 * math.pi)
    series += 1 / (12 * large) - 1 / (360 * large**3) + 1 / (1260 * large**5)
    return np.where(values < 31.0, small[np.minimum(values, 31.0).astype(np.int64)], series)


def shifted_up(later: Floats, earlier: Floats, correlation_time: float = 1.0) -> tuple[float, float]:
    """Mann-Whitney's test that `later` tends to be larger than `earlier`.

    Args:
        correlation_time: of how many neighbouring samples each tells the same; the test sees so many times fewer.

    Returns:
        p-value (normal approximation with ties, which is to the safe side for very small samples), and the share of
        pairs in which the later is the larger (the common-language effect size).
    """
    n, m = len(later), len(earlier)
    if not n or not m:
        return 1.0, 0.5
    order = np.sort(earlier)
    below = np.searchsorted(order, later, side="left")
    equal = np.searchsorted(order, later, side="right") - below
    wins = float(below.sum()) + 0.5 * float(equal.sum())
    _, ties = np.unique(np.concatenate([later, earlier]), return_counts=True)
    total = n + m
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / (total * (total - 1.0))
    variance = n * m / 12.0 * (total + 1.0 - tied)
    if variance <= 0.0:
        return 1.0, wins / (n * m)
    z = (wins - n * m / 2.0 - 0.5) / math.sqrt(variance * max(1.0, correlation_time))
    return upper_tail(z), wins / (n * m)


def upper_tail(z: float) -> float:
    """The chance that a standard normal variable exceeds `z`."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def correlation_time(values: Floats) -> float:
    """Of how many neighbours each value tells the same (integrated autocorrelation time), at least 1.

    Of ranks, so that outliers do not hide it; summed until the correlation is first lost in noise.
    """
    n = len(values)
    if n < 8 or values.min() == values.max():
        return 1.0
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)
    ranks -= ranks.mean()
    size = 1 << (2 * n - 1).bit_length()
    transformed = np.fft.rfft(ranks, size)
    covariance = np.fft.irfft(transformed * np.conj(transformed), size)[: n // 3 + 1]
    correlations = covariance[1:] / covariance[0]
    lost = np.flatnonzero(correlations < 2.0 / math.sqrt(n))
    end = int(lost[0]) if len(lost) else len(correlations)
    return float(max(1.0, 1.0 + 2.0 * correlations[:end].sum()))


def slope(times: Floats, values: Floats) -> float:
    """Theil and Sen's slope: the median of the slopes of all pairs."""
    if len(times) < 2:
        return 0.0
    first, second = np.triu_indices(len(times), 1)
    apart = times[second] - times[first]
    return float(np.median((values[second] - values[first])[apart > 0] / apart[apart > 0]))


def rising(values: Floats) -> float:
    """p-value of "as often down as up", of the steps from one value to the next: exact for any walk without a drift."""
    steps = np.diff(values)
    up, down = int((steps > 0).sum()), int((steps < 0).sum())
    return incomplete_beta(up, down + 1.0, 0.5) if up else 1.0


def dispersion(counts: Floats, expected: Floats) -> float:
    """How much more counts vary than chance alone lets them (Pearson's statistic over its degrees), at least 1."""
    used = expected > 0
    if int(used.sum()) < 4:
        return 1.0
    pearson = float(((counts[used] - expected[used]) ** 2 / expected[used]).sum())
    return max(1.0, pearson / (int(used.sum()) - 1))


def holm(p_values: Mapping[Any, float], alpha: float) -> set[Any]:
    """The keys that Holm's step-down procedure rejects: with more than chance `alpha`, none of them wrongly."""
    rejected: set[Any] = set()
    for done, key in enumerate(sorted(p_values, key=lambda key: (p_values[key], repr(key)))):
        if p_values[key] > alpha / (len(p_values) - done):
            break
        rejected.add(key)
    return rejected


def bins(times: Floats, edges: Sequence[float] | Floats) -> NDArray[np.int64]:
    """In which of the bins between `edges` each time falls; -1 and len(edges) - 1 are outside."""
    return np.searchsorted(np.asarray(edges, dtype=np.float64), times, side="right").astype(np.int64) - 1


def block_medians(times: Floats, values: Floats, size: int) -> tuple[Floats, Floats]:
    """Medians of blocks of `size` samples that follow one another; what is left over at the end is not used."""
    blocks = len(values) // size
    if not blocks:
        return np.empty(0), np.empty(0)
    shape = (blocks, size)
    return times[: blocks * size].reshape(shape).mean(axis=1), np.median(values[: blocks * size].reshape(shape), axis=1)
