# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The lines of a plot: what the judge saw, as paths that the page draws. Pure, controller only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import duration

Json = dict[str, Any]

WIDTH, HEIGHT = 340.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 332.0, 10.0, 124.0
# Lengths of time between two marks of the axis, in seconds.
STEPS = (1, 5, 10, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800)
MARKS = 5
# A hole this many times as long as the usual distance of two points is a hole, not a line.
HOLE = 5
MIB = 2**20
# What each metric is called, in the order in which they stand. Counters stand as bars, because between two of them
# nothing was measured.
TITLES = {
    "rpc_ms": ("RPC latency", "ms"),
    "rss_bytes": ("memory", "MiB"),
    "errors": ("ERROR lines", "new"),
    "broken": ("BROKEN lines", "new"),
    "forwards": ("forwards settled", "new"),
    "forwards_failed": ("forwards failed", "new"),
    "forwards_msat": ("volume forwarded", "sat"),
    "fees_msat": ("fees earned", "sat"),
    "restarts": ("restarts", "new"),
    "height": ("block height", ""),
    "blocks": ("blocks", ""),
    "channels_live": ("live channels", ""),
    "htlcs": ("payments in flight", ""),
    "peers": ("hive peers seen", ""),
}
COUNTERS = frozenset({"errors", "broken", "forwards", "forwards_failed", "forwards_msat", "fees_msat", "restarts"})
# What is measured of lightningd and of each plugin says of which.
OF_A_PROCESS = frozenset({"rpc_ms", "restarts"})
NODE = "lightningd"
# Where these do not move there is nothing to see.
STILL = COUNTERS | {"channels_live", "htlcs", "peers"}
SCALES = {"rss_bytes": MIB, "forwards_msat": 1000.0, "fees_msat": 1000.0}


class Scale(NamedTuple):
    """From values between ``low`` and ``high`` to places between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where ``value`` lies; what is outside lies on the edge."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


def drawn(name: str, plot: Mapping[str, Any]) -> Json | None:
    """One metric of one node as geometry and words; None when it has no value at all.

    Args:
        name: the metric, with the plugin's name before or behind it where it is about one.
        plot: ``time`` and ``value`` of equal length, ``since`` (the confirm), ``before_band`` (what was usual before),
            and ``control``, the median of the nodes that did not change, where the judge had one.
    """
    kind, _ = named(name)
    times, values = _points(plot, "value", SCALES.get(kind, 1.0))
    _, control = _points(plot, "control", SCALES.get(kind, 1.0))
    known = [value for value in values if value is not None]
    if not known:
        return None
    band = [value / SCALES.get(kind, 1.0) for value in plot.get("before_band") or []]
    since = float(plot.get("since") or times[0])
    title, unit = titled(name)
    across = Scale(min(times[0], since), max(times[-1], since), LEFT, RIGHT)
    low, high, marks = axis([*known, *band, *(value for value in control if value is not None)], kind in COUNTERS)
    up = Scale(low, high, BOTTOM, TOP)
    draw = _bars if kind in COUNTERS else _line
    return {
        "title": title,
        "unit": unit,
        "still": kind in STILL and len({*known, *(value for value in control if value is not None)}) == 1,
        "level": figure(known[-1]),
        "counter": kind in COUNTERS,
        "before": draw(times, values, across, up, until=since),
        "after": draw(times, values, across, up, since=since),
        "control": _line(times, control, across, up),
        "band": [up.at(max(band)), round(up.at(min(band)) - up.at(max(band)), 1)] if band else None,
        "since": across.at(since),
        "across": [
            [across.at(since + offset), words] for offset, words in moments(across.low - since, across.high - since)
        ],
        "up": [[up.at(mark), figure(mark)] for mark in marks],
        "words": words(times, values, since, unit, kind in COUNTERS),
    }


def named(name: str) -> tuple[str, str]:
    """(metric, plugin) of a plot's name: ``cl-hive rpc_ms``, ``cl-hive.rpc_ms`` and ``rpc_ms`` are known."""
    for separator in (":", " ", "/", "."):
        one, found, other = name.rpartition(separator)
        if found:
            return (one, other) if one in TITLES else (other, one)
    return name, ""


