# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What the judge saw, thinned for plots: at most so many points each, and the band in which it was before."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._judge_numbers import Floats
from ._judge_window import Case

Json = dict[str, Any]

POINTS = 200
LOW, HIGH = 0.05, 0.95
# What adds up, and what has a level at each moment.
SUMS = ("forwards", "forwards_failed", "errors", "broken", "restarts")
LEVELS = ("rpc_ms", "htlcs", "channels_live", "peers")


def plots(case: Case) -> Json:
    """The plots of one node by metric: ``{"time": [..], "value": [..], "since": t, "before_band": [lo, hi] or None}``.

    Those of plugins are called ``<plugin>.rss_bytes``, ``<plugin>.rpc_ms`` and ``<plugin>.restarts``.
    """
    columns = case.columns
    found = {name: _plot(case, columns.number(name), adds_up=True) for name in SUMS}
    found |= {name: _plot(case, columns.number(name), adds_up=False) for name in LEVELS}
    for item in case.expected:
        plugin = columns.plugin(item["name"])
        if item.get("enabled", True) and plugin is not None:
            for name, values in (("rss_bytes", plugin.rss), ("rpc_ms", plugin.rpc)):
                found[f"{item['name']}.{name}"] = _plot(case, np.where(plugin.active, values, np.nan), adds_up=False)
            found[f"{item['name']}.restarts"] = _plot(case, plugin.restarts, adds_up=True)
    return {name: plot for name, plot in found.items() if plot["time"]}


def _plot(case: Case, values: Floats, adds_up: bool) -> Json:
    known = ~np.isnan(values) & (case.before(case.columns) | (case.columns.time >= case.switched))
    times, values = case.columns.time[known], values[known]
    width = max(1, -(-len(times) // POINTS))
    edges = np.arange(0, len(times), width)
    if adds_up:
        points = np.add.reduceat(values, edges) if len(values) else values
    else:
        # The last part is filled up with what is no number.
        padded = np.full(len(edges) * width, np.nan)
        padded[: len(values)] = values
        points = np.nanmedian(padded.reshape(-1, width), axis=1) if len(values) else values
    # At the end of each part, so that the newest point is the newest sample.
    at = times[np.minimum(edges + width, len(times)) - 1] if len(times) else times
    before = points[at < case.switched]
    band = [round(float(np.quantile(before, q)), 3) for q in (LOW, HIGH)] if len(before) >= 3 else None
    return {
        "time": [round(float(when), 1) for when in at],
        "value": [round(float(value), 3) for value in points],
        "since": case.since,
        "before_band": band,
    }
