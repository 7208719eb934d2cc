# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Latencies, pending HTLCs and hive peers: rank tests with an effect size.

Neighbouring samples tell the same, so a test sees only as many as are worth one each. What is usual at each hour of the
day is taken off. With control nodes, the distance to their middle is compared with what it was before the switch: what
all nodes have cancels out, and with it most of what goes up and down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ._judge_numbers import Floats, block_medians, correlation_time, shifted_up
from ._judge_window import DAY, Case, Columns, Mask, Test, chance, told

Json = dict[str, Any]

LEAST_HISTORY_SAMPLES = 60
LEAST_SAMPLES = 5
PROFILE_DAYS = 2.0
HOURS = 24
CONTROL_BLOCK = 5
# A control's value counts for a sample at most so many samples away from it.
NEAR_SAMPLES = 15
# In so many pairs of samples the later has to be the worse.
LEAST_EFFECT = 0.7


class Level(NamedTuple):
    """Something that has a value at each moment.

    Attributes:
        check: the check's stable name.
        what: whose, for people.
        values: the value in each sample of a node, not a number where unknown; None when it does not have it.
        up: whether more is worse; else less is.
        band: a ratio that is no news, inside the test.
        ratio: from which ratio of the medians on a shift matters.
        least: from which difference of the medians on a shift matters.
        neighbours: of how many samples each tells the same, at least.
        most: the largest median that is allowed where nothing can be compared; 0 for any.
        unit: for people.
    """

    check: str
    what: str
    values: Callable[[Columns], Floats | None]
    up: bool
    band: float
    ratio: float
    least: float
    neighbours: float
    most: float
    unit: str


def levels(case: Case) -> list[Level]:
    """What has a level on a node."""
    latency = {"up": True, "band": 1.25, "ratio": 1.5, "least": 2.0, "neighbours": 2.0, "most": 1000.0, "unit": " ms"}
    names = [item["name"] for item in case.expected if item.get("enabled", True)]
    return [
        Level("latency", "lightningd", lambda columns: columns.number("rpc_ms"), **latency),  # type: ignore[arg-type]
        *(Level("latency", name, _rpc_of(name), **latency) for name in names),  # type: ignore[arg-type]
        Level("htlcs", "pending HTLCs", lambda c: c.number("htlcs"), True, 1.5, 2.0, 5.0, 60.0, 0.0, ""),
        Level("peers", "hive peers", lambda c: c.number("peers"), False, 1.1, 1.25, 1.0, 60.0, 0.0, ""),
    ]


def _rpc_of(name: str) -> Callable[[Columns], Floats | None]:
    def values(columns: Columns) -> Floats | None:
        plugin = columns.plugin(name)
        return None if plugin is None else np.where(plugin.active, plugin.rpc, np.nan)

    return values


def tests(case: Case, seconds: float) -> Iterator[Test]:
    """All levels of a node, in the samples of so many seconds after the confirmation."""
    for level in levels(case):
        test = _test(case, level, seconds)
        if test is not None:
            yield test


def _test(case: Case, level: Level, seconds: float) -> Test | None:
    values = level.values(case.columns)
    if values is None:
        return None
    known = ~np.isnan(values)
    after, before = case.after(case.columns, seconds) & known, case.before(case.columns) & known
    if int(after.sum()) < LEAST_SAMPLES:
        return None
    middle = float(np.median(values[after]))
    if int(before.sum()) < LEAST_HISTORY_SAMPLES:
        return _without_history(case, level, values, after)
    usual = float(np.median(values[before]))
    raw = _logarithms(level, values)
    logs = raw - _profile(case.columns.time, raw, before)
    p, effect = _compare(logs[after], logs[before], level)
    own_ratio = float(np.exp(abs(np.median(logs[after]) - np.median(logs[before]))))
    beside, p_beside, ratio_beside = _beside(case, level, raw, before, after)
    material = _matters(level, middle, usual, own_ratio, effect)
    excused = ""
    if beside:
        if material and p < p_beside and ratio_beside < level.ratio:
            excused = "the control nodes have it too"
        p, material = p_beside, material and ratio_beside >= level.ratio
    shift = f"{middle:.3g}{level.unit} since the switch, {usual:.3g}{level.unit} before it"
    detail = f"{level.what}: median {shift}; worse in {100 * effect:.0f} % of pairs ({chance(p)})"
    figures = {"median": middle, "median_before": usual, "effect": round(effect, 3), "p": p}
    figures |= {"samples": int(after.sum()), "samples_before": int(before.sum()), "controls": beside}
    return Test(case.name, level.check, level.what, p, material or bool(excused), excused, detail, figures)


def _logarithms(level: Level, values: Floats) -> Floats:
    """Logarithms, of counts of one more; the sign makes more the worse."""
    logs: Floats = np.log(np.maximum(values, 1e-3) if level.most else values + 1.0)
    return logs if level.up else -logs


