"""The judge's statistics, each held against scipy's own, and where it is short, against a sum by hand."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _judge_numbers as numbers
from hypothesis import given, settings
from hypothesis import strategies as st

# scipy has no type hints of its own.
stats: Any = importlib.import_module("scipy.stats")
special: Any = importlib.import_module("scipy.special")

COUNTS = st.integers(0, 400)
TIMES = st.floats(0.01, 1e6)
BANDS = st.floats(1.0, 4.0)


def close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=1e-7, abs_tol=1e-13)


@given(st.floats(0.5, 1e5), st.floats(0.5, 1e5), st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None)
def test_incomplete_beta(a: float, b: float, x: float) -> None:
    assert math.isclose(numbers.incomplete_beta(a, b, x), special.betainc(a, b, x), rel_tol=1e-6, abs_tol=1e-12)


@given(st.integers(1, 400), TIMES, COUNTS, TIMES, BANDS)
@settings(max_examples=100, deadline=None)
def test_a_rate_is_a_binomial_test_given_the_sum(
    count: int, time: float, before: int, long: float, band: float
) -> None:
    share = band * time / (band * time + long)
    expected = stats.binomtest(count, count + before, share, alternative="greater").pvalue
    assert close(numbers.more_often(count, time, before, long, band), expected)
    if before:
        mirrored = stats.binomtest(before, count + before, band * long / (band * long + time), alternative="greater")
        assert close(numbers.less_often(count, time, before, long, band), mirrored.pvalue)


def test_rates_by_hand() -> None:
    # All four events fell into 6 of 66 minutes.
    assert close(numbers.more_often(4, 6, 0, 60, 1.0), (6 / 66) ** 4)
    # One of three, or more, in half of the time: 1 - (1/2)^3; that it may be twice as often makes it two thirds.
    assert close(numbers.more_often(1, 10, 2, 10, 1.0), 1 - 0.5**3)
    assert close(numbers.more_often(1, 10, 2, 10, 2.0), 1 - (1 / 3) ** 3)
    assert numbers.more_often(0, 6, 5, 60, 1.0) == 1.0
    assert numbers.more_often(3, 6, 0, 0, 1.0) == 1.0
    assert close(numbers.less_often(0, 10, 3, 10, 1.0), 0.5**3)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), BANDS)
@settings(max_examples=100, deadline=None)
def test_a_share_is_fishers_exact_test(hits: int, misses: int, before: int, misses_before: int, band: float) -> None:
    n, m = hits + misses, before + misses_before
    found = numbers.larger_share(hits, n, before, m, band)
    if not hits or not m:
        assert found == 1.0
        return
    table = [[hits, misses], [before, misses_before]]
    assert close(numbers.larger_share(hits, n, before, m, 1.0), stats.fisher_exact(table, alternative="greater").pvalue)
    # With an odds ratio, by hand: scipy's own gives up on some tables by ending the process.
    both = hits + before
    weights = {x: math.comb(n, x) * math.comb(m, both - x) * band**x for x in range(max(0, both - m), min(both, n) + 1)}
    expected = sum(weight for x, weight in weights.items() if x >= hits) / sum(weights.values())
    assert close(found, expected)


def test_shares_of_many() -> None:
    found = numbers.larger_share(5000, 20_000, 30_000, 130_000, 1.0)
    assert math.isclose(found, stats.hypergeom.sf(4999, 150_000, 35_000, 20_000), rel_tol=1e-6)


def test_shares_of_millions_are_milder_and_cheap() -> None:
    exact = stats.hypergeom.sf(20_999, 4_000_000, 79_000, 1_000_000)
    assert exact < numbers.larger_share(21_000, 1_000_000, 58_000, 3_000_000, 1.0) < 0.05


@given(st.lists(st.integers(0, 12), min_size=2, max_size=40), st.lists(st.integers(0, 12), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_ranks(later: list[int], earlier: list[int]) -> None:
    found, effect = numbers.shifted_up(np.array(later, dtype=float), np.array(earlier, dtype=float))
    if len({*later, *earlier}) == 1:
        assert (found, effect) == (1.0, 0.5)
        return
    expected = stats.mannwhitneyu(later, earlier, alternative="greater", method="asymptotic")
    assert close(found, expected.pvalue)
    assert math.isclose(effect, expected.statistic / (len(later) * len(earlier)))


def test_neighbours_that_tell_the_same_count_less() -> None:
    chance = np.random.default_rng(5)
    later, earlier = chance.normal(1.5, 1.0, 40), chance.normal(0.0, 1.0, 400)
    ps = [numbers.shifted_up(later, earlier, worth)[0] for worth in (1.0, 4.0, 40.0)]
    assert ps[0] < ps[1] < ps[2]
    assert ps[0] < 1e-6
    assert ps[2] > 0.05


@pytest.mark.parametrize(("memory", "low", "high"), [(0.0, 1.0, 1.3), (0.5, 2.3, 3.7), (0.9, 13.0, 25.0)])
def test_correlation_time(memory: float, low: float, high: float) -> None:
    chance, values = np.random.default_rng(1), np.zeros(20_000)
    noise = chance.normal(size=len(values))
    for number in range(1, len(values)):
        values[number] = memory * values[number - 1] + noise[number]
    # (1 + memory) / (1 - memory) in theory: 1, 3 and 19.
    assert low <= numbers.correlation_time(values) <= high


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
@settings(max_examples=100, deadline=None)
def test_slope(values: list[float]) -> None:
    times = np.arange(len(values), dtype=float) * 60.0
    expected = stats.theilslopes(values, times).slope
    assert math.isclose(numbers.slope(times, np.array(values)), expected, rel_tol=1e-9, abs_tol=1e-9)


def test_steps_up() -> None:
    values = np.array([1.0, 2.0, 3.0, 3.0, 2.5, 4.0, 5.0])
    assert close(numbers.rising(values), stats.binomtest(4, 5, 0.5, alternative="greater").pvalue)
    assert numbers.rising(values[::-1]) > 0.9
    assert numbers.rising(np.ones(9)) == 1.0


def test_dispersion() -> None:
    expected = np.full(200, 6.0)
    chance = np.random.default_rng(2)
    assert numbers.dispersion(chance.poisson(6.0, 200).astype(float), expected) < 1.4
    assert numbers.dispersion(np.repeat(6.0, 200) * chance.integers(0, 3, 200), expected) > 2.0
    assert numbers.dispersion(np.zeros(3), np.ones(3)) == 1.0


def test_holm() -> None:
    # By hand: 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2 ends it, though 0.04 alone would do.
    assert numbers.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.013}, 0.05) == {"a", "d"}
    assert numbers.holm({}, 0.05) == set()


def test_blocks() -> None:
    times, middles = numbers.block_medians(np.arange(7.0), np.array([1.0, 9, 2, 5, 5, 5, 8]), 3)
    assert times.tolist() == [1.0, 4.0]
    assert middles.tolist() == [2.0, 5.0]
    assert len(numbers.block_medians(np.arange(2.0), np.arange(2.0), 3)[0]) == 0
