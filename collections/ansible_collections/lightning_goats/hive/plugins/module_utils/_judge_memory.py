# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Memory of the plugins: does it grow by more than a fifth over the soak, and is it more than a fifth above before?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ._judge_numbers import Floats, block_medians, rising, shifted_up, slope
from ._judge_window import DAY, Case, Columns, Test, chance

Json = dict[str, Any]

MEGABYTE = float(1 << 20)
FIFTH = 0.2
# Less than this is nothing to halt for, whatever part of a small plugin it is.
LEAST_BYTES = 4 * MEGABYTE
# A leak that goes on as it does need not be waited for, once so much of it is there.
FORESEEN_FROM = 0.05
# What a plugin takes while it warms up is no leak: a twelfth of the soak, two hours at most.
WARM_UP_SECONDS, WARM_UP_SHARE = 7200.0, 1 / 12
# Many small blocks would drown a slow leak in noise, few large ones leave nothing to count.
MOST_BLOCKS, LEAST_BLOCKS, SMALLEST_BLOCK = 36, 12, 5
BLOCK_BEFORE = 30
MOST_BYTES = 1024 * MEGABYTE


class Growth(NamedTuple):
    """How a plugin's memory went since the switch.

    Attributes:
        level: in the beginning, bytes.
        now: in the last quarter, bytes.
        grown: by the trend, as a part of `level`.
        foreseen: the same at the end of the soak, if it goes on; `grown` when it does not go on steadily.
        p: chance of such a trend without a leak.
        values: medians of blocks.
    """

    level: float
    now: float
    grown: float
    foreseen: float
    p: float
    values: Floats


# A control's growth, and what it needed before the switch.
Beside = list[tuple[Growth, Floats | None]]


def tests(case: Case, seconds: float) -> Iterator[Test]:
    """Trend and level of each plugin's memory, in the samples of so many seconds after the confirmation."""
    for item in case.expected:
        if not item.get("enabled", True):
            continue
        name = item["name"]
        growth = _growth(case, case.columns, name, seconds)
        if growth is not None:
            others = [
                (_growth(case, c, name, seconds), _before(case, c, name)) for _, c in sorted(case.controls.items())
            ]
            beside = [(other, held) for other, held in others if other is not None]
            yield _trend(case, name, growth, beside)
            yield _level(case, name, growth, beside)


def _growth(case: Case, columns: Columns, name: str, seconds: float) -> Growth | None:
    plugin = columns.plugin(name)
    if plugin is None:
        return None
    warm = min(WARM_UP_SECONDS, WARM_UP_SHARE * case.soak_seconds)
    used = case.after(columns, seconds) & (columns.time >= case.since + warm) & plugin.active & (plugin.rss > 0)
    count = int(used.sum())
    size = max(SMALLEST_BLOCK, count // MOST_BLOCKS)
    if count < LEAST_BLOCKS * size:
        return None
    times, values = block_medians(columns.time[used], plugin.rss[used], size)
    quarter, half = len(values) // 4, len(values) // 2
    level, now = float(np.median(values[:quarter])), float(np.median(values[-quarter:]))
    trend = slope(times, values)
    grown = trend * float(times[-1] - times[0]) / level
    steady = min(slope(times[:half], values[:half]), slope(times[half:], values[half:])) > 0.5 * trend > 0
    left = max(0.0, case.since + case.soak_seconds - float(times[-1]))
    return Growth(level, now, grown, grown + trend * left / level if steady else grown, rising(values), values)


def _trend(case: Case, name: str, growth: Growth, beside: Beside) -> Test:
    too_much = growth.grown >= FIFTH and growth.grown * growth.level >= LEAST_BYTES
    foreseen = growth.foreseen >= FIFTH and growth.grown >= FORESEEN_FROM
    material = too_much or (foreseen and growth.foreseen * growth.level >= LEAST_BYTES)
    excused = ""
    if material and beside and float(np.median([other.foreseen for other, _ in beside])) > 0.5 * growth.foreseen:
        excused = "on the control nodes it grows too"
    detail = (
        f"{name}: memory went from {growth.level / MEGABYTE:.0f} to {growth.now / MEGABYTE:.0f} MB since the switch"
    )
    if not too_much and foreseen:
        detail += f" and would be {100 * growth.foreseen:+.0f} % at the end of the soak"
    figures = {"level": growth.level, "now": growth.now, "grown": round(growth.grown, 4), "p": growth.p}
    figures["foreseen"] = round(growth.foreseen, 4)
    return Test(case.name, "memory", name, growth.p, material, excused, f"{detail} ({chance(growth.p)})", figures)


def _level(case: Case, name: str, growth: Growth, beside: Beside) -> Test:
    later = growth.values[len(growth.values) // 2 :]
    earlier = _before(case, case.columns, name)
    if earlier is None:
        bound, words = MOST_BYTES, f"allowed are {MOST_BYTES / MEGABYTE:.0f} MB"
        p, _ = shifted_up(later, np.full(1000, bound))
    else:
        usual, high = float(np.median(earlier)), float(np.quantile(earlier, 0.9))
        bound = (1.0 + FIFTH) * high
        words = f"{usual / MEGABYTE:.0f} MB before it"
        p, _ = shifted_up(later, (1.0 + FIFTH) * earlier)
    material = growth.now > bound and (earlier is None or growth.now - bound / (1.0 + FIFTH) >= LEAST_BYTES)
    excused = ""
    ratios = [other.now / float(np.median(held)) for other, held in beside if held is not None]
    if material and earlier is not None and ratios:
        own = growth.now / float(np.median(earlier))
        if own / float(np.median(ratios)) < 1.0 + FIFTH:
            excused = "on the control nodes it is more too"
    detail = f"{name}: {growth.now / MEGABYTE:.0f} MB of memory since the switch, {words} ({chance(p)})"
    figures = {"now": growth.now, "bound": bound, "p": p}
    return Test(case.name, "memory", f"{name} level", p, material, excused, detail, figures)


def _before(case: Case, columns: Columns, name: str) -> Floats | None:
    """Medians of blocks of the last day before the switch; None when there is too little."""
    plugin = columns.plugin(name)
    if plugin is None:
        return None
    used = case.before(columns) & plugin.active & (plugin.rss > 0) & (columns.time >= case.switched - DAY)
    _, values = block_medians(columns.time[used], plugin.rss[used], BLOCK_BEFORE)
    return values if len(values) >= 4 else None