def _compare(later: Floats, earlier: Floats, level: Level) -> tuple[float, float]:
    """p-value against a shift within the band, and how often the later is the worse without it."""
    worth = max(level.neighbours, correlation_time(earlier))
    p, _ = shifted_up(later - np.log(level.band), earlier, worth)
    _, effect = shifted_up(later, earlier)
    return p, effect


def _matters(level: Level, middle: float, usual: float, ratio: float, effect: float) -> bool:
    worse = middle - usual if level.up else usual - middle
    return worse >= level.least and ratio >= level.ratio and effect >= LEAST_EFFECT


def _profile(times: Floats, logs: Floats, before: Mask) -> Floats:
    """What is usual at the hour of each sample; 0 where too few days are known."""
    known = times[before]
    if not len(known) or known[-1] - known[0] < PROFILE_DAYS * DAY:
        return np.zeros(len(times))
    hour = (times % DAY // 3600).astype(np.int64)
    overall = float(np.median(logs[before]))
    usual = np.full(HOURS, overall)
    for number in range(HOURS):
        chosen = logs[before & (hour == number)]
        if len(chosen) >= CONTROL_BLOCK:
            usual[number] = np.median(chosen)
    profile: Floats = usual[hour] - overall
    return profile


def _beside(case: Case, level: Level, logs: Floats, before: Mask, after: Mask) -> tuple[int, float, float]:
    """How many controls there are to compare with, the p-value and the ratio of the shift beyond theirs."""
    middles = []
    for _, columns in sorted(case.controls.items()):
        nearest = _nearest(case, level, columns)
        enough = (~np.isnan(nearest[after])).mean() >= 0.5 and (~np.isnan(nearest[before])).mean() >= 0.5
        middles += [nearest] if enough else []
    if not middles:
        return 0, 1.0, 1.0
    together = np.vstack(middles)
    seen = ~np.isnan(together).all(axis=0)
    distance = np.full(len(logs), np.nan)
    distance[seen] = logs[seen] - _middle(together[:, seen])
    distance -= _profile(case.columns.time, distance, before & seen)
    later, earlier = distance[after & seen], distance[before & seen]
    p, _ = _compare(later, earlier, level)
    return len(middles), p, float(np.exp(np.median(later) - np.median(earlier)))


def _middle(rows: Floats) -> Floats:
    """The median of each column of those that are numbers, of which each has one."""
    ordered = np.sort(rows, axis=0)
    count = (~np.isnan(rows)).sum(axis=0)
    halves = [np.take_along_axis(ordered, place[None, :], axis=0)[0] for place in ((count - 1) // 2, count // 2)]
    return np.asarray(0.5 * (halves[0] + halves[1]))


def _nearest(case: Case, level: Level, columns: Columns) -> Floats:
    """A control's value at each sample of the node, from small blocks; not a number where it was not seen."""
    key = f"{level.check} {level.what}"
    if key not in columns.blocks:
        columns.blocks[key] = _blocks(level, columns)
    times, blocks = columns.blocks[key]
    wanted = case.columns.time
    if not len(times):
        return np.full(len(wanted), np.nan)
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    nearer = np.where(abs(times[left] - wanted) < abs(times[right] - wanted), left, right)
    return np.where(abs(times[nearer] - wanted) <= NEAR_SAMPLES * case.columns.interval, blocks[nearer], np.nan)


def _blocks(level: Level, columns: Columns) -> tuple[Floats, Floats]:
    values = level.values(columns)
    if values is None:
        return np.empty(0), np.empty(0)
    known = ~np.isnan(values)
    return block_medians(columns.time[known], _logarithms(level, values)[known], CONTROL_BLOCK)


def _without_history(case: Case, level: Level, values: Floats, after: Mask) -> Test | None:
    """Only what is absurd counts where nothing is known from before."""
    if not level.most:
        return None
    middle = float(np.median(values[after]))
    p, _ = shifted_up(values[after], np.full(10_000, level.most), level.neighbours)
    detail = f"{level.what}: median {middle:.3g}{level.unit} since the switch, nothing to compare with; "
    detail += f"allowed are {level.most:g}{level.unit} ({chance(p)})"
    figures = {"median": middle, "most": level.most, "p": p, "samples": int(after.sum())}
    return Test(case.name, level.check, level.what, p, middle > level.most, "", detail, figures)


def history_told(case: Case) -> str:
    """How much of the node's own history there is, for people; "" when it is enough."""
    before = case.columns.time[case.before(case.columns)]
    if len(before) < LEAST_HISTORY_SAMPLES:
        return f"only {len(before)} samples from before the switch: too little to compare with"
    length = float(before[-1] - before[0])
    return f"only {told(length)} from before the switch to compare with" if length < PROFILE_DAYS * DAY else ""