def titled(name: str) -> tuple[str, str]:
    """What a metric is called for people, and its unit."""
    kind, subject = named(name)
    title, unit = TITLES.get(kind, (kind.replace("_", " "), ""))
    return f"{subject or NODE}: {title}" if kind in OF_A_PROCESS or subject else title, unit


def place(name: str) -> tuple[int, str]:
    """Where a metric stands among the others."""
    kind, subject = named(name)
    known = list(TITLES)
    return known.index(kind) if kind in known else len(known), subject


def _points(plot: Mapping[str, Any], key: str, scale: float) -> tuple[list[float], list[float | None]]:
    times = [float(moment) for moment in plot.get("time") or []]
    found = plot.get(key) or [None] * len(times)
    values = [None if value is None else float(value) / scale for value in found[: len(times)]]
    return times, [value if value is None or math.isfinite(value) else None for value in values]


def axis(values: Sequence[float], from_zero: bool) -> tuple[float, float, list[float]]:
    """(lowest, highest, marks) of an axis that shows ``values``, with round numbers at its marks."""
    low, high = min(values), max(values)
    if from_zero or low < (high - low):
        low = min(0.0, low)
    if high - low < 1e-9:
        high = low + max(abs(low) * 0.1, 1.0)
    step = round_step((high - low) / 3)
    # Nothing is counted in halves.
    step = max(step, 1.0) if from_zero else step
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    count = round((high - low) / step)
    return low, high, [low + step * number for number in range(count + 1)]


def round_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, ... that is not smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def moments(earliest: float, latest: float) -> Iterator[tuple[float, str]]:
    """The marks of an axis of time, counted from the confirm."""
    step = next((step for step in STEPS if (latest - earliest) / step <= MARKS), STEPS[-1])
    for number in range(math.ceil(earliest / step), math.floor(latest / step) + 1):
        offset = number * step
        yield float(offset), "0" if not offset else f"{chr(0x2212) if offset < 0 else '+'}{short(abs(offset))}"


def short(seconds: float) -> str:
    """A round length of time in one unit."""
    return next(
        f"{seconds / size:g} {unit}"
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
        if seconds >= size
    )


def figure(value: float) -> str:
    """A number for an axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"


def _line(
    times: Sequence[float],
    values: Sequence[float | None],
    across: Scale,
    up: Scale,
    since: float = -math.inf,
    until: float = math.inf,
) -> str:
    """A path through the points of a stretch of time, broken where nothing was measured."""
    usual = sorted(b - a for a, b in zip(times, times[1:], strict=False))
    hole = HOLE * usual[len(usual) // 2] if usual else math.inf
    parts: list[str] = []
    last: float | None = None
    for moment, value in zip(times, values, strict=True):
        if value is None or not since <= moment <= until:
            last = None
            continue
        pen = "M" if last is None or moment - last > hole else "L"
        parts.append(f"{pen}{across.at(moment):g} {up.at(value):g}")
        last = moment
    if len(parts) == 1:
        parts.append("h1")
    return "".join(parts)


def _bars(
    times: Sequence[float],
    values: Sequence[float | None],
    across: Scale,
    up: Scale,
    since: float = -math.inf,
    until: float = math.inf,
) -> str:
    """A path of upright strokes, one for each point that counted something."""
    return "".join(
        f"M{across.at(moment):g} {BOTTOM:g}V{up.at(value):g}"
        for moment, value in zip(times, values, strict=True)
        # The point at the confirm counted what came before it.
        if value and (moment <= until if until < math.inf else moment > since)
    )


def words(times: Sequence[float], values: Sequence[float | None], since: float, unit: str, counter: bool) -> str:
    """What the plot shows, for whoever cannot see it."""
    before = [v for t, v in zip(times, values, strict=True) if v is not None and t <= since]
    after = [v for t, v in zip(times, values, strict=True) if v is not None and t > since]
    told = [
        f"{_middle(part, counter)} {unit}".rstrip() + f" {name}"
        for name, part in (("before", before), ("since", after))
        if part
    ]
    span = duration(times[-1] - times[0])
    return f"{'sum' if counter else 'median'} {', '.join(told)}; {len(values)} points over {span}"


def _middle(values: Sequence[float], counter: bool) -> str:
    middle = sum(values) if counter else sorted(values)[len(values) // 2]
    return f"{middle:,.0f}" if abs(middle) >= 1000 or counter else f"{middle:.4g}"
